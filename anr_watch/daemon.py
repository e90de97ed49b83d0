"""The composition root: builds everything from the settings, owns the tasks, and knows the order of start and stop.

Start: lock on the recordings -> database -> staging emptied, attempts of a dead process ended -> workers -> watches,
broker, loop. Stop: no new fills -> grace for the running ones -> workers gone -> broker told -> database closed. A
second signal skips the grace. The whole is bounded by `fills.stop_grace_s` plus a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from anr_watch.announcements import Announcements
from anr_watch.clock import Clock
from anr_watch.config import Settings
from anr_watch.control import Control
from anr_watch.coordinator import Coordinator
from anr_watch.errors import AnrWatchError, StorageError, StoreUnavailable
from anr_watch.filling.tools import Tools
from anr_watch.footage.folder import Recordings
from anr_watch.footage.indexer import Indexer
from anr_watch.footage.names import NamePattern
from anr_watch.log import Repeated
from anr_watch.model import Message
from anr_watch.mqtt.events import Announcer, Silent
from anr_watch.mqtt.session import Handlers, Session
from anr_watch.presence import PresenceBook
from anr_watch.replay.process import Workers
from anr_watch.sources.backend import backend_named
from anr_watch.sources.database import DatabaseWatch
from anr_watch.sources.recordings import RecordingsWatch
from anr_watch.store import Mode, Origin, Store, open_store
from anr_watch.systemd import notify
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch")

_CAPABILITIES = ("fill", "retry", "cancel", "recheck", "pause", "resume")
RETRY_OPEN_S = 2.0
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
    settings: Settings, clock: Clock, recordings: Recordings, workers: Workers, *, silent: bool = False
) -> AsyncIterator[Engine]:
    """Open the database and start the loop; the caller holds the lock on the recordings.

    Args:
        settings: all settings.
        clock: time.
        recordings: the folder.
        workers: started replay workers.
        silent: write nothing for the broker.

    Raises:
        StoreUnavailable, ContractError, StorageError: the database cannot be used.
    """
    async with open_store(
        settings.database,
        clock,
        cameras=settings.cameras,
        overrides=settings.overrides,
        replay=settings.replay,
        max_gap_hours=settings.fills.max_gap_hours,
    ) as store:
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
        )
        interrupted = await store.interrupt_open_attempts(tools.announcements.fill_interrupted)
        if interrupted:
            LOG.info("attempts of an earlier run ended as interrupted", extra={"attempts": interrupted})
        indexer = _indexer(tools) if store.mode is Mode.STANDALONE else None
        try:
            async with BalancedGroup() as group:
                coordinator = Coordinator(tools, book, group, indexer)
                await coordinator.restore()
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


async def run_daemon(settings: Settings, clock: Clock) -> int:
    """Run until SIGTERM or SIGINT and return the exit status.

    Raises:
        StorageError: another anr-watch holds the recordings, or the folder cannot be used.
        ContractError: the database is not one we can work beside.
    """
    root = settings.recordings.path
    recordings = Recordings(root, NamePattern(settings.recordings.name_pattern), clock)
    await asyncio.to_thread(_make_root, root)
    with recordings.lock():
        removed = await asyncio.to_thread(recordings.empty_staging)
        if removed:
            LOG.info("staging of an earlier run removed", extra={"entries": removed})
        async with Workers() as workers:
            with _stopped_by_signals():
                await workers.start()  # 0.2 s now instead of at the first fill
                await _Daemon(settings, clock, recordings, workers).run()
    LOG.info("stopped")
    return 0


def _make_root(root: Path) -> None:
    if not root.exists():
        LOG.warning("recordings folder was not there and is made now; right?", extra={"recordings": root})
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{root}: the recordings folder cannot be made: {error.strerror}") from None


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

    def __init__(self, settings: Settings, clock: Clock, recordings: Recordings, workers: Workers) -> None:
        self._settings, self._clock, self._recordings, self._workers = settings, clock, recordings, workers
        self._boot_id = uuid.uuid4().hex
        self._started_at = clock.now()

    async def run(self) -> None:
        """Serve until cancelled."""
        complaint = Repeated(LOG, "waiting for the database")
        while True:
            try:
                async with open_engine(self._settings, self._clock, self._recordings, self._workers) as engine:
                    complaint.worked()
                    await self._serve(engine)
            except StoreUnavailable as error:
                complaint.failed(error, self._clock.monotonic())
                await self._clock.sleep(RETRY_OPEN_S)
            except _Replaced:
                LOG.warning("the database was replaced: opening it anew")

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
                        clock=self._clock,
                        step_ms=step_ms,
                        debounce_ms=debounce_ms,
                        backend=backend,
                    )
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
                    session = self._session(engine)
                    group.create_task(session.run(), name="mqtt")
                group.create_task(self._alive(engine), name="alive")
                notify("READY=1")
                LOG.info(
                    "ready",
                    extra={
                        "version": version("anr-watch"),
                        "mode": engine.store.mode,
                        "database": settings.database.path,
                        "recordings": settings.recordings.path,
                        "mqtt": settings.mqtt.host or "off",
                    },
                )
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _alive(self, engine: Engine) -> NoReturn:
        """Tell systemd's watchdog that the loop turns, and notice a replaced database even without a watch."""
        while True:
            notify("WATCHDOG=1")
            await self._clock.sleep(ALIVE_S)
            if await engine.store.replaced():
                raise _Replaced

    def _session(self, engine: Engine) -> Session:
        coordinator, control = engine.coordinator, Control(engine.tools, engine.coordinator)
        return Session(
            self._settings.mqtt,
            outbox=engine.store,
            wake=engine.store.outgoing,
            handlers=Handlers(
                cameras=lambda: coordinator.cameras,
                on_evidence=coordinator.hear,
                on_command=control.carry_out,
                on_connected=lambda: coordinator.look_again("mqtt connected"),
                birth=partial(self._birth, engine),
            ),
            clock=self._clock,
        )

    def _birth(self, engine: Engine) -> Sequence[Message]:
        return Announcer(self._settings.mqtt.node, self._settings.mqtt.base).info(
            version=version("anr-watch"),
            boot_id=self._boot_id,
            started_at=self._started_at,
            cameras=[(camera.id, camera.name) for camera in engine.coordinator.cameras.values()],
            capabilities=_CAPABILITIES,
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
