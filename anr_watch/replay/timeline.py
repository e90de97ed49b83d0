"""Puts the pictures and the sound of a replay onto true UTC, and says where time is not continuous. Pure; no av.

UTC comes from RTCP sender reports where they are sane: the footage they place must lie near what was asked for.
Cameras exist whose reports say the present instead (every GStreamer server does); those are recognised and
ignored. Without reports the first picture is taken for the start that was asked, which may be up to one group
of pictures wrong. Times are ticks of 1/90000 s: on the camera's clock going in, since 1970 coming out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

from anr_watch.model import Window
from anr_watch.replay.job import TimeSource
from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.stamps import NoTimes, Stamped, Unit

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NEAR_S: Final = 10  # a first picture this near the asked start needs no further proof: a long GOP, a rounded second
AROUND_S: Final = 120  # farther before the asked start, or beyond its end, is another time and not our footage
PRESENT_S: Final = 5  # a report this near our own clock may simply be "now"
HOLE_S: Final = 1.0  # a step in picture time that is no matter of frame rate; recorders tolerate 3 s
SAME_S: Final = 0.5  # two statements about time that differ by less agree
REPEAT_S: Final = 30  # cameras repeat the end of one stored file at the start of the next
HOLD_MEDIA_S: Final = 8
HOLD_WALL_S: Final = 4.0
FAR_TICKS: Final = 366 * 86400 * TICKS  # no footage lies a year from what was asked: the time stamps are noise
HOLD_BYTES: Final = 16 * 1024 * 1024


def ticks_of(instant: datetime) -> int:
    """Return ticks since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1) * 9 // 100


def instant_of(ticks: int) -> datetime:
    """Return the instant, to the microsecond."""
    return _EPOCH + timedelta(microseconds=round(ticks * 100 / 9))


@dataclass(frozen=True, slots=True)
class Placed:
    """A unit on the UTC time line."""

    pts: int
    dts: int
    unit: Unit

    @property
    def end(self) -> int:
        """Where the picture, or the sound, is over."""
        return self.pts + self.unit.duration


@dataclass(frozen=True, slots=True)
class Break:
    """Time is not continuous here; `at` is the end of what came before, `by` how far it steps (negative: back).

    Not `proven` when only the RTP time stamps say so, which cameras also let jump for no reason.
    """

    at: int
    by: int
    proven: bool


class TimeWentBack(Exception):  # noqa: N818 - names what the camera did
    """The time stamps went back too far to guess what the camera means; `by_s` is positive."""

    def __init__(self, by_s: float) -> None:
        self.by_s = by_s
        super().__init__(f"time stamps went back by {by_s:.1f} s")


class _Reports(Enum):
    UNKNOWN = auto()
    TRUSTED = auto()
    MISSING = auto()  # none came within the bounds: do not wait again, believe one that comes with a jump
    USELESS = auto()  # they speak of another time: never believe one again


