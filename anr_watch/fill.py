"""One fill: from a pending gap to verified files, rows and a verdict. It decides nothing about other gaps.

The order of things; each arrow is a place where the process may be killed without loss:

    plan from database and folder -> attempt row -> worker writes a staging segment (closed and fsynced)
    -> check -> move into place -> one transaction (segment row, attempt, event) -> ... -> verdict
    -> one transaction (gap rows, attempt, events)

Killed before the move: staging is emptied at the next start. Killed between move and row: the next fill of the gap
finds the file in the folder and gives it its row. Killed before the verdict: the attempt becomes `interrupted`, and
what has rows is not fetched again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from anr_watch.announcements import Announcements
from anr_watch.clock import Clock
from anr_watch.config import Settings
from anr_watch.coverage import missing, trusted
from anr_watch.errors import ParseError, ReplayRefused, StorageError, StoreUnavailable
from anr_watch.footage.boxes import read_facts
from anr_watch.footage.folder import Between, Recordings
from anr_watch.joins import approach, clocks, guesses
from anr_watch.joins.neighbours import Neighbours, beside
from anr_watch.kernel_events import fill_event, is_news
from anr_watch.log import Repeated
from anr_watch.model import Attempt, Camera, Coverage, DeviceClock, Gap, Segment, Window, merge
from anr_watch.planner import ANY_AGE_HOURS, choose_target, fillable
from anr_watch.replay.job import End, Ended, Joined, Joint, Jump, Opened, Progress, ReplayJob, SegmentReady, Side
from anr_watch.replay.process import Workers
from anr_watch.replay.running import Running
from anr_watch.replay.secrets import open_camera
from anr_watch.replay.urls import build_replay_request, device_of
from anr_watch.states import POLICY, Follow, Presence, Reason
from anr_watch.store import Settled, Settlement, Store
from anr_watch.verdict import ReplayEnd, Verdict, covered_verdict, judge

LOG = logging.getLogger("anr_watch.fill")
T = TypeVar("T")

# A segment whose file disagrees with what the worker said of it by more than this is not put into place.
LENGTH_TOLERANCE_S = 1.0
# Footage this far outside the asked window is not what was asked for (a camera's clock may be minutes off).
PLAUSIBLE = timedelta(minutes=5)
# Fills of one camera whose proofs are remembered: overlapping rows of one outage follow each other at once.
PROVED_KEPT = 32
# Less than this is not worth a request of its own.
SHORTEST = timedelta(seconds=1)
# Footage that reaches into a gap may have begun this long before it: the longest segment anybody records.
AROUND_S = 900.0


class Step(StrEnum):
    """The numbered places of a fill, for tests that end the process there."""

    PLANNED = "planned"
    ATTEMPT_WRITTEN = "attempt_written"
    STAGED = "staged"
    CHECKED = "checked"
    PLACED = "placed"
    ROW_WRITTEN = "row_written"
    JUDGED = "judged"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Tools:
    """The rims a fill works with."""

    settings: Settings
    clock: Clock
    store: Store
    recordings: Recordings
    workers: Workers
    announcements: Announcements
    at_step: Callable[[Step], None] = lambda _step: None
    # Time beside files of ours, by camera, in which exact joins proved that no picture is missing; rows may overlap.
    proved: dict[str, deque[Window]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What made us look, and when (monotonic), for the reaction time that events tell."""

    source: str  # start, database, recordings, mqtt, sweep, timer, command
    at_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a fill ended, for the scheduler.

    `waiting_ids` are pending rows that this try asked for and did not get: they wait `delay_s`. Other residuals
    are due at once. `answered` says that the device played something, so it is neither gone nor busy.
    """

    gap: Gap
    verdict: Verdict
    waiting_ids: tuple[str, ...]
    pending_ids: tuple[str, ...]
    delay_s: float
    tries: int
    answered: bool


class Fill:
    """One try at one gap. `run` once; `stop` may be called at any time and lets `run` end in order.

    Args:
        tools: the rims.
        gap: the pending row.
        camera: its camera as it is now.
        trigger: what made us look.
        forced: a person asked, so the gap's age does not matter.
        tries: tries in a row that ended for `last_reason` before this one.
        last_reason: how the try before ended.
        presence_of: what is believed of a camera now.
    """

    def __init__(
        self,
        tools: Tools,
        gap: Gap,
        camera: Camera,
        *,
        trigger: Trigger,
        forced: bool,
        tries: int,
        last_reason: Reason | None,
        presence_of: Callable[[str], Presence],
    ) -> None:
        self.gap, self.camera = gap, camera
        self._tools, self._trigger, self._forced = tools, trigger, forced
        self._tries, self._last_reason, self._presence_of = tries, last_reason, presence_of
        self._running: Running | None = None
        self._answered = False
        self._rejected = ""
        self._sides = Neighbours()
        self._joins: dict[Side, Joined] = {}
        self._jumps: list[datetime] = []
        self._shift_s = 0.0  # of the request that runs
        self._measured_s: float | None = None  # what its first join said, where the request was too far off
        self._exact_enough_s: float | None = None
        self._placed: list[Window] = []
        self._until = tools.clock.now()
        self._name_before: datetime | None = None  # of the file of ours that was placed last
        self._asked_at = tools.clock.now()
        self._live_start: datetime | None = None
        self.stopping = False
        self.settling = False
        self.attempt: Attempt | None = None

    async def stop(self) -> None:
        """End the replay early; what came so far is kept and the rest stays pending."""
        self.stopping = True
        if self._running is not None:
            await self._running.stop()

    async def run(self) -> Outcome | None:
        """Fill the gap as far as the camera lets us and settle its row; None if it was not ours to try.

        Raises:
            AnrWatchError: the database cannot be used; the row is still pending.
        """
        tools = self._tools
        segments = await self._recorded()
        before = merge([*trusted(segments), *tools.proved.get(self.camera.id, ())])
        self._live_start = max((s.window.start for s in segments if self._borders(s)), default=None)
        wanted = fillable(
            self.gap, tools.clock.now(), ANY_AGE_HOURS if self._forced else tools.settings.fills.max_gap_hours
        )
        pieces = missing(wanted, before) if wanted else ()
        tools.at_step(Step.PLANNED)
        if not pieces:
            return await self._settle(covered_verdict(self.gap.window), None)
        target = choose_target(pieces, tools.settings.fills.max_request_s)
        self._sides, self._until = await asyncio.to_thread(
            beside, tools.recordings, self.camera, target, segments, tools.clock.now()
        )
        if self._until <= target.start + SHORTEST:
            return None  # where live recording resumed will be seen in a moment
        target = Window(target.start, min(target.end, self._until))
        if not await self._begin(target):
            return None
        try:
            end = await self._replay(target)
        except BaseException as error:
            # Cancelled, or a fault of ours: what is in place counts, and the attempt must not stay open.
            left = ReplayEnd(Reason.INTERRUPTED, "stopped" if not isinstance(error, Exception) else repr(error))
            await asyncio.shield(self._conclude(target, before, left))
            raise
        return await self._conclude(target, before, end)

    async def _conclude(self, target: Window, before: Coverage, end: ReplayEnd) -> Outcome:
        tools = self._tools
        self.settling = True
        tools.announcements.nothing_runs(self.camera.id)
        if not self._rejected:
            proved = tools.proved.setdefault(self.camera.id, deque(maxlen=PROVED_KEPT))
            sides = self._sides
            proved.extend(
                approach.proved(
                    target,
                    self._placed,
                    self._joins,
                    head_at=sides.head.at,
                    tail_at=sides.tail.at,
                    jumps=self._jumps,
                )
            )
        after = merge([*trusted(await self._recorded()), *tools.proved.get(self.camera.id, ())])
        verdict = judge(
            self.gap.window,
            target,
            before=before,
            after=after,
            end=end,
            attempts=self.gap.attempts,
            max_attempts=tools.settings.fills.max_attempts,
            presence=self._presence_of(self.camera.id),
            settled_before=self._asked_at - timedelta(seconds=tools.settings.fills.settle_s),
        )
        tools.at_step(Step.JUDGED)
        return await self._settle(verdict, target)

    # -- what is recorded -------------------------------------------------------------------------------------

    async def _recorded(self) -> list[Segment]:
        """Return the footage in and around the gap: rows, and files that have no row yet.

        A file inside the gap without a row is one of ours from before a crash, or the recorder's newest; the
        former gets its row here, so that the kernel never has to index it.
        """
        store, camera_id = self._tools.store, self.camera.id
        around = self.gap.window.widened(AROUND_S, AROUND_S)
        rows = await store.segments(camera_id, around)
        strays = await asyncio.to_thread(self._strays, around, rows)
        newest = await asyncio.to_thread(self._tools.recordings.newest, camera_id)
        for path, stray in strays:
            ours = self.gap.window.start <= stray.window.start < self.gap.window.end
            if ours and newest is not None and path != newest.path:
                text = await store.segment_path_text(camera_id, path, self._tools.recordings.root)
                await store.add_segment(replace(stray, path=text), announce=self._tools.announcements.state)
        return [*rows, *(stray for _, stray in strays)]

    def _strays(self, around: Window, rows: list[Segment]) -> list[tuple[Path, Segment]]:
        recordings, camera_id = self._tools.recordings, self.camera.id
        folder = recordings.camera_folder(camera_id)
        depth = recordings.pattern.depth + 1
        known = {Path(row.path).parts[-depth:] for row in rows}
        found: list[tuple[Path, Segment]] = []
        for file in recordings.files(camera_id, around):
            if file.path.relative_to(folder).parts not in known:
                segment = recordings.segment_of(file, camera_id, str(file.path))
                if segment is not None:
                    found.append((file.path, segment))
        return found

    # -- the replay -------------------------------------------------------------------------------------------

    async def _begin(self, target: Window) -> bool:
        """Claim the gap and write the attempt; False if it is resolved, or somebody else is at it."""
        tools = self._tools
        attempt = Attempt(
            id=f"att_{uuid.uuid4().hex}",
            gap_id=self.gap.id,
            camera_id=self.camera.id,
            number=1,  # the store counts
            window=target,
            started_at=tools.clock.now(),
            wanted_s=target.seconds,
        )
        reaction_ms = (tools.clock.monotonic() - self._trigger.at_s) * 1000
        self.attempt = await tools.store.begin_attempt(
            attempt, announce=tools.announcements.fill_started(self.gap, reaction_ms)
        )
        if self.attempt is None:
            return False
        attempt = self.attempt
        tools.at_step(Step.ATTEMPT_WRITTEN)
        LOG.info(
            "fill started",
            extra={
                "camera": self.camera.id,
                "gap": self.gap.id,
                "attempt": attempt.number,
                "from": target.start.isoformat(),
                "seconds": round(target.seconds, 1),
                "trigger": self._trigger.source,
                "reaction_ms": round(reaction_ms, 1),
            },
        )
        return True

    async def _replay(self, target: Window) -> ReplayEnd:
        """Ask the camera and put what comes into place; every way it can go wrong becomes a reason."""
        tools = self._tools
        if self.stopping:
            return ReplayEnd(Reason.INTERRUPTED, "stopped before it began")
        try:
            await asyncio.to_thread(tools.recordings.check_folder, self.camera.id)
            room_mb = await asyncio.to_thread(tools.recordings.free_mb)
            if room_mb < tools.settings.recordings.min_free_mb:
                return ReplayEnd(
                    Reason.DISK_FULL,
                    f"{room_mb:.0f} MB free, {tools.settings.recordings.min_free_mb:.0f} MB must stay",
                )
            return await self._ask(target)
        except ReplayRefused as error:
            return ReplayEnd(Reason.NO_REPLAY_URL if error.missing else Reason.BAD_CONFIG, str(error))
        except StorageError as error:
            return ReplayEnd(Reason.DISK_FULL if error.full else Reason.STORAGE, str(error))
        finally:
            self._running = None

    async def _ask(self, target: Window) -> ReplayEnd:
        """Ask the camera, and again with the next guess at its clock as long as it shows other footage."""
        tools, options = self._tools, self.camera.options
        opened = await asyncio.to_thread(open_camera, self.camera, tools.settings.secret_key)
        device = str(device_of(opened))
        clock = (await tools.store.clocks()).get(device)
        known_s = clock.offset_s if clock is not None and clock.samples else None
        every = guesses.in_order(options.timezone, target.start, margin_s=options.margin_s, known_s=known_s)
        requests = approach.requests(
            every,
            comparable=self._sides.known,
            tried=await tools.store.guessed(self.gap.id) if self._sides.known else (),
            keep_unproved=tools.settings.fills.unproved == "keep",
            unmatched=approach.is_unmatched(clock, tools.clock.now()),
        )
        zones = any(request.guess.zone for request in requests)
        nothing: ReplayEnd | None = None  # the camera has no footage where it was asked first
        suspects = 0
        for number, request in enumerate(requests):
            if nothing is not None and not request.guess.zone:
                continue  # only a wrong zone asks for where there is nothing
            ended = await self._run(await self._job(opened, target, request))
            if self._measured_s is not None and not self.stopping:
                again = approach.measured(request, self._measured_s, options)
                ended = await self._run(await self._job(opened, target, again))
            if self.stopping or not approach.goes_on(ended.cause, request, first=number == 0, zones=zones):
                await self._measure(device, clock, suspects)
                return self._end_of(ended)
            if ended.cause is End.SUSPECT:
                suspects += 1
            elif number == 0:
                nothing = self._end_of(ended)
                continue
            await self._rule_out(request.guess)
        if nothing is not None:
            return nothing
        return ReplayEnd(Reason.WRONG_FOOTAGE, "it does not show the pictures recorded beside the gap")

    async def _run(self, job: ReplayJob) -> Ended:
        """Run one replay; where its first join shows that it was asked for at the wrong time, it ends at once."""
        self._exact_enough_s = self.camera.options.margin_s / 2 if self._measured_s is None else None
        self._joins.clear()
        self._jumps.clear()
        async with self._tools.workers.replay(job) as running:
            self._running = running
            await self._stop_if_asked(running)
            try:
                return await self._take(running)
            finally:
                self._running = None

    async def _rule_out(self, guess: guesses.Guess) -> None:
        """Note that the footage found with a guess is not the right one."""
        LOG.info(
            "not the footage that was recorded beside the gap",
            extra={"camera": self.camera.id, "gap": self.gap.id, "clock": guess.name, "shift_s": guess.shift_s},
        )
        await self._tools.store.note_guess(self.gap.id, guesses.key_of(guess))

    async def _measure(self, device: str, before: DeviceClock | None, suspects: int) -> None:
        """Keep what a join says of the device's clock, or that its storage cannot be compared."""
        tools, now = self._tools, self._tools.clock.now()
        offset_s = approach.offset_of(self._joins)
        believed = before if before is not None and before.samples else None
        if offset_s is None:
            if suspects and believed is None and self._joins:
                clock = DeviceClock(device, 0.0, 0.0, now, 0, approach.UNMATCHED)
                await self._insist(lambda: tools.store.save_clock(clock, self.camera.id))
            return
        self._note(offset_ms=offset_s * 1000)
        measured = clocks.measured(believed, device, offset_s, at=now, source="join")
        news = clocks.is_news(believed, offset_s)
        if news:
            LOG.warning(
                "the camera's clock is off",
                extra={"camera": self.camera.id, "device": device, "by_s": round(offset_s, 3)},
            )
        announce = tools.announcements.clock_measured(
            self.camera.id, measured, before_s=(believed.offset_s if believed else 0.0) if news else None
        )
        await self._insist(lambda: tools.store.save_clock(measured, self.camera.id, announce))

    async def _job(self, opened: Camera, target: Window, request: approach.Request) -> ReplayJob:
        tools, camera, fills, sides = self._tools, self.camera, self._tools.settings.fills, self._sides
        options, guess = camera.options, request.guess
        self._shift_s = guess.shift_s
        shift = timedelta(seconds=guess.shift_s)
        head, tail = bool(sides.head.prints), bool(sides.tail.prints)
        windows = approach.windows(
            target, guess, options, comparable=head or tail, until=self._until, now=tools.clock.now()
        )
        on_camera = Window(windows.asked.start + shift, windows.asked.end + shift)
        asked = build_replay_request(opened, on_camera, password=opened.password)
        return ReplayJob(
            url=asked.url,
            asked=Window(asked.asked.start - shift, asked.asked.end - shift),
            keep=windows.keep,
            head=sides.head.prints,
            tail=sides.tail.prints,
            head_at=sides.head.at if head else None,
            tail_at=sides.tail.at if tail else None,
            shift_s=guess.shift_s,
            shift_known=guess.known,
            unproved=request.unproved,
            staging=await asyncio.to_thread(tools.recordings.staging, self.gap.id),
            segment_s=float(camera.segment_s),
            audio=camera.record_audio,
            connect_timeout_s=fills.connect_timeout_s,
            stall_timeout_s=fills.stall_timeout_s,
            max_bytes_s=options.max_mb_s * 1e6,
            transport=options.transport,
            tls_verify=options.tls_verify,
        )

    async def _take(self, running: Running) -> Ended:
        async for event in running:
            match event:
                case Opened():
                    self._answered = True
                    self._note(first_byte_s=event.after_s)
                case SegmentReady() if self._exact_enough_s is not None and self._measured_s is not None:
                    pass  # it may not reach the other side: all of it is asked for again, at the right time
                case SegmentReady():
                    await self._put_into_place(event)
                case Progress():
                    self._note(bytes=event.bytes)
                case Joined():
                    self._take_join(event)
                    if self._is_far_off(event):
                        await running.stop()
                case Ended():
                    self._note(bytes=max(event.bytes, self.attempt.bytes if self.attempt else 0))
                    return event
                case Jump():
                    self._jumps.append(event.at)
                    at = event.at.isoformat()
                    LOG.info(
                        "time jump",
                        extra={"camera": self.camera.id, "gap": self.gap.id, "at": at, "by_s": event.by_s},
                    )
        raise AssertionError("a replay always tells its end")

    def _take_join(self, joined: Joined) -> None:
        self._joins[joined.side] = joined
        if joined.side is Side.HEAD:
            self._note(join_head=joined.kind.value)
        else:
            self._note(join_tail=joined.kind.value)
        LOG.info(
            "joined",
            extra={
                "camera": self.camera.id,
                "gap": self.gap.id,
                "side": joined.side,
                "join": joined.kind,
                "pictures": joined.run,
                "offset_s": joined.offset_s,
                "detail": joined.detail,
            },
        )

    def _is_far_off(self, joined: Joined) -> bool:
        """Note the measured clock if the head lies so far off that the tail may lie outside of what was asked."""
        if joined.side is not Side.HEAD or joined.offset_s is None or self._exact_enough_s is None:
            return False
        if abs(joined.offset_s - self._shift_s) <= self._exact_enough_s:
            return False
        self._measured_s = joined.offset_s
        return True

    async def _stop_if_asked(self, running: Running) -> None:
        """Catch a stop that came between the plan and the start of the worker."""
        if self.stopping:
            await running.stop()

    def _end_of(self, ended: Ended) -> ReplayEnd:
        if ended.cause is End.STOPPED or self.stopping:
            return ReplayEnd(Reason.INTERRUPTED, ended.detail or "stopped")
        if isinstance(ended.cause, Reason):
            return ReplayEnd(ended.cause, ended.detail)
        if self._rejected:
            return ReplayEnd(Reason.BAD_MEDIA, self._rejected)
        return ReplayEnd(None, ended.detail)

    def _note(self, **changes: object) -> None:
        assert self.attempt is not None  # noqa: S101 - only called between begin and settle
        self.attempt = replace(self.attempt, **changes)  # type: ignore[arg-type]

    # -- files ------------------------------------------------------------------------------------------------

    async def _put_into_place(self, ready: SegmentReady) -> None:
        tools = self._tools
        staged = await asyncio.to_thread(tools.recordings.staging, self.gap.id)
        staged /= ready.file
        tools.at_step(Step.STAGED)
        fault = await asyncio.to_thread(self._fault_of, staged, ready)
        if fault:
            self._rejected = fault
            LOG.warning("segment rejected: %s", fault, extra={"camera": self.camera.id, "gap": self.gap.id})
            await asyncio.to_thread(staged.unlink, missing_ok=True)
            return
        tools.at_step(Step.CHECKED)
        between = self._between()
        path = await asyncio.to_thread(tools.recordings.place, staged, self.camera.id, ready.window, between=between)
        self._placed.append(ready.window)
        tools.at_step(Step.PLACED)
        if path is None:
            return  # a file of the recorder covers that time
        assert self.attempt is not None  # noqa: S101 - a replay runs only after the attempt was written
        self._note(files=self.attempt.files + 1, got_s=self.attempt.got_s + ready.window.seconds)
        self._name_before = tools.recordings.start_of(path, self.camera.id)
        text = await tools.store.segment_path_text(self.camera.id, path, tools.recordings.root)
        segment = Segment(
            self.camera.id,
            text,
            ready.window,
            ready.bytes,
            ready.codec,
            ready.width,
            ready.height,
            ours=True,
            listed=self._listed(ready.window),
        )
        announce = tools.announcements.fill_progress(self.gap, self.attempt)
        await self._insist(lambda: tools.store.add_segment(segment, attempt=self.attempt, announce=announce))
        tools.at_step(Step.ROW_WRITTEN)

    def _borders(self, segment: Segment) -> bool:
        return not segment.ours and segment.window.start <= self.gap.window.start

    def _listed(self, window: Window) -> Window:
        """Return what the row says: never earlier than the live file in front of the gap.

        The margin may reach back before that file's start. When the kernel indexes it, it cuts every row that
        began earlier back to its start, and what of ours lies behind it would vanish from the timeline.
        """
        start = window.start if self._live_start is None else max(window.start, self._live_start)
        return Window(start, window.end) if start < window.end else window

    def _between(self) -> Between | None:
        """Return the names between which a file belongs that is proved to be missing; None without that proof."""
        head = self._joins.get(Side.HEAD)
        if head is None or head.kind is not Joint.EXACT:
            return None
        after, before = self._sides.head.path, self._sides.tail.path
        start_of = self._tools.recordings.start_of
        return Between(
            self._name_before or (start_of(after, self.camera.id) if after else None),
            start_of(before, self.camera.id) if before else None,
        )

    def _fault_of(self, staged: Path, ready: SegmentReady) -> str:
        """Return what is wrong with a staged file, or an empty text. The worker is not believed, the file is."""
        try:
            facts = read_facts(staged)
        except (ParseError, OSError) as error:
            return f"staged file is unreadable: {error}"
        if abs(facts.duration_s - ready.window.seconds) > LENGTH_TOLERANCE_S:
            return f"file holds {facts.duration_s:.1f} s, the worker said {ready.window.seconds:.1f} s"
        if facts.codec not in ("h264", "hevc") or not facts.first_is_key:
            return f"file does not begin with a key frame of a codec we keep ({facts.codec})"
        plausible = self.gap.window.widened(PLAUSIBLE.total_seconds(), PLAUSIBLE.total_seconds())
        if not plausible.overlaps(ready.window):
            return f"footage of {ready.window.start:%Y-%m-%dT%H:%M:%SZ} was not asked for"
        return ""

    # -- the end ----------------------------------------------------------------------------------------------

    async def _settle(self, verdict: Verdict, target: Window | None) -> Outcome:
        tools, now = self._tools, self._tools.clock.now()
        same = verdict.reason is self._last_reason and verdict.got_s == 0
        tries = self._tries + 1 if same else 1
        delay_s = self._delay_s(verdict, tries)
        attempt = self.attempt
        if attempt is not None:
            elapsed_s = (now - attempt.started_at).total_seconds()
            waits = verdict.missing and verdict.follow not in (Follow.NOTHING, Follow.PARK_CAMERA)
            attempt = replace(
                attempt,
                ended_at=now,
                reason=verdict.reason,
                detail=verdict.detail,
                got_s=verdict.got_s,
                speed=verdict.got_s / elapsed_s if elapsed_s > 0 and verdict.got_s else None,
                next_at=now + timedelta(seconds=delay_s) if waits else None,
            )
        announce = (
            tools.announcements.fill_ended(self.gap, attempt, verdict)
            if attempt is not None
            else tools.announcements.state
        )
        settlement = Settlement(
            gap=self.gap,
            attempt=attempt,
            pieces=verdict.pieces,
            counts=verdict.counts and attempt is not None,
            failed=verdict.failed,
            kernel_event=fill_event(self.gap, attempt, verdict)
            if attempt is not None and tools.settings.fills.kernel_events and is_news(verdict)
            else None,
        )
        settled: Settled = await self._insist(lambda: tools.store.settle(settlement, announce))
        tools.at_step(Step.SETTLED)
        await asyncio.to_thread(tools.recordings.clear_staging, self.gap.id)
        LOG.info(
            "fill ended",
            extra={
                "camera": self.camera.id,
                "gap": self.gap.id,
                "reason": verdict.reason,
                "got_s": round(verdict.got_s, 1),
                "missing_s": round(sum(piece.seconds for piece in verdict.missing), 1),
                "detail": verdict.detail,
            },
        )
        waiting = tuple(row.id for row in settled.left if target is None or row.window.overlaps(target))
        return Outcome(
            self.gap, verdict, waiting, tuple(row.id for row in settled.left), delay_s, tries, self._answered
        )

    def _delay_s(self, verdict: Verdict, tries: int) -> float:
        if verdict.follow is Follow.SETTLE and tries == 1:
            return self._tools.settings.fills.settle_s
        return POLICY[verdict.reason].delay_s(tries)

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeat a write until the database takes it: what is on disk must not stay without its row."""
        clock = self._tools.clock
        complaint = Repeated(LOG, "database does not take a result, trying again")
        wait_s = 0.2
        while True:
            try:
                result = await write()
            except StoreUnavailable as error:
                complaint.failed(error, clock.monotonic())
                await clock.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)
            else:
                complaint.worked()
                return result
