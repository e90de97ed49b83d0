"""Decides per picture what is kept of a replay and where a new segment begins; it moves no bytes. Pure.

The head is the key frame at or before the start of what is to be kept (a picture inside a group cannot be
decoded alone); the tail ends with the last picture before its end, and the pictures that one needs. Segments
begin at key frames. Where a replay is joined to recorded pictures everything is staged, and `joining` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from anr_watch.model import Window
from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.timeline import Break, Placed, ticks_of

LEAD_BYTES: Final = 16 * 1024 * 1024  # a group longer than this before the start is kept rather than held
_LATE_CUT: Final = 3  # segments may grow to so many lengths while no clean key frame comes


class Op(Enum):
    """What to do with the current segment."""

    OPEN = auto()  # begin a segment with this picture
    WRITE = auto()
    CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `item` is None for CLOSE."""

    op: Op
    item: Placed | None = None


class Cutter:
    """Placed units and breaks in; steps out. `done` is set once nothing more of the replay is wanted."""

    def __init__(self, keep: Window, segment_s: float) -> None:
        self._start, self._limit = ticks_of(keep.start), ticks_of(keep.end)
        self._segment_ticks = round(segment_s * TICKS)
        self._lead: list[Placed] = []  # the group before the start, as long as it may still be needed
        self._lead_bytes = 0
        self._tail: list[Placed] = []  # pictures after the end, as long as an earlier one may need them
        self._opened_at: int | None = None  # first picture presented of the open segment
        self._format: object = None
        self._last_end: int | None = None  # of everything kept
        self._unproven: Break | None = None
        self.done = False
        self.kept = 0
        self.frame_ticks = 0  # the length of the newest picture kept

    @property
    def last_end(self) -> int | None:
        """End of the newest picture kept, in ticks since 1970."""
        return self._last_end

    def reach(self, limit: int) -> None:
        """Take another end of what is to be kept, in ticks."""
        self._limit = limit

    @property
    def doubt(self) -> Break | None:
        """The break by which the end was reached, if nothing but RTP time stamps speaks for it."""
        return self._unproven if self.done else None

    def push(self, item: Placed | Break) -> list[Step]:
        """Take the next unit or break; return what to do, in order."""
        if self.done:
            return []
        if isinstance(item, Break):
            return self._break(item)
        if not item.unit.video:
            return self._sound(item)
        # After the last picture kept no earlier one can follow: decoding times only grow.
        if item.dts >= self._limit:
            self.done = True
            return self._close()
        if self._opened_at is None:
            return self._before(item)
        if item.pts < self._opened_at:  # leans on the group before, which this file does not have
            return []
        if item.pts >= self._limit:
            self._tail.append(item)
            return []
        steps: list[Step] = []
        if self._tail:  # needed as references by this one; take what lies between them, too
            self._limit = max(self._limit, *(late.end for late in self._tail))
            steps = [step for late in self._tail for step in self._write(late)]
            self._tail = []
        return steps + self._write(item)

    def finish(self) -> list[Step]:
        """Return what is left to do: nothing more will come."""
        return self._close()

    def _break(self, jump: Break) -> list[Step]:
        self._unproven = None if jump.proven else jump
        self._drop_lead()
        return self._close()

    def _sound(self, item: Placed) -> list[Step]:
        if self._opened_at is not None:
            return [Step(Op.WRITE, item)] if self._opened_at <= item.pts else []
        if self._lead and self._lead[0].pts <= item.pts:
            self._lead.append(item)
            self._lead_bytes += item.unit.size
        return []

    def _before(self, item: Placed) -> list[Step]:
        """Handle pictures while no segment is open: before the start, or after a break."""
        if self._last_end is not None and item.pts < self._last_end - item.unit.duration // 2:
            self._drop_lead()  # comes again after a step back
            return []
        if item.unit.key:
            self._drop_lead()
        elif not self._lead:
            return []
        self._lead.append(item)
        self._lead_bytes += item.unit.size
        if item.end <= self._start and self._lead_bytes < LEAD_BYTES:
            return []
        lead = self._lead
        self._drop_lead()
        return [step for early in lead for step in (self._write(early) if early.unit.video else self._sound(early))]

    def _drop_lead(self) -> None:
        self._lead, self._lead_bytes = [], 0

    def _write(self, item: Placed) -> list[Step]:
        steps: list[Step] = []
        if self._opened_at is None or self._cut_here(item, self._opened_at):
            steps = [*self._close(), Step(Op.OPEN, item)]
            self._opened_at, self._format = item.pts, item.unit.format
        elif item.pts < self._opened_at:
            return []
        else:
            steps = [Step(Op.WRITE, item)]
        self.kept += 1
        self.frame_ticks = item.unit.duration
        self._unproven = None
        self._last_end = item.end if self._last_end is None else max(self._last_end, item.end)
        return steps

    def _cut_here(self, item: Placed, opened_at: int) -> bool:
        if not item.unit.key:
            return False
        if item.unit.format is not self._format:  # a file has one set of parameters, and one picture size
            return True
        length = item.pts - opened_at + item.unit.duration // 2
        return length >= self._segment_ticks and (item.unit.clean or length >= _LATE_CUT * self._segment_ticks)

    def _close(self) -> list[Step]:
        self._tail = []
        was_open, self._opened_at = self._opened_at is not None, None
        return [Step(Op.CLOSE)] if was_open else []
