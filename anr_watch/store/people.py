"""Gaps and cameras as a person wants to see them; reads only, also where our own tables are not there yet."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from anr_watch.errors import ParseError
from anr_watch.model import Attempt, Gap
from anr_watch.states import FillState, Presence
from anr_watch.store import attempts, reading, rows
from anr_watch.store.connection import Session
from anr_watch.store.reading import Options
from anr_watch.store.values import GapRow, Origin, StatusRow

# Newest first by the unique key, per camera, because no index is on the time alone; a state that few rows of a camera
# have is reached by the index on states, or all the camera's rows would be walked to find them.
SQL_GAPS_OF_CAMERA = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at, created_at, filled_at
    FROM recording_gaps WHERE camera_id = ?1 AND (?2 IS NULL OR +fill_state = ?2) ORDER BY gap_start DESC LIMIT ?3
"""
SQL_FEW_GAPS_OF_CAMERA = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at, created_at, filled_at
    FROM recording_gaps WHERE camera_id = ?1 AND fill_state = ?2 ORDER BY +gap_start DESC LIMIT ?3
"""
SQL_COUNT = """
    SELECT count(*) FROM (SELECT 1 FROM recording_gaps WHERE camera_id = ?1 AND fill_state = ?2 LIMIT ?3)
"""


async def gaps(
    session: Session, *, camera_id: str | None, state: FillState | None, limit: int, prepared: bool
) -> list[GapRow]:
    """Return the newest readable gaps, newest first."""
    ids = [camera_id] if camera_id else [str(row[0]) for row in await session.all("SELECT id FROM cameras")]
    found: list[tuple[Gap, sqlite3.Row]] = []
    for one_id in ids:
        few = state is not None and await session.number(SQL_COUNT, (one_id, state, reading.FEW + 1)) <= reading.FEW
        sql = SQL_FEW_GAPS_OF_CAMERA if few else SQL_GAPS_OF_CAMERA
        for row in await session.all(sql, (one_id, state, limit)):
            try:
                found.append((rows.gap_of(row), row))
            except ParseError:
                continue  # `look` reports it
    found.sort(key=lambda pair: pair[0].window.start, reverse=True)
    return [await _gap_row(session, gap, row, prepared=prepared) for gap, row in found[:limit]]


async def _gap_row(session: Session, gap: Gap, row: sqlite3.Row, *, prepared: bool) -> GapRow:
    origin, last = Origin.KERNEL, None
    if prepared:
        noted = await session.one("SELECT origin FROM anr_gaps WHERE gap_id = ?", (gap.id,))
        if noted is not None and noted[0] in Origin.__members__.values():
            origin = Origin(noted[0])
        tries = [attempt for attempt in await attempts.of_gap(session, gap.id) if attempt.ended_at is not None]
        last = tries[-1] if tries else None
    return GapRow(
        gap, origin, rows.optional_instant(row, "created_at"), rows.optional_instant(row, "filled_at"), last
    )


async def status(
    session: Session, options: Options, now: datetime, max_gap_hours: float, *, standalone: bool, prepared: bool
) -> list[StatusRow]:
    """Return one row per readable camera, by id; without our tables only what the kernel's say."""
    view = await reading.look(session, now, max_gap_hours, options, standalone=standalone, prepared=prepared)
    presences = await attempts.presences(session) if prepared else {}
    result: list[StatusRow] = []
    for camera_id, camera in sorted(view.cameras.items()):
        gaps_here = [gap for gap in view.gaps if gap.camera_id == camera_id]
        running: Attempt | None = None
        last: Attempt | None = None
        if prepared:
            running, last = await attempts.newest_of_camera(session, camera_id)
        presence, since = presences.get(camera_id, (Presence.UNKNOWN, None))
        result.append(
            StatusRow(
                camera=camera,
                presence=presence,
                presence_since=since,
                parked=view.parked.get(camera_id),
                pending_gaps=len(gaps_here),
                missing_s=reading.missing_s(gaps_here, view.asked, now, max_gap_hours),
                running=running,
                last=last,
            )
        )
    return result
