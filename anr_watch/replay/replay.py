"""One replay from request to end: packets in, segment files in staging and events out. Worker process only.

It holds the parts together (feed, stamps, timeline, sound, merge, cutter, muxer) and decides when and why the
replay is over; it starts no process and knows no gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from typing import Final

import av

from anr_watch.model import Window
from anr_watch.replay.allowance import Allowance
from anr_watch.replay.cutter import Cutter, Op, Step
from anr_watch.replay.ending import Over, why_over
from anr_watch.replay.feed import Feed, Poised
from anr_watch.replay.formats import Formats
from anr_watch.replay.gate import Gate
from anr_watch.replay.job import (
    End,
    Ended,
    Event,
    Joined,
    Joint,
    Jump,
    Opened,
    Progress,
    ReplayJob,
    SegmentReady,
    Side,
)
from anr_watch.replay.joining import Joining
from anr_watch.replay.merge import Merge
from anr_watch.replay.muxer import SegmentWriter, Written
from anr_watch.replay.releasing import Staged
from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.sound import Sound, sound_for
from anr_watch.replay.source import PacketSource
from anr_watch.replay.stamps import Stamped, Stamper, Unit
from anr_watch.replay.timeline import Break, Placed, Timeline, instant_of, ticks_of
from anr_watch.states import Reason

LOOK_S: Final = 0.1  # how soon a stop or a stall is noticed
PROGRESS_S: Final = 0.25
QUIET_END_S: Final = 1.0  # a camera that falls silent with the last picture is at its end, not stalled
GOODBYE_S: Final = 0.5
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Pipeline:
    gate: Gate
    stamper: Stamper
    timeline: Timeline
    merge: Merge | None
    sound: Sound | None


class Replay:
    """Runs one job. `emit` gets every event but the last, which `run` returns; `stop` ends it early.

    `reader` is the thread that is to read from the source; None: one is made.
    """

    def __init__(
        self,
        job: ReplayJob,
        source: PacketSource,
        *,
        emit: Callable[[Event], None],
        stop: Flag,
        monotonic: Callable[[], float],
        wall_us: Callable[[], int],
        reader: Poised | None = None,
    ) -> None:
        self._job, self._emit, self._stop = job, emit, stop
        self._monotonic, self._wall_us = monotonic, wall_us
        self._feed = Feed(source, monotonic=monotonic, max_bytes_s=job.max_bytes_s, reader=reader)
        self._shift = round(job.shift_s * TICKS)
        self._joining = Joining(job, self._fingerprint) if job.head or job.tail else None
        # What is joined is staged from the first key frame that comes, and cut when its place is known.
        self._cutter = Cutter(Window(_EVER, job.keep.end) if self._joining else job.keep, job.segment_s)
        self._staged = Staged(job.staging)
        self._allowance = Allowance(job.asked.seconds, job.max_bytes_s)
        self._pipeline: _Pipeline | None = None
        self._formats: Formats | None = None
        self._writer: SegmentWriter | None = None
        self._files = 0
        self._came = 0
        self._played: int | None = None
        self._connected_at: float | None = None
        self._progress_at = self._started = monotonic()

    def run(self) -> Ended:
        """Fetch until the window is reached, the source ends, something breaks, or we are stopped."""
        self._feed.start()
        try:
            while True:
                self._round()
        except Over as over:
            ended = self._wind_up(over)
        self._feed.stop(0.0 if ended.cause is Reason.STALLED or self._feed.strayed else GOODBYE_S)
        return ended

    def _round(self) -> None:
        ended = self._feed.ended  # before taking: what came until now is in the queue
        units = self._feed.take(LOOK_S)
        try:
            if units:
                self._take(units)
            elif self._pipeline is not None:
                self._cut(self._pipeline.timeline.tick())
        except Exception as error:
            over = why_over(error)
            if over is None:
                raise
            raise over from None
        joining = self._joining
        if self._cutter.done or (joining is not None and (joining.complete or joining.suspect)):
            raise self._reached_the_end()
        if self._stop.is_set():
            raise Over(End.STOPPED)
        if ended and not units:
            raise self._source_ended()
        self._watch()
        self._show_progress()

    def _take(self, units: list[Unit]) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            pipeline = self._pipeline = self._set_up()
        for unit in units:
            for passed in pipeline.gate.push(unit):
                self._pass(pipeline, passed)
            if self._cutter.done:
                return
        self._came += len(units)

    def _pass(self, pipeline: _Pipeline, unit: Unit) -> None:
        if unit.key and self._formats is not None:
            unit.format = self._formats.of(unit)
        for stamped in pipeline.stamper.push(unit):
            self._place(pipeline, stamped)

    def _place(self, pipeline: _Pipeline, stamped: Stamped) -> None:
        self._cut(pipeline.timeline.push(stamped))

    def _cut(self, items: list[Placed | Break]) -> None:
        for placed in items:
            item = placed if not self._shift else _earlier(placed, self._shift)
            if isinstance(item, Break):
                self._allowance.breaks += 1
                self._emit(Jump(self._instant(item.at), round(item.by / TICKS, 6)))
            elif item.unit.video:
                self._allowance.saw(item.pts)
            for ordered in self._ordered(item):
                self._keep(ordered)

    def _keep(self, item: Placed | Break) -> None:
        if isinstance(item, Placed) and item.unit.video:
            self._played = item.pts if self._played is None else max(self._played, item.pts)
        joining = self._joining
        if joining is not None:
            for joined in joining.see(item):
                self._emit(joined)
            self._cutter.reach(joining.reach)
        for step in self._cutter.push(item):
            self._do(step)
        if joining is not None:
            self._release(joining, final=False)

    def _ordered(self, item: Placed | Break) -> list[Placed | Break]:
        pipeline = self._pipeline
        if pipeline is None or pipeline.merge is None or pipeline.sound is None:
            return [item]
        if isinstance(item, Break) or item.unit.video:
            return pipeline.merge.push(item)
        return [ordered for block in pipeline.sound.push(item) for ordered in pipeline.merge.push(block)]

    def _set_up(self) -> _Pipeline:
        playing = self._feed.playing
        if playing is None:
            raise RuntimeError("packets before the streams are known")
        sound: Sound | None = None
        if playing.audio is not None:
            try:
                sound = sound_for(playing.audio)
            except (av.FFmpegError, ValueError):
                sound = None  # footage without sound is worth more than none
        self._formats = Formats(playing)
        stamper = Stamper(playing.clock_rates)
        after_s = (self._feed.first_at or self._monotonic()) - self._started
        video = playing.video
        audio_codec = "" if sound is None else "aac"
        self._emit(Opened(video.codec, video.width, video.height, audio_codec, round(max(0.0, after_s), 6)))
        shift = timedelta(seconds=self._job.shift_s)
        asked = Window(self._job.asked.start + shift, self._job.asked.end + shift)
        timeline = Timeline(asked, wall_us=self._wall_us, monotonic=self._monotonic)
        return _Pipeline(Gate(), stamper, timeline, None if sound is None else Merge(), sound)

    def _do(self, step: Step) -> None:
        if step.op is Op.CLOSE or step.item is None:
            self._close_segment()
            return
        item, unit = step.item, step.item.unit
        if step.op is Op.OPEN:
            pipeline = self._pipeline
            template = None if pipeline is None or pipeline.sound is None else pipeline.sound.template
            self._writer = SegmentWriter(self._job.staging, self._files, unit.format, template, item.pts)
            self._files += 1
            self._allowance.files = self._files
        if self._writer is not None:
            self._writer.write(unit.payload, video=unit.video, pts=item.pts, dts=item.dts, duration=unit.duration)

    def _close_segment(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if writer.torn:  # said already why; what it held is asked for again
            writer.discard()
            return
        if self._joining is None:
            self._ready(writer.close())
            return
        staged = writer.stage()
        self._staged.add(staged)
        self._joining.hold(staged)

    def _release(self, joining: Joining, *, final: bool) -> None:
        for done in self._staged.release(joining, final=final):
            self._ready(done)

    def _ready(self, done: Written) -> None:
        if self._pipeline is None:
            return
        self._emit(
            SegmentReady(
                file=done.file,
                window=Window(self._instant(done.start), self._instant(self._ended_by(done))),
                bytes=done.bytes,
                frames=done.frames,
                codec=done.format.codec,
                width=done.format.width,
                height=done.format.height,
                clock=self._pipeline.timeline.source,
            )
        )

    def _ended_by(self, done: Written) -> int:
        """Return when a segment ends: a found tail knows better than the guessed length of the last picture."""
        joining = self._joining
        return done.end if joining is None or not joining.complete else min(done.end, joining.wanted_end)

    def _instant(self, ticks: int) -> datetime:
        """Return the recorder's time; behind an exact head it is counted from where the recorded footage ends."""
        joining, head_at = self._joining, self._job.head_at
        if joining is None or head_at is None or not joining.anchored:
            return instant_of(ticks if joining is None else ticks + joining.anchor)
        since = ticks + joining.anchor - ticks_of(head_at)
        return head_at + timedelta(microseconds=round(since * 100 / 9))

    def _fingerprint(self, unit: Unit) -> bytes:
        return b"" if self._formats is None else self._formats.fingerprint(unit)

    # Ends.

    def _reached_the_end(self) -> Over:
        if self._joining is not None and self._joining.suspect:
            return Over(End.SUSPECT, self._joining.suspect)
        doubt = self._cutter.doubt
        if doubt is not None:
            by_s = doubt.by / TICKS
            at = instant_of(doubt.at)
            return Over(
                Reason.CUT_SHORT, f"time stamps jumped by {by_s:.1f} s at {at:%H:%M:%S}, beyond what was asked for"
            )
        if self._cutter.kept == 0:
            return Over(Reason.NO_FOOTAGE, "what came lies after the window")
        return Over(End.WINDOW)

    def _source_ended(self) -> Over:
        failure = self._feed.failure
        if failure is not None and (self._came == 0 or failure.reason in {Reason.STALLED, Reason.BAD_MEDIA}):
            return Over(failure.reason, failure.detail, failure.status)
        if failure is not None:
            return Over(End.EOF, "the connection broke")
        if self._came == 0:
            return Over(Reason.NO_FOOTAGE, "the camera played nothing")
        return Over(End.EOF, "the camera ended the replay")

    def _watch(self) -> None:
        if self._feed.strayed:
            raise Over(Reason.BAD_MEDIA, f"the camera wanted to lead us to {self._feed.strayed}")
        if self._feed.first_at is None:
            self._watch_opening()
            return
        too_much = self._allowance.exceeded(self._feed.bytes, self._monotonic() - self._feed.first_at)
        if too_much is not None:
            raise Over(*too_much)
        silent_s = self._feed.silent_s()
        if silent_s >= QUIET_END_S and self._complete(missing_frames=2, playing=True):
            raise Over(End.WINDOW, "the camera fell silent with the end of the window")
        if silent_s >= self._job.stall_timeout_s:
            raise Over(Reason.STALLED, f"nothing came for {self._job.stall_timeout_s:g} s")

    def _watch_opening(self) -> None:
        now = self._monotonic()
        if self._connected_at is None:
            if self._feed.connected:
                self._connected_at = now
            elif now - self._started >= self._job.connect_timeout_s and not self._feed.ended:
                raise Over(Reason.UNREACHABLE, f"no connection within {self._job.connect_timeout_s:g} s")
        elif now - self._connected_at >= 2 * self._job.stall_timeout_s:
            raise Over(Reason.STALLED, f"no footage within {2 * self._job.stall_timeout_s:g} s")

    def _complete(self, *, missing_frames: int, playing: bool) -> bool:
        last, end = self._cutter.last_end, ticks_of(self._job.keep.end)
        if self._joining is not None:
            end = min(self._joining.reach, ticks_of(self._job.asked.end)) if playing else self._joining.wanted_end
        return last is not None and last >= end - missing_frames * self._cutter.frame_ticks

    def _wind_up(self, over: Over) -> Ended:
        """Write what is still held back, finish the open segment and say how it ended."""
        pipeline = self._pipeline
        try:
            if pipeline is not None and over.cause in {End.EOF, Reason.STALLED, Reason.CUT_SHORT}:
                for unit in pipeline.gate.finish():
                    self._pass(pipeline, unit)
                for stamped in pipeline.stamper.finish():
                    self._place(pipeline, stamped)
                self._cut(pipeline.timeline.finish())
                self._drain(pipeline)
            for step in self._cutter.finish():
                self._do(step)
            over = self._join_up(over)
        except Exception as error:
            broken = why_over(error)
            if broken is None:
                raise
            over = broken
        if over.cause is End.EOF and self._complete(missing_frames=1, playing=False):
            over = Over(End.WINDOW)
        return Ended(
            cause=over.cause,
            detail=over.detail[:300],
            bytes=self._feed.bytes,
            seconds=round(self._monotonic() - self._started, 6),
            until=self._until(),
            status=over.status,
            played_until=None if self._played is None else self._instant(self._played),
        )

    def _join_up(self, over: Over) -> Over:
        """Decide what is still open about the joins and release the rest; return how the replay ended after that."""
        joining = self._joining
        if self._pipeline is None:
            return over
        if joining is None:
            for side in Side:
                self._emit(Joined(side, Joint.NONE))
            return over
        in_order = over.cause is End.WINDOW or (over.cause is End.EOF and self._feed.failure is None)
        for joined in joining.finish(in_order=in_order):
            self._emit(joined)
        self._release(joining, final=True)
        if joining.suspect:
            return Over(End.SUSPECT, joining.suspect)
        return Over(End.WINDOW) if joining.complete and in_order else over

    def _drain(self, pipeline: _Pipeline) -> None:
        if pipeline.merge is None or pipeline.sound is None:
            return
        rest = [ordered for block in pipeline.sound.finish() for ordered in pipeline.merge.push(block)]
        for item in [*rest, *pipeline.merge.finish()]:
            self._keep(item)

    def _until(self) -> datetime | None:
        last = self._cutter.last_end
        if last is None:
            return None
        return self._instant(last if self._joining is None else min(last, self._joining.wanted_end))

    def _show_progress(self) -> None:
        now = self._monotonic()
        if now - self._progress_at >= PROGRESS_S and self._feed.first_at is not None:
            self._progress_at = now
            self._emit(Progress(self._feed.bytes, self._until()))


def _earlier(item: Placed | Break, ticks: int) -> Placed | Break:
    """Return the same on the recorder's clock."""
    if isinstance(item, Break):
        return Break(item.at - ticks, item.by, proven=item.proven)
    return Placed(item.pts - ticks, item.dts - ticks, item.unit)
