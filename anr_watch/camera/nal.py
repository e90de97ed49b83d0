"""NAL units of H.264 and H.265: taking a byte stream apart and making filler; it decodes nothing."""

from __future__ import annotations

import re
from typing import Final

_START_CODE: Final = re.compile(rb"\x00\x00\x00?\x01")
_H264_SEI: Final = 6
_H264_FILLER: Final = 12
_H265_SEI: Final = (39, 40)
_H265_FILLER: Final = 38


def split_annexb(data: bytes) -> list[bytes]:
    """Return the NAL units of an Annex B byte stream, without start codes."""
    marks = list(_START_CODE.finditer(data))
    ends = [mark.start() for mark in marks[1:]] + [len(data)]
    return [data[mark.end() : end] for mark, end in zip(marks, ends, strict=False)]


def h264_type(nal: bytes) -> int:
    """Return nal_unit_type of an H.264 NAL unit (ITU-T H.264, table 7-1)."""
    return nal[0] & 0x1F


def h265_type(nal: bytes) -> int:
    """Return nal_unit_type of an H.265 NAL unit (ITU-T H.265, table 7-1)."""
    return nal[0] >> 1 & 0x3F


def is_metadata(nal: bytes, *, h265: bool) -> bool:
    """Return whether a NAL unit is SEI, where encoders write their name and settings."""
    return h265_type(nal) in _H265_SEI if h265 else h264_type(nal) == _H264_SEI


def filler_nal(size_bytes: int, *, h265: bool) -> bytes:
    """Return a filler data NAL unit of about `size_bytes` (at least 4) that every decoder skips."""
    header = bytes([_H265_FILLER << 1, 1]) if h265 else bytes([_H264_FILLER])
    return header + b"\xff" * max(1, size_bytes - len(header) - 1) + b"\x80"
