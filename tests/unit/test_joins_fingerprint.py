"""A picture has one fingerprint, however it is wrapped; another picture has another."""

from __future__ import annotations

from timeit import repeat

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.joins.fingerprint import DIGEST_BYTES, of_annexb, of_length_prefixed

SLICES = {"h264": (0x41, 0x65, 0x01, 0x25), "hevc": (0x02, 0x26, 0x28, 0x3E)}
OTHERS = {"h264": (0x67, 0x68, 0x06, 0x09, 0x0C), "hevc": (0x40, 0x42, 0x44, 0x46, 0x4E, 0x50)}

# What an encoder leaves inside a NAL unit: no two zeros in a row before a byte up to 3, and no zero at the end.
bodies = st.binary(min_size=1, max_size=60).map(lambda body: body.replace(b"\x00\x00", b"\x00\x09") + b"\x80")


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, list[bytes], list[bytes]]:
    """Return codec, NAL units of one picture, and the same slices among other units."""
    codec = draw(st.sampled_from(["h264", "hevc"]))
    slices = [bytes([draw(st.sampled_from(SLICES[codec])), 1]) + draw(bodies) for _ in range(draw(st.integers(1, 4)))]
    wrapped: list[bytes] = []
    for unit in slices:
        wrapped += [
            bytes([draw(st.sampled_from(OTHERS[codec])), 1]) + b"\x55" for _ in range(draw(st.integers(0, 2)))
        ]
        wrapped.append(unit)
    return codec, slices, wrapped


def annexb(units: list[bytes], code: bytes = b"\x00\x00\x00\x01") -> bytes:
    return b"".join(code + unit for unit in units)


def prefixed(units: list[bytes], size: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


@given(pictures(), st.sampled_from([b"\x00\x00\x01", b"\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00\x01"]))
def test_the_wrapping_does_not_count(picture: tuple[str, list[bytes], list[bytes]], code: bytes) -> None:
    codec, slices, wrapped = picture
    print_of = of_annexb(annexb(slices), codec)

    assert len(print_of) == DIGEST_BYTES
    assert of_annexb(annexb(wrapped, code), codec) == print_of
    assert of_annexb(annexb(wrapped, code) + b"\x00\x00", codec) == print_of
    for size in (1, 2, 4):
        assert of_length_prefixed(prefixed(wrapped, size), size, codec) == print_of


@given(pictures(), st.data())
def test_one_changed_byte_is_another_picture(
    picture: tuple[str, list[bytes], list[bytes]], data: st.DataObject
) -> None:
    codec, slices, _ = picture
    which = data.draw(st.integers(0, len(slices) - 1))
    at = data.draw(st.integers(2, len(slices[which]) - 1))
    changed = list(slices)
    changed[which] = bytes(byte ^ (0x55 if place == at else 0) for place, byte in enumerate(slices[which]))

    assert of_length_prefixed(prefixed(changed), 4, codec) != of_length_prefixed(prefixed(slices), 4, codec)


@given(st.binary(max_size=300), st.sampled_from(["h264", "hevc", "mjpeg"]), st.integers(0, 4))
def test_any_bytes_are_answered(data: bytes, codec: str, size: int) -> None:
    assert len(of_annexb(data, codec)) in (0, DIGEST_BYTES)
    assert len(of_length_prefixed(data, size, codec)) in (0, DIGEST_BYTES)


def test_no_slice_no_fingerprint() -> None:
    for codec, first in (("h264", 0x67), ("hevc", 0x42)):
        assert of_annexb(annexb([bytes([first, 1, 2, 3])]), codec) == b""
        assert of_length_prefixed(prefixed([bytes([first, 1, 2, 3])]), 4, codec) == b""
    assert of_annexb(b"", "h264") == b""
    assert of_length_prefixed(prefixed([b"\x65\x01\x02"]), 4, "vp9") == b""
    assert of_length_prefixed(b"\x00\x00\x00\x09\x65\x01", 4, "h264") == b""


def test_a_picture_of_10_kb_costs_less_than_its_hash_and_30_us() -> None:
    body = bytes(range(1, 256)) * 40
    plain, lengths = annexb([b"\x65" + body]), prefixed([b"\x65" + body])
    best = min(repeat(lambda: of_annexb(plain, "h264"), number=50, repeat=5)) / 50
    other = min(repeat(lambda: of_length_prefixed(lengths, 4, "h264"), number=50, repeat=5)) / 50

    assert best < 500e-6  # 15 us measured; an order above what a loaded machine makes of it
    assert other < 500e-6
