"""The running fills: one lane per device, a global limit, waits after failures, stopping. Decides no order.

What may start and when comes from `planner.plan`; how a fill ended comes from `verdict.judge`. This module keeps
what lies between the two: who runs, who waits until when, and why. All waits are monotonic seconds; nothing is
polled, `start_due` returns the next moment at which a wait ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from anr_watch.device_waits import DeviceWaits
from anr_watch.errors import AnrWatchError, ReplayRefused, StorageError, StoreUnavailable
from anr_watch.fill import Fill, Outcome
from anr_watch.filling.tools import Tools, Trigger
from anr_watch.introducing import Pauses
from anr_watch.live_first import WAITS
from anr_watch.live_watch import LiveWatch
from anr_watch.model import Camera, Device, Gap
from anr_watch.planner import Limits, Ranking, Standing, newest_fair, plan
from anr_watch.replay.urls import device_of
from anr_watch.room import Room
from anr_watch.states import POLICY, Follow, Presence, Reason
from anr_watch.store import Look

LOG = logging.getLogger("anr_watch.scheduler")

# No wait for the sake of live recording is longer: an hour is the most the first one can be set to.
LONGEST_PACE_S = 3600.0 * WAITS[-1]
# Somebody else is at a gap (a fill by hand): look at it again after this.
CLAIMED_S = 5.0
# The database could not be used for the whole busy time-out: it can be at any moment.
LOCKED_S = 2.0
# An error of ours, not of the camera: try the gap again, but not at once.
OWN_FAULT_S = 60.0
# How long a cancelled fill may take to settle what it has.
LAST_S = 2.0


@dataclass(slots=True)
class _Wait:
    """How long something waits, why, and how many tries in a row ended so."""

    until_s: float
    reason: Reason
    tries: int


@dataclass(slots=True)
class _Lane:
    """One running fill."""

    fill: Fill
    camera_id: str
    device: Device
    task: asyncio.Task[None]
    watch: LiveWatch
    folder: int  # which recordings folder it began with, see `Room.renewed`
    cancelled: bool = False
    again: bool = False  # a person asked for it anew meanwhile: what this try finds out holds nothing back


class Scheduler:
    """Starts what the planner chooses and remembers why the rest waits.

    Args:
        tools: the rims a fill works with.
        group: owner of the fill tasks.
        wake: called when something changed that may let another fill start.
        presence_of: what is believed of a camera now.
        park: called when a camera must not be asked any more, before anything else of it can start.
        ranking: the order of what could start.
    """

    def __init__(
        self,
        tools: Tools,
        group: asyncio.TaskGroup,
        *,
        wake: Callable[[str], None],
        presence_of: Callable[[str], Presence],
        park: Callable[[Camera, Reason, str], Awaitable[None]],
        ranking: Ranking = newest_fair,
    ) -> None:
        self._ranking = ranking
        self._tools, self._group, self._wake, self._presence_of, self._park = tools, group, wake, presence_of, park
        fills = tools.settings.fills
        self._limits = Limits(fills.max_attempts, fills.max_gap_hours, fills.parallel, fills.max_request_s)
        self._lanes: dict[str, _Lane] = {}
        self._gap_waits: dict[str, _Wait] = {}
        self._devices = DeviceWaits()
        self._device_of: dict[str, tuple[Camera, Device]] = {}
        self.room = Room(tools)
        self._last_started_s: dict[str, float] = {}
        self._tries_seen: dict[str, tuple[int, datetime | None]] = {}
        self.paused = False
        self.paused_cameras: set[str] = set()
        self.left_open = (
            0  # fills that failed between their attempt's row and the verdict: the rows must not stay open
        )

    @property
    def running(self) -> Mapping[str, Fill]:
        """The running fills by gap id."""
        return {gap_id: lane.fill for gap_id, lane in self._lanes.items()}

    def remember(self, gap_id: str, reason: Reason, tries: int, wait_s: float) -> None:
        """Restore a wait from before a restart; `wait_s` is what is left of it."""
        longest_s = max(POLICY[reason].delays_s, default=0.0)
        self._gap_waits[gap_id] = _Wait(self._now_s() + min(max(wait_s, 0.0), longest_s), reason, tries)

    def pause(self, pauses: Pauses) -> None:
        """Take over what a person has paused; running fills go on."""
        self.paused, self.paused_cameras = pauses.everything, set(pauses.cameras)

    def online_edge(self, camera: Camera, source: str) -> None:
        """End the wait that only waits for the camera to come back, now or when the word has held (`flapping`)."""
        self._devices.back(self._device(camera), source, self._now_s())

    def offline_word(self, camera: Camera, source: str) -> None:
        """A source says that a camera is gone: earlier word that it is back is void, a replay may be the reason."""
        self._devices.gone(self._device(camera), source)
        for lane in self._lanes.values():
            if lane.camera_id == camera.id:
                lane.fill.see_outage()
            lane.watch.word(camera.id, f"live recording ended ({source.partition(':')[0]})")

    def pace(self, camera: Camera) -> None:
        """Let the camera's device wait as long as its pace says: live recording faltered while it replayed."""
        device = self._device(camera)
        pace = self._tools.paces.get(str(device))
        wait_s = 0.0 if pace is None else (pace.next_at - self._tools.clock.now()).total_seconds()
        if pace is not None and wait_s > 0:
            # Bounded, in case the wall clock stepped back.
            until_s = self._now_s() + min(wait_s, LONGEST_PACE_S)
            self._devices.hold(device, until_s, Reason.LIVE_FALTERED)

    def gap_edge(self, gap: Gap) -> None:
        """End the wait of one gap whose camera came back, unless the camera had answered that it has nothing."""
        wait = self._gap_waits.get(gap.id)
        if wait is not None and POLICY[wait.reason].follow is Follow.ONLINE_EDGE:
            del self._gap_waits[gap.id]

    def forget_waits(self, gap_id: str | None = None) -> None:
        """Let one gap, or everything, be due at once: a person asked."""
        for lane in self._lanes.values():
            lane.again |= gap_id in (None, lane.fill.gap.id)
        if gap_id is None:
            self._gap_waits.clear()
            self._devices.forget()
            self.room.forget()
        else:
            self._gap_waits.pop(gap_id, None)

    async def hold(self, why: str) -> None:
        """Let no fill run as long as `why` says why not; the running ones end with what they have.

        An empty `why` says that the recordings are there, maybe anew: what could not be stored can be now.
        """
        self.room.absent = why
        if why:
            self._stop_others(None)
            return
        self.room.renewed += 1
        self.room.forget()
        for gap_id in [gap_id for gap_id, wait in self._gap_waits.items() if wait.reason is Reason.STORAGE]:
            del self._gap_waits[gap_id]

    def start_due(self, look: Look, parked: Iterable[str], trigger: Trigger) -> float | None:
        """Start what is due, stop what must not run any more; return the next due moment (monotonic) or None."""
        gaps, cameras = look.gaps, look.cameras
        forced = look.asked
        self._notice_resets(gaps, cameras)
        self._let_go(gaps, cameras, forced)
        now_s = self._now_s()
        concerned = {gap.camera_id for gap in gaps} & cameras.keys()
        devices = {camera_id: self._device(cameras[camera_id]) for camera_id in concerned}
        standing = Standing(
            running_gaps=frozenset(self._lanes),
            busy_devices=frozenset(lane.device for lane in self._lanes.values()),
            gap_waits={gap_id: wait.until_s for gap_id, wait in self._gap_waits.items()},
            device_waits=self._devices.until_s(),
            all_wait_s=self.room.until_s,
            held_cameras=frozenset(self.paused_cameras),
            parked_cameras=frozenset(parked),
            paused=self.paused or bool(self.room.absent),
            last_started_s=self._last_started_s,
            forced=forced,
        )
        due = plan(
            gaps,
            cameras,
            devices,
            standing,
            self._limits,
            now=self._tools.clock.now(),
            now_s=now_s,
            ranking=self._ranking,
        )
        for lane in self._lanes.values():
            lane.watch.see_gaps(gaps)
        for gap in due.starts:
            self._start(gap, cameras, devices[gap.camera_id], trigger, forced=gap.id in forced)
        return due.next_due_s

    async def cancel(self, gap_id: str) -> bool:
        """End one running fill because a person wants it; what it has is kept, the rest waits for a person.

        Returns whether it ran. A restart of the daemon ends that wait, too.
        """
        lane = self._lanes.get(gap_id)
        if lane is None:
            return False
        lane.cancelled = True
        await lane.fill.stop()
        return True

    async def stop_all(self, grace_s: float) -> None:
        """Ask every fill to end, wait up to `grace_s`, then cancel; returns when none runs.

        A cancelled fill still settles what it has; where the database does not take that, it is cancelled again and
        the next start ends its attempt.
        """
        lanes = list(self._lanes.values())
        self.paused = True
        for lane in lanes:
            await lane.fill.stop()
        tasks, wait_s = {lane.task for lane in lanes}, grace_s
        while tasks:
            _, tasks = await asyncio.wait(tasks, timeout=wait_s)
            wait_s = LAST_S
            for task in tasks:
                task.cancel()

    def _now_s(self) -> float:
        return self._tools.clock.monotonic()

    def _device(self, camera: Camera) -> Device:
        known = self._device_of.get(camera.id)
        if known is None or known[0] is not camera:  # at nearly every look it is the very same object
            try:
                device = device_of(camera)
            except ReplayRefused:
                # No address to share a lane by: the fill will find out why, and the camera is parked for it.
                device = Device(f"camera {camera.id}", 0)
            known = self._device_of[camera.id] = camera, device
        return known[1]

    def _notice_resets(self, gaps: Iterable[Gap], cameras: Mapping[str, Camera]) -> None:
        """A row that lost attempts, or the time of its last one, was reset by a person: it waits for nothing."""
        for gap in gaps:
            attempts, last_at = self._tries_seen.get(gap.id, (0, None))
            if gap.attempts < attempts or (last_at is not None and gap.last_attempt_at is None):
                self.forget_waits(gap.id)
                self.room.forget()
                if (camera := cameras.get(gap.camera_id)) is not None:
                    self._devices.forget(self._device(camera))
        self._tries_seen = {gap.id: (gap.attempts, gap.last_attempt_at) for gap in gaps}

    def _let_go(self, gaps: Iterable[Gap], cameras: Mapping[str, Camera], forced: AbstractSet[str]) -> None:
        """Stop fills whose camera vanished or was disabled, or whose row is not pending any more."""
        pending = {gap.id for gap in gaps}
        for gap_id, lane in self._lanes.items():
            camera = cameras.get(lane.camera_id)
            wanted = camera is not None and (camera.wants_fills or gap_id in forced)
            if (not wanted or gap_id not in pending) and not lane.fill.stopping and not lane.fill.settling:
                LOG.info("let go", extra={"camera": lane.camera_id, "gap": gap_id})
                self._group.create_task(lane.fill.stop(), name=f"stop:{gap_id}")

    def _start(
        self, gap: Gap, cameras: Mapping[str, Camera], device: Device, trigger: Trigger, *, forced: bool
    ) -> None:
        camera, wait = cameras[gap.camera_id], self._gap_waits.get(gap.id)
        fill = Fill(
            self._tools,
            gap,
            camera,
            trigger=trigger,
            forced=forced,
            tries=wait.tries if wait else 0,
            last_reason=wait.reason if wait else None,
            presence_of=self._presence_of,
        )
        self._last_started_s[camera.id] = self._now_s()
        self._devices.asked(device, self._now_s())
        task = self._group.create_task(self._run(fill, device), name=f"fill:{camera.id}:{gap.id}")
        watch = LiveWatch(self._tools, fill, lambda: self._recorded_by(device, cameras))
        self._lanes[gap.id] = _Lane(fill, camera.id, device, task, watch, self.room.renewed)

    def _recorded_by(self, device: Device, cameras: Mapping[str, Camera]) -> list[Camera]:
        """Return the cameras behind a device whose live recording is never interrupted on purpose."""
        return [camera for camera in cameras.values() if camera.records_always and self._device(camera) == device]

    async def _run(self, fill: Fill, device: Device) -> None:
        gap_id = fill.gap.id
        watching: asyncio.Task[None] | None = None
        if self._tools.settings.fills.live_silence_s > 0:
            watching = self._group.create_task(self._lanes[gap_id].watch.run(), name=f"live:{gap_id}")
        try:
            outcome = await self._outcome(fill)
            if outcome is None:
                self._wait_gap(gap_id, Reason.INTERRUPTED, CLAIMED_S)
                return
            if outcome.verdict.follow is Follow.PARK_CAMERA:
                await self._park(fill.camera, outcome.verdict.reason, outcome.verdict.detail)
            await self._finished(outcome, device)
        except (StoreUnavailable, StorageError) as error:
            # The database or the disk failed us between two steps; nothing is lost, the row is still pending.
            self.left_open += 1
            LOG.warning("fill could not go on: %s", error, extra={"camera": fill.camera.id, "gap": gap_id})
            self._wait_gap(gap_id, Reason.INTERRUPTED, LOCKED_S)
        except AnrWatchError as error:
            self.left_open += 1
            LOG.error("fill could not go on: %s", error, extra={"camera": fill.camera.id, "gap": gap_id})  # noqa: TRY400
            self._wait_gap(gap_id, Reason.INTERRUPTED, OWN_FAULT_S)
        except Exception:
            self.left_open += 1
            LOG.exception("fill failed for a fault of ours", extra={"camera": fill.camera.id, "gap": gap_id})
            self._wait_gap(gap_id, Reason.INTERRUPTED, OWN_FAULT_S)
        finally:
            if watching is not None:
                watching.cancel()
            self._lanes.pop(gap_id, None)
            self._wake("fill ended")

    async def _outcome(self, fill: Fill) -> Outcome | None:
        try:
            return await fill.run()
        except ReplayRefused as error:  # the camera's id is no name for a folder: nothing to ask for, ever
            await self._park(fill.camera, Reason.BAD_CONFIG, str(error))
            return None

    def _wait_gap(self, gap_id: str, reason: Reason, delay_s: float) -> None:
        before = self._gap_waits.get(gap_id)
        tries = before.tries + 1 if before and before.reason is reason else 1
        self._gap_waits[gap_id] = _Wait(self._now_s() + delay_s, reason, tries)

    async def _finished(self, outcome: Outcome, device: Device) -> None:
        """Keep what the end of a fill means for what may start next."""
        # The disk takes files, so a failure to store them is that of one camera's folder.
        own_folder = outcome.verdict.reason is Reason.STORAGE and await asyncio.to_thread(
            self._tools.recordings.takes_files
        )
        verdict, now_s = outcome.verdict, self._now_s()
        self._gap_waits.pop(outcome.gap.id, None)
        self._tries_seen.pop(outcome.gap.id, None)
        self._devices.ended(
            device,
            verdict.reason,
            now_s,
            answered=outcome.answered,
            broke=outcome.broke,
            gained=verdict.got_s > 0,
        )
        lane = self._lanes[outcome.gap.id]
        if lane.cancelled:
            for gap_id in outcome.pending_ids:
                self._gap_waits[gap_id] = _Wait(float("inf"), verdict.reason, 1)
        elif lane.again:
            self._devices.forget(device)
        elif verdict.follow is Follow.DEVICE_BACKOFF:
            pass  # the device waits
        elif verdict.reason is Reason.STORAGE and lane.folder != self.room.renewed:
            for gap_id in outcome.pending_ids:
                self._gap_waits[gap_id] = _Wait(now_s + LOCKED_S, verdict.reason, 1)
        elif verdict.follow is Follow.STOP_ALL and not own_folder:
            await self.room.failed(verdict.reason, verdict.detail, outcome.delay_s)
            self._stop_others(lane)
        else:
            for gap_id in outcome.pending_ids if own_folder else outcome.waiting_ids:
                self._gap_waits[gap_id] = _Wait(now_s + outcome.delay_s, verdict.reason, outcome.tries)

        self.pace(lane.fill.camera)

    def _stop_others(self, lane: _Lane | None) -> None:
        for other in self._lanes.values():
            if other is not lane:
                self._group.create_task(other.fill.stop(), name=f"stop:{other.fill.gap.id}")
