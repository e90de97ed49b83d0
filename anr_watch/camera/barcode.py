"""Marks in the luma of a picture that say which picture it is; it paints and reads, and knows no codec.

A mark is 16 bytes painted as light and dark blocks in the upper left corner: two magic bytes' worth of
identity (magic, frames per second), camera number, frame number and a CRC-32. A block covers at least
one macroblock quarter (8 x 8 pixels), which survives x264 and x265 at every quality this project uses.
Reading either gives the number that was painted or `None`: grey blocks and a wrong checksum are refused.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import av

MAGIC: Final = 0xA7
_LAYOUT: Final = struct.Struct(">BBHQ")  # magic, fps, camera number, frame number; a CRC-32 follows
MARK_BYTES: Final = _LAYOUT.size + 4
DARK: Final = 24
LIGHT: Final = 228
_REFUSED_FROM: Final = 96  # a block that reads between these is damaged: better no number than a guess
_REFUSED_TO: Final = 160
MIN_WIDTH: Final = 128
MIN_HEIGHT: Final = 96


@dataclass(frozen=True, slots=True)
class FrameMark:
    """Which picture of which camera this is."""

    camera_number: int
    frame_number: int
    fps: int

    @property
    def utc_us(self) -> int:
        """Time of the picture, microseconds since 1970-01-01 UTC (rounded down)."""
        return self.frame_number * 1_000_000 // self.fps


def encode_mark(mark: FrameMark) -> bytes:
    """Return the 16 bytes that stand in the picture.

    Raises:
        struct.error: a field does not fit (camera 16 bit, frame 64 bit, fps 8 bit).
    """
    body = _LAYOUT.pack(MAGIC, mark.fps, mark.camera_number, mark.frame_number)
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode_mark(data: bytes) -> FrameMark | None:
    """Return the mark in `data`, or None when magic, checksum or rate are not those of a mark."""
    if len(data) != MARK_BYTES:
        return None
    body, checksum = data[: _LAYOUT.size], int.from_bytes(data[_LAYOUT.size :], "big")
    if zlib.crc32(body) != checksum:
        return None
    magic, fps, camera_number, frame_number = _LAYOUT.unpack(body)
    if magic != MAGIC or fps == 0:
        return None
    return FrameMark(camera_number=camera_number, frame_number=frame_number, fps=fps)


def _geometry(width: int) -> tuple[int, int]:
    """Return (pixels per block, blocks per row) for a picture `width` pixels wide."""
    block_px = 16 if width >= 640 else 8
    return block_px, (32 if width >= 32 * block_px else 16)


def mark_height_px(width: int) -> int:
    """Return how many lines from the top belong to the mark."""
    block_px, columns = _geometry(width)
    return MARK_BYTES * 8 // columns * block_px


@lru_cache(maxsize=4)
def _byte_lines(block_px: int) -> tuple[bytes, ...]:
    """One line of eight blocks for every value of a byte."""
    bits = (bytes([DARK]) * block_px, bytes([LIGHT]) * block_px)
    return tuple(b"".join(bits[value >> (7 - bit) & 1] for bit in range(8)) for value in range(256))


def paint(luma: memoryview, line_size: int, width: int, mark: FrameMark) -> None:
    """Paint `mark` into a writable luma plane whose lines are `line_size` bytes apart."""
    block_px, columns = _geometry(width)
    lines = _byte_lines(block_px)
    data = encode_mark(mark)
    row_bytes = columns // 8
    rest = bytes([DARK]) * (line_size - columns * block_px)
    for row in range(MARK_BYTES // row_bytes):
        line = b"".join(lines[value] for value in data[row * row_bytes : (row + 1) * row_bytes]) + rest
        start = row * block_px * line_size
        luma[start : start + block_px * line_size] = line * block_px


def read_luma(luma: bytes | memoryview, line_size: int, width: int) -> FrameMark | None:
    """Read the mark from a luma plane; None when there is none that can be trusted."""
    block_px, columns = _geometry(width)
    inner = block_px // 2
    margin = block_px // 4
    rows = MARK_BYTES * 8 // columns
    if width < MIN_WIDTH or len(luma) < rows * block_px * line_size:
        return None
    value = 0
    for row in range(rows):
        top = (row * block_px + margin) * line_size + margin
        for column in range(columns):
            left = top + column * block_px
            total = 0
            for line in range(inner):
                start = left + line * line_size
                total += sum(luma[start : start + inner])
            mean = total // (inner * inner)
            if _REFUSED_FROM <= mean <= _REFUSED_TO:
                return None
            value = value << 1 | (mean > _REFUSED_TO)
    return decode_mark(value.to_bytes(MARK_BYTES, "big"))


def read(frame: av.VideoFrame) -> FrameMark | None:
    """Read the mark of a decoded picture whose first plane is luma (yuv420p, yuvj420p, nv12, gray).

    Returns None, never a wrong number, when the picture carries no readable mark.
    """
    if not frame.format.name.startswith(("yuv", "nv", "gray")):
        return None
    plane = frame.planes[0]
    return read_luma(memoryview(plane).cast("B"), plane.line_size, plane.width)
