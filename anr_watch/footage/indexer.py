"""Makes rows of files, and gap rows of the holes between them, in a database of our own; never beside a kernel.

The recent hours are read first, newest first; what is older follows in small batches, so that a year of files does
not hold up the daemon. Nothing here runs by itself: the owner calls it on hints, on sweeps, and when it is due. Files
that are put in later with names older than the recent hours are found at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from anr_watch.clock import Clock
from anr_watch.errors import ReplayRefused
from anr_watch.footage.folder import FootageFile, Recordings
from anr_watch.footage.indexing import clipped, holes, settles_in_s
from anr_watch.model import Camera, Coverage, Segment, Window, merge

LOG = logging.getLogger("anr_watch.indexer")

_BATCH_FILES: Final = 100  # files opened per step: about 30 ms
_BATCH_NAMES: Final = 1000  # names compared with rows per step
_BUDGET_S: Final = 0.05  # how long one pass over the cameras may take before the owner gets its turn
_BREATH_S: Final = 0.01  # between steps into the past
_AHEAD: Final = timedelta(seconds=60)  # later names are a wrong clock's
_NONE: Final[Mapping[str, Iterable[datetime]]] = MappingProxyType({})
# A file may stand up to a minute after the second its row begins in, when that name was taken.
_ROW_SLACK: Final = timedelta(seconds=70)


class IndexStore(Protocol):
    """What the indexer needs of the store."""

    async def segments(self, camera_id: str, window: Window) -> list[Segment]:
        """Return the rows that share time with `window`."""
        ...

    async def segment_paths(self, camera_id: str, window: Window) -> list[str]:
        """Return the paths of rows that begin in `window`."""
        ...

    async def add_segments(self, segments: Sequence[Segment]) -> int:
        """Insert rows in one transaction; a path that has a row is left alone. Return how many were new."""
        ...

    async def segment_path_text(self, camera_id: str, file: Path, root: Path) -> str:
        """Return the text of `segments.path` for a file."""
        ...

    async def register_hole(
        self,
        camera_id: str,
        hole: Window,
        *,
        origin: Any = ...,
        longer_than_s: float = ...,
        found: Any = None,
        extended: Any = None,
    ) -> Any:
        """Note what no gap row says yet of a hole; return how many `rows` changed."""
        ...


class IndexSettings(Protocol):
    """The settings that matter here (`[fills]`)."""

    @property
    def max_gap_hours(self) -> float:
        """How far back gaps are of interest."""
        ...

    @property
    def min_gap_s(self) -> float:
        """Holes up to this length are none."""
        ...

    @property
    def register_gaps(self) -> bool:
        """Whether gap rows are written at all."""
        ...


@dataclass(frozen=True, slots=True)
class IndexResult:
    """What one step did. `next_due_s`: in how many seconds the camera should be looked at again by itself."""

    next_due_s: float | None = None
    added: int = 0
    gaps: int = 0


@dataclass(slots=True)
class _Known:
    """What is remembered of one camera between steps."""

    handled: set[datetime] = field(default_factory=set)  # starts in the recent hours that need no more look
    broken: dict[datetime, tuple[int, float]] = field(default_factory=dict)  # their size and mtime when judged
    closed: set[datetime] = field(default_factory=set)  # starts of files that were heard being closed
    coverage: Coverage | None = None  # live footage of the recent hours, holes up to `min_gap_s` closed
    checked: set[Window] = field(default_factory=set)  # holes that were compared with the gap rows
    older: datetime | None = None  # where the walk into the past stands; None: not begun
    walked: bool = False
    broken_before: int = 0


class Indexer:
    """Keeps rows and files of all cameras together.

    Args:
        store: where rows go.
        recordings: where files are.
        settings: how far back gaps matter, how long a hole must be.
        clock: for the pass's own budget and for due times.
        origin: what `register_hole` is to note as the origin of a row; None: its own default.
        announce_gap: what to tell of a new gap row.
        announce_state: the same for a row that was made longer.
    """

    def __init__(
        self,
        store: IndexStore,
        recordings: Recordings,
        settings: IndexSettings,
        clock: Clock,
        *,
        origin: Any = None,
        announce_gap: Callable[..., Any] | None = None,
        announce_state: Callable[..., Any] | None = None,
    ) -> None:
        self._store, self._recordings, self._settings, self._clock = store, recordings, settings, clock
        self._announce_gap, self._announce_state = announce_gap, announce_state
        self._origin = {} if origin is None else {"origin": origin}
        self._known: dict[str, _Known] = {}
        self._due_s: dict[str, float] = {}
        self._refused: set[str] = set()

    async def run_once(
        self,
        cameras: Mapping[str, Camera],
        seen: Iterable[str],
        *,
        everything: bool,
        now: datetime,
        closed: Mapping[str, Iterable[datetime]] = _NONE,
    ) -> float | None:
        """Look at the cameras of `seen`, or all, and those that are due; return when (monotonic) to come again.

        `closed` names files, by camera and start, that are finished: they were heard being closed.

        Takes about 0.05 s, at most one step of 30 ms longer; what is left is due at once.

        Raises:
            StoreUnavailable: nothing is forgotten; call again.
        """
        for camera_id in (self._known.keys() | self._due_s.keys()) - cameras.keys():
            self._known.pop(camera_id, None)
            self._due_s.pop(camera_id, None)
        began_s = self._clock.monotonic()
        for camera_id, starts in closed.items():
            if camera_id in cameras:
                self._known.setdefault(camera_id, _Known()).closed.update(starts)
        for camera_id in cameras if everything else {*seen, *closed}:
            if camera_id in cameras:
                self._due_s[camera_id] = min(began_s, self._due_s.get(camera_id, began_s))
        while due := sorted((at_s, camera_id) for camera_id, at_s in self._due_s.items() if at_s <= began_s):
            for _, camera_id in due:
                result = await self.index_camera(cameras[camera_id], now)
                del self._due_s[camera_id]
                if result.next_due_s is not None:
                    self._due_s[camera_id] = self._clock.monotonic() + result.next_due_s
                if self._clock.monotonic() - began_s > _BUDGET_S:
                    return min(self._due_s.values(), default=None)
        return min(self._due_s.values(), default=None)

    async def index_camera(self, camera: Camera, now: datetime) -> IndexResult:
        """Do one step for one camera: a batch of its recent files, else its holes, else a batch of older files."""
        known = self._known.setdefault(camera.id, _Known())
        since = now - timedelta(hours=self._settings.max_gap_hours)
        try:
            starts = await asyncio.to_thread(self._recordings.starts, camera.id, Window(since, now + _AHEAD))
            await self._forget(camera, known, since, starts)
            batch = [start for start in reversed(starts) if start not in known.handled][:_BATCH_FILES]
            step = await self._step(camera, known, batch, starts, now)
            if len(batch) == _BATCH_FILES and step.settled:
                return IndexResult(0.0, step.added)
            open_from = min((start for start in starts if start not in known.handled), default=now + _AHEAD)
            gaps = await self._holes(camera, known, since, open_from)
            older = 0 if known.walked else await self._walk_back(camera, known, since)
        except ReplayRefused as error:
            if camera.id not in self._refused:
                self._refused.add(camera.id)
                LOG.warning("camera is not indexed: %s", error)
            return IndexResult()
        return IndexResult(step.next_due_s if known.walked else _BREATH_S, step.added + older, gaps)

    # -- recent files ----------------------------------------------------------------------------------------------

    async def _forget(self, camera: Camera, known: _Known, since: datetime, starts: list[datetime]) -> None:
        """Drop what is too old to matter, what is gone, and the verdict on broken files that were written to."""
        known.handled.intersection_update(starts)
        known.closed.intersection_update(starts)
        for start, judged in list(known.broken.items()):
            if start < since:
                del known.broken[start]
            elif _mark(await asyncio.to_thread(self._recordings.file_at, camera.id, start)) != judged:
                del known.broken[start]
                known.handled.discard(start)

    async def _step(
        self, camera: Camera, known: _Known, batch: list[datetime], starts: list[datetime], now: datetime
    ) -> _Step:
        step = _Step()
        if not batch:
            return step
        rows = await self._rows(camera.id, batch)
        self._cover(known, (row.window for row in rows.values() if not row.ours))
        known.handled.update(rows)
        step.settled += len(rows)
        files = await asyncio.to_thread(self._look, camera.id, [start for start in batch if start not in rows])
        fresh: dict[datetime, Segment] = {}  # by the start that the name tells
        for start, (file, segment) in files.items():
            wait_s = 0.0
            if file is not None:
                wait_s = settles_in_s(
                    file,
                    now,
                    segment_s=camera.segment_s,
                    is_newest=start == starts[-1],
                    closed=start in known.closed,
                )
            if wait_s > 0:
                step.next_due_s = min(wait_s, step.next_due_s or wait_s)
            elif segment is not None:
                fresh[start] = segment
            else:
                self._break_off(camera, known, start, file)
                step.settled += 1
        following = dict(pairwise(start for start in starts if start not in known.broken))
        rows_of = [clipped(segment, following.get(start)) for start, segment in fresh.items()]
        step.added = await self._add(camera.id, rows_of)
        step.settled += len(fresh)
        known.handled.update(fresh)
        self._cover(known, (segment.window for segment in rows_of if not segment.ours))
        return step

    def _break_off(self, camera: Camera, known: _Known, start: datetime, file: FootageFile | None) -> None:
        """Note that there is no footage under this name; looked at again when the file changes."""
        known.handled.add(start)
        known.broken[start] = _mark(file)
        if file is not None:
            LOG.warning("%s holds no footage and is skipped", file.path, extra={"camera": camera.id})

    async def _rows(self, camera_id: str, batch: list[datetime]) -> dict[datetime, Segment]:
        """Return the rows of files among `batch`, by the start their names tell."""
        found: dict[datetime, Segment] = {}
        for row in await self._store.segments(camera_id, _around(batch)):
            start = self._start_of(row.path)
            if start is not None:
                found[start] = row
        return {start: found[start] for start in batch if start in found}

    def _start_of(self, path: str) -> datetime | None:
        """Return the start that the name in a row tells."""
        levels = self._recordings.pattern.depth + 1
        return self._recordings.pattern.parse("/".join(path.rsplit("/", levels)[-levels:]))

    def _look(
        self, camera_id: str, starts: list[datetime]
    ) -> dict[datetime, tuple[FootageFile | None, Segment | None]]:
        """Open files; blocks. The path text is put in later."""
        found: dict[datetime, tuple[FootageFile | None, Segment | None]] = {}
        for start in starts:
            file = self._recordings.file_at(camera_id, start)
            segment = self._recordings.segment_of(file, camera_id, str(file.path)) if file is not None else None
            found[start] = file, segment
        return found

    async def _add(self, camera_id: str, fresh: list[Segment]) -> int:
        if not fresh:
            return 0
        folder = self._recordings.camera_folder(camera_id)
        first = Path(fresh[0].path)
        text = await self._store.segment_path_text(camera_id, first, self._recordings.root)
        head = text.removesuffix(first.relative_to(folder).as_posix())
        named = [replace(segment, path=head + Path(segment.path).relative_to(folder).as_posix()) for segment in fresh]
        return await self._store.add_segments(named)

    # -- holes -----------------------------------------------------------------------------------------------------

    def _cover(self, known: _Known, windows: Iterable[Window]) -> None:
        if known.coverage is not None:
            known.coverage = merge([*known.coverage, *windows], join_s=self._settings.min_gap_s)

    async def _holes(self, camera: Camera, known: _Known, since: datetime, open_from: datetime) -> int:
        """Write gap rows for holes that have none; nothing is judged behind `open_from`, the first unread file.

        Holes are those of live recording: what a person had fetched from before the first live file, or from an hour
        nobody recorded, makes no gap of the time around it.
        """
        if not (camera.records_always and self._settings.register_gaps) or open_from <= since:
            return 0
        if known.coverage is None:
            rows = await self._store.segments(camera.id, Window(since, open_from))
            live = (row.window for row in rows if not row.ours)
            known.coverage = merge(live, join_s=self._settings.min_gap_s)
        known.coverage = tuple(window for window in known.coverage if window.end > since)
        found = holes(known.coverage, since, open_from, self._settings.min_gap_s)
        known.checked.intersection_update(found)
        written = 0
        for hole in found:
            if hole not in known.checked:
                written += await self._register(camera.id, hole)
                known.checked.add(hole)
        return written

    async def _register(self, camera_id: str, hole: Window) -> int:
        noted = await self._store.register_hole(
            camera_id,
            hole,
            longer_than_s=self._settings.min_gap_s,
            found=self._announce_gap,
            extended=self._announce_state,
            **self._origin,
        )
        return int(noted.rows)

    # -- the past --------------------------------------------------------------------------------------------------

    async def _walk_back(self, camera: Camera, known: _Known, since: datetime) -> int:
        """Bring one batch of older files and rows together; gaps that old are of no interest to anybody."""
        before = known.older or since
        names = await asyncio.to_thread(self._recordings.before, camera.id, before, _BATCH_NAMES)
        paths = await self._store.segment_paths(camera.id, _around(names)) if names else []
        rows = {self._start_of(path) for path in paths}
        fresh: list[Segment] = []
        unknown = [start for start in names if start not in rows]
        if len(unknown) > _BATCH_FILES:
            unknown = unknown[:_BATCH_FILES]
            names = names[: names.index(unknown[-1]) + 1]
        files = await asyncio.to_thread(self._look, camera.id, unknown)
        following = dict(zip(names[1:], names, strict=False))
        for start, (file, segment) in files.items():
            if segment is not None:
                fresh.append(clipped(segment, following.get(start, known.older)))
            elif file is not None:
                known.broken_before += 1
        added = await self._add(camera.id, fresh)
        if names:
            known.older = names[-1]
        known.walked = not names
        if known.walked and known.broken_before:
            LOG.warning(
                "older files hold no footage and are skipped",
                extra={"camera": camera.id, "files": known.broken_before},
            )
        return added


@dataclass(slots=True)
class _Step:
    """One batch of recent files."""

    added: int = 0
    settled: int = 0
    next_due_s: float | None = None


def _around(starts: list[datetime]) -> Window:
    return Window(min(starts) - _ROW_SLACK, max(starts) + _ROW_SLACK)


def _mark(file: FootageFile | None) -> tuple[int, float]:
    """Return what changes when the file does."""
    return (-1, 0.0) if file is None else (file.size_bytes, file.mtime_s)
