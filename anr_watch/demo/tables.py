"""The kernel's tables and the statements its recorder, indexer and health check run on them; no files, no threads.

Names, columns and defaults are those of Heldar 0.5.0, so that what works here works beside the real one. This is a
stand-in for another program: it opens the database itself and shares no code with `anr_watch.store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from anr_watch.instants import format_instant, parse_instant
from anr_watch.states import FillState

GAP_OVER_S = 3.0  # a new segment that starts later than this after the newest known end makes a gap

_TABLES = """
CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS cameras (
    id TEXT PRIMARY KEY,
    site_id TEXT,
    name TEXT NOT NULL,
    vendor TEXT NOT NULL DEFAULT 'generic',
    model TEXT,
    address TEXT,
    rtsp_port INTEGER NOT NULL DEFAULT 554,
    username TEXT,
    password TEXT,
    main_stream_url TEXT,
    sub_stream_url TEXT,
    record_stream TEXT NOT NULL DEFAULT 'main',
    codec TEXT,
    resolution_main TEXT,
    resolution_sub TEXT,
    fps_main REAL,
    fps_sub REAL,
    capabilities TEXT NOT NULL DEFAULT '{}',
    record_enabled INTEGER NOT NULL DEFAULT 1,
    segment_seconds INTEGER NOT NULL DEFAULT 60,
    retention_hours INTEGER NOT NULL DEFAULT 24,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    storage_quota_bytes INTEGER,
    record_audio INTEGER NOT NULL DEFAULT 0,
    record_mode TEXT NOT NULL DEFAULT 'continuous',
    pre_roll_seconds INTEGER NOT NULL DEFAULT 10,
    post_roll_seconds INTEGER NOT NULL DEFAULT 30,
    mirror_enabled INTEGER NOT NULL DEFAULT 0,
    anr_enabled INTEGER NOT NULL DEFAULT 0,
    anr_replay_url_template TEXT,
    priority INTEGER NOT NULL DEFAULT 100,
    live_warm INTEGER NOT NULL DEFAULT 0,
    native_anpr_enabled INTEGER NOT NULL DEFAULT 0,
    native_events_enabled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS segments (
    id TEXT PRIMARY KEY,
    camera_id TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
    path TEXT NOT NULL UNIQUE,
    start_time TEXT NOT NULL,
    end_time TEXT NOT NULL,
    duration_s REAL NOT NULL,
    codec TEXT,
    width INTEGER,
    height INTEGER,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    container TEXT NOT NULL DEFAULT 'mp4',
    locked INTEGER NOT NULL DEFAULT 0,
    incident_id TEXT,
    created_at TEXT NOT NULL,
    evidence_locked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS segments_by_camera_and_start ON segments (camera_id, start_time);
CREATE INDEX IF NOT EXISTS segments_by_end ON segments (end_time);
CREATE TABLE IF NOT EXISTS recording_gaps (
    id TEXT PRIMARY KEY,
    camera_id TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
    gap_start TEXT NOT NULL,
    gap_end TEXT NOT NULL,
    gap_seconds INTEGER NOT NULL,
    fill_state TEXT NOT NULL DEFAULT 'pending',
    fill_attempts INTEGER NOT NULL DEFAULT 0,
    last_attempt_at TEXT,
    filled_at TEXT,
    created_at TEXT NOT NULL,
    UNIQUE (camera_id, gap_start)
);
CREATE INDEX IF NOT EXISTS recording_gaps_by_state ON recording_gaps (fill_state, camera_id);
CREATE TABLE IF NOT EXISTS camera_status (
    camera_id TEXT PRIMARY KEY REFERENCES cameras (id) ON DELETE CASCADE,
    state TEXT NOT NULL DEFAULT 'unknown',
    last_segment_at TEXT,
    last_started_at TEXT,
    reconnect_count INTEGER NOT NULL DEFAULT 0,
    segments_written INTEGER NOT NULL DEFAULT 0,
    fps_observed REAL,
    bitrate_kbps REAL,
    last_error TEXT,
    recorder_pid INTEGER,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY,
    camera_id TEXT,
    site_id TEXT,
    event_type TEXT NOT NULL,
    severity TEXT NOT NULL DEFAULT 'info',
    timestamp TEXT NOT NULL,
    payload TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL
);
"""

CAMERA_COLUMNS = (
    "id", "name", "vendor", "address", "rtsp_port", "username", "password", "main_stream_url", "record_stream",
    "record_enabled", "segment_seconds", "enabled", "record_audio", "record_mode", "anr_enabled",
    "anr_replay_url_template",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What a closed file is, as a probe says it."""

    path: str
    start: datetime
    duration_s: float
    codec: str
    width: int
    height: int
    size_bytes: int

    @property
    def end(self) -> datetime:
        """The instant its footage ends: start by its name, plus its length."""
        return self.start + timedelta(seconds=self.duration_s)


@dataclass(frozen=True, slots=True)
class NewGap:
    """A hole the indexer saw; `inserted` is False if the row was there already."""

    start: datetime
    end: datetime
    inserted: bool


class Tables:
    """The kernel's side of the database. One thread at a time; every method is a transaction of its own."""

    def __init__(self, path: Path) -> None:
        """Open or create the database as the kernel does: WAL, synchronous NORMAL, foreign keys on.

        Raises:
            sqlite3.Error: it cannot be opened or is no database.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        # A stand-in for a foreign process must not share the code it is there to test.
        self._db = sqlite3.connect(path, timeout=15.0, isolation_level=None)  # noqa: TID251 - see above
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def migrated(self) -> None:
        """Leave the mark of sqlx, by which a database is known to be the kernel's."""
        self._db.execute(
            "INSERT OR IGNORE INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
            " VALUES (1, 'stand-in', 1, x'00', 0)"
        )

    def add_camera(self, row: Mapping[str, object], now: datetime) -> None:
        """Insert or update a camera from the columns in `row` that the table has; others are left alone.

        Raises:
            sqlite3.IntegrityError: `id` or `name` is missing.
        """
        columns = [column for column in CAMERA_COLUMNS if column in row]
        text = format_instant(now)
        names = ", ".join([*columns, "created_at", "updated_at"])
        marks = ", ".join("?" * (len(columns) + 2))
        updates = ", ".join(f"{column} = excluded.{column}" for column in [*columns[1:], "updated_at"])
        self._db.execute(
            # Only names from CAMERA_COLUMNS come into the text.
            f"INSERT INTO cameras ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {updates}",  # noqa: S608
            [*(row[column] for column in columns), text, text],
        )
        self._db.execute(
            "INSERT OR IGNORE INTO camera_status (camera_id, updated_at) VALUES (?, ?)", (row["id"], text)
        )

    def set_state(self, camera_id: str, state: str, now: datetime, *, error: str | None = None) -> None:
        """Write what the recorder does; `connecting` counts as a start."""
        text = format_instant(now)
        started = state == "connecting"
        self._db.execute(
            "UPDATE camera_status SET state = ?, last_error = coalesce(?, last_error), updated_at = ?,"
            " last_started_at = CASE WHEN ? THEN ? ELSE last_started_at END,"
            " reconnect_count = reconnect_count + (? AND last_started_at IS NOT NULL) WHERE camera_id = ?",
            (state, error, text, started, text, started, camera_id),
        )

    def add_event(
        self, camera_id: str, event_type: str, severity: str, at: datetime, payload: Mapping[str, object]
    ) -> None:
        """Insert one row of `events`."""
        text = format_instant(at)
        self._db.execute(
            "INSERT INTO events (id, camera_id, event_type, severity, timestamp, payload, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (str(uuid4()), camera_id, event_type, severity, text, json.dumps(payload), text),
        )

    def known_sizes(self, camera_id: str) -> dict[str, int]:
        """Return path and size of every segment row of a camera."""
        return dict(self._db.execute("SELECT path, size_bytes FROM segments WHERE camera_id = ?", (camera_id,)))

    def add_segment(
        self, camera_id: str, facts: SegmentFacts, now: datetime, *, gaps: bool, status: bool
    ) -> tuple[bool, NewGap | None]:
        """Insert the row of a closed file with all that the kernel does then.

        Returns whether the row is new (False: another writer was first, nothing was done) and the gap it revealed.

        Earlier segments that reach into this one are cut back to its start; `gaps` off leaves out event and row of a
        gap, `status` off leaves camera_status alone.
        """
        text, start, end = format_instant(now), format_instant(facts.start), format_instant(facts.end)
        found: NewGap | None = None
        with _transaction(self._db):
            newest = self._db.execute(
                "SELECT end_time FROM segments WHERE camera_id = ? ORDER BY end_time DESC LIMIT 1", (camera_id,)
            ).fetchone()
            rows = self._db.execute(
                "INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height,"
                " size_bytes, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO NOTHING",
                (
                    f"seg_{uuid4().hex}", camera_id, facts.path, start, end, facts.duration_s, facts.codec,
                    facts.width, facts.height, facts.size_bytes, text,
                ),
            ).rowcount  # fmt: skip
            if rows == 0:
                return False, None
            overlapping = self._db.execute(
                "SELECT id, start_time FROM segments WHERE camera_id = ? AND start_time < ? AND end_time > ?",
                (camera_id, start, start),
            ).fetchall()
            for segment_id, earlier in overlapping:
                length_s = (facts.start - parse_instant(earlier)).total_seconds()
                self._db.execute(
                    "UPDATE segments SET end_time = ?, duration_s = ? WHERE id = ?", (start, length_s, segment_id)
                )
            if gaps and newest is not None:
                found = self._note_gap(camera_id, newest[0], facts.start, now)
            if status:
                self._db.execute(
                    "UPDATE camera_status SET state = 'recording', last_segment_at = ?,"
                    " segments_written = segments_written + 1, updated_at = ? WHERE camera_id = ?",
                    (end, text, camera_id),
                )
        return True, found

    def _note_gap(self, camera_id: str, newest_end: str, start: datetime, now: datetime) -> NewGap | None:
        gap_start = parse_instant(newest_end)
        seconds = (start - gap_start).total_seconds()
        if seconds <= GAP_OVER_S:
            return None
        gap_end = format_instant(start)
        payload = {"gap_start": newest_end, "gap_end": gap_end, "gap_seconds": int(seconds)}
        self.add_event(camera_id, "recording_gap", "warning", now, payload)
        rows = self._db.execute(
            "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, fill_state, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (camera_id, gap_start) DO NOTHING",
            (
                f"gap_{uuid4().hex}", camera_id, newest_end, gap_end, int(seconds), FillState.PENDING,
                format_instant(now),
            ),
        ).rowcount  # fmt: skip
        return NewGap(gap_start, start, inserted=rows == 1)

    def repair_segment(self, facts: SegmentFacts) -> None:
        """Correct the row of a file whose size changed."""
        self._db.execute(
            "UPDATE segments SET end_time = ?, duration_s = ?, size_bytes = ? WHERE path = ?",
            (format_instant(facts.end), facts.duration_s, facts.size_bytes, facts.path),
        )

    def find_stale(self, now: datetime) -> list[str]:
        """Set `recording` cameras without news for max(30, 3 segments) seconds to `error`; return their ids."""
        stale: list[str] = []
        rows = self._db.execute(
            "SELECT s.camera_id, s.last_segment_at, s.last_started_at, c.segment_seconds FROM camera_status s"
            " JOIN cameras c ON c.id = s.camera_id WHERE s.state = 'recording'"
        ).fetchall()
        for camera_id, *news, segment_s in rows:
            newest = max((parse_instant(text) for text in news if text), default=None)
            if newest is not None and (now - newest).total_seconds() > max(30, 3 * segment_s):
                self.set_state(camera_id, "error", now, error="no segment for too long")
                self.add_event(camera_id, "recorder_error", "critical", now, {"last_segment_at": news[0]})
                stale.append(camera_id)
        return stale


class _transaction:  # noqa: N801 - reads as the statement it is
    """BEGIN IMMEDIATE ... COMMIT around a block, ROLLBACK when it raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
