"""Finds parameter sets and the kind of a key frame in H.264 and H.265 pictures (Annex B). Pure; no decoding.

Numbers are nal_unit_type of ITU-T H.264 table 7-1 and H.265 table 7-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SETS: Final = {"h264": {7, 8}, "hevc": {32, 33, 34}}
_PICTURE: Final = {"h264": range(1, 6), "hevc": range(32)}
_CLEAN: Final = {"h264": {5}, "hevc": {19, 20}}  # IDR: pictures after it never refer to one before it
_SHOWN: Final = {"h264": {1, 5}, "hevc": {*range(10), *range(16, 22)}}  # without partitions and reserved kinds
_LOOK_BYTES: Final = 256  # what stands in front of most pictures
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


def has_picture(codec: str, data: memoryview | bytes) -> bool:
    """Say whether an Annex B access unit holds picture data as cameras code it.

    Units of the other codec do not: an H.265 header read as one of H.264 has an even kind, and an H.264 slice read as
    H.265 belongs to a layer above 0.
    """
    for limit in (_LOOK_BYTES, SEARCH_BYTES):
        front = bytes(data[:limit])
        at = _after_start_code(front, 0)
        while at is not None and at + 1 < len(front):
            if codec == "h264":
                shown = front[at] & 0x1F in _SHOWN[codec]
            else:
                layer = (front[at] & 1) << 5 | front[at + 1] >> 3
                shown = layer == 0 and front[at] >> 1 & 0x3F in _SHOWN[codec]
            if shown:
                return True
            at = _after_start_code(front, at)
        if len(data) <= limit:
            return False
    return False


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
