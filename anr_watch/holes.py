"""Turns "the camera is back" and "a new live file began" into gap rows, from what is on disk and in the database.

The kernel notices an outage only when the first file after it is closed, a minute or more later. Here the hole from
the newest live footage to now becomes a row at once, and its end follows when live recording resumes. Rows may
overlap rows of the kernel: what is covered is not fetched twice. Only cameras that record always get such rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.announcements import Announcements
from anr_watch.footage.folder import Recordings
from anr_watch.model import Camera, Segment, Window, subtract
from anr_watch.states import FillState
from anr_watch.store import Origin, Registered, Store

# A file that grew this recently belongs to a camera that records: ffmpeg writes in bursts of up to 256 KiB, which is
# 10 s at 200 kbit/s, so its visible end may lie that far back.
ALIVE_S = 10.0
# How many files of ours may lie between the newest live file and now before we look no further, and how many are
# looked at together: the newest is live nearly always.
_LOOK_BACK_FILES = 2000
_BATCH_FILES = 16


@dataclass(frozen=True, slots=True)
class _LiveEnd:
    """Where live footage ended, and when its file was last written to."""

    at: datetime
    mtime_s: float


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

    async def after_online_edge(self, camera: Camera, now: datetime, *, was_offline: bool) -> bool:
        """Register the hole from the newest live footage to `now`; say whether a row was made or changed.

        Without word that the camera was offline (the first message after our start), a file that still grows
        means that there is no hole.
        """
        live = await self._live_end(camera, now)
        if live is None or (not was_offline and now.timestamp() - live.mtime_s < ALIVE_S):
            return False
        return await self._register(camera, live, now, Origin.EDGE)

    async def before_segment(self, camera: Camera, start: datetime) -> bool:
        """Register or extend the hole in front of the live file that began at `start`; say whether rows changed."""
        live = await self._live_end(camera, start)
        return live is not None and await self._register(camera, live, start, Origin.EDGE)

    async def _register(self, camera: Camera, live: _LiveEnd, until: datetime, origin: Origin) -> bool:
        if not camera.records_always or (until - live.at).total_seconds() <= self._min_gap_s:
            return False
        hole = Window(live.at, until)
        known = await self._store.gaps_in(camera.id, hole)
        changed = False
        for piece in subtract(hole, [gap.window for gap in known]):
            before = next((gap for gap in known if gap.window.end == piece.start), None)
            if before is not None and before.state is FillState.PENDING:
                changed |= await self._store.extend_gap(before.id, piece.end, self._announcements.state)
            else:
                done = await self._store.register_gap(
                    camera.id, piece, origin=origin, announce=self._announcements.gap_detected(origin)
                )
                changed |= done.what in (Registered.INSERTED, Registered.EXTENDED)
        return changed

    async def _live_end(self, camera: Camera, before: datetime) -> _LiveEnd | None:
        """Return the end of the newest live footage that began before `before`; None if there is none.

        Files of ours do not count: a fill may lie between the live file and `before`, and what follows it is still
        the same outage.
        """
        until = before
        for _ in range(0, _LOOK_BACK_FILES, _BATCH_FILES):
            starts = await asyncio.to_thread(self._recordings.before, camera.id, until, _BATCH_FILES)
            if not starts:
                return None
            until = starts[-1]
            rows = await self._store.segments(camera.id, Window(until, starts[0] + timedelta(seconds=2)))
            live = await asyncio.to_thread(self._newest_live, camera.id, starts, rows)
            if live is not None:
                return live
        return None

    def _newest_live(self, camera_id: str, starts: Sequence[datetime], rows: Sequence[Segment]) -> _LiveEnd | None:
        """Return the end of the first of these files that is not ours and holds footage; latest first."""
        depth = self._recordings.pattern.depth + 1
        by_name = {Path(row.path).parts[-depth:]: row for row in rows}
        for start in starts:
            file = self._recordings.file_at(camera_id, start)
            if file is None or file.size_bytes == 0:
                continue
            row = by_name.get(file.path.parts[-depth:])
            if row is not None and row.ours:
                continue
            grown = self._recordings.segment_of(file, camera_id, str(file.path))
            if grown is not None and grown.ours:
                continue
            ends = [segment.window.end for segment in (row, grown) if segment is not None]
            if ends:
                return _LiveEnd(max(ends), file.mtime_s)
        return None
