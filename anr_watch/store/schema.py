"""The tables that are ours and those of a standalone database, with versions; the kernel's are never changed.

A migration runs as one transaction together with its version number: killed in the middle, the file is as it was.
Times are RFC 3339 texts in UTC as the kernel writes them (see `anr_watch/instants.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from anr_watch.config.settings import CameraSettings
from anr_watch.errors import ContractError
from anr_watch.instants import format_instant
from anr_watch.store.connection import Session
from anr_watch.store.values import Mode

KEPT_DAYS = 90  # how long what happened to a gap can be read; bounds the growth of our tables

_OWN_1 = (
    """
    CREATE TABLE anr_meta (
        key   TEXT PRIMARY KEY,  -- schema_version, standalone_version, mode, outbox_dropped, recordings_home
        value TEXT NOT NULL      -- versions and counts as decimal texts; mode as heldar or standalone
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE anr_attempts (
        id           TEXT PRIMARY KEY,            -- chosen by the fill, unique for ever
        gap_id       TEXT NOT NULL,               -- recording_gaps.id; no foreign key: history outlives the row
        camera_id    TEXT NOT NULL,               -- cameras.id; no foreign key, same reason
        number       INTEGER NOT NULL,            -- 1 for the first try at this gap, counted or not
        window_start TEXT NOT NULL,               -- what was asked for, without margins: start
        window_end   TEXT NOT NULL,               -- and end, not part of it
        started_at   TEXT NOT NULL,               -- when the try began
        ended_at     TEXT,                        -- NULL while it runs
        reason       TEXT,                        -- states.Reason; NULL while it runs
        detail       TEXT NOT NULL DEFAULT '',    -- one line for people, without secrets
        wanted_s     REAL NOT NULL DEFAULT 0,     -- seconds of footage that were missing
        got_s        REAL NOT NULL DEFAULT 0,     -- seconds of footage gained so far
        bytes        INTEGER NOT NULL DEFAULT 0,  -- bytes written to segment files so far
        files        INTEGER NOT NULL DEFAULT 0,  -- segment files moved into place so far
        first_byte_s REAL,                        -- seconds from the request to the first media byte
        speed        REAL,                        -- seconds of footage per second of waiting
        next_at      TEXT,                        -- the gap is not tried again before; NULL: no such wait
        tries        INTEGER NOT NULL DEFAULT 0   -- tries in a row that ended for `reason`, this one included
    )
    """,
    "CREATE INDEX anr_attempts_by_gap ON anr_attempts (gap_id, number)",
    "CREATE INDEX anr_attempts_by_camera ON anr_attempts (camera_id, ended_at)",
    "CREATE UNIQUE INDEX anr_attempts_open ON anr_attempts (gap_id) WHERE ended_at IS NULL",  # one try at a time
    """
    CREATE TABLE anr_gaps (
        gap_id     TEXT PRIMARY KEY,            -- recording_gaps.id of a row that we inserted or were asked for
        origin     TEXT NOT NULL,               -- kernel, edge, command, indexer, residual
        asked      INTEGER NOT NULL DEFAULT 0,  -- 1: a person wants it, whatever its age, until it is resolved
        left_by    TEXT,                        -- residual: anr_attempts.id that left it, whose wait it inherits
        created_at TEXT NOT NULL                -- when this note was made
    ) WITHOUT ROWID
    """,
    "CREATE INDEX anr_gaps_asked ON anr_gaps (gap_id) WHERE asked = 1",
    """
    CREATE TABLE anr_outbox (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of sending; never used twice
        event_id   TEXT NOT NULL,                      -- CloudEvents id, equal for every repeat of one event
        topic      TEXT NOT NULL,                      -- full MQTT topic
        payload    BLOB NOT NULL,                      -- as it goes on the wire
        retain     INTEGER NOT NULL,                   -- 0 or 1
        created_at TEXT NOT NULL                       -- when it was put here
    )
    """,
    "CREATE UNIQUE INDEX anr_outbox_event ON anr_outbox (topic, event_id)",
    """
    CREATE TABLE anr_parked (
        camera_id   TEXT PRIMARY KEY,  -- cameras.id
        reason      TEXT NOT NULL,     -- states.Reason
        detail      TEXT NOT NULL,     -- one line for people, without secrets
        fingerprint TEXT NOT NULL,     -- of the camera's row and configuration; another one unparks
        since       TEXT NOT NULL      -- when it was parked
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE anr_presence (
        camera_id TEXT PRIMARY KEY,  -- cameras.id
        presence  TEXT NOT NULL,     -- online, offline, unknown
        since     TEXT NOT NULL      -- when it last changed
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE anr_segments (
        path       TEXT PRIMARY KEY,  -- segments.path of a file that a fill put into place
        camera_id  TEXT NOT NULL,     -- cameras.id
        start_time TEXT NOT NULL,     -- first picture in the file; the row of `segments` may say later
        end_time   TEXT NOT NULL,     -- end of the last one; the kernel may cut the row of `segments` back
        attempt_id TEXT,              -- anr_attempts.id; NULL: found in place after a crash
        created_at TEXT NOT NULL      -- when the row was inserted
    ) WITHOUT ROWID
    """,
)

# Joins by content: how each side of a try was cut, what a device's clock is off by, which guesses at it were wrong.
_OWN_2 = (
    "ALTER TABLE anr_attempts ADD COLUMN join_head TEXT",  # exact, time, none; NULL: nothing was played
    "ALTER TABLE anr_attempts ADD COLUMN join_tail TEXT",  # the same for the end
    "ALTER TABLE anr_attempts ADD COLUMN offset_ms REAL",  # camera's clock minus recorder's; NULL: not measured
    """
    CREATE TABLE anr_clocks (
        device      TEXT PRIMARY KEY,  -- host:port that is asked
        offset_s    REAL NOT NULL,     -- its clock minus the recorder's, seconds, as measured last
        spread_s    REAL NOT NULL,     -- by how much measurements differ
        measured_at TEXT NOT NULL,     -- when it was measured last
        samples     INTEGER NOT NULL,  -- measurements since the clock was set
        source      TEXT NOT NULL      -- what measured: join
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE anr_guesses (
        gap_id   TEXT NOT NULL,  -- recording_gaps.id
        guess    TEXT NOT NULL,  -- shift and margin in seconds
        tried_at TEXT NOT NULL,  -- when it was found wrong
        UNIQUE (gap_id, guess)
    )
    """,
)

# What a try knows of its cuts by time, and whether its footage failed the comparison and was kept all the same.
_OWN_3 = (
    "ALTER TABLE anr_attempts ADD COLUMN tolerance_s REAL",  # seconds; NULL: no side was cut by time
    "ALTER TABLE anr_attempts ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0",  # 0 or 1
)

# How fast devices may be asked since live recording faltered while they replayed.
_OWN_4 = (
    """
    CREATE TABLE anr_paces (
        device          TEXT PRIMARY KEY,  -- host:port that is asked
        max_bytes_s     REAL NOT NULL,     -- cap of a replay, bytes per second
        ceiling_bytes_s REAL NOT NULL,     -- the rate at which live faltered last
        falters         INTEGER NOT NULL,  -- falterings in a row, less the requests without one since
        faltered_at     TEXT NOT NULL,     -- the last one
        next_at         TEXT NOT NULL      -- the device is not asked before
    ) WITHOUT ROWID
    """,
)

# The tables of the contract under the kernel's names, so that one set of queries serves both modes.
# Secrets of config.toml are never stored: `username`, `password` and the template stay NULL.
_STANDALONE_1 = (
    """
    CREATE TABLE cameras (
        id                      TEXT PRIMARY KEY,                   -- [[camera]] id
        site_id                 TEXT,                               -- unused
        name                    TEXT NOT NULL,                      -- for people
        vendor                  TEXT NOT NULL DEFAULT 'generic',    -- hikvision, dahua, onvif, generic
        address                 TEXT,                               -- host name or address
        rtsp_port               INTEGER NOT NULL DEFAULT 554,       -- TCP port
        username                TEXT,                               -- NULL: taken from config.toml
        password                TEXT,                               -- NULL: taken from config.toml
        record_stream           TEXT NOT NULL DEFAULT 'main',       -- main, sub
        record_audio            INTEGER NOT NULL DEFAULT 0,         -- 0 or 1
        segment_seconds         INTEGER NOT NULL DEFAULT 60,        -- wanted length of a file in seconds
        anr_enabled             INTEGER NOT NULL DEFAULT 1,         -- 0 or 1
        anr_replay_url_template TEXT,                               -- NULL: taken from config.toml
        enabled                 INTEGER NOT NULL DEFAULT 1,         -- 0: no longer configured
        record_enabled          INTEGER NOT NULL DEFAULT 1,         -- 0 or 1
        record_mode             TEXT NOT NULL DEFAULT 'continuous', -- a hole is never on purpose
        created_at              TEXT NOT NULL,                      -- first seen in config.toml
        updated_at              TEXT NOT NULL                       -- last read from config.toml
    )
    """,
    """
    CREATE TABLE segments (
        id              TEXT PRIMARY KEY,               -- seg_ and 32 hex digits
        camera_id       TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
        path            TEXT NOT NULL UNIQUE,           -- of the file, below the configured recordings folder
        start_time      TEXT NOT NULL,                  -- first frame
        end_time        TEXT NOT NULL,                  -- end of the last frame, not part of it
        duration_s      REAL NOT NULL,                  -- seconds
        codec           TEXT,                           -- h264, hevc
        width           INTEGER,                        -- pixels
        height          INTEGER,                        -- pixels
        size_bytes      INTEGER NOT NULL DEFAULT 0,     -- bytes
        container       TEXT NOT NULL DEFAULT 'mp4',    -- always mp4
        locked          INTEGER NOT NULL DEFAULT 0,     -- readers; unused
        incident_id     TEXT,                           -- unused
        created_at      TEXT NOT NULL,                  -- when the row was inserted
        evidence_locked INTEGER NOT NULL DEFAULT 0      -- unused
    )
    """,
    "CREATE INDEX segments_by_start ON segments (camera_id, start_time)",
    "CREATE INDEX segments_by_end ON segments (end_time)",
    """
    CREATE TABLE recording_gaps (
        id              TEXT PRIMARY KEY,                 -- gap_ and 32 hex digits
        camera_id       TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
        gap_start       TEXT NOT NULL,                    -- end of the footage before
        gap_end         TEXT NOT NULL,                    -- start of the footage after
        gap_seconds     INTEGER NOT NULL,                 -- whole seconds between them
        fill_state      TEXT NOT NULL DEFAULT 'pending',  -- pending, filled, failed
        fill_attempts   INTEGER NOT NULL DEFAULT 0,       -- tries that count
        last_attempt_at TEXT,                             -- end of the newest try
        filled_at       TEXT,                             -- when it became filled
        created_at      TEXT NOT NULL,                    -- when the row was inserted
        UNIQUE (camera_id, gap_start)
    )
    """,
    "CREATE INDEX recording_gaps_by_state ON recording_gaps (fill_state, camera_id)",
    """
    CREATE TABLE camera_status (
        camera_id       TEXT PRIMARY KEY REFERENCES cameras (id) ON DELETE CASCADE,
        state           TEXT NOT NULL DEFAULT 'unknown',  -- unknown: nobody tells us here
        last_segment_at TEXT,                             -- end of the newest footage
        last_started_at TEXT,                             -- unused
        reconnect_count INTEGER NOT NULL DEFAULT 0,       -- unused
        last_error      TEXT,                             -- unused
        updated_at      TEXT NOT NULL                     -- when the row changed
    )
    """,
    """
    CREATE TABLE events (
        id         TEXT PRIMARY KEY,                -- deterministic: repeats are dropped
        camera_id  TEXT,                            -- cameras.id
        site_id    TEXT,                            -- unused
        event_type TEXT NOT NULL,                   -- such as recording_gap_filled
        severity   TEXT NOT NULL DEFAULT 'info',    -- info, warning, critical
        timestamp  TEXT NOT NULL,                   -- when it happened
        payload    TEXT NOT NULL DEFAULT '{}',      -- JSON object
        created_at TEXT NOT NULL                    -- when the row was inserted
    )
    """,
)

OWN_MIGRATIONS: tuple[tuple[str, ...], ...] = (_OWN_1, _OWN_2, _OWN_3, _OWN_4)
STANDALONE_MIGRATIONS: tuple[tuple[str, ...], ...] = (_STANDALONE_1,)


async def own_version(session: Session) -> int:
    """Return the version of our tables in this file; 0: there are none."""
    if not await session.all("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'anr_meta'"):
        return 0
    return await _version(session, "schema_version")


async def is_prepared(session: Session, path: Path) -> bool:
    """Say whether our tables are there in the form this version reads.

    Raises:
        ContractError: a newer anr-watch wrote the file.
    """
    version = await own_version(session)
    if version > len(OWN_MIGRATIONS):
        raise _too_new(path, f"{version}", f"{len(OWN_MIGRATIONS)}")
    return version == len(OWN_MIGRATIONS)


async def owner(session: Session) -> str | None:
    """Return the mode our tables were made for, or None if they are not there."""
    if await own_version(session) == 0:
        return None
    row = await session.one("SELECT value FROM anr_meta WHERE key = 'mode'")
    return None if row is None else str(row[0])


async def recordings_home(session: Session, root: str) -> str | None:
    """Return the mount point on whose disk these recordings were when we last worked there."""
    row = await session.one("SELECT value FROM anr_meta WHERE key = 'recordings_home'")
    known = orjson.loads(row[0]) if row is not None else {}
    return known.get(root)


async def remember_home(session: Session, root: str, home: str) -> None:
    """Note on which disk these recordings are; of others nothing is kept."""
    await _put(session, "recordings_home", orjson.dumps({root: home}).decode())


async def migrate(
    session: Session,
    mode: Mode,
    path: Path,
    *,
    own: Sequence[Sequence[str]] = OWN_MIGRATIONS,
    standalone: Sequence[Sequence[str]] = STANDALONE_MIGRATIONS,
) -> None:
    """Bring our tables (and in standalone mode all tables) to the newest version; runs inside one transaction.

    Raises:
        ContractError: a newer anr-watch wrote the file.
    """
    have_own = await own_version(session)
    have_standalone = await _version(session, "standalone_version") if have_own else 0
    if have_own > len(own) or have_standalone > len(standalone):
        raise _too_new(path, f"{have_own}.{have_standalone}", f"{len(own)}.{len(standalone)}")
    for version, statements in enumerate(own[have_own:], have_own + 1):
        for statement in statements:
            await session.all(statement)
        await _put(session, "schema_version", str(version))
    if mode is Mode.STANDALONE:
        for version, statements in enumerate(standalone[have_standalone:], have_standalone + 1):
            for statement in statements:
                await session.all(statement)
            await _put(session, "standalone_version", str(version))
    await _put(session, "mode", mode.value)


async def configure_cameras(session: Session, cameras: Sequence[CameraSettings], now: datetime) -> None:
    """Make a standalone database's `cameras` follow config.toml; what left it is disabled, its rows stay."""
    text = format_instant(now)
    for camera in cameras:
        await session.all(
            "INSERT INTO cameras (id, name, vendor, address, rtsp_port, record_stream, record_audio, segment_seconds,"
            " enabled, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, vendor = excluded.vendor,"
            " address = excluded.address, rtsp_port = excluded.rtsp_port, record_stream = excluded.record_stream,"
            " record_audio = excluded.record_audio, segment_seconds = excluded.segment_seconds,"
            " enabled = excluded.enabled, updated_at = excluded.updated_at",
            (
                camera.id,
                camera.name or camera.id,
                camera.vendor,
                camera.address or None,
                camera.rtsp_port,
                camera.record_stream,
                int(camera.record_audio),
                camera.segment_s,
                int(camera.enabled),
                text,
                text,
            ),
        )
    configured = {camera.id for camera in cameras}
    for row in await session.all("SELECT id FROM cameras WHERE enabled = 1"):
        if row["id"] not in configured:
            await session.all("UPDATE cameras SET enabled = 0, updated_at = ? WHERE id = ?", (text, row["id"]))


async def prune(session: Session, now: datetime) -> None:
    """Forget what nobody asks for any more: old attempts, notes on gaps and cameras that are gone."""
    oldest = format_instant(now - timedelta(days=KEPT_DAYS))
    await session.all("DELETE FROM anr_attempts WHERE ended_at < ?", (oldest,))
    await session.all(
        "DELETE FROM anr_gaps WHERE created_at < ? AND gap_id NOT IN (SELECT id FROM recording_gaps)", (oldest,)
    )
    await session.all("DELETE FROM anr_guesses WHERE tried_at < ?", (oldest,))
    await session.all("DELETE FROM anr_parked WHERE camera_id NOT IN (SELECT id FROM cameras)")
    await session.all("DELETE FROM anr_presence WHERE camera_id NOT IN (SELECT id FROM cameras)")
    await session.all("DELETE FROM anr_segments WHERE path NOT IN (SELECT path FROM segments)")


def _too_new(path: Path, found: str, known: str) -> ContractError:
    return ContractError(
        f"{path}: its anr_ tables are of version {found}, newer than this anr-watch knows ({known}):"
        " install that version again or a later one"
    )


async def _version(session: Session, key: str) -> int:
    row = await session.one("SELECT value FROM anr_meta WHERE key = ?", (key,))
    text = str(row[0]) if row is not None else "0"
    return int(text) if text.isdecimal() else 0


async def noted(session: Session, key: str) -> str | None:
    """Return a note of ours, None if there is none."""
    row = await session.one("SELECT value FROM anr_meta WHERE key = ?", (f"note:{key}",))
    return str(row[0]) if row is not None else None


async def note(session: Session, key: str, value: str) -> None:
    """Keep a note under `key`."""
    await _put(session, f"note:{key}", value)


async def _put(session: Session, key: str, value: str) -> None:
    await session.all(
        "INSERT INTO anr_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        " WHERE value <> excluded.value",
        (key, value),
    )
