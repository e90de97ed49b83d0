"""A kernel database with years of rows, made once and kept; it holds no measurement."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from tests.fixtures_database import create_kernel_database

VERSION = 1
UNTIL = 1735689600  # the first day of 2025
# 60-s files one after the other up to a moment, and every hour a gap that was dealt with long ago.
_SEGMENTS = """
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)
INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height, size_bytes, created_at)
SELECT printf('seg_%032x', ?3 + n), ?1,
       ?5 || '/' || ?1 || '/' || strftime('%Y%m%d_%H%M%S', ?4 - 60 * (?2 - n), 'unixepoch') || '.mp4',
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 60 * (?2 - n), 'unixepoch'),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 60 * (?2 - n) + 60, 'unixepoch'),
       60.0, 'h264', 1920, 1080, 15000000,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 60 * (?2 - n) + 70, 'unixepoch')
FROM number
"""
_GAPS = """
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)
INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, fill_state, fill_attempts, last_attempt_at,
                            filled_at, created_at)
SELECT printf('gap_%032x', ?3 + n), ?1,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 3600 * (?2 - n), 'unixepoch'),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 3600 * (?2 - n) + 20, 'unixepoch'), 20,
       CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'filled' END, 1 + 2 * (n % 20 = 0),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 3600 * (?2 - n) + 100, 'unixepoch'),
       CASE WHEN n % 20 = 0 THEN NULL
            ELSE strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 3600 * (?2 - n) + 120, 'unixepoch') END,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', ?4 - 3600 * (?2 - n) + 90, 'unixepoch')
FROM number
"""


def database_with_history(cache: Path, *, cameras: int, segments: int, gaps: int) -> Path:
    """Return the database of cameras `cam0` ... with that many rows in all, from the cache if it is there."""
    path = cache / f"history-{VERSION}-{cameras}-{segments}-{gaps}.db"
    if path.exists():
        return path
    making = path.with_suffix(".making")
    making.unlink(missing_ok=True)
    create_kernel_database(making)
    with contextlib.closing(sqlite3.connect(making, isolation_level=None)) as db:
        for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -1000000", "foreign_keys = off"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        for camera in range(cameras):
            name, each = f"cam{camera}", segments // cameras
            add_segments(db, name, each, first=camera * each, until=UNTIL, root="./data/recordings")
            each = gaps // cameras
            db.execute(_GAPS, (name, each, camera * each, UNTIL))
        db.execute("COMMIT")
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode = wal")
    os.sync()
    return making.rename(path)


def add_segments(db: sqlite3.Connection, camera: str, count: int, *, first: int, until: int, root: str) -> None:
    """Insert `count` rows of 60 s, the last one up to `until` (seconds since 1970), numbered from `first` on."""
    db.execute(_SEGMENTS, (camera, count, first, until, root))
