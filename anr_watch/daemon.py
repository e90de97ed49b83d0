"""The composition root: builds everything from the settings, owns the tasks, and knows the order of start and stop.

Start: lock on the recordings -> staging emptied -> workers -> database and its lock, attempts of a dead process ended
-> watches, broker, loop. Recordings that are not there (an unmounted disk) are waited for with everything running but
fills. Stop: no new fills -> grace for the running ones -> workers gone -> broker told -> database closed. A
second signal skips the grace. The whole is bounded by `fills.stop_grace_s` plus a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from anr_watch import __version__
from anr_watch.announcements import Announcements
from anr_watch.clock import Clock
from anr_watch.config import Settings
from anr_watch.control import Control
from anr_watch.coordinator import Coordinator
from anr_watch.errors import AnrWatchError, ContractError, InUse, StorageError, StoreUnavailable
from anr_watch.filling.tools import Tools
from anr_watch.footage.folder import Recordings
from anr_watch.footage.holding import LOOK_S, Holding, home_of
from anr_watch.footage.indexer import Indexer
from anr_watch.footage.misnamed import all_remarks
from anr_watch.footage.names import NamePattern
from anr_watch.introducing import Introduction
from anr_watch.log import Repeated
from anr_watch.metrics.endpoint import Endpoint
from anr_watch.metrics.figures import Figures
from anr_watch.mqtt.events import Announcer, Silent
from anr_watch.mqtt.session import Handlers, Session
from anr_watch.presence import PresenceBook
from anr_watch.replay.process import Workers, WorkersUnavailable
from anr_watch.sources.backend import backend_named
from anr_watch.sources.database import DatabaseWatch
from anr_watch.sources.recordings import RecordingsWatch
from anr_watch.store import Mode, Origin, Store, open_store
from anr_watch.systemd import notify
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch")

RETRY_OPEN_S = 2.0
REOPEN_S = 60.0
NAMES_AGAIN_S = 300.0  # a recorder that is set up together with us has written some files by then
ALIVE_S = 10.0  # a third of the WatchdogSec of deploy/


class _Replaced(Exception):  # noqa: N818 - not an error: the database is another one now
    """The database file was replaced or deleted: open it anew."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that fills gaps: database, folder, workers and the loop; with or without watches and broker."""

    tools: Tools
    book: PresenceBook
    coordinator: Coordinator

    @property
    def store(self) -> Store:
        """The database."""
        return self.tools.store


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings,
    clock: Clock,
    recordings: Recordings,
    workers: Workers,
    *,
    silent: bool = False,
    held: Callable[[Store], Awaitable[str]] | None = None,
    figures: Figures | None = None,
) -> AsyncIterator[Engine]:
    """Open the database, for this process alone, and start the loop.

    Args:
        settings: all settings.
        clock: time.
        recordings: the folder.
        workers: started replay workers.
        silent: write nothing for the broker.
        held: takes the lock on the recordings and says why they cannot be used, if so; None: the caller has it.
        figures: where ended fills are counted; None: nowhere that anybody reads.

    Raises:
        InUse: another anr-watch works on the database.
        StoreUnavailable, ContractError, StorageError: the database cannot be used.
    """
    async with open_store(
        settings.database,
        clock,
        sole=True,
        cameras=settings.cameras,
        overrides=settings.overrides,
        replay=settings.replay,
        max_gap_hours=settings.fills.max_gap_hours,
    ) as store:
        why = await held(store) if held is not None else ""
        book = PresenceBook()
        quiet = silent or not settings.mqtt.host
        announcer = Silent() if quiet else Announcer(settings.mqtt.node, settings.mqtt.base)
        tools = Tools(
            settings=settings,
            clock=clock,
            store=store,
            recordings=recordings,
            workers=workers,
            announcements=Announcements(announcer, book, clock),
            figures=figures or Figures(),
        )
        interrupted = await store.interrupt_open_attempts(tools.announcements.fill_interrupted)
        if interrupted:
            LOG.info("attempts of an earlier run ended as interrupted", extra={"attempts": interrupted})
        indexer = _indexer(tools) if store.mode is Mode.STANDALONE else None
        try:
            async with BalancedGroup() as group:
                coordinator = Coordinator(tools, book, group, indexer)
                await coordinator.restore()
                coordinator.scheduler.room.absent = why
                loop = group.create_task(coordinator.run(), name="coordinator")
                try:
                    yield Engine(tools, book, coordinator)
                finally:
                    loop.cancel()
                    await coordinator.scheduler.stop_all(settings.fills.stop_grace_s)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None


