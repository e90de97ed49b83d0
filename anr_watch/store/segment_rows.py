"""Footage as rows: what covers a window, what is newest, and the row of a file of ours. It opens no file.

Files that a fill put into place are noted in a table of our own, so that they can be told from the recorder's.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant
from anr_watch.model import Segment, Window
from anr_watch.store import rows
from anr_watch.store.connection import Session
from anr_watch.store.gaps import camera_exists
from anr_watch.store.reading import TEXT_SLACK

# A segment is looked for this far before a window; one longer than that is found as the last before it.
_LONGEST_SEGMENT = timedelta(hours=2)
# Of one camera's newest rows by start, the one that ends last is its newest footage.
_NEWEST_ROWS = 16
_OURS = "LEFT JOIN anr_segments AS o ON o.path = s.path"
_NOBODY = "LEFT JOIN (SELECT NULL AS path, NULL AS start_time, NULL AS end_time) AS o ON FALSE"
# What we know of a file of ours comes from our own table: the kernel cuts rows back where a later one begins.
SQL_SEGMENTS = """
    SELECT s.camera_id, s.path, coalesce(o.start_time, s.start_time) AS start_time,
           coalesce(o.end_time, s.end_time) AS end_time, s.size_bytes, s.codec, s.width, s.height,
           o.path IS NOT NULL AS ours
    FROM segments AS s LEFT JOIN anr_segments AS o ON o.path = s.path
    WHERE s.camera_id = ? AND s.start_time >= ? AND s.start_time < ?
    UNION ALL
    SELECT * FROM (
        SELECT s.camera_id, s.path, coalesce(o.start_time, s.start_time), coalesce(o.end_time, s.end_time),
               s.size_bytes, s.codec, s.width, s.height, o.path IS NOT NULL
        FROM segments AS s LEFT JOIN anr_segments AS o ON o.path = s.path
        WHERE s.camera_id = ? AND s.start_time < ? ORDER BY s.start_time DESC LIMIT 1)
"""
SQL_SEGMENT_PATHS = "SELECT path FROM segments WHERE camera_id = ? AND start_time >= ? AND start_time < ?"
SQL_NEWEST = """
    SELECT s.camera_id, s.path, s.start_time, s.end_time, s.size_bytes, s.codec, s.width, s.height,
           o.path IS NOT NULL AS ours
    FROM segments AS s LEFT JOIN anr_segments AS o ON o.path = s.path
    WHERE s.camera_id = ? ORDER BY s.start_time DESC LIMIT ?
"""


def _statement(sql: str, *, prepared: bool) -> str:
    """Return the statement for a database in which our tables may not exist: then nothing is ours."""
    return sql if prepared else sql.replace(_OURS, _NOBODY)


async def covering(session: Session, camera_id: str, window: Window, *, prepared: bool = True) -> list[Segment]:
    """Return the readable segments of a camera that share time with `window`, by start."""
    low = format_instant(window.start - _LONGEST_SEGMENT)
    found: list[Segment] = []
    high = format_instant(window.end + TEXT_SLACK)
    for row in await session.all(_statement(SQL_SEGMENTS, prepared=prepared), (camera_id, low, high, camera_id, low)):
        try:
            segment = rows.segment_of(row)
        except ParseError:
            continue  # a row that covers nothing we could name
        if segment.window.overlaps(window):
            found.append(segment)
    return sorted(found, key=lambda segment: segment.window)


async def paths(session: Session, camera_id: str, window: Window) -> list[str]:
    """Return the paths of a camera's segments that begin in `window`; cheaper than reading what they cover."""
    low, high = format_instant(window.start - TEXT_SLACK), format_instant(window.end + TEXT_SLACK)
    found = await session.all(SQL_SEGMENT_PATHS, (camera_id, low, high))
    return [row["path"] for row in found if isinstance(row["path"], str)]


async def newest(session: Session, camera_id: str, *, prepared: bool = True) -> tuple[Segment, str] | None:
    """Return the segment that ends last, with the text of its end."""
    best: tuple[Segment, str] | None = None
    for row in await session.all(_statement(SQL_NEWEST, prepared=prepared), (camera_id, _NEWEST_ROWS)):
        try:
            segment = rows.segment_of(row)
        except ParseError:
            continue
        if best is None or segment.window.end > best[0].window.end:
            best = segment, row["end_time"]
    return best


async def path_text(session: Session, camera_id: str, file: Path, root: Path) -> str:
    """Return `segments.path` for a file of ours, built as the kernel builds it.

    The kernel deletes files without a row of exactly its text, so the folder's text is taken from the camera's
    newest row, else from the newest row of any camera, else from the configured recordings folder.

    Raises:
        ValueError: the file is not in the camera's folder below `root`.
    """
    relative = file.relative_to(root / camera_id).as_posix()
    known = await session.one(
        "SELECT camera_id, path FROM segments WHERE camera_id = ? ORDER BY start_time DESC LIMIT 1", (camera_id,)
    ) or await session.one("SELECT camera_id, path FROM segments ORDER BY end_time DESC LIMIT 1")
    if known is not None and isinstance(known["path"], str):
        head, found, _ = f"/{known['path']}".rpartition(f"/{known['camera_id']}/")
        if found:
            return f"{head}/{camera_id}/{relative}"[1:]
    return f"{root.as_posix()}/{camera_id}/{relative}"


async def add(session: Session, segment: Segment, now: datetime, attempt_id: str | None = None) -> bool:
    """Insert the row of a file, with the note that it is ours if it is; False if it has one or its camera is gone.

    A file of ours that the recorder found first, and gave a row as coarse as its name, gets the note all the same.
    """
    if not await camera_exists(session, segment.camera_id):
        return False
    listed = segment.listed or segment.window
    inserted = await session.all(
        "INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height,"
        " size_bytes, container, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'mp4', ?)"
        " ON CONFLICT (path) DO NOTHING RETURNING id",
        (
            f"seg_{uuid.uuid4().hex}",
            segment.camera_id,
            segment.path,
            format_instant(listed.start),
            format_instant(listed.end),
            listed.seconds,
            segment.codec,
            segment.width,
            segment.height,
            segment.size_bytes,
            format_instant(now),
        ),
    )
    if segment.ours:
        await session.all(
            "INSERT INTO anr_segments (path, camera_id, start_time, end_time, attempt_id, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO NOTHING",
            (
                segment.path,
                segment.camera_id,
                format_instant(segment.window.start),
                format_instant(segment.window.end),
                attempt_id,
                format_instant(now),
            ),
        )
    return bool(inserted)
