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
import contextlib
import logging
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta

from anr_watch.coverage import missing
from anr_watch.errors import StorageError
from anr_watch.filling.asking import Asking, Ready, get_ready
from anr_watch.filling.pacing import pace_of, slow_down, speed_up
from anr_watch.filling.recorded import around, recorded, remember_proved
from anr_watch.filling.tools import Step, Tools, Trigger, Underway
from anr_watch.joins.approach import MATCHED_FOR, unreached
from anr_watch.joins.neighbours import beside
from anr_watch.kernel_events import fill_event, is_news
from anr_watch.live_first import step_s
from anr_watch.model import Attempt, Camera, Coverage, Gap, Window
from anr_watch.planner import ANY_AGE_HOURS, choose_target, fillable
from anr_watch.states import POLICY, FillState, Follow, Presence, Reason
from anr_watch.store import Learned, Settled, Settlement
from anr_watch.store import Outcome as Became
from anr_watch.verdict import ReplayEnd, Verdict, covered_verdict, judge

LOG = logging.getLogger("anr_watch.fill")

# A camera that goes away closes its connections first; that it is gone is said this much later at most, where a
# broker or the recorder says it at all.
LAST_WORD_S = 1.0
# Less than this is not worth a request of its own.
SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a fill ended, for the scheduler.

    `waiting_ids` are pending rows that this try asked for and did not get: they wait `delay_s`. Other residuals
    are due at once. `answered` says that the device played something, so it is neither gone nor busy; `broke` that
    the replay broke off, so that the device may be gone now.
    """

    gap: Gap
    verdict: Verdict
    waiting_ids: tuple[str, ...]
    pending_ids: tuple[str, ...]
    delay_s: float
    tries: int
    answered: bool
    broke: bool = False


@dataclass(frozen=True, slots=True)
class _GaveWay:
    """Why and at which rates a replay was ended for the sake of live recording."""

    why: str
    rate_bytes_s: float
    live_bytes_s: float | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is asked for, what was recorded before, and what earlier fills have found out."""

    underway: Underway
    covered: Coverage
    learned: Learned
    ready: Ready | ReplayEnd


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
        self._asking: Asking | None = None
        self._asked_at = tools.clock.now()
        self._gave_way: _GaveWay | None = None
        self._broke = False
        self._outage = asyncio.Event()
        self._underway: Underway | None = None
        self.stopping = False
        self.settling = False

    @property
    def saw_outage(self) -> bool:
        """Whether somebody said during this try that the camera is gone."""
        return self._outage.is_set()

    def see_outage(self) -> None:
        """Somebody says that the camera is gone."""
        self._outage.set()

    @property
    def replayed_bytes(self) -> int:
        """What the present replay has received; 0 while none plays."""
        underway, asking = self._underway, self._asking
        return underway.attempt.bytes if underway is not None and asking is not None and not self.settling else 0

    async def give_way(self, why: str, *, rate_bytes_s: float, live_bytes_s: float | None) -> None:
        """End the replay because live recording faltered while it ran: what came is kept, the rest waits.

        Args:
            why: what became of live, in a few words.
            rate_bytes_s: how fast the replay was.
            live_bytes_s: what the live recording takes; None: unknown.
        """
        if self.settling or self.stopping:
            return
        self._gave_way = _GaveWay(why, rate_bytes_s, live_bytes_s)
        await self.stop()

    async def stop(self) -> None:
        """End the replay early; what came so far is kept and the rest stays pending."""
        self.stopping = True
        if self._asking is not None:
            await self._asking.listening.stop()

    async def run(self) -> Outcome | None:
        """Fill the gap as far as the camera lets us and settle its row; None if it was not ours to try.

        Raises:
            AnrWatchError: the database cannot be used; the row is still pending.
        """
        with self._tools.workers.expected():
            prepared = await self._prepare()
        if not isinstance(prepared, _Prepared):
            return prepared
        underway, before = prepared.underway, prepared.covered
        asking = self._asking = Asking(
            self._tools, underway, prepared.ready, prepared.learned, stopping=self.stopping
        )
        try:
            end = await asking.ask()
        except BaseException as error:
            # Cancelled, or a fault of ours: what is in place counts, and the attempt must not stay open.
            left = ReplayEnd(Reason.INTERRUPTED, "stopped" if not isinstance(error, Exception) else repr(error))
            await _to_its_end(self._conclude(underway, asking, before, left))
            raise
        return await self._conclude(underway, asking, before, end)

    async def _prepare(self) -> _Prepared | Outcome | None:
        """Look up what to ask for and write the attempt; an outcome, or None, where nothing is to be asked."""
        tools = self._tools
        rows, learned = await tools.store.before_fill(
            self.gap, around(self.gap), since=tools.clock.now() - MATCHED_FOR
        )
        footage = await recorded(tools, self.gap, rows)
        wanted = fillable(
            self.gap, tools.clock.now(), ANY_AGE_HOURS if self._forced else tools.settings.fills.max_gap_hours
        )
        pieces = missing(wanted, footage.covered) if wanted else ()
        tools.at_step(Step.PLANNED)
        if not pieces:
            return await self._settle(covered_verdict(self.gap.window), None, await self._told_last())
        target = choose_target(pieces, step_s(pace_of(tools, self.camera), tools.settings.fills.max_request_s))
        sides, until = await asyncio.to_thread(
            beside, tools.recordings, self.camera, target, footage.segments, tools.clock.now()
        )
        if until <= target.start + SHORTEST:
            return None  # where live recording resumed will be seen in a moment
        target = Window(target.start, min(target.end, until))
        # At once: each look waits for a thread, and the camera waits for all of them.
        attempt, ready = await asyncio.gather(
            self._begin(target), asyncio.to_thread(get_ready, tools, self.camera, self.gap)
        )
        if attempt is None:
            row = await tools.store.gap(self.gap.id)
            if row is None or row.state is not FillState.PENDING:  # else somebody else is at it
                await self._tidy()
            return None
        underway = self._underway = Underway(self.gap, self.camera, target, sides, until, footage.live_start, attempt)
        return _Prepared(underway, footage.covered, learned, ready)

    async def _begin(self, target: Window) -> Attempt | None:
        """Claim the gap and write the attempt; None if it is resolved, or somebody else is at it."""
        tools = self._tools
        reaction_ms = (tools.clock.monotonic() - self._trigger.at_s) * 1000
        attempt = await tools.store.begin_attempt(
            Attempt(
                id=f"att_{uuid.uuid4().hex}",
                gap_id=self.gap.id,
                camera_id=self.camera.id,
                number=1,  # the store counts
                window=target,
                started_at=tools.clock.now(),
                wanted_s=target.seconds,
            ),
            announce=tools.announcements.fill_started(self.gap, reaction_ms),
        )
        if attempt is None:
            return None
        tools.figures.begun(reaction_ms / 1000)
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
        return attempt

    async def _conclude(self, underway: Underway, asking: Asking, before: Coverage, end: ReplayEnd) -> Outcome:
        """Judge by what is recorded now, and settle."""
        tools, told = self._tools, asking.listening
        self.settling = True
        tools.announcements.nothing_runs(self.camera.id)
        if end.reason in (None, Reason.NO_FOOTAGE) and not asking.placing.placed and not self.stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await self._outage.wait()
        end = await self._keep_pace(asking, end)
        if not asking.placing.rejected:
            remember_proved(tools, underway, asking.placing.placed, told.joins, told.jumps)
        after = (await recorded(tools, self.gap)).covered
        verdict = judge(
            self.gap.window,
            underway.target,
            before=before,
            after=after,
            end=end,
            attempts=self.gap.attempts,
            max_attempts=tools.settings.fills.max_attempts,
            presence=Presence.OFFLINE if self.saw_outage else self._presence_of(self.camera.id),
            tries=self._tries,
            went_away=self.saw_outage,
            settled_before=self._asked_at - timedelta(seconds=tools.settings.fills.settle_s),
            unreached=unreached(underway.target, told.joins),
        )
        gone = self.saw_outage and verdict.reason is Reason.INTERRUPTED
        self._broke = gone or end.reason in (Reason.STALLED, Reason.CUT_SHORT)
        tools.at_step(Step.JUDGED)
        return await self._settle(verdict, underway)

    async def _keep_pace(self, asking: Asking, end: ReplayEnd) -> ReplayEnd:
        """Keep what this replay says about how fast the device may be asked; return how it really ended."""
        tools, gave_way = self._tools, self._gave_way
        if gave_way is None:
            if end.reason is None and asking.listening.answered:
                await speed_up(tools, self.camera)
            return end
        await slow_down(
            tools,
            self.camera,
            gave_way.why,
            rate_bytes_s=gave_way.rate_bytes_s,
            live_bytes_s=gave_way.live_bytes_s,
        )
        if end.reason is not Reason.INTERRUPTED:
            return end
        return ReplayEnd(Reason.LIVE_FALTERED, f"{gave_way.why} at {gave_way.rate_bytes_s / 1000:.0f} kB/s")

    async def _told_last(self) -> Attempt | None:
        """Return the newest try that was told of: who heard that it failed has to hear that the gap is closed."""
        tries = await self._tools.store.attempts(self.gap.id)
        if not tries:
            return None
        reason, now = Reason.COVERED, self._tools.clock.now()
        return replace(tries[-1], reason=reason, detail="recorded already", ended_at=now, next_at=None)

    async def _settle(self, verdict: Verdict, underway: Underway | None, told_last: Attempt | None = None) -> Outcome:
        tools, now = self._tools, self._tools.clock.now()
        same = verdict.reason is self._last_reason and verdict.got_s == 0
        tries = self._tries + 1 if same else 1
        delay_s = self._delay_s(verdict, tries)
        attempt = underway.attempt if underway is not None else None
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
        told = attempt or told_last
        announce = (
            tools.announcements.fill_ended(self.gap, told, verdict) if told is not None else tools.announcements.state
        )
        settlement = Settlement(
            gap=self.gap,
            attempt=attempt,
            pieces=verdict.pieces,
            counts=verdict.counts and attempt is not None,
            failed=verdict.failed,
            kernel_event=fill_event(self.gap, told, verdict)
            if told is not None and tools.settings.fills.kernel_events and is_news(verdict)
            else None,
        )
        settled: Settled = await tools.insist(lambda: tools.store.settle(settlement, announce))
        tools.at_step(Step.SETTLED)
        if attempt is not None or settled.outcome is Became.FILLED:
            size_bytes, files = (attempt.bytes, attempt.files) if attempt is not None else (0, 0)
            tools.figures.ended(verdict.reason, got_s=verdict.got_s, size_bytes=size_bytes, files=files)
        await self._tidy()
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
        waiting = tuple(row.id for row in settled.left if underway is None or row.window.overlaps(underway.target))
        pending = tuple(row.id for row in settled.left)
        answered = self._asking is not None and self._asking.listening.answered
        return Outcome(self.gap, verdict, waiting, pending, delay_s, tries, answered, self._broke)

    async def _tidy(self) -> None:
        try:
            await asyncio.to_thread(self._tools.recordings.clear_staging, self.gap.id)
        except StorageError as error:  # removed with the next gap's, or at the next start
            LOG.warning("staging stays for now: %s", error, extra={"gap": self.gap.id})

    def _delay_s(self, verdict: Verdict, tries: int) -> float:
        if verdict.follow is Follow.SETTLE and tries == 1:
            return self._tools.settings.fills.settle_s
        pace = pace_of(self._tools, self.camera)
        if verdict.reason is Reason.LIVE_FALTERED and pace is not None:
            return max(0.0, (pace.next_at - self._tools.clock.now()).total_seconds())
        return POLICY[verdict.reason].delay_s(tries)


async def _to_its_end(work: Coroutine[object, object, object]) -> None:
    """Await `work` although the task that does so is being cancelled; being cancelled once more ends it, too."""
    task = asyncio.create_task(work)  # noqa: TID251 - owned by this call, which never returns before its end
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