def _indexer(tools: Tools) -> Indexer:
    return Indexer(
        tools.store,
        tools.recordings,
        tools.settings.fills,
        tools.clock,
        origin=Origin.INDEXER,
        announce_gap=tools.announcements.gap_detected(Origin.INDEXER),
        announce_state=tools.announcements.state,
    )


async def run_daemon(settings: Settings, clock: Clock, workers: Workers) -> int:
    """Run until SIGTERM or SIGINT and return the exit status; `workers` may still be loading.

    Raises:
        StorageError: another anr-watch holds the recordings, or the folder cannot be used.
        ContractError: the database is not one we can work beside.
        AnrWatchError: the metrics cannot be offered as configured.
    """
    figures = Figures()
    endpoint = Endpoint(figures, clock) if settings.metrics.listen else None
    recordings = Recordings(settings.recordings.path, NamePattern(settings.recordings.name_pattern), clock)
    holding = Holding(recordings)
    try:
        if holding.was_used:  # whether a new folder is the right one, the database knows
            await _look(holding, None, starting=True)
        with _stopped_by_signals():
            daemon = _Daemon(settings, clock, recordings, holding, workers, figures=figures, endpoint=endpoint)
            await _offering(endpoint, settings.metrics.listen, daemon.run())
    finally:
        holding.release()
    LOG.info("stopped")
    return 0


async def _warm_up(workers: Workers) -> None:
    """Wait until the workers' parent is ready: now instead of at the first fill.

    Raises:
        WorkersUnavailable: there will never be one (av is missing).
    """
    try:
        await workers.start()
    except WorkersUnavailable as error:
        if not workers.killed:
            raise
        LOG.warning("%s; the first fill tries again", error)  # want of memory passes


async def _offering(endpoint: Endpoint | None, listen: str, work: Coroutine[object, object, None]) -> None:
    """Do the work with metrics offered, where they are wanted."""
    if endpoint is None:
        await work
        return
    try:
        async with endpoint.listening(listen):
            await work
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        work.close()  # never begun where nothing could be listened on


