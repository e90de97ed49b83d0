"""One armed watch on one folder, by inotify: yields what changed. Decides nothing, and ends when the folder goes.

The first event of a burst is told at once; what follows within a step is told together, and the steps grow while it
goes on. Nothing runs while nothing happens. Writes to recordings never reach Python: after the first event in a
folder its watch leaves them out.

A folder that cannot be watched (no permission, or the limit of watches is used up) costs no other folder: it is said
once, and the folder is looked at every two seconds until it can be.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from anr_watch.sources.backend import Changes, Kind, WatchRefused, limit_reached
from anr_watch.sources.inotify import Happened, Inotify, Mask, is_there

__all__ = ["is_there", "watch_folder"]

LOG = logging.getLogger("anr_watch.sources")
POLL_S: Final = 2.0  # between looks at folders that cannot be watched
_LONGEST_STEPS: Final = 4  # what one pause may grow to while events never stop
_READS: Final = 16  # of up to 64 KiB, about 20 000 events: more than the kernel keeps

_MASK: Final = (
    Mask.CREATE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.CLOSE_WRITE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
    | Mask.EXCL_UNLINK
)
_GONE: Final = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED
_CAME: Final = Mask.CREATE | Mask.MOVED_TO
_WENT: Final = Mask.DELETE | Mask.MOVED_FROM


async def watch_folder(
    folder: Path, *, recursive: bool, every_write: bool, step_ms: int, debounce_ms: int
) -> AsyncGenerator[Changes, None]:
    """Watch a folder; see `backend.Backend`. `debounce_ms` has no meaning here: nothing is held back."""
    del debounce_ms
    loop = asyncio.get_running_loop()
    while True:
        tree = _Tree(str(folder), recursive=recursive, every_write=every_write)
        try:
            tree.open()
            await asyncio.to_thread(tree.arm)
            yield set()
            pause_s = step_s = step_ms / 1000
            while not tree.overflowed:
                since_s = loop.time()
                if await _readable(tree.fd, POLL_S if tree.unwatched else None):
                    changes = await tree.take()
                else:
                    changes = await asyncio.to_thread(tree.look_at_unwatched)
                idle = loop.time() - since_s > step_s
                pause_s = step_s if idle else min(2 * pause_s, _LONGEST_STEPS * step_s)
                if tree.gone:
                    yield changes | {(Kind.DELETED, tree.root)}
                    return
                if changes and not tree.overflowed:
                    yield changes
                    await asyncio.sleep(pause_s)
            LOG.info("%s: more happened than the kernel keeps for us; everything is looked at again", folder)
        finally:
            tree.close()


async def _readable(fd: int, patience_s: float | None) -> bool:
    """Wait for events; between the waits they gather in the kernel, which merges what repeats."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(patience_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


