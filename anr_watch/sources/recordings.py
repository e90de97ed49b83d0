"""Notices new footage files in the recordings tree. Opens no file; decides nothing.

Every new file is told by `segment_seen`, or a `look_again` follows. New folders are read after their event, because
what was put into them before the watch reached them is never reported. Growing files cost a set look-up per event at
most. That a file is finished is told where the backend hears files being closed, and only of recorders that close
each file once: one that opens its file anew for each burst of writes is found out by its first files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from anr_watch.clock import Clock
from anr_watch.footage.names import SUFFIX, NamePattern
from anr_watch.sources.backend import Backend, Changes, Kind
from anr_watch.sources.watch import GUARD_S, FolderWatch
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.sources")
# The kernel's queue holds 16 384 events and loses the rest without a word; a batch this large may be such a rest.
_SUSPICIOUS: Final = 4096
# A new folder is read at once and again after this pause: by then its own watch is armed.
_SETTLED_S: Final = 0.25

SegmentSeen = Callable[[str, datetime, Path], None]
SegmentClosed = Callable[[str, datetime], None]


class RecordingsWatch:
    """Calls `segment_seen(camera_id, start, path)` for new files and `look_again(why)` where some may be missed.

    Camera ids are folder names, known to nobody else maybe; a file may be told twice. The files of fills are
    told like any other: their starts lie in the past.

    Args:
        root: the recordings folder; may be missing at any time.
        pattern: which names are footage.
        segment_seen: called with the time the name tells and the path below `root` as given.
        segment_closed: called when the newest file of a camera is finished.
        look_again: called when the watch was armed or lost, and when too much came at once.
        clock: for pauses.
        step_ms: pause between looks at the queue of the watch.
        debounce_ms: see `backend.Backend`.
        guard_s: see `FolderWatch`.
        backend: who notices; None: `auto`, see `backend.backend_named`.
    """

    def __init__(
        self,
        root: Path,
        pattern: NamePattern,
        *,
        segment_seen: SegmentSeen,
        segment_closed: SegmentClosed = lambda _camera_id, _start: None,
        look_again: Callable[[str], None],
        clock: Clock,
        step_ms: int = 10,
        debounce_ms: int = 50,
        guard_s: float = GUARD_S,
        backend: Backend | None = None,
    ) -> None:
        self._root, self._pattern = root, pattern
        self._segment_seen, self._segment_closed, self._look_again = segment_seen, segment_closed, look_again
        self._clock = clock
        self._watch = FolderWatch(
            root,
            recursive=True,
            every_write=False,
            clock=clock,
            changes=self._take,
            back=lambda: look_again("recordings watched"),
            lost=lambda why: look_again(f"recordings not watched: {why}"),
            step_ms=step_ms,
            debounce_ms=debounce_ms,
            guard_s=guard_s,
            backend=backend,
        )
        self._prefix = str(self._watch.folder).rstrip("/") + "/"
        self._newest: dict[str, datetime] = {}
        self._growing: set[str] = set()  # paths of the newest file per camera
        self._closes: dict[str, int] = {}  # how often the newest file of a camera was closed
        self._closes_once: set[str] = set()  # cameras whose file before the newest was closed once
        self._fresh: dict[str, None] = {}  # new folders, relative, to be read
        self._has_fresh = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with BalancedGroup() as group:
            group.create_task(self._watch.run(), name="source:recordings-watch")
            group.create_task(self._read_fresh(), name="source:recordings-folders")

    def _take(self, changes: Changes) -> None:
        if len(changes) >= _SUSPICIOUS:
            self._look_again(f"{len(changes)} changes in the recordings at once")
        # By name is in order of time, and a file comes before it is closed.
        for kind, path in sorted(changes, key=lambda change: (change[1], change[0])):
            if kind == Kind.DELETED or (kind == Kind.MODIFIED and path in self._growing):
                continue
            if path.startswith(self._prefix):
                self._hear(kind, path.removeprefix(self._prefix))

    def _hear(self, kind: int, relative: str) -> None:
        camera_id, _, below = relative.partition("/")
        if camera_id.startswith("."):  # our own staging, and what other programs hide
            return
        depth = below.count("/") + 1 if below else 0  # 0: the camera's folder itself
        if depth == self._pattern.depth + 1 and below.endswith(SUFFIX):
            start = self._pattern.parse(below)
            if start is not None:
                self._tell(camera_id, start, below, new=kind == Kind.ADDED)
                if kind == Kind.CLOSED:
                    self._note_closed(camera_id, start)
        elif kind == Kind.ADDED and (not below or self._pattern.folder_key(below) is not None):
            self._fresh[relative] = None
            self._has_fresh.set()

    def _tell(self, camera_id: str, start: datetime, below: str, *, new: bool) -> None:
        """Tell of a new file; one that grows and is newer than all we know must have been missed as new."""
        newest = self._newest.get(camera_id)
        latest = newest is None or start > newest
        if latest:
            if newest is not None:
                self._growing.discard(f"{self._prefix}{camera_id}/{self._pattern.format(newest)}")
            if self._closes.pop(camera_id, 0) == 1:
                self._closes_once.add(camera_id)
            else:
                self._closes_once.discard(camera_id)
            self._newest[camera_id] = start
            self._growing.add(f"{self._prefix}{camera_id}/{below}")
        if new or latest:
            self._segment_seen(camera_id, start, self._root / camera_id / below)

    def _note_closed(self, camera_id: str, start: datetime) -> None:
        if start != self._newest[camera_id]:
            return  # a later file says as much
        self._closes[camera_id] = self._closes.get(camera_id, 0) + 1
        if self._closes[camera_id] > 1:
            self._closes_once.discard(camera_id)
        elif camera_id in self._closes_once:
            self._segment_closed(camera_id, start)

    async def _read_fresh(self) -> None:
        """Read each new folder when it is seen and once more a while later; tell of what is in them."""
        again: dict[str, tuple[float, set[str]]] = {}  # folder -> when it is due, what was told of it
        while True:
            now_s = self._clock.monotonic()
            due_s = min((due_s for due_s, _ in again.values()), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - now_s)):
                    await self._has_fresh.wait()
            self._has_fresh.clear()
            fresh, self._fresh = self._fresh, {}
            for folder in fresh:
                again[folder] = self._clock.monotonic() + _SETTLED_S, await self._read_folder(folder, set())
            for folder, (at_s, told) in list(again.items()):
                if at_s <= self._clock.monotonic():
                    del again[folder]
                    await self._read_folder(folder, told)

    async def _read_folder(self, folder: str, told: set[str]) -> set[str]:
        """Tell of the files at and below `folder` that are not among `told`; return all."""
        files = await asyncio.to_thread(self._files_below, folder)
        for camera_id, below, start in files:
            if below not in told:
                self._tell(camera_id, start, below, new=True)
        return {below for _, below, _ in files}

    def _files_below(self, relative: str) -> list[tuple[str, str, datetime]]:
        """Return camera, path below its folder and start of every footage name at and below a folder."""
        camera_id, _, below = relative.partition("/")
        found = []
        for name in _walk(self._watch.folder / relative, below, self._pattern.depth + 1):
            start = self._pattern.parse(name)
            if start is not None:
                found.append((camera_id, name, start))
        return found


def _walk(folder: Path, below: str, depth: int) -> Iterator[str]:
    """Yield the paths below a camera's folder that lie `depth` levels deep, links to folders left out."""
    level = below.count("/") + 1 if below else 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if level + 1 == depth:
                    yield path
                elif entry.is_dir(follow_symlinks=False):
                    yield from _walk(folder / entry.name, path, depth)
    except OSError:  # gone again, or no folder at all
        return
