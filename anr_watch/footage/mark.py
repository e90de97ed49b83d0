"""The note at the end of a file of ours that says what it holds, to the microsecond; it reads and writes no file.

A process may die between giving a file its name and writing its row, and a database may come back from a backup. The
name tells the start a second coarse, so without the note up to a second of the file would be fetched a second time.
It is a `uuid` box (ISO/IEC 14496-12, 11.1), which every reader of mp4 skips.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from anr_watch.model import Window

KIND: Final = b"uuid"
_OURS: Final = bytes.fromhex("6a1f0f5ed33c4f6fb6a1a2d94c8e7b15")  # any fixed number
_VERSION: Final = 1
_BOX: Final = struct.Struct(">I4s16sIqqqq")  # box size, kind, whose, version; footage and row: start, end
SIZE_BYTES: Final = _BOX.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# A file's name differs from its footage by less than this: it moves by up to a minute where its own second is taken.
_NAME_SLACK: Final = timedelta(seconds=62)
_LENGTH_SLACK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file of ours says of itself: the time of its pictures, and what its row is to say."""

    window: Window
    listed: Window

    def fits(self, named: datetime, length_s: float) -> bool:
        """Say whether it can be true of a file of that name and length; a copy under another name is not ours."""
        near = abs(self.window.start - named) <= _NAME_SLACK
        return near and abs(self.window.seconds - length_s) <= _LENGTH_SLACK_S


def box_of(mark: Mark) -> bytes:
    """Return the box that says it."""
    times = (mark.window.start, mark.window.end, mark.listed.start, mark.listed.end)
    return _BOX.pack(SIZE_BYTES, KIND, _OURS, _VERSION, *((at - _EPOCH) // _MICROSECOND for at in times))


def mark_of(box: bytes) -> Mark | None:
    """Return what a whole `uuid` box says, None if it is not one of ours or makes no sense."""
    if len(box) != SIZE_BYTES:
        return None
    _, kind, whose, version, *micros = _BOX.unpack(box)
    if (kind, whose, version) != (KIND, _OURS, _VERSION):
        return None
    try:
        start, end, listed_start, listed_end = (_EPOCH + at * _MICROSECOND for at in micros)
        return Mark(Window(start, end), Window(listed_start, listed_end))
    except (OverflowError, ValueError):
        return None
