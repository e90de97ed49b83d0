"""Decides which pictures of a replay are released where recorded pictures were given to join to. Worker process only.

It sees every picture once, in the order of the timeline, and every staged segment once it is closed. Segments are
held until the head is decided, and while the tail may still begin in one of them; only facts about them are kept.
Times are ticks of the recorder's clock as far as it is known (`replay` takes the asked shift off); the head, once
found, corrects the rest (`anchor`). It reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Final

from anr_watch.joins.matching import Ambiguous, HeadSearch, Place, TailSearch, run_needed
from anr_watch.joins.rhythm import Fit, Rhythm
from anr_watch.replay.job import Joined, Joint, ReplayJob, Side, Unproved
from anr_watch.replay.muxer import Written
from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.stamps import Unit
from anr_watch.replay.timeline import Break, Placed, ticks_of

SLACK_TICKS: Final = 10 * TICKS  # the tail is this near to where a found head lets it be expected: names are coarse
_COARSE_TICKS: Final = 3 * TICKS
NOT_FOUND: Final = "not found"
_CLEAR_TICKS: Final = TICKS  # footage covers an instant if it goes this far beyond it
_GRAIN_TICKS: Final = (
    45  # instants are cut off to microseconds: a picture that begins so shortly before is not inside
)


@dataclass(frozen=True, slots=True)
class Release:
    """A staged segment to finish: whole, or presented from `start` to before `end` (ticks of the replay).

    `hide`: from the very picture at `start` on, its group's earlier ones hidden; else from the group's key frame.
    """

    written: Written
    start: int | None
    end: int | None
    hide: bool


class Joining:
    """Pictures and closed segments in; decisions out. `print_of` gives the fingerprint of a picture."""

    def __init__(self, job: ReplayJob, print_of: Callable[[Unit], bytes]) -> None:
        self._print_of = print_of
        self._stops = job.unproved is not Unproved.KEEP
        self._either = job.unproved is Unproved.PROVE  # the tail may prove what the head does not
        self._shift = round(job.shift_s * TICKS)
        self._known = job.shift_known
        self._keep_start, self._keep_end = ticks_of(job.keep.start), ticks_of(job.keep.end)
        self._head_at = self._keep_start if job.head_at is None else ticks_of(job.head_at)
        self._tail_at = self._keep_end if job.tail_at is None else ticks_of(job.tail_at)
        before = max(0, self._keep_start - ticks_of(job.asked.start))
        after = max(0, ticks_of(job.asked.end) - self._keep_end)
        # A clock may be off by the whole margin, and the recorder's names by seconds more.
        self._head_until = max(self._keep_start, self._head_at) + before + _COARSE_TICKS
        self._tail_from = min(self._keep_end, self._tail_at) - after - _COARSE_TICKS
        self._tail_until = max(self._keep_end, self._tail_at) + after + _COARSE_TICKS
        self._head, self._tail = HeadSearch(job.head), TailSearch(job.tail)
        self._head_rhythm, self._tail_rhythm = Rhythm(job.head_sizes), Rhythm(job.tail_sizes)
        self._hides = bool(job.head)  # there is something recorded that a lead-in would repeat
        self._few = {Side.HEAD: run_needed(job.head) == 0, Side.TAIL: run_needed(job.tail) == 0}
        self.head: Joined | None = None if job.head else Joined(Side.HEAD, Joint.NONE)
        self.tail: Joined | None = None if job.tail else Joined(Side.TAIL, Joint.NONE)
        self._told: set[Side] = set()
        self._head_cut: int | None = None
        self._tail_cut: int | None = None
        self.anchor = 0
        self.suspect = ""
        self._waiting: list[tuple[int, int, Placed]] = []  # pictures that an earlier one may still precede
        self._number = count()
        self._first: int | None = None
        self._seen: int | None = None  # the newest picture searched, in order of presentation
        self._seen_end = 0
        self._held: list[Written] = []

    @property
    def _time_end(self) -> int:
        return self._keep_end if self._head_cut is None else self._keep_end - self.anchor - _GRAIN_TICKS

    @property
    def reach(self) -> int:
        """How far the replay is needed at most, in ticks of the replay; it shrinks with what is decided."""
        end = self._time_end
        if self.head is None:
            end = max(end, self._head_until + _CLEAR_TICKS)
        return end if self.tail is not None else max(end, self._tail_until + _CLEAR_TICKS)

    @property
    def wanted_end(self) -> int:
        """Where what is kept ends, in ticks of the replay."""
        return self._time_end if self._tail_cut is None else self._tail_cut

    @property
    def anchored(self) -> bool:
        """Whether the head was found, so that times follow the recorded footage."""
        return self._head_cut is not None

    @property
    def complete(self) -> bool:
        """Whether both sides are decided and the last picture to keep has come."""
        return self.head is not None and self._tail_cut is not None

    def see(self, item: Placed | Break) -> list[Joined]:
        """Take the next picture or break of the replay; return what it decides."""
        if isinstance(item, Break):
            self._flush()
            if self._seen is not None:
                self._head.lose(self._seen_end)
                self._tail.lose()
                self._head_rhythm.lose()
                self._tail_rhythm.lose()
        elif item.unit.video:
            heappush(self._waiting, (item.pts, next(self._number), item))
            # Decoding times only grow, and nothing is presented before it is decoded.
            while self._waiting and self._waiting[0][0] <= item.dts:
                self._present(heappop(self._waiting)[2])
        return self._news()

    def hold(self, written: Written) -> None:
        """Take a closed segment."""
        self._held.append(written)

    def finish(self, *, in_order: bool) -> list[Joined]:
        """Decide what is left: nothing more will come. `in_order`: the camera has played all it has."""
        self._flush()
        if self._seen is not None:
            self._head.lose(self._seen_end)
        if self.head is None:
            self._decide_head(in_order=in_order)
        if self.tail is None and not self.suspect:
            self._decide_tail(in_order=in_order)
        if self.tail is None:
            self.tail = self._by_time(Side.TAIL, "not looked for")
        if self._stops and self._head_cut is None and self._tail_cut is None and not in_order:
            self._held.clear()  # what was given to prove it by was not reached
        return self._news()

    def releases(self, *, final: bool) -> list[Release]:
        """Return the segments that can be finished now, in order, and forget them and those not wanted."""
        if self.suspect:
            self._held.clear()
        if self.head is None or (not final and self.tail is None and self._unproved()):
            return []
        out: list[Release] = []
        low = self._keep_start - self.anchor if self._head_cut is None else self._head_cut
        while self._held:
            written = self._held[0]
            if not final and written.last >= self._safe_until():
                break
            self._held.pop(0)
            over = written.last < low if self._hides else written.end <= low
            if over or written.start >= self.wanted_end:
                continue
            start = low if written.start < low else None
            end = self.wanted_end if written.last >= self.wanted_end else None
            out.append(Release(written, start, end, self._hides))
        return out

    @property
    def holds(self) -> frozenset[str]:
        """Names of the segments that may still be wanted."""
        return frozenset(written.file for written in self._held)

    def _unproved(self) -> bool:
        return self._stops and self.head is not None and self._head_cut is None

    def _safe_until(self) -> int:
        """Return the first instant that may yet turn out not to be wanted."""
        if self.tail is not None:
            return self.wanted_end
        seen = self._keep_start if self._seen is None else self._seen + 1
        earliest = self._tail.earliest
        return min(self._time_end, seen, seen if earliest is None else earliest)

    def _news(self) -> list[Joined]:
        news = [joined for joined in (self.head, self.tail) if joined is not None and joined.side not in self._told]
        self._told.update(joined.side for joined in news)
        return news

    def _flush(self) -> None:
        while self._waiting:
            self._present(heappop(self._waiting)[2])

    def _present(self, item: Placed) -> None:
        if self._seen is not None and item.pts <= self._seen:
            return  # comes again after a step back
        self._seen, self._seen_end = item.pts, item.end
        if self._first is None:
            self._first = item.pts
        look_for_tail = self.tail is None and (self.head is None or item.pts >= self._tail_from)
        if self.head is not None and not look_for_tail:
            return
        fingerprint = self._print_of(item.unit)
        if self.head is None:
            self._head.push(fingerprint, item.pts)
            self._head_rhythm.push(item.unit.size, item.pts, item.end)
            if self._head.sure or item.pts > self._head_until:
                self._decide_head(in_order=True)
        if look_for_tail:
            self._tail.push(fingerprint, item.pts)
            self._tail_rhythm.push(item.unit.size, item.pts, item.end)
            if self.head is not None and (self._tail.sure or item.pts > self._tail_until):
                self._decide_tail(in_order=True)

    def _decide_head(self, *, in_order: bool) -> None:
        first, seen = self._first, self._seen
        place, detail = self._choose(self._head, self._head_at if self._known else None, Side.HEAD)
        if place is not None:
            self._found_head(place.cut)
            if place.damaged:
                detail = f"the last {place.damaged} recorded differ"
            self.head = Joined(Side.HEAD, Joint.EXACT, self._offset_s(self._head_at, place.cut), place.run, detail)
            return
        fit = None if detail else self._head_rhythm.head(_near(self._head_at) if self._known else None)
        if fit is not None:
            self._found_head(fit.low)
            self.head = self._by_rhythm(Side.HEAD, fit, self._offset_s(self._head_at, fit.low))
            return
        if not detail:
            covered = first is not None and seen is not None
            covered = covered and (first or 0) + _CLEAR_TICKS <= self._head_at <= (seen or 0)
            detail = NOT_FOUND if covered and in_order else "not covered"
            if covered and in_order and self._stops and not self._either:
                self.suspect = "the recorded pictures before the gap are not in the footage of their time"
        self.head = self._by_time(Side.HEAD, detail)

    def _found_head(self, cut: int) -> None:
        self._head_cut, self.anchor = cut, self._head_at - cut
        self._tail.forget_before(cut)
        expected = self._tail_at - self.anchor
        self._tail_from, self._tail_until = expected - SLACK_TICKS, min(self._tail_until, expected + SLACK_TICKS)

    def _decide_tail(self, *, in_order: bool) -> None:
        first, seen = self._first, self._seen
        exact_head = self.head is not None and self.head.kind is Joint.EXACT
        at = self._tail_at - self.anchor
        place, detail = self._choose(self._tail, at if self._known or exact_head else None, Side.TAIL)
        if place is not None:
            self._found_tail(place.cut)
            self.tail = Joined(Side.TAIL, Joint.EXACT, self._offset_s(self._tail_at, place.cut), place.run, detail)
            return
        fit = None if detail or exact_head else self._tail_rhythm.tail(self._near_tail(at))
        if fit is not None:
            self._found_tail(fit.high)
            self.tail = self._by_rhythm(Side.TAIL, fit, self._offset_s(self._tail_at, fit.high))
            return
        if not detail:
            covered = first is not None and seen is not None and (first or 0) <= at <= (seen or 0) - _CLEAR_TICKS
            detail = NOT_FOUND if covered and in_order else "not covered"
            if covered and in_order and self._unproved():
                sides = "on both sides of" if self._either else "after"
                self.suspect = f"the recorded pictures {sides} the gap are not in the footage of their time"
        self.tail = self._by_time(Side.TAIL, detail)

    def _found_tail(self, cut: int) -> None:
        if self._unproved():  # nothing is released yet, so that what the tail says of the clock serves the head, too
            self.anchor = self._tail_at - cut
        self._tail_cut = cut

    def _near_tail(self, expected: int) -> tuple[int, int] | None:
        if self._head_cut is None:
            return _near(expected) if self._known else None
        low, high = _near(expected)
        return max(low, self._head_cut), high

    def _by_rhythm(self, side: Side, fit: Fit, offset_s: float) -> Joined:
        detail = f"coded another way, found by the sizes of its pictures ({fit.correlation:.2f})"
        return Joined(side, Joint.TIME, offset_s, 0, detail, round((fit.high - fit.low) / TICKS, 6))

    def _by_time(self, side: Side, detail: str) -> Joined:
        apart = self._head_at - self._keep_start if side is Side.HEAD else self._keep_end - self._tail_at
        tolerance_s = round(max(0, apart) / TICKS, 6)
        return Joined(side, Joint.TIME, detail=detail, tolerance_s=tolerance_s, suspect=detail == NOT_FOUND)

    def _choose(self, search: HeadSearch | TailSearch, expected: int | None, side: Side) -> tuple[Place | None, str]:
        if self._few[side]:
            return None, "too few pictures"
        try:
            return search.choose(expected), ""
        except Ambiguous:
            return None, "ambiguous"

    def _offset_s(self, recorder: int, replay: int) -> float:
        return round((replay + self._shift - recorder) / TICKS, 6)


def _near(expected: int) -> tuple[int, int]:
    return expected - SLACK_TICKS, expected + SLACK_TICKS