class Timeline:
    """Stamped units in, in the order they came; placed units and breaks out, maybe some later.

    `wall_us` is the present (microseconds since 1970), `monotonic` seconds for the bounds of waiting.

    Raises (from `push`, `tick` and `finish`):
        TimeWentBack: see there.
        NoTimes: what the pictures carry are no times.
    """

    def __init__(self, asked: Window, *, wall_us: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._start, self._end = ticks_of(asked.start), ticks_of(asked.end)
        self._wall_us, self._monotonic = wall_us, monotonic
        self._held: list[Stamped] | None = []
        self._held_bytes = 0
        self._held_since: float | None = None
        self._jump: int | None = None  # how far pictures stepped, while we wait for a report about it
        self._top: int | None = None  # end of the newest picture on the camera's clock
        self._offset = 0  # UTC ticks minus the camera's; holds once nothing is held for the start
        self._reports = _Reports.UNKNOWN
        self._sound_next: int | None = None

    @property
    def source(self) -> TimeSource:
        """Where UTC comes from at present."""
        return TimeSource.SENDER_REPORT if self._reports is _Reports.TRUSTED else TimeSource.ASKED

    def push(self, item: Stamped) -> list[Placed | Break]:
        """Take the next unit; return what can be placed now."""
        if self._held is not None:
            self._held_since = self._monotonic() if self._held_since is None else self._held_since
            self._held.append(item)
            self._held_bytes += item.unit.size
            return self._judge(item)
        if abs(item.pts + self._offset - self._start) > FAR_TICKS:
            raise NoTimes("time stamps that are no times")
        if not item.unit.video:
            return [self._place_sound(item)]
        if self._top is not None:
            step, duration = item.pts - self._top, item.unit.duration
            # 16 pictures: H.264 and H.265 reorder no further, so an earlier time within that is no jump back.
            if step > max(HOLE_S * TICKS, 4 * duration) or step < -HOLE_S * TICKS - 16 * duration:
                self._held, self._held_bytes, self._held_since = [item], item.unit.size, self._monotonic()
                self._jump = step
                return self._judge(item)
        out = self._check_report(item)
        end = item.pts + item.unit.duration
        self._top = end if self._top is None else max(self._top, end)
        return [*out, Placed(item.pts + self._offset, item.dts + self._offset, item.unit)]

    def tick(self) -> list[Placed | Break]:
        """Let the bounds of waiting take effect while nothing comes."""
        return self._judge(None) if self._held else []

    def finish(self) -> list[Placed | Break]:
        """Return everything held back: nothing more will come."""
        out: list[Placed | Break] = []
        while self._held:
            out += self._decide(None)
        return out

    def _judge(self, newest: Stamped | None) -> list[Placed | Break]:
        """Decide where the held units belong, if that can be known now."""
        held = self._held or []
        # A jump is judged by a report that came after it; what an older one says jumps along.
        if (
            newest is not None
            and newest.unit.video
            and newest.unit.utc_us is not None
            and (newest.unit.report is not None or (self._jump is None and not _stepped(held)))
        ):
            return self._decide(newest)
        waiting_is_vain = self._jump is not None and self._reports in {_Reports.MISSING, _Reports.USELESS}
        waited_s = 0.0 if self._held_since is None else self._monotonic() - self._held_since
        if (
            waiting_is_vain
            or waited_s >= HOLD_WALL_S
            or self._held_bytes >= HOLD_BYTES
            or _span(held) >= HOLD_MEDIA_S * TICKS
        ):
            return self._decide(None)
        return []

    def _decide(self, witness: Stamped | None) -> list[Placed | Break]:
        held, self._held = self._held or [], None
        self._held_bytes, self._held_since = 0, None
        jump, self._jump = self._jump, None
        first = next((item.pts for item in held if item.unit.video), None)
        out: list[Placed | Break] = []
        if first is not None:
            claim = None
            if witness is not None and witness.unit.utc_us is not None and self._reports is not _Reports.USELESS:
                claim = witness.unit.utc_us * 9 // 100 - witness.pts
            if jump is None:
                self._settle_start(first, claim, witness)
            else:
                out += self._settle_jump(first, jump, claim)
            self._top = None
        for item in held:
            out += self.push(item)
        return out

    def _settle_start(self, first: int, claim: int | None, witness: Stamped | None) -> None:
        if claim is None or witness is None:
            self._reports, self._offset = _Reports.MISSING, self._start - first
        elif self._sane(first + claim, witness.unit):
            self._reports, self._offset = _Reports.TRUSTED, claim
        else:
            self._reports, self._offset = _Reports.USELESS, self._start - first

    def _sane(self, claimed: int, witness: Unit) -> bool:
        if abs(claimed - self._start) <= NEAR_S * TICKS:
            return True
        if not self._start - AROUND_S * TICKS <= claimed < self._end:
            return False
        said_us = witness.report.ntp_us if witness.report is not None else witness.utc_us or 0
        return abs(said_us - self._wall_us()) > PRESENT_S * 1_000_000

    def _settle_jump(self, first: int, step: int, claim: int | None) -> list[Placed | Break]:
        last_end = first - step + self._offset
        if claim is not None:
            by = first + claim - last_end
            if abs(by) <= SAME_S * TICKS:
                self._offset = last_end - first  # only the RTP clock jumped; the footage goes on
                return []
            if by >= -AROUND_S * TICKS and first + claim <= self._end + AROUND_S * TICKS:
                self._reports, self._offset = _Reports.TRUSTED, claim
                return [Break(last_end, by, proven=True)]
        if step < -REPEAT_S * TICKS:
            raise TimeWentBack(-step / TICKS)
        return [Break(last_end, step, proven=False)]

    def _check_report(self, item: Stamped) -> list[Placed | Break]:
        """Compare a new report with what we believe; one that says "later" reveals a hole RTP did not show."""
        if self._reports is not _Reports.TRUSTED or item.unit.report is None or item.unit.utc_us is None:
            return []
        at = item.pts + self._offset
        apart = item.unit.utc_us * 9 // 100 - at
        if abs(apart) <= SAME_S * TICKS:
            return []
        if apart < 0 or at + apart > self._end + AROUND_S * TICKS:
            self._reports = _Reports.USELESS  # footage does not go back while RTP goes on
            return []
        self._offset += apart
        return [Break(at, apart, proven=True)]

    def _place_sound(self, item: Stamped) -> Placed:
        """Sound has reports of its own; without, it shares the video's clock from the first packet on."""
        at = item.pts + self._offset
        if self._reports is _Reports.TRUSTED and item.unit.utc_us is not None:
            said = item.unit.utc_us * 9 // 100
            at = said if abs(said - at) < NEAR_S * TICKS else at
        if self._sound_next is not None and abs(at - self._sound_next) < TICKS // 10:
            at = self._sound_next
        self._sound_next = at + item.unit.duration
        return Placed(at, at, item.unit)


def _span(held: list[Stamped]) -> int:
    times = [item.pts for item in held if item.unit.video]
    return abs(times[-1] - times[0]) if times else 0


def _stepped(held: list[Stamped]) -> bool:
    """Whether the newest of the held pictures is not where the one before it leads."""
    last = [item for item in held if item.unit.video][-2:]
    return len(last) == 2 and abs(last[1].pts - last[0].pts) > HOLE_S * TICKS + 16 * last[0].unit.duration