class _Tree:
    """The watches on a folder and, if `recursive`, on the folders below it.

    Attributes:
        unwatched: folders that could not be watched, and when they were changed last.
        overflowed: events were lost; the tree is of no more use.
        gone: the root is not what it was.
    """

    def __init__(self, root: str, *, recursive: bool, every_write: bool) -> None:
        self.root, self._recursive, self._every_write = root, recursive, every_write
        self._inotify: Inotify | None = None
        self._paths: dict[int, set[str]] = {}  # links: one folder may have several
        self._quiet: set[int] = set()  # watches that leave writes out
        self.unwatched: dict[str, int | None] = {}
        self._limit_told = False
        self.overflowed = self.gone = False

    @property
    def fd(self) -> int:
        return -1 if self._inotify is None else self._inotify.fd

    def open(self) -> None:
        """Get a queue from the kernel.

        Raises:
            WatchRefused: there is none to be had.
        """
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise WatchRefused(f"{self.root}: {_explained(error)}") from None

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()

    # -- watches; these calls block on large folders -------------------------------------------------------------

    def arm(self) -> None:
        """Watch the root and what is below it.

        Raises:
            WatchRefused: the root cannot be watched.
        """
        try:
            self._add(self.root)
        except OSError as error:
            raise WatchRefused(f"{self.root}: {_explained(error)}") from None
        if self._recursive:
            for _ in self._add_below(self.root):
                pass

    def look_at_unwatched(self) -> Changes:
        """Try again what could not be watched; tell the folders that can be now, or have changed."""
        changes: Changes = set()
        for path, before in list(self.unwatched.items()):
            del self.unwatched[path]
            if self._watch(path):
                changes |= {(Kind.ADDED, path), *((Kind.ADDED, below) for below in self._add_below(path))}
            elif path in self.unwatched and self.unwatched[path] != before:
                changes.add((Kind.ADDED, path))
        return changes

    def _add(self, path: str, *, writes: bool = True) -> int:
        if self._inotify is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        watch = self._inotify.add(path, _MASK | (Mask.MODIFY if writes else 0))
        self._paths.setdefault(watch, set()).add(path)
        return watch

    def _watch(self, path: str) -> bool:
        """Watch one folder below the root; say whether it is watched now."""
        try:
            self._quiet.discard(self._add(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EBADF):
                return False
            self.unwatched[path] = _changed(path)
            if error.errno == errno.ENOSPC:
                if not self._limit_told:
                    self._limit_told = True
                    LOG.warning("%s and others are looked at every %g s only: %s", path, POLL_S, _explained(error))
            else:
                LOG.debug("%s is not watched: %s", path, error.strerror)
            return False
        return True

    def _add_below(self, folder: str) -> Iterator[str]:
        """Watch the folders below one that is watched, and yield them. First the watch, then the look."""
        pending = [folder]
        while pending:
            for path in _folders_in(pending.pop(), self.root):
                if self._watch(path):
                    pending.append(path)
                yield path

    def _forget_below(self, folder: str) -> None:
        """End the watches at and below a folder that has gone from its place."""
        prefix = folder + "/"
        for path in [path for path in self.unwatched if path == folder or path.startswith(prefix)]:
            del self.unwatched[path]
        for watch, paths in list(self._paths.items()):
            paths -= {path for path in paths if path == folder or path.startswith(prefix)}
            if not paths:
                del self._paths[watch]
                if self._inotify is not None:
                    self._inotify.remove(watch)

    # -- events ------------------------------------------------------------------------------------------------

    async def take(self) -> Changes:
        """Return what the kernel has kept for us, with folders that came watched before they are told."""
        changes: Changes = set()
        for happened in self._waiting():
            if happened.mask & Mask.Q_OVERFLOW:
                self.overflowed = True
            for folder in tuple(self._paths.get(happened.watch, ())):
                if happened.mask & _GONE:
                    self.gone |= folder == self.root
                else:
                    await self._take_one(happened, folder, changes)
            if happened.mask & Mask.IGNORED:
                self._paths.pop(happened.watch, None)
                self._quiet.discard(happened.watch)
        return changes

    def _waiting(self) -> Iterator[Happened]:
        for _ in range(_READS):
            found = [] if self._inotify is None else self._inotify.read()
            if not found:
                return
            yield from found

    async def _take_one(self, happened: Happened, folder: str, changes: Changes) -> None:
        mask, path = happened.mask, f"{folder}/{happened.name}"
        if mask & _WENT:
            changes.add((Kind.DELETED, path))
            if mask & Mask.ISDIR:
                self._forget_below(path)
            return
        if mask & _CAME:
            changes.add((Kind.ADDED, path))
            if self._recursive and (mask & Mask.ISDIR or os.path.islink(path)):  # noqa: ASYNC240, PTH114 - a local lstat per new name
                changes |= {(Kind.ADDED, below) for below in await asyncio.to_thread(self._add_new, path)}
        if mask & Mask.MODIFY:
            changes.add((Kind.MODIFIED, path))
        if mask & Mask.CLOSE_WRITE or (mask & Mask.MOVED_TO and not mask & Mask.ISDIR):
            changes.add((Kind.CLOSED, path))
        if not (self._every_write or mask & Mask.ISDIR or happened.watch in self._quiet):
            self._leave_writes_out(happened.watch, folder)

    def _add_new(self, path: str) -> list[str]:
        """Watch a folder that has come, and those below it; return the latter."""
        if not _is_ours(path, self.root) or not self._watch(path):
            return []
        return list(self._add_below(path))

    def _leave_writes_out(self, watch: int, folder: str) -> None:
        self._quiet.add(watch)
        try:
            self._add(folder, writes=False)
        except OSError:  # gone, or out of reach, meanwhile: an event of its own says so
            LOG.debug("%s goes on telling writes", folder)


def _folders_in(folder: str, root: str) -> list[str]:
    """Return the folders inside one that may hold footage."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if entry.is_dir() or entry.is_symlink()]
    except OSError:  # gone meanwhile, or watched and not to be read
        return []
    return [path for path in found if _is_ours(path, root)]


def _is_ours(path: str, root: str) -> bool:
    """Say whether a folder is to be watched: hidden ones hold no footage, links may not leave the root or loop."""
    if os.path.basename(path).startswith("."):  # noqa: PTH119 - called per folder
        return False
    if not os.path.islink(path):  # noqa: PTH114 - same
        return True
    target, home = os.path.realpath(path), os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - same
    inside = f"{target}/".startswith(os.path.realpath(root).rstrip("/") + "/")
    return inside and os.path.isdir(target) and not f"{home}/".startswith(f"{target}/")  # noqa: PTH112 - same


def _changed(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - same
    except OSError:
        return None


def _explained(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return limit_reached("max_user_watches")
    if error.errno == errno.EMFILE:
        return limit_reached("max_user_instances")
    return error.strerror or "cannot be watched"
