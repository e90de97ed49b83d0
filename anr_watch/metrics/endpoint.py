"""The endpoint of the daemon: `/metrics` and `/healthz` on one address. It asks the database at most once a second.

It outlives an engine: while the database is waited for, `/healthz` says so and the counters go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from anr_watch import __version__
from anr_watch.clock import Clock
from anr_watch.config.checking import address_of
from anr_watch.coordinator import Coordinator
from anr_watch.errors import AnrWatchError, ConfigError, ContractError, StorageError, StoreUnavailable
from anr_watch.metrics.figures import Figures
from anr_watch.metrics.http import Answer, serving
from anr_watch.metrics.library import LIBRARY, needs
from anr_watch.store import Measures, Store

if TYPE_CHECKING:
    from anr_watch.metrics.families import Engine

LOG = logging.getLogger("anr_watch.metrics")
FRESH_S: Final = 1.0  # how often the database is asked at the most, however many ask us


class Endpoint:
    """See the module.

    Args:
        figures: the counters of this process.
        clock: time.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, figures: Figures, clock: Clock) -> None:
        try:
            from anr_watch.metrics import families  # noqa: PLC0415 - 1 MB that only those pay who want metrics
        except ModuleNotFoundError as error:
            raise ConfigError("config", (needs(error.name or LIBRARY),)) from error
        self._families = families
        self._figures, self._clock = figures, clock
        self._version = __version__
        self._serves: tuple[Store, Coordinator] | None = None
        self.connected: Callable[[], bool] | None = None  # None: no broker is configured
        self._measured: tuple[Store, float, Measures | None] | None = None
        self._asking = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def listening(self, listen: str) -> AsyncIterator[None]:
        """Serve on `listen` for the length of the block.

        Raises:
            AnrWatchError: it cannot be listened on.
        """
        host, port = address_of(listen) or ("", 0)  # checked with the settings
        pages = {"/metrics": self._metrics, "/healthz": self._healthz}
        async with contextlib.AsyncExitStack() as stack:
            try:
                address = await stack.enter_async_context(serving(host, port, pages))
            except OSError as error:
                # asyncio's own text repeats the address; a name that cannot be resolved has a number below zero.
                why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
                raise AnrWatchError(f"metrics.listen: {listen}: cannot listen there: {why}") from error
            shown = f"{address[0]}:{address[1]}"
            LOG.info("metrics", extra={"listen": shown})
            if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
                LOG.warning("metrics are not on loopback: everybody who reaches this address reads them")
            yield

    @contextlib.contextmanager
    def about(self, store: Store, coordinator: Coordinator) -> Iterator[None]:
        """Speak of this engine for the length of the block."""
        self._serves = store, coordinator
        try:
            yield
        finally:
            self._serves = self.connected = None

    async def _healthz(self) -> Answer:
        if self._serves is None:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"waiting for the database\n")
        # No restart brings a disk back, and whoever reads this need not read paths: the log says which.
        is_held = bool(self._serves[1].scheduler.room.why)
        return Answer(HTTPStatus.OK, b"ok\n" + (b"no fill runs: the recordings cannot be used\n" if is_held else b""))

    async def _metrics(self) -> Answer:
        engine, measures, mode = None, None, ""
        if self._serves is not None:
            store, coordinator = self._serves
            measures, mode = await self._measures(store), store.mode.value
            engine = self._engine(coordinator)
        text = self._families.exposition(self._figures, engine, measures, version=self._version, mode=mode)
        return Answer(HTTPStatus.OK, text, self._families.CONTENT_TYPE)

    def _engine(self, coordinator: Coordinator) -> Engine:
        scheduler = coordinator.scheduler
        return self._families.Engine(
            presences=coordinator.presences,
            parked=coordinator.parked,
            running=len(scheduler.running),
            is_paused=scheduler.paused,
            is_held=bool(scheduler.room.why),
            is_connected=self.connected() if self.connected is not None else None,
        )

    async def _measures(self, store: Store) -> Measures | None:
        """Return what the database says, or said less than a second ago; None if it cannot be used now."""
        async with self._asking:
            now_s, known = self._clock.monotonic(), self._measured
            if known is None or known[0] is not store or now_s - known[1] >= FRESH_S:
                try:
                    found = await store.measures()
                except (StoreUnavailable, StorageError, ContractError) as error:
                    LOG.debug("the database was not asked: %s", error)
                    found = None
                self._measured = known = (store, now_s, found)
            return known[2]