async def _look(holding: Holding, home: Path | None, *, starting: bool = False) -> None:
    removed = await asyncio.to_thread(holding.look, home, starting=starting)
    if removed:
        LOG.info("staging of an earlier run removed", extra={"entries": removed})


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT cancel the block, which ends without an error, and the second end the process.

    Ending at once loses nothing: transactions are whole or not there, workers die with us, staging is emptied at
    the next start.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        LOG.info("stopping", extra={"signal": signal.Signals(number).name})
        notify("STOPPING=1")
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received or task is None or task.uncancel() > 0:
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Daemon:
    """Keeps an engine on the database, and watches and broker around it; opens anew what was replaced."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        recordings: Recordings,
        holding: Holding,
        workers: Workers,
        *,
        figures: Figures,
        endpoint: Endpoint | None,
    ) -> None:
        self._settings, self._clock, self._workers = settings, clock, workers
        self._recordings, self._holding = recordings, holding
        self._figures, self._endpoint = figures, endpoint
        self._boot_id = uuid.uuid4().hex
        self._started_at = clock.now()
        self._served = self._serving = False  # ever; now
        self._last_reopened_s = float("-inf")

    async def run(self) -> None:
        """Serve until cancelled."""
        complaint = Repeated(LOG, "waiting for the database")
        while True:
            self._serving = False
            try:
                await asyncio.to_thread(self._wait_for_its_disk)
                opened = open_engine(
                    self._settings,
                    self._clock,
                    self._recordings,
                    self._workers,
                    held=self._held,
                    figures=self._figures,
                )
                async with opened as engine:
                    complaint.worked()
                    self._served = self._serving = True
                    with (
                        self._endpoint.about(engine.store, engine.coordinator)
                        if self._endpoint
                        else contextlib.nullcontext()
                    ):
                        await self._serve(engine)
            except InUse:
                raise
            except ContractError as error:
                # A backup from before our tables, put back under us: opening makes them. Not twice in a row: what is
                # corrupt stays corrupt, and the supervisor's restart is slower than ours.
                now_s = self._clock.monotonic()
                if not self._serving or now_s - self._last_reopened_s < REOPEN_S:
                    raise
                self._last_reopened_s = now_s
                LOG.warning("opening the database anew: %s", error)
            except (StoreUnavailable, StorageError) as error:
                if isinstance(error, StorageError) and not (error.full or self._served):
                    raise  # at the start a mistake in rights; later the disk's trouble
                complaint.failed(error, self._clock.monotonic())
                notify(f"STATUS=waiting for the database: {error}")
                await self._clock.sleep(RETRY_OPEN_S)
            except _Replaced:
                LOG.warning("the database was replaced: opening it anew")

    def _wait_for_its_disk(self) -> None:
        """Make no new database while the recordings are missing: it may belong on the disk that is not there."""
        missing = not self._settings.database.path.exists()
        if missing and self._settings.cameras and not self._recordings.root.is_dir():
            self._holding.look(None, starting=not self._served)
            raise StoreUnavailable(f"{self._holding.trouble}; no new database is made before it is there")

    # -- the recordings folder --------------------------------------------------------------------------------

    async def _held(self, store: Store) -> str:
        """Take the recordings; return why they cannot be had, if so."""
        home = await store.recordings_home(self._recordings.root.absolute())
        await _look(self._holding, home, starting=not self._served)
        if not self._holding.trouble:
            await self._remember(store, home)
        return self._holding.trouble

    async def _keep_holding(self, engine: Engine) -> NoReturn:
        """Look whether the recordings are still ours and still there."""
        root, holding = self._recordings.root.absolute(), self._holding
        while True:
            told = holding.trouble, holding.times
            notify(f"STATUS=no fill runs: {holding.trouble}" if holding.trouble else "STATUS=")
            home = await engine.store.recordings_home(root)
            while told == (holding.trouble, holding.times):
                await self._clock.sleep(LOOK_S)
                await _look(holding, home)
            if not holding.trouble:
                await self._remember(engine.store, home)
            await engine.coordinator.hold(holding.trouble)

    async def _remember(self, store: Store, before: Path | None) -> None:
        """Note on which disk the recordings are, for a start without it."""
        root = self._recordings.root.absolute()
        try:
            home = await asyncio.to_thread(home_of, root)
            if home != before:
                await store.remember_home(root, home)
        except (OSError, StoreUnavailable, StorageError) as error:  # noted at the next start: this guards, no more
            LOG.debug("not noted on which disk %s is: %s", root, error)

    async def _serve(self, engine: Engine) -> None:
        settings, coordinator = self._settings, engine.coordinator
        try:
            async with BalancedGroup() as group:
                step_ms, debounce_ms = settings.watch.step_ms, settings.watch.debounce_ms
                backend = backend_named(settings.watch.backend)
                if settings.watch.database:
                    watch = DatabaseWatch(
                        settings.database.path,
                        version=engine.store.version,
                        is_replaced=engine.store.replaced,
                        changed=lambda: coordinator.wake("database"),
                        replaced=partial(_raise_replaced, group),
                        own_writes=engine.store.own_writes,
                        newest_gap=engine.store.newest_gap,
                        clock=self._clock,
                        step_ms=step_ms,
                        debounce_ms=debounce_ms,
                        backend=backend,
                    )
                    coordinator.rows_are_told = lambda: watch.armed
                    group.create_task(watch.run(), name="source:database")
                if settings.watch.recordings:
                    files = RecordingsWatch(
                        self._recordings.root,
                        self._recordings.pattern,
                        segment_seen=coordinator.segment_seen,
                        segment_closed=coordinator.segment_closed,
                        look_again=coordinator.look_again,
                        clock=self._clock,
                        step_ms=step_ms,
                        debounce_ms=debounce_ms,
                        backend=backend,
                    )
                    group.create_task(files.run(), name="source:recordings")
                if settings.mqtt.host:
                    introduction = await self._introduction(engine)
                    session = self._session(engine, introduction)
                    if self._endpoint is not None:
                        self._endpoint.connected = lambda: session.connected
                    group.create_task(session.run(), name="mqtt")
                    group.create_task(introduction.run(), name="introduction")
                group.create_task(self._alive(engine), name="alive")
                group.create_task(self._keep_holding(engine), name="recordings")
                await _warm_up(self._workers)
                notify("READY=1")
                LOG.info(
                    "ready",
                    extra={
                        "version": __version__,
                        "mode": engine.store.mode,
                        "database": settings.database.path,
                        "recordings": settings.recordings.path,
                        "mqtt": settings.mqtt.host or "off",
                    },
                )
                if engine.store.mode is Mode.STANDALONE:  # beside Heldar its database says where footage is
                    group.create_task(self._look_at_names(), name="names")
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _look_at_names(self) -> None:
        """Warn of recordings that are not found by their names: at the start, and once more a while later."""
        segment_s = {camera.id: float(camera.segment_s) for camera in self._settings.cameras}
        told: set[str] = set()
        for pause_s in (0.0, NAMES_AGAIN_S):
            await self._clock.sleep(pause_s)
            remarks = await asyncio.to_thread(all_remarks, self._recordings, segment_s, self._clock.now())
            for remark in remarks:
                if remark.camera_id not in told:
                    about = f"camera {remark.camera_id}" if remark.camera_id else "recordings"
                    LOG.warning("%s: %s; %s", about, remark.text, remark.advice)
            told |= {remark.camera_id for remark in remarks}

    async def _alive(self, engine: Engine) -> NoReturn:
        """Tell systemd's watchdog that the loop turns, and notice a replaced database even without a watch."""
        while True:
            notify("WATCHDOG=1")
            await self._clock.sleep(ALIVE_S)
            if await engine.store.replaced():
                raise _Replaced

    async def _introduction(self, engine: Engine) -> Introduction:
        coordinator = engine.coordinator
        introduction = Introduction(
            self._settings.mqtt,
            engine.store,
            engine.tools.announcements,
            self._clock,
            boot_id=self._boot_id,
            started_at=self._started_at,
        )
        await introduction.restore()
        coordinator.scheduler.pause(introduction.pauses)
        coordinator.introduce = introduction.cameras_are
        coordinator.wake("start")
        return introduction

    def _session(self, engine: Engine, introduction: Introduction) -> Session:
        coordinator, control = engine.coordinator, Control(engine.tools, engine.coordinator, introduction)
        return Session(
            self._settings.mqtt,
            outbox=engine.store,
            wake=engine.store.outgoing,
            handlers=Handlers(
                cameras=lambda: coordinator.cameras,
                on_evidence=coordinator.hear,
                on_command=control.carry_out,
                on_connected=coordinator.broker_back,
                birth=introduction.info,
                listens=introduction.listens,
                on_heard=lambda payload, retained: introduction.heard(payload, retained=retained),
            ),
            clock=self._clock,
        )


def _raise_replaced(group: asyncio.TaskGroup) -> None:
    async def replaced() -> None:
        raise _Replaced

    group.create_task(replaced(), name="database replaced")


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of a group that says most: any of ours, else the first."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in errors.exceptions]
    ours = [error for error in leaves if isinstance(error, AnrWatchError | _Replaced)]
    return (ours or leaves)[0]
