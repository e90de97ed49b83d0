"""Turns "the camera is back" and "a new live file began" into gap rows, from what is on disk and in the database.

The kernel notices an outage only when the first file after it is closed, a minute or more later. Here the hole from
the newest live footage to now becomes a row at once, and its end follows when live recording resumes. Rows may
overlap rows of the kernel: what is covered is not fetched twice. Only cameras that record always get such rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.announcements import Announcements
from anr_watch.footage.folder import FootageFile, Recordings
from anr_watch.model import Camera, Gap, Segment, Window, subtract
from anr_watch.store import Origin, Store

# A file that grew this recently belongs to a camera that records: ffmpeg writes in bursts of up to 256 KiB, which is
# 10 s at 200 kbit/s, so its visible end may lie that far back.
ALIVE_S = 10.0
# How many files of ours may lie between the newest live file and now before we look no further, and how many are
# looked at together: the newest is live nearly always.
_LOOK_BACK_FILES = 2000
_BATCH_FILES = 16
_NAME_SLACK = timedelta(seconds=2)  # a name is a second coarse, and the row of a file of ours says more


Pending = Sequence[Gap]


@dataclass(frozen=True, slots=True)
class _Found:
    """A file and the footage that it says it holds."""

    file: FootageFile
    segment: Segment | None


@dataclass(frozen=True, slots=True)
class _LiveEnd:
    """Where live footage ended, when its file was last written to, and the rows of what is missing since."""

    at: datetime
    mtime_s: float
    missed: Sequence[Gap] = ()


class Holes:
    """Registers holes of cameras that record always.

    Args:
        store: where rows are.
        recordings: where files are.
        announcements: tells the world of a new row.
        min_gap_s: shorter holes are none (the kernel's own threshold is 3 s).
    """

    def __init__(
        self, store: Store, recordings: Recordings, announcements: Announcements, *, min_gap_s: float
    ) -> None:
        self._store, self._recordings, self._announcements = store, recordings, announcements
        self._min_gap_s = min_gap_s

    async def after_online_edge(self, camera: Camera, now: datetime, *, was_offline: bool) -> Pending | None:
        """Register the hole from the newest live footage to `now`.

        Returns the camera's pending gaps if a row was made or got longer, else None.

        Without word that the camera was offline (the first message after our start), a file that still grows
        means that there is no hole.
        """
        live = await self._live_end(camera, now)
        if live is None or (not was_offline and now.timestamp() - live.mtime_s < ALIVE_S):
            return None
        return await self._register(camera, live, now)

    async def before_segment(self, camera: Camera, start: datetime) -> Pending | None:
        """Register or extend the hole in front of the live file that began at `start`; see `after_online_edge`."""
        live = await self._live_end(camera, start)
        return None if live is None else await self._register(camera, live, start)

    async def _register(self, camera: Camera, live: _LiveEnd, until: datetime) -> Pending | None:
        if not camera.records_always or (until - live.at).total_seconds() <= self._min_gap_s:
            return None
        hole = Window(live.at, until)
        if not subtract(hole, [gap.window for gap in live.missed]):
            return None  # known, and a transaction would have to wait for whoever writes
        noted = await self._store.register_hole(
            camera.id,
            hole,
            origin=Origin.EDGE,
            found=self._announcements.gap_detected(Origin.EDGE),
            extended=self._announcements.state,
        )
        return noted.pending if noted.rows else None

    async def _live_end(self, camera: Camera, before: datetime) -> _LiveEnd | None:
        """Return the end of the newest live footage that began before `before`; None if there is none.

        Files of ours do not count: a fill may lie between the live file and `before`, and what follows it is still
        the same outage.
        """
        until = before
        for _ in range(0, _LOOK_BACK_FILES, _BATCH_FILES):
            # The camera waits meanwhile, so the newest file is opened in the turn in which the names are read.
            starts, newest = await asyncio.to_thread(self._files_before, camera.id, until)
            if not starts:
                return None
            until = starts[-1]
            rows, missed = await self._store.recorded_and_missed(
                camera.id, recorded=Window(until, starts[0] + _NAME_SLACK), missed=Window(until, before)
            )
            depth = self._recordings.pattern.depth + 1
            by_name = {Path(row.path).parts[-depth:]: row for row in rows}
            live = self._live(newest, by_name) or await asyncio.to_thread(
                self._newest_live, camera.id, starts[1:], by_name
            )
            if live is not None:
                return replace(live, missed=missed)
        return None

    def _files_before(self, camera_id: str, until: datetime) -> tuple[Sequence[datetime], _Found | None]:
        """Return the starts of the newest files before `until`, latest first, and the first of them; blocks."""
        starts = self._recordings.before(camera_id, until, _BATCH_FILES)
        return starts, self._found(camera_id, starts[0]) if starts else None

    def _found(self, camera_id: str, start: datetime) -> _Found | None:
        file = self._recordings.file_at(camera_id, start)
        if file is None or file.size_bytes == 0:
            return None
        return _Found(file, self._recordings.segment_of(file, camera_id, str(file.path)))

    def _newest_live(
        self, camera_id: str, starts: Sequence[datetime], by_name: Mapping[tuple[str, ...], Segment]
    ) -> _LiveEnd | None:
        """Return the end of the first of these files that is not ours and holds footage; latest first. Blocks."""
        found = (self._live(self._found(camera_id, start), by_name) for start in starts)
        return next((live for live in found if live is not None), None)

    def _live(self, found: _Found | None, by_name: Mapping[tuple[str, ...], Segment]) -> _LiveEnd | None:
        """Return where the footage of a file ends by its row or by itself; None if it is ours or has none."""
        if found is None:
            return None
        depth = self._recordings.pattern.depth + 1
        known = (by_name.get(found.file.path.parts[-depth:]), found.segment)
        segments = [segment for segment in known if segment is not None]
        if not segments or any(segment.ours for segment in segments):
            return None
        return _LiveEnd(max(segment.window.end for segment in segments), found.file.mtime_s)
