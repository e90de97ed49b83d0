"""Keeps out of a replay what is no picture of its stream, and pictures whose time stands still. Pure.

Both came from simulated cameras first: one changed its codec in the middle, and H.265 in an H.264 stream was kept as
six seconds of pictures that nothing can show; the other sent its last time stamp for ever, so that all that followed
was kept within one picture's time.
"""

from __future__ import annotations

from typing import Final

from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.stamps import NoTimes, Unit

STRANGERS: Final = 5  # units without a picture, one after the other, before the stream counts as something else
# GStreamer's server sends the pictures from a key frame up to the asked start with one time stamp: a group of 10 s.
STILL_S: Final = 10
STILL_BYTES: Final = 32 * 1024 * 1024
_USUAL: Final = TICKS // 25
_FEW: Final = 16  # pictures at one time that a replay may end with: H.264 and H.265 reorder no more


class NoPictures(Exception):  # noqa: N818 - names what the camera did
    """What comes is coded in another way than the camera said."""


class Gate:
    """Units in, in the order they came; the same units out, those of one time stamp when the next one comes.

    Raises (from `push`):
        NoPictures: the stream holds no pictures of its codec any more.
        NoTimes: its time stamps stand still; what came since they do is not given out.
    """

    def __init__(self) -> None:
        self._strangers = 0
        self._still: list[Unit] = []  # video that came with the time stamp of the unit before it
        self._bytes = 0
        self._ticks = 0
        self._at: int | None = None

    def push(self, unit: Unit) -> list[Unit]:
        """Take the next unit; return what may go on."""
        if not unit.video:
            return [unit]
        if not unit.picture:
            self._strangers += 1
            if self._strangers >= STRANGERS:
                raise NoPictures("the camera sends something else than the pictures it announced")
            return []
        self._strangers = 0
        if unit.pts is not None and unit.pts == self._at:
            self._hold(unit)
            return []
        self._at = unit.pts
        return [*self._let_go(), unit]

    def finish(self) -> list[Unit]:
        """Return what is held back, if it is not so much that its time cannot be known: nothing more will come."""
        held = self._let_go()
        return held if len(held) <= _FEW else []

    def _hold(self, unit: Unit) -> None:
        self._still.append(unit)
        self._bytes += unit.size
        self._ticks += unit.duration or _USUAL
        if self._ticks > STILL_S * TICKS or self._bytes > STILL_BYTES:
            raise NoTimes(f"time stamps stand still for {len(self._still)} pictures")

    def _let_go(self) -> list[Unit]:
        held, self._still, self._bytes, self._ticks = self._still, [], 0, 0
        return held
