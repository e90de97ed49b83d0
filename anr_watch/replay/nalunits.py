"""Finds parameter sets and the kind of a key frame in H.264 and H.265 pictures (Annex B). Pure; no decoding.

Numbers are nal_unit_type of ITU-T H.264 table 7-1 and H.265 table 7-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SETS: Final = {"h264": {7, 8}, "hevc": {32, 33, 34}}
_PICTURE: Final = {"h264": range(1, 6), "hevc": range(32)}
_CLEAN: Final = {"h264": {5}, "hevc": {19, 20}}  # IDR: pictures after it never refer to one before it
SEARCH_BYTES: Final = 16 * 1024  # parameter sets and SEI stand in front of the picture


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What the front of a key frame holds: its parameter sets by type, and whether nothing before it is needed."""

    sets: dict[int, tuple[bytes, ...]]
    clean: bool


def look_into(codec: str, data: bytes) -> KeyFrame:
    """Return what stands before the first picture data of an Annex B access unit (or of extradata)."""
    sets: dict[int, list[bytes]] = {}
    at = _after_start_code(data, 0)
    while at is not None and at < len(data):
        kind = data[at] & 0x1F if codec == "h264" else data[at] >> 1 & 0x3F
        if kind in _PICTURE[codec]:
            return KeyFrame(_frozen(sets), kind in _CLEAN[codec])
        following = _after_start_code(data, at)
        if kind in _SETS[codec]:
            end = len(data) if following is None else following - 3
            sets.setdefault(kind, []).append(data[at:end].rstrip(b"\0"))
        at = following
    return KeyFrame(_frozen(sets), clean=False)


def as_annexb(sets: dict[int, tuple[bytes, ...]]) -> bytes:
    """Return parameter sets as an Annex B byte stream, in the order decoders want them."""
    return b"".join(b"\0\0\0\1" + unit for kind in sorted(sets) for unit in sets[kind])


def is_annexb(data: bytes) -> bool:
    """Say whether data starts with a start code (mp4's own form starts with a version or a length)."""
    return data.startswith((b"\0\0\1", b"\0\0\0\1"))


def length_size(codec: str, extradata: bytes) -> int:
    """Return the bytes of a NAL unit's length prefix, by an avcC or hvcC box (ISO/IEC 14496-15)."""
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else 4


def _after_start_code(data: bytes, at: int) -> int | None:
    found = data.find(b"\0\0\1", at)
    return None if found < 0 else found + 3


def _frozen(sets: dict[int, list[bytes]]) -> dict[int, tuple[bytes, ...]]:
    return {kind: tuple(units) for kind, units in sets.items()}
