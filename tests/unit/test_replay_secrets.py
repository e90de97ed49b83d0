"""Sealed secrets: the kernel's form opens with its key and with nothing else, and never half."""

import base64
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.errors import ReplayRefused
from anr_watch.model import Camera, Secret
from anr_watch.replay.secrets import is_sealed, open_camera, open_sealed

RAW_KEY = bytes(range(32))
KEY = Secret(base64.b64encode(RAW_KEY).decode())


def sealed(text: bytes, key: bytes = RAW_KEY) -> Secret:
    nonce = os.urandom(12)
    return Secret("enc:v1:" + base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text, None)).decode())


def test_a_published_vector_opens():
    # Test case 14 of the GCM submission (McGrew, Viega): key, nonce and 16 bytes of plain text all zero.
    raw = bytes(12) + bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
    stored = Secret("enc:v1:" + base64.b64encode(raw).decode())
    assert open_sealed(stored, Secret(base64.b64encode(bytes(32)).decode())).reveal() == "\0" * 16


@given(st.text())
def test_whatever_was_sealed_opens(text):
    assert open_sealed(sealed(text.encode()), KEY).reveal() == text


@given(st.text().filter(lambda text: not text.startswith("enc:v1:")))
def test_plain_text_passes_with_and_without_a_key(text):
    assert open_sealed(Secret(text), None).reveal() == text
    assert open_sealed(Secret(text), KEY).reveal() == text


def test_the_key_may_have_blanks_around_it():
    assert open_sealed(sealed(b"x"), Secret(f" {KEY.reveal()}\n")).reveal() == "x"


@pytest.mark.parametrize(
    ("stored", "key", "text"),
    [
        (sealed(b"pass-word"), None, "no key"),
        (sealed(b"pass-word"), Secret(""), "no key"),
        (sealed(b"pass-word"), Secret("AAAA"), "32 bytes"),
        (sealed(b"pass-word"), Secret("not base64!"), "32 bytes"),
        (sealed(b"pass-word"), Secret("kü"), "32 bytes"),
        (sealed(b"pass-word", bytes(32)), KEY, "does not open"),
        (Secret("enc:v1:"), KEY, "damaged"),
        (Secret("enc:v1:AAAA"), KEY, "damaged"),
        (Secret("enc:v1:%%%"), KEY, "damaged"),
        (Secret("enc:v1:ü"), KEY, "damaged"),
        (sealed(b"\xff\xfe"), KEY, "no text"),
    ],
)
def test_what_does_not_open_says_why_in_one_line_without_secrets(stored, key, text):
    with pytest.raises(ReplayRefused, match=text) as caught:
        open_sealed(stored, key)
    shown = str(caught.value)
    assert "\n" not in shown
    assert "pass-word" not in shown
    assert stored.reveal().removeprefix("enc:v1:")[:4] not in shown or len(stored.reveal()) < 12
    assert caught.value.__cause__ is None
    assert not caught.value.missing


@given(st.integers(0, 44), st.integers(1, 255))
def test_a_single_changed_byte_is_noticed(at, flip):
    raw = bytearray(base64.b64decode(sealed(b"a password of 17b").reveal().removeprefix("enc:v1:")))
    raw[at] ^= flip
    with pytest.raises(ReplayRefused, match="does not open"):
        open_sealed(Secret("enc:v1:" + base64.b64encode(raw).decode()), KEY)


def test_a_camera_opens_as_a_whole():
    template = "rtsp://u:p@h/{start}"
    camera = Camera(id="a", name="a", password=sealed(b"pw"), replay_url_template=sealed(template.encode()))
    opened = open_camera(camera, KEY)
    assert opened.password == Secret("pw")
    assert opened.replay_url_template == Secret(template)
    assert open_camera(Camera(id="a", name="a"), None) == Camera(id="a", name="a")
    with pytest.raises(ReplayRefused, match=r"^password: .*no key"):
        open_camera(camera, None)
    with pytest.raises(ReplayRefused, match=r"^replay URL template: "):
        open_camera(Camera(id="a", name="a", replay_url_template=sealed(b"x", bytes(32))), KEY)


def test_only_the_prefix_seals():
    assert is_sealed(Secret("enc:v1:"))
    assert not is_sealed(Secret("enc:v2:abc"))
    assert not is_sealed(Secret(" enc:v1:abc"))


def test_plain_secrets_never_load_the_cryptography():
    code = (
        "import sys; from anr_watch.model import Secret; from anr_watch.replay.secrets import open_sealed\n"
        "open_sealed(Secret('plain'), None); assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
