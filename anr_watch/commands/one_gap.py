"""The daemon's engine for one gap that a person asked for, in this process: no watches, no broker, no other gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from anr_watch.clock import Clock
from anr_watch.config import Settings
from anr_watch.daemon import Engine, open_engine
from anr_watch.errors import StorageError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.holding import Holding
from anr_watch.footage.names import NamePattern
from anr_watch.replay.process import Workers
from anr_watch.store import Store


@asynccontextmanager
async def one_gap_engine(settings: Settings, clock: Clock, cameras: Collection[str]) -> AsyncIterator[Engine]:
    """Run an engine that fills only gaps that a person asked for; `cameras` are the ids of all of them.

    Raises:
        StorageError: another anr-watch holds the recordings, or the folder cannot be used.
        StoreUnavailable, ContractError: the database cannot be used.
    """
    alone = replace(settings, fills=replace(settings.fills, register_gaps=False, sweep_s=0.0))
    pattern = NamePattern(settings.recordings.name_pattern)
    recordings = Recordings(settings.recordings.path, pattern, clock)
    holding = Holding(recordings)

    async def held(store: Store) -> str:
        home = await store.recordings_home(recordings.root.absolute())
        await asyncio.to_thread(holding.look, home, starting=True)
        if holding.trouble:
            raise StorageError(holding.trouble)
        return ""

    try:
        async with Workers() as workers, open_engine(alone, clock, recordings, workers, held=held) as engine:
            # Before its first pass: gaps nobody asked for are left to the daemon, this process may end any moment.
            engine.coordinator.scheduler.paused_cameras |= set(cameras)
            yield engine
    finally:
        holding.release()
