"""The one loop: hints come in, facts are looked up, edges and holes become rows, and what is due is started.

Hints (`wake`, `hear`, `segment_seen`, `look_again`) may be given at any time from the event loop; they are collected
and say only that something may have changed. One pass asks the folder what is true, and the database unless its rows
are known to be what they were. A pass that meets a database that cannot be used is repeated with back-off and loses
no hint.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.announcements import Announcements
from anr_watch.arrivals import Arrivals
from anr_watch.errors import ReplayRefused, StorageError, StoreUnavailable
from anr_watch.filling.pacing import pace_of
from anr_watch.filling.tools import Tools, Trigger
from anr_watch.footage.indexer import Indexer
from anr_watch.hints import Hints
from anr_watch.holes import Holes, Pending
from anr_watch.log import Repeated
from anr_watch.model import Camera, DeviceClock
from anr_watch.presence import Evidence, PresenceBook
from anr_watch.replay.urls import device_of
from anr_watch.scheduler import Scheduler
from anr_watch.states import Presence, Reason
from anr_watch.store import Look, Parked

LOG = logging.getLogger("anr_watch.coordinator")

_RETRY_S = (0.5, 1.0, 2.0, 5.0)


def fingerprint(camera: Camera) -> str:
    """Return what changes when anything changes that a parked camera was parked for.

    Passwords take part as they are stored, maybe sealed; the digest stays in the database they stand in.
    """
    secrets = [secret.reveal() if secret else "" for secret in (camera.password, camera.replay_url_template)]
    parts = (camera.vendor, camera.address, camera.rtsp_port, camera.username, camera.record_stream, camera.options)
    return hashlib.sha256(repr((parts, secrets)).encode()).hexdigest()


def _clocks_of(cameras: Mapping[str, Camera], clocks: Mapping[str, DeviceClock]) -> dict[str, DeviceClock]:
    """Return the measured clocks by camera."""
    found: dict[str, DeviceClock] = {}
    for camera in cameras.values():
        with contextlib.suppress(ReplayRefused):  # nothing to ask: no device
            clock = clocks.get(str(device_of(camera)))
            if clock is not None and clock.samples:
                found[camera.id] = clock
    return found


class Coordinator:
    """See the module. `run` is the loop; everything else may be called from the same event loop.

    Args:
        tools: the rims.
        book: what is believed about the cameras.
        indexer: makes rows of files where no kernel does (standalone); None beside a kernel.
    """

    def __init__(self, tools: Tools, book: PresenceBook, group: asyncio.TaskGroup, indexer: Indexer | None) -> None:
        self._tools, self._indexer = tools, indexer
        self.scheduler = Scheduler(tools, group, wake=self.wake, presence_of=book.presence, park=self._park)
        self._arrivals = Arrivals(tools, book, self.scheduler.offline_word)
        self._holes = Holes(
            tools.store, tools.recordings, tools.announcements, min_gap_s=tools.settings.fills.min_gap_s
        )
        self._hints = Hints()
        self._hinted = asyncio.Event()
        self._newest_seen: dict[str, Path] = {}
        self._parked: dict[str, Parked] = {}
        self._introduced: Mapping[str, Camera] | None = None
        self._parked_since: dict[str, Parked] = {}  # after the last look had begun
        self._seen: Look | None = None  # at the last look
        self._told_held = ""
        self._clocks: Mapping[str, DeviceClock] = {}  # of earlier runs, until the cameras are known
        self._paced = False  # paces of earlier runs wait for the cameras to be known
        self.cameras: Mapping[str, Camera] = {}
        self.rows_are_told: Callable[[], bool] = lambda: False  # each commit of others will `wake` us
        self.introduce: Callable[[Mapping[str, Camera]], Awaitable[None]] | None = None  # told of each pass's cameras

    @property
    def announcements(self) -> Announcements:
        """What goes out."""
        return self._tools.announcements

    @property
    def presences(self) -> Mapping[str, Presence]:
        """What is believed of each camera."""
        return {camera_id: self._arrivals.presence(camera_id) for camera_id in self.cameras}

    @property
    def parked(self) -> Mapping[str, Reason]:
        """Why cameras are not asked any more."""
        return {camera_id: parked.reason for camera_id, parked in self._parked.items()}

    # -- hints ------------------------------------------------------------------------------------------------

    def wake(self, why: str) -> None:
        """Something in the database, or a limit, may have changed."""
        self._hints.rows = True
        self._hint(why)

    def _hint(self, why: str) -> None:
        if self._hints.trigger is None:
            self._hints.trigger = Trigger(why, self._tools.clock.monotonic())
        self._hinted.set()

    def hear(self, evidence: Evidence) -> None:
        """A source said that a camera is there or gone; what it said before is no news (Frigate: every second)."""
        if not self._arrivals.is_news(evidence):
            return
        self._hints.evidence.append(evidence)
        self._hint(evidence.source.partition(":")[0])

    def segment_seen(self, camera_id: str, start: datetime, path: Path) -> None:
        """A new file appeared in a camera's folder."""
        del path  # the folder is asked, not the hint
        self._hints.segments[camera_id] = max(start, self._hints.segments.get(camera_id, start))
        self._hint("recordings")

    def segment_closed(self, camera_id: str, start: datetime) -> None:
        """A recorder has finished a file. Beside a kernel it is the kernel that makes a row of it."""
        if self._indexer is not None:
            self._hints.closed.setdefault(camera_id, set()).add(start)
            self._hint("recordings")

    def look_again(self, why: str) -> None:
        """Events may have been missed: look at everything."""
        self._hints.everything = True
        self.wake(why)

    async def hold(self, why: str) -> None:
        """Fill nothing as long as `why` says why the recordings cannot be used; empty: they can again."""
        await self.scheduler.hold(why)
        self.look_again("recordings lost" if why else "recordings back")

    def broker_back(self) -> None:
        """A connection to the broker: messages may have been missed, and it may have forgotten what it retained."""
        self._hints.states = True
        self.look_again("mqtt connected")

    async def restore(self) -> None:
        """Take over what gaps were waiting for before a restart.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        now = self._tools.clock.now()
        self._clocks = await self._tools.store.clocks()
        self._tools.paces.update(await self._tools.store.paces())
        self._paced = bool(self._tools.paces)
        for gap_id, wait in (await self._tools.store.waits(now=now)).items():
            if wait.next_at is not None:
                # A worker that died, or was stopped, may not do so again: this may be another version, or a restart
                # after which there is memory. Should it, the waits go on growing from where they were.
                left_s = 0.0 if wait.reason is Reason.INTERRUPTED else (wait.next_at - now).total_seconds()
                self.scheduler.remember(gap_id, wait.reason, wait.tries, left_s)

    # -- the loop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        clock, sweep_s = self._tools.clock, self._tools.settings.fills.sweep_s
        complaint = Repeated(LOG, "database cannot be used")
        failures, due_s = 0, None
        sweep_due_s = clock.monotonic() + sweep_s if sweep_s else None
        self.look_again("start")
        while True:
            await self._until_hint(min((s for s in (due_s, sweep_due_s) if s is not None), default=None))
            if sweep_due_s is not None and clock.monotonic() >= sweep_due_s:
                sweep_due_s = clock.monotonic() + sweep_s
                self.look_again("sweep")
            hints, self._hints = self._hints, Hints()
            self._hinted.clear()
            try:
                due_s = await self._pass(hints)
            except (StoreUnavailable, StorageError) as error:
                complaint.failed(error, clock.monotonic())
                hints.absorb(self._hints)
                hints.rows = True  # what this pass wrote was not seen
                self._hints = hints
                due_s = clock.monotonic() + _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                failures += 1
                await clock.sleep(_RETRY_S[0])
            else:
                complaint.worked()
                failures = 0

    async def _until_hint(self, due_s: float | None) -> None:
        wait_s = None if due_s is None else max(0.0, due_s - self._tools.clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._hinted.wait()

    async def _pass(self, hints: Hints) -> float | None:
        store, now = self._tools.store, self._tools.clock.now()
        hours = self._tools.settings.fills.max_gap_hours
        trigger = hints.trigger or Trigger("timer", self._tools.clock.monotonic())
        look = self._seen
        # A message or a file changes no row: what was seen last still holds, and looking took 2 ms with 110 cameras.
        if look is None or hints.rows or hints.trigger is None or not self.rows_are_told():
            self._parked_since.clear()
            look = await store.look(now=now, max_gap_hours=hours)
            self._take_over(look)
            self._seen = replace(look, malformed=())
        if self.introduce is not None and look.cameras != self._introduced:
            await self.introduce(look.cameras)
            self._introduced = look.cameras
        hints.evidence[:0] = self._arrivals.cameras_are(look.cameras, now)
        self._arrivals.weigh(hints)
        due_s, changed = await self._find_and_tell(hints, look, now)
        if self._indexer is not None:  # it works in steps, and any of them may have found a gap
            self._parked_since.clear()
            look = await store.look(now=self._tools.clock.now(), max_gap_hours=hours)
            self._seen = replace(look, malformed=())
        elif changed:
            look = self._seen = look.with_gaps(changed)
        await self._refresh_parked(look)
        if left_open := self.scheduler.left_open:
            await store.interrupt_open_attempts(
                self.announcements.fill_interrupted, running=self.scheduler.running.keys()
            )
            self.scheduler.left_open -= left_open
        if hints.states:
            await store.tell(look.cameras.keys(), self.announcements.state)
            hints.states = False
        room_due_s = await self.scheduler.room.look()
        fills_due_s = self.scheduler.start_due(look, self._parked, trigger)
        await self._tell_held()
        return min((s for s in (due_s, room_due_s, fills_due_s) if s is not None), default=None)

    async def _find_and_tell(
        self, hints: Hints, look: Look, now: datetime
    ) -> tuple[float | None, dict[str, Pending]]:
        """Tell who came and went, and return what `_find` found."""
        if not self._arrivals.untold:
            found = await self._find(hints, look, now)
        else:
            # Who came back is written down while it is looked what that camera missed; what is told keeps its order.
            outcome, told = await asyncio.gather(
                self._find(hints, look, now), self._arrivals.tell(), return_exceptions=True
            )
            if isinstance(told, BaseException):
                raise told
            if isinstance(outcome, BaseException):
                raise outcome
            found = outcome
        await self._arrivals.tell()  # of cameras whose new file said that they are back
        return found

    async def _find(self, hints: Hints, look: Look, now: datetime) -> tuple[float | None, dict[str, Pending]]:
        """Index files and register holes; return when to index again, and the pending gaps of whom rows changed."""
        due_s = await self._index(hints, now)
        changed = await self._segments(hints, look)
        return due_s, changed | await self._edges(hints, look, now)

    async def _tell_held(self) -> None:
        """Tell in each camera's state why nothing is filled, when that changed."""
        why = self.scheduler.room.why
        if why == self._told_held:
            return
        self.announcements.note_held(why)
        await self._tools.store.tell(self.cameras.keys(), self.announcements.state)
        if why:
            LOG.warning("no fill runs: %s", why)
        else:
            LOG.info("fills go on")
        self._told_held = why

    def _take_over(self, look: Look) -> None:
        for row_id, why in look.malformed:
            LOG.warning("row ignored: %s", why, extra={"row": row_id})
        self.cameras = look.cameras
        if self._clocks:
            self.announcements.note_clocks(_clocks_of(look.cameras, self._clocks))
            self._clocks = {}
        if self._paced:
            self._take_paces(look)
            self._paced = False

    def _take_paces(self, look: Look) -> None:
        """Let the devices wait on at which live recording had faltered before a restart."""
        paces = {camera.id: pace for camera in look.cameras.values() if (pace := pace_of(self._tools, camera))}
        self.announcements.note_paces(paces)
        for camera_id in paces:
            self.scheduler.pace(look.cameras[camera_id])

    # -- what is recorded, what is missing -------------------------------------------------------------------------

    async def _index(self, hints: Hints, now: datetime) -> float | None:
        if self._indexer is None or self.scheduler.room.absent:  # what cannot be seen is not gone
            return None
        return await self._indexer.run_once(
            self.cameras, set(hints.segments), everything=hints.everything, now=now, closed=hints.closed
        )

    async def _segments(self, hints: Hints, look: Look) -> dict[str, Pending]:
        """Register the holes in front of new live files; return the pending gaps of cameras whose rows changed."""
        if hints.everything:
            hints.segments |= await self._unseen(look)
        if not hints.segments:
            return {}
        seen = hints.segments.items()
        cameras = [(look.cameras[camera_id], start) for camera_id, start in seen if camera_id in look.cameras]
        changed = await asyncio.gather(*(self._segment(camera, start) for camera, start in cameras))
        return {camera.id: new for (camera, _), new in zip(cameras, changed, strict=True) if new is not None}

    async def _unseen(self, look: Look) -> dict[str, datetime]:
        """Return the newest file of each camera that has another newest file than at the last full look."""
        recordings = self._tools.recordings
        oldest = self._tools.clock.now() - timedelta(hours=self._tools.settings.fills.max_gap_hours)
        found: dict[str, datetime] = {}
        for camera in look.cameras.values():
            if not camera.records_always:
                continue
            try:
                newest = await asyncio.to_thread(recordings.newest, camera.id)
            except ReplayRefused as error:  # an id that is no folder name
                if self._newest_seen.get(camera.id) != Path():
                    self._newest_seen[camera.id] = Path()
                    LOG.warning("camera ignored: %s", error)
                continue
            if newest is not None and newest.start > oldest and self._newest_seen.get(camera.id) != newest.path:
                self._newest_seen[camera.id] = newest.path
                found[camera.id] = newest.start
        return found

    async def _segment(self, camera: Camera, start: datetime) -> Pending | None:
        if not (camera.records_always and self._tools.settings.fills.register_gaps):
            return None
        try:
            found = await self._holes.before_segment(camera, start)
        except ReplayRefused:
            return None
        if found is not None:
            self.scheduler.online_edge(camera, "recordings")
            self._arrivals.records_again(camera, start)
        return found

    async def _edges(self, hints: Hints, look: Look, now: datetime) -> dict[str, Pending]:
        """End the waits of cameras that came back and register what they missed; return as `_segments` does."""
        edges = hints.edges.items()
        back = [(look.cameras[camera_id], offline) for camera_id, offline in edges if camera_id in look.cameras]
        for camera, _ in back:
            self.scheduler.online_edge(camera, hints.sources.get(camera.id, ""))
            for gap in look.gaps:
                if gap.camera_id == camera.id:
                    self.scheduler.gap_edge(gap)
        if not (back and self._tools.settings.fills.register_gaps):
            return {}
        changed = await asyncio.gather(*(self._edge(camera, now, offline) for camera, offline in back))
        return {camera.id: new for (camera, _), new in zip(back, changed, strict=True) if new is not None}

    async def _edge(self, camera: Camera, now: datetime, offline: bool) -> Pending | None:  # noqa: FBT001 - one caller
        if not camera.records_always:
            return None
        try:
            return await self._holes.after_online_edge(camera, now, was_offline=offline)
        except ReplayRefused:
            return None

    # -- parked cameras ---------------------------------------------------------------------------------------

    async def _park(self, camera: Camera, reason: Reason, detail: str) -> None:
        LOG.warning("camera parked: %s", detail or reason, extra={"camera": camera.id, "reason": reason})
        announce, mark = self.announcements.parked(camera.id, reason, detail), fingerprint(camera)
        await self._tools.store.park(camera.id, reason, detail, mark, announce)
        self._parked_since[camera.id] = Parked(reason, detail, mark, self._tools.clock.now())

    async def _refresh_parked(self, look: Look) -> None:
        """Take over who is parked, and let those go whose row or configuration changed."""
        self._parked = {**look.parked, **self._parked_since}
        for camera_id, parked in list(self._parked.items()):
            camera = look.cameras.get(camera_id)
            if camera is not None and fingerprint(camera) != parked.fingerprint:
                LOG.info("camera asked again: it was changed", extra={"camera": camera_id})
                await self._tools.store.unpark(camera_id, self.announcements.unparked(camera_id))
                del self._parked[camera_id]
        self.announcements.note_parked({camera_id: parked.reason for camera_id, parked in self._parked.items()})
