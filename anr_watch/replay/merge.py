"""Brings the pictures and the sound of a replay into one order of time, with bounded delay. Pure.

Sound comes a little before or after its picture; without this, the sound that is late when a segment is cut
would belong to no file.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.timeline import Break, Placed

WAIT_TICKS: Final = TICKS  # pictures wait for their sound, and sound for its picture, no longer than this footage
WAIT_BYTES: Final = 4 * 1024 * 1024


class Merge:
    """Placed units and breaks in, the same in order of time out."""

    def __init__(self) -> None:
        self._delay = 0  # by how much the decoding of reordered pictures runs ahead of their time
        self._pictures: deque[Placed] = deque()
        self._sound: deque[Placed] = deque()
        self._bytes = 0

    def push(self, item: Placed | Break) -> list[Placed | Break]:
        """Take the next; return what is in order now."""
        if isinstance(item, Break):
            return [*self.finish(), item]
        if item.unit.video and item.unit.key:
            self._delay = item.pts - item.dts
        (self._pictures if item.unit.video else self._sound).append(item)
        self._bytes += item.unit.size
        out: list[Placed | Break] = []
        while (following := self._next()) is not None:
            out.append(following)
        return out

    def finish(self) -> list[Placed | Break]:
        """Return everything that waits: nothing more will come, or only of another time."""
        out: list[Placed | Break] = []
        while self._pictures or self._sound:
            out.append(self._take())
        return out

    def _next(self) -> Placed | None:
        if self._pictures and self._sound:
            return self._take()
        waiting = self._pictures or self._sound
        overdue = waiting and (waiting[-1].dts - waiting[0].dts > WAIT_TICKS or self._bytes > WAIT_BYTES)
        return self._take() if overdue else None

    def _take(self) -> Placed:
        if self._pictures and self._sound:
            sound_first = self._sound[0].pts < self._pictures[0].dts + self._delay
            queue = self._sound if sound_first else self._pictures
        else:
            queue = self._pictures or self._sound
        item = queue.popleft()
        self._bytes -= item.unit.size
        return item
