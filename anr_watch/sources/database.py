"""Notices that somebody else wrote to the database. Reads nothing but its version; decides nothing.

The write to the log is reported *before* the commit is visible: with synchronous=FULL every single look at the moment
of the event found nothing new. So each event starts a ladder of looks, close together at first, and only its end
after a quarter of a second says that the event meant nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from anr_watch.clock import Clock
from anr_watch.errors import ContractError, StorageError, StoreUnavailable
from anr_watch.log import Repeated
from anr_watch.sources.backend import Backend, Changes
from anr_watch.sources.watch import GUARD_S, FolderWatch
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.sources")

LADDER_S: Final = 0.25  # how long after an event a commit may still become visible
_STEEP_S: Final = 0.02
# After the first hit: the time to the next look. Between hits in a row, which is under load: the same, and how often
# it is asked meanwhile whether there is a new gap row, which ends it. A pass takes 2 ms of a core, that question a
# tenth. Then the rungs after hits, for a commit whose event fell into the same batch as that of the one we saw.
FIRST_S: Final = 0.025
SPACING_S: Final = 0.05
PROBES: Final = 3
_TAIL_S: Final = (0.03, 0.05, 0.08, 0.09)


def rung_s(since_event_s: float, *, explained: bool = False) -> float | None:
    """Return the pause before the next look while nothing has been found; None: the event meant nothing.

    1, 2, 2, 2 ... ms for the first 20 ms (a commit without fsync is visible in microseconds), then a sixth of the
    time that has passed (an fsync takes 1 to 50 ms on usual disks): 28 looks, where one every 5 ms made 56 and most
    of what the program used at rest. Where a write of our own explains the event, somebody else's may still hide
    behind it, but that is rare: 8 looks, each twice as late as the one before.
    """
    if explained:
        return max(0.002, since_event_s) if since_event_s < LADDER_S else None
    if since_event_s < 0.001:
        return 0.001
    if since_event_s < _STEEP_S:
        return 0.002
    return since_event_s / 6 if since_event_s < LADDER_S else None


class DatabaseWatch:
    """Calls `changed` after each commit of another connection, and `replaced` when the file is another one.

    Args:
        path: the database file; its folder is watched, so that the log and a replacement are seen.
        version: asks the open database for its version (`store.version`).
        is_replaced: says whether another file stands at the path than the one that is open (`store.replaced`).
        own_writes: counts our own transactions; those that wrote explain an event.
        newest_gap: a number that is another one when a gap row is new (`store.newest_gap`).
        changed: may be called for nothing, but never is missing after a commit.
        replaced: called once per replacement or disappearance.
        clock: for pauses.
        step_ms: pause between looks at the queue of the watch.
        debounce_ms: see `backend.Backend`.
        guard_s: see `FolderWatch`.
        backend: who notices; None: `auto`, see `backend.backend_named`.

    Attributes:
        armed: somebody notices now; else commits of others are found when it is armed again.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: Callable[[], Awaitable[int]],
        is_replaced: Callable[[], Awaitable[bool]],
        changed: Callable[[], None],
        replaced: Callable[[], None],
        own_writes: Callable[[], int] = lambda: 0,
        newest_gap: Callable[[], Awaitable[int]] | None = None,
        clock: Clock,
        step_ms: int = 10,
        debounce_ms: int = 50,
        guard_s: float = GUARD_S,
        backend: Backend | None = None,
    ) -> None:
        self._version, self._is_replaced = version, is_replaced
        self._changed, self._replaced, self._own_writes = changed, replaced, own_writes
        self._newest_gap, self._gap_seen = newest_gap or _none, 0
        self._own_seen = 0
        self.armed = False
        self._clock = clock
        self._watch = FolderWatch(
            path.parent,
            recursive=False,
            clock=clock,
            changes=self._take,
            back=partial(self._is_armed, armed=True),
            lost=lambda _: self._is_armed(armed=False),
            step_ms=step_ms,
            debounce_ms=debounce_ms,
            guard_s=guard_s,
            backend=backend,
        )
        file = os.path.join(self._watch.folder, path.name)  # noqa: PTH118 - compared with the texts of events
        self._file, self._log = file, f"{file}-wal"
        self._poked = asyncio.Event()
        self._check_file = False
        self._told_replaced = False
        self._seen: int | None = None
        self._complaint = Repeated(LOG, "database does not answer")

    async def run(self) -> None:
        """Watch until cancelled."""
        async with BalancedGroup() as group:
            group.create_task(self._watch.run(), name="source:database-watch")
            group.create_task(self._look(), name="source:database")

    def _take(self, changes: Changes) -> None:
        paths = {path for _, path in changes}
        # A checkpoint writes to the file itself too; looking at its identity costs a stat.
        self._check_file |= self._file in paths
        if self._file in paths or self._log in paths:
            self._poked.set()

    def _is_armed(self, *, armed: bool) -> None:
        self.armed = armed
        self._check_file = True
        self._poked.set()

    async def _look(self) -> None:
        while True:
            await self._poked.wait()
            await self._climb()

    async def _climb(self) -> None:
        """Look until nothing has come for as long as a commit may take to become visible."""
        event_s, explained = self._clock.monotonic(), False
        tail: list[float] | None = None  # pauses left after a hit
        hits = 0  # in a row
        while True:
            if self._poked.is_set():
                self._poked.clear()
                event_s, tail = self._clock.monotonic(), None
                before, self._own_seen = self._own_seen, self._own_writes()
                explained = self._own_seen != before
            if self._check_file:
                self._check_file = False
                await self._look_at_file()
            if await self._moved():
                self._changed()
                tail = list(_TAIL_S)
                hits += 1
                if hits == 1:
                    await self._clock.sleep(FIRST_S)
                else:
                    await self._rest()
                continue
            hits = 0
            if tail is None:
                pause_s = rung_s(self._clock.monotonic() - event_s, explained=explained)
                if pause_s is None:
                    return
                await self._until_event(pause_s)
            elif not tail:
                return
            else:
                await self._until_event(tail.pop(0))

    async def _rest(self) -> None:
        """Let more commits gather, until one of them may have brought a gap row: that is what cameras wait for."""
        for _ in range(PROBES):
            await self._clock.sleep(SPACING_S / (PROBES + 1))
            try:
                newest = await self._newest_gap()
            except (StoreUnavailable, StorageError, ContractError):
                continue  # the next look says so
            if newest != self._gap_seen:
                self._gap_seen = newest
                return
        await self._clock.sleep(SPACING_S / (PROBES + 1))

    async def _until_event(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._poked.wait()

    async def _moved(self) -> bool:
        try:
            version = await self._version()
        except (StoreUnavailable, StorageError, ContractError) as error:
            self._complaint.failed(error, self._clock.monotonic())
            self._seen = None  # whatever it says next is news
            self._check_file = not self._told_replaced
            return False
        self._complaint.worked()
        if version == self._seen:
            return False
        self._seen = version
        return True

    async def _look_at_file(self) -> None:
        if not await self._is_replaced():
            self._told_replaced = False
        elif not self._told_replaced:
            self._told_replaced = True
            LOG.warning("another file, or none, stands at %s", self._file)
            self._replaced()


async def _none() -> int:
    return 0
