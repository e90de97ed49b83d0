"""One armed watch on one folder, by watchfiles: yields what changed. Decides nothing, and ends when the folder goes.

The backend is used below `awatch` for three reasons. The moment at which the watch is armed must be known, since
only what happens after it is reported. `awatch` leaves its thread behind for a moment when it is cancelled. And its
option to ignore unreadable folders also ignores a missing root and a used-up watch limit, and stops at the first
unreadable folder: beside a `lost+found` most of the tree would silently go unwatched.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from watchfiles._rust_notify import RustNotify

from anr_watch.sources.backend import Changes, Kind, WatchRefused, limit_reached

LOG = logging.getLogger("anr_watch.sources")


async def watch_folder(
    folder: Path, *, recursive: bool, every_write: bool, step_ms: int, debounce_ms: int
) -> AsyncGenerator[Changes, None]:
    """Watch a folder; see `backend.Backend`. Every write is told; what is told is one to two steps old."""
    del every_write
    while True:
        exact = False
        try:
            notify = await asyncio.to_thread(_armed, [folder], recursive=recursive)
        except PermissionError:
            if not recursive:
                raise WatchRefused(f"{folder}: no permission to watch it") from None
            folders = await asyncio.to_thread(_readable, folder)
            notify = await asyncio.to_thread(_armed, folders, recursive=False)
            exact = True
        async with _pumped(notify, str(folder), step_ms, debounce_ms) as next_changes:
            yield set()
            while True:
                changes = await next_changes()
                yield changes
                # Folders that were listed one by one get no new members by themselves.
                if exact and any(kind == Kind.ADDED and os.path.isdir(path) for kind, path in changes):  # noqa: ASYNC240, PTH112 - a local stat per new name
                    break


@asynccontextmanager
async def _pumped(
    notify: RustNotify, name: str, step_ms: int, debounce_ms: int
) -> AsyncIterator[Callable[[], Awaitable[Changes]]]:
    """Run the thread that waits for `notify`, and end it with the block."""
    loop = asyncio.get_running_loop()
    stop, ready = threading.Event(), asyncio.Event()
    pending: Changes = set()
    failure: list[BaseException] = []

    def take(found: Changes) -> None:
        pending.update(found)
        ready.set()

    def fail(error: BaseException) -> None:
        failure.append(error)
        ready.set()

    def pump() -> None:
        try:
            # 0: no time-out. With one, changes that arrive as it expires are thrown away.
            while isinstance(found := notify.watch(debounce_ms, step_ms, 0, stop), set):
                loop.call_soon_threadsafe(take, found)
        except (RuntimeError, OSError) as error:
            loop.call_soon_threadsafe(fail, error)

    async def next_changes() -> Changes:
        await ready.wait()
        ready.clear()
        if failure:
            raise WatchRefused(f"{name}: {_explained(str(failure[0]))}") from None
        found = set(pending)
        pending.clear()
        return found

    thread = threading.Thread(target=pump, name=f"watch:{name}", daemon=True)
    thread.start()
    try:
        yield next_changes
    finally:
        stop.set()
        # At most one step: the thread sleeps that long between looks at `stop`.
        thread.join(timeout=1 + 2 * step_ms / 1000)
        notify.close()


def _armed(folders: list[Path], *, recursive: bool) -> RustNotify:
    """Return a watch that is armed.

    Raises:
        PermissionError: one of the folders, or one below them, may not be read.
        WatchRefused: anything else.
    """
    try:
        return RustNotify([str(folder) for folder in folders], False, False, 300, recursive, False)  # noqa: FBT003
    except PermissionError:
        raise
    except (OSError, RuntimeError) as error:
        raise WatchRefused(f"{folders[0]}: {_explained(str(error))}") from None


def _readable(root: Path) -> list[Path]:
    """Return the folders at and below `root` that can be read; hidden ones hold no footage."""
    if not os.access(root, os.R_OK | os.X_OK):
        raise WatchRefused(f"{root}: no permission to watch it")
    found = [root]
    for folder in found:  # grows while it is walked
        try:
            with os.scandir(folder) as entries:
                below = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        except OSError:
            continue  # gone meanwhile
        for path in below:
            if os.access(path, os.R_OK | os.X_OK):
                found.append(path)
            else:
                LOG.debug("%s cannot be read and is not watched", path)
    return found


def _explained(text: str) -> str:
    """Return what to do about a refusal, as far as it is one of the two limits of inotify."""
    if "watch limit reached" in text:
        return limit_reached("max_user_watches")
    return limit_reached("max_user_instances") if "Too many open files" in text else text
