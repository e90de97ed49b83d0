"""Gives every packet of a replay a presentation and a decoding time on the camera's clock. Pure; no UTC here.

What libavformat leaves open (measured with FFmpeg 8): the first picture has no times, with reordered pictures the
first few have no decoding time, after a jump of the RTP clock decoding times lag behind; with several streams
presentation times follow sender reports instead of the RTP clock (`rtptime`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from anr_watch.replay.nalunits import KeyFrame
from anr_watch.replay.rtptime import TICKS, Report, RtpTime

_REORDERED: Final = 16  # pictures H.264 and H.265 may put out of order
_HEAD_UNITS: Final = 2 * _REORDERED  # libav knows both times after that many
_UNSTAMPED_UNITS: Final = 250  # ten seconds of video


@dataclass(slots=True)
class Unit:
    """One coded picture, or block of sound; times in ticks of 1/90000 s, None where libav does not know them.

    `utc_us` is what the last sender report says about this very unit, `report` the report itself on the first
    unit after it. `payload` passes through untouched.
    """

    video: bool
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    size: int
    utc_us: int | None = None
    report: Report | None = None
    picture: bool = True  # of video: it holds coded picture data of the stream's codec
    clean: bool = True  # a key frame that nothing before it is needed for
    front: KeyFrame | None = None  # what a key frame begins with
    format: Any = None  # of a key frame: how it and what follows are coded; another one needs another file
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Stamped:
    """A unit with times on the camera's clock, `dts` never after `pts`."""

    pts: int
    dts: int
    unit: Unit


class NoTimes(Exception):  # noqa: N818 - names what the camera did
    """The packets carry no time stamps."""


class Stamper:
    """Units in, in the order they came; stamped units out, the first few a little later.

    `clock_rates` are the RTP clocks of video and sound in Hz; without sound libavformat's times are the RTP clock's.

    Raises (from `push`):
        NoTimes: the first pictures, or ten seconds of them later on, have no time stamps.
    """

    def __init__(self, clock_rates: tuple[int, int | None] = (TICKS, None)) -> None:
        video_rate, audio_rate = clock_rates
        self._video_time = RtpTime(video_rate) if audio_rate is not None else None
        self._audio_time = RtpTime(audio_rate) if audio_rate is not None else None
        self._head: list[Unit] | None = []
        self._sound: list[Unit] = []
        self._delay = 0  # ticks between decoding and presentation of a picture that is not reordered
        self._dts = 0
        self._end = 0
        self._unstamped = 0
        self._counted = False
        self._told = False  # the newest picture came with a report's time
        self._shift: int | None = None  # how far our time is from libav's
        self._mistrusted = False  # libav orders its decoding times on a clock that runs back

    def push(self, unit: Unit) -> list[Stamped]:
        """Take the next unit; return what is known now."""
        if not unit.video:
            if self._head is not None:
                self._sound = [*self._sound[-_UNSTAMPED_UNITS:], unit]
                return []
            return self._stamp_sound(unit)
        told, self._told = self._told, unit.utc_us is not None
        if self._head is None:
            if self._told and not told:
                _forget_report(unit)
            return [self._stamp(unit)]
        if self._head and self._head[-1].utc_us == unit.utc_us:
            _forget_report(self._head[-1])
        self._head.append(unit)
        if unit.pts is not None and unit.dts is not None:
            return self._end_of_head()
        if len(self._head) >= _HEAD_UNITS:
            raise NoTimes("no time stamps in the first pictures")
        return []

    def finish(self) -> list[Stamped]:
        """Return what is held back: nothing more will come."""
        return self._end_of_head() if self._head else []

    def _end_of_head(self) -> list[Stamped]:
        """Count back from the first picture whose times are known."""
        head, self._head = self._head or [], None
        step = next((unit.duration for unit in reversed(head) if unit.duration), TICKS // 25)
        at = head[-1].dts if head[-1].dts is not None else head[-1].pts or 0
        first = min((unit.pts for unit in head if unit.pts is not None), default=at + step)
        for unit in reversed(head):
            if unit.dts is None:
                unit.dts = at
            if unit.pts is None:
                first -= _told_step(unit, head) or step
                unit.pts = first
            at = unit.dts - step
        self._delay = min(max(0, (head[0].pts or 0) - (head[0].dts or 0)), _REORDERED * TICKS)
        sound, self._sound = self._sound, []
        out = [self._stamp(unit) for unit in head]
        for unit in sound:
            out += self._stamp_sound(unit)
        return out

    def _stamp(self, unit: Unit) -> Stamped:
        self._unstamped = self._unstamped + 1 if unit.pts is None and unit.dts is None else 0
        if self._unstamped > _UNSTAMPED_UNITS:
            raise NoTimes("the pictures have no time stamps any more")
        ahead = None if unit.pts is None or unit.dts is None else unit.pts - unit.dts
        pts = unit.pts if unit.pts is not None else unit.dts
        if pts is None:
            pts = self._end
        if self._video_time is not None:
            theirs, pts = pts, self._video_time.media(pts, unit.duration, unit.utc_us, unit.report)
            if self._shift is not None and abs(pts - theirs - self._shift) > 1:
                self._mistrusted = True
            self._shift = pts - theirs
        before, following = self._dts, self._dts + unit.duration
        if self._mistrusted and self._delay:
            ahead = None
        if ahead is not None and 0 <= ahead <= TICKS:
            self._dts = pts - ahead
        else:
            self._dts = following if 0 <= pts - following <= TICKS else pts - self._delay
        # What a coder says about its frame rate is often twice or half the truth; the clock is not.
        if self._counted and 0 < self._dts - before <= TICKS:
            unit.duration = self._dts - before
        self._counted = True
        self._end = pts + unit.duration
        return Stamped(pts, self._dts, unit)

    def _stamp_sound(self, unit: Unit) -> list[Stamped]:
        if unit.pts is None or self._audio_time is None:
            return []
        pts = self._audio_time.media(unit.pts, unit.duration, unit.utc_us, unit.report)
        return [Stamped(pts, pts, unit)]


def _forget_report(unit: Unit) -> None:
    """Drop what the first report says about the picture before it.

    libav's parser gives a picture without side data that of the packet that completes it, which is the next one's.
    """
    unit.utc_us, unit.report = None, None


def _told_step(unit: Unit, head: list[Unit]) -> int | None:
    """Return the time from `unit` to the next picture presented, where the same report speaks of both."""
    if unit.utc_us is None:
        return None
    steps = [other.utc_us - unit.utc_us for other in head if other.utc_us is not None and other.utc_us > unit.utc_us]
    step = min(steps, default=0)
    return step * 9 // 100 if 0 < step <= 1_000_000 else None
