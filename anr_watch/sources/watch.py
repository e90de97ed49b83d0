"""Keeps one folder watched for as long as the program runs, through deletion, re-creation, mounts and refusals.

A watch is bound to what stood at the path when it was armed. When that goes, or something else takes its place (a
disk mounted over it), the kernel says little or nothing and the watch stays dead; so the owner of the path is
looked at from time to time, and the watch is made anew. Says `lost` and `back`, decides nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

from anr_watch.clock import Clock
from anr_watch.log import Repeated
from anr_watch.sources.backend import Backend, Changes, Kind, WatchRefused, backend_named
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.sources")
# Deletion of the folder is reported at once; a mount over it or a rename above it is found by this look.
GUARD_S: Final = 2.0
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_COMPLAIN_S: Final = 300.0


class _Lost(Exception):  # noqa: N818 - what happened
    """The watched folder is not at its path any more."""


class FolderWatch:
    """A watch on one folder that never dies.

    Args:
        folder: may be missing at any time.
        recursive: also everything below it.
        every_write: see `backend.Backend`.
        changes: called with each set of changes.
        back: called each time the watch has been armed, the first time included: everything before is unknown.
        lost: called with the reason when the folder cannot be watched (once until `back`).
        guard_s: how often the folder's identity is compared, in seconds.
        backend: who notices; None: `auto`, see `backend.backend_named`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recursive: bool,
        every_write: bool = True,
        clock: Clock,
        changes: Callable[[Changes], None],
        back: Callable[[], None],
        lost: Callable[[str], None],
        step_ms: int = 10,
        debounce_ms: int = 50,
        guard_s: float = GUARD_S,
        backend: Backend | None = None,
    ) -> None:
        self._folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link as root is kept as a link
        self._recursive, self._every_write, self._clock = recursive, every_write, clock
        self._backend = backend or backend_named("auto")
        self._changes, self._back, self._lost = changes, back, lost
        self._step_ms, self._debounce_ms, self._guard_s = step_ms, debounce_ms, guard_s
        self._failures = 0
        self._complaint = Repeated(LOG, f"watch on {self._folder}", every_s=_COMPLAIN_S)

    @property
    def folder(self) -> Path:
        """The absolute path that reported paths begin with."""
        return self._folder

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch_once()
            except* (_Lost, WatchRefused, OSError) as group:
                why = str(_first(group))
            if self._failures == 0:
                self._lost(why)
            self._complaint.failed(why, self._clock.monotonic())
            delay_s = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
            self._failures += 1
            await self._clock.sleep(delay_s)

    async def _watch_once(self) -> None:
        identity = await asyncio.to_thread(_identity, self._folder)
        if identity is None:
            raise _Lost("the folder is missing")
        async with BalancedGroup() as group:
            group.create_task(self._read(), name=f"watch:{self._folder}")
            group.create_task(self._guard(identity), name=f"watch-guard:{self._folder}")

    async def _read(self) -> None:
        root = str(self._folder)
        stream = self._backend(
            self._folder,
            recursive=self._recursive,
            every_write=self._every_write,
            step_ms=self._step_ms,
            debounce_ms=self._debounce_ms,
        )
        async with aclosing(stream) as sets:
            async for changes in sets:
                if not changes:
                    self._complaint.worked()
                    self._failures = 0
                    self._back()
                elif (Kind.DELETED, root) in changes:
                    raise _Lost("the folder was removed")
                else:
                    self._changes(changes)
        raise _Lost("the watch ended")

    async def _guard(self, identity: tuple[int, int]) -> None:
        while True:
            await self._clock.sleep(self._guard_s)
            found = await asyncio.to_thread(_identity, self._folder)
            if found != identity:
                raise _Lost("the folder is missing" if found is None else "another folder stands at its path")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of the folder, None if there is none (or it cannot be reached)."""
    try:
        status = folder.stat()
        return (status.st_dev, status.st_ino) if folder.is_dir() else None
    except OSError:
        return None
