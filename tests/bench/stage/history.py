"""A kernel database with years of rows, made once and kept; it holds no measurement."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from tests.fixtures_database import create_kernel_database

VERSION = 1
# 60-s files one after the other up to the first day of 2025, and every hour a gap that was dealt with long ago.
_SEGMENTS = """
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)
INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height, size_bytes, created_at)
SELECT printf('seg_%032x', ?3 + n), ?1,
       './data/recordings/' || ?1 || '/' || strftime('%Y%m%d_%H%M%S', 1735689600 - 60 * (?2 - n), 'unixepoch') || '.mp4',
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 60 * (?2 - n), 'unixepoch'),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 60 * (?2 - n) + 60, 'unixepoch'),
       60.0, 'h264', 1920, 1080, 15000000,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 60 * (?2 - n) + 70, 'unixepoch')
FROM number
"""
_GAPS = """
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)
INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, fill_state, fill_attempts, last_attempt_at,
                            filled_at, created_at)
SELECT printf('gap_%032x', ?3 + n), ?1,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 3600 * (?2 - n), 'unixepoch'),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 3600 * (?2 - n) + 20, 'unixepoch'), 20,
       CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'filled' END, 1 + 2 * (n % 20 = 0),
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 3600 * (?2 - n) + 100, 'unixepoch'),
       CASE WHEN n % 20 = 0 THEN NULL
            ELSE strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 3600 * (?2 - n) + 120, 'unixepoch') END,
       strftime('%Y-%m-%dT%H:%M:%S+00:00', 1735689600 - 3600 * (?2 - n) + 90, 'unixepoch')
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
            for statement, rows in ((_SEGMENTS, segments // cameras), (_GAPS, gaps // cameras)):
                db.execute(statement, (f"cam{camera}", rows, camera * rows))
        db.execute("COMMIT")
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode = wal")
    os.sync()
    return making.rename(path)
