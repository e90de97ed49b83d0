"""No secret and no forged line gets through the log."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch import log


def render(monkeypatch, as_json, message, *args, **fields):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.set_up(json=as_json)
    try:
        logging.getLogger("test").warning(message, *args, extra=fields)
    finally:
        logging.getLogger().handlers.clear()
    return stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_credentials_of_urls_become_stars(monkeypatch, as_json):
    text = render(monkeypatch, as_json, "asking %s", "rtsp://admin:p@ss:w0rd@cam/1?x=2", url="http://u:secret@h/")
    assert "w0rd" not in text
    assert "secret" not in text
    assert "rtsp://***@cam/1" in text


@pytest.mark.parametrize("as_json", [False, True])
def test_one_record_is_one_line(monkeypatch, as_json):
    text = render(monkeypatch, as_json, "id %s", "x\n2026-01-01 INFO forged\x1b[31m\u2028y", camera="a\nb")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    if as_json:
        assert json.loads(text)["camera"] == "a\\x0ab"


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_turns_the_direction_of_a_line(monkeypatch, as_json):
    turning = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    text = render(monkeypatch, as_json, "camera %s", f"gate{turning}\udcff", camera=turning)
    assert text.isascii()
    assert (r"gate\u061c\u200e" if not as_json else r"gate\\u061c\\u200e") in text
    assert r"\u2069" in text


def _fail(text):
    raise ValueError(text)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_trace_forges_no_record(monkeypatch, as_json):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.set_up(json=as_json)
    try:
        _fail("x\n2026-01-01T00:00:00.000Z INFO    forged\x1b[2J\u202e")
    except ValueError:
        logging.getLogger("test").exception("broke")
    finally:
        logging.getLogger().handlers.clear()
    lines = stream.getvalue().split("\n")[:-1]
    assert [line for line in lines if not line.startswith("    ")] == lines[:1]
    assert not set("\x1b\u202e") & set(stream.getvalue())
    if as_json:
        assert "forged" in json.loads(lines[0])["exception"]
    else:
        assert any("forged" in line for line in lines[1:])


@given(st.text(), st.text(alphabet=st.characters(blacklist_characters="<>\"' \t\r\n"), min_size=1, max_size=20))
def test_redaction_is_idempotent_and_hides_userinfo(prefix, password):
    text = log.redact(f"{prefix} rtsp://u:{password}@host/")
    assert log.redact(text) == text
    assert text.endswith("rtsp://***@host/")


def test_repeated_failures_are_one_line_and_a_recovery(caplog):
    repeated = log.Repeated(logging.getLogger("broker"), "broker", every_s=30)
    with caplog.at_level(logging.INFO):
        for second in range(20):
            repeated.failed("refused", second)
        repeated.worked()
        repeated.worked()
    assert [record.getMessage() for record in caplog.records] == ["broker: refused", "broker: works again"]
    assert caplog.records[-1].failures == 20
