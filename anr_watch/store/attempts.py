"""Tries at gaps: begun, counted while they run, ended; parked cameras and presence. Runs inside one transaction.

At most one try per gap is open; whoever holds the lock on the recordings folder closes those a dead process left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.log import one_line, redact
from anr_watch.model import Attempt, Coverage, Gap, Window, clip
from anr_watch.states import Presence, Reason
from anr_watch.store import reading, rows
from anr_watch.store.connection import Session
from anr_watch.store.values import Interrupted, Parked

_DETAIL_LIMIT = 500  # characters: a line for people, not a log


async def begin(session: Session, attempt: Attempt) -> Attempt | None:
    """Note that a try begins and return it with its number; None if the gap is not pending or is being tried."""
    free = await session.one(
        "SELECT (SELECT coalesce(max(number), 0) FROM anr_attempts WHERE gap_id = g.id) + 1 FROM recording_gaps AS g"
        " WHERE g.id = ? AND g.fill_state = 'pending'"
        " AND NOT EXISTS (SELECT 1 FROM anr_attempts WHERE gap_id = g.id AND ended_at IS NULL)",
        (attempt.gap_id,),
    )
    if free is None:
        return None
    begun = replace(attempt, number=int(free[0]), ended_at=None, reason=None, next_at=None)
    await _insert(session, begun, tries=0)
    return begun


async def progress(session: Session, attempt: Attempt) -> bool:
    """Write what a running try gained so far; False if it does not run any more."""
    found = await session.all(
        "UPDATE anr_attempts SET got_s = ?, bytes = ?, files = ?, first_byte_s = ?, speed = ?, join_head = ?,"
        " join_tail = ?, offset_ms = ?, tolerance_s = ?, suspect = ? WHERE id = ? AND ended_at IS NULL RETURNING id",
        (
            attempt.got_s,
            attempt.bytes,
            attempt.files,
            attempt.first_byte_s,
            attempt.speed,
            attempt.join_head,
            attempt.join_tail,
            attempt.offset_ms,
            attempt.tolerance_s,
            attempt.suspect,
            attempt.id,
        ),
    )
    return bool(found)


async def end(session: Session, attempt: Attempt) -> bool:
    """Write how a try ended, with its row if it has none yet; False if it had ended before (nothing changes)."""
    there = await session.one("SELECT ended_at, number FROM anr_attempts WHERE id = ?", (attempt.id,))
    if there is not None and there["ended_at"] is not None:
        return False
    before = await session.one(
        "SELECT reason, tries FROM anr_attempts WHERE ended_at IS NOT NULL AND (gap_id = ?1 OR id ="
        " (SELECT left_by FROM anr_gaps WHERE gap_id = ?1)) ORDER BY gap_id = ?1 DESC, number DESC LIMIT 1",
        (attempt.gap_id,),
    )
    tries = before["tries"] + 1 if before is not None and before["reason"] == attempt.reason else 1
    if there is not None:
        attempt = replace(attempt, number=there["number"])
        await session.all("DELETE FROM anr_attempts WHERE id = ?", (attempt.id,))
    elif attempt.number <= 0:
        used = await session.number("SELECT max(number) FROM anr_attempts WHERE gap_id = ?", (attempt.gap_id,))
        attempt = replace(attempt, number=used + 1)
    await _insert(session, attempt, tries)
    return True


async def _insert(session: Session, attempt: Attempt, tries: int) -> None:
    await session.all(
        "INSERT INTO anr_attempts (id, gap_id, camera_id, number, window_start, window_end, started_at, ended_at,"
        " reason, detail, wanted_s, got_s, bytes, files, first_byte_s, speed, next_at, tries, join_head, join_tail,"
        " offset_ms, tolerance_s, suspect)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            attempt.id,
            attempt.gap_id,
            attempt.camera_id,
            attempt.number,
            format_instant(attempt.window.start),
            format_instant(attempt.window.end),
            format_instant(attempt.started_at),
            rows.text_or_none(attempt.ended_at),
            attempt.reason,
            one_line(redact(attempt.detail), _DETAIL_LIMIT),
            attempt.wanted_s,
            attempt.got_s,
            attempt.bytes,
            attempt.files,
            attempt.first_byte_s,
            attempt.speed,
            rows.text_or_none(attempt.next_at),
            tries,
            attempt.join_head,
            attempt.join_tail,
            attempt.offset_ms,
            attempt.tolerance_s,
            attempt.suspect,
        ),
    )


async def matched(session: Session, camera_id: str, since: datetime) -> bool:
    """Say whether a try at a camera that ended since found equal pictures on a side."""
    row = await session.one(
        "SELECT 1 FROM anr_attempts WHERE camera_id = ? AND ended_at >= ?"
        " AND 'exact' IN (join_head, join_tail) LIMIT 1",
        (camera_id, format_instant(since)),
    )
    return row is not None


async def interrupt_open(session: Session, now: datetime, running: Collection[str] = ()) -> list[Interrupted]:
    """End every open try as interrupted, but for those at gaps that are `running`: nobody goes on with it.

    Returns what each was and had placed.
    """
    interrupted: list[Interrupted] = []
    for row in await session.all("SELECT * FROM anr_attempts WHERE ended_at IS NULL"):
        if row["gap_id"] in running:
            continue
        try:
            attempt = rows.attempt_of(row)
        except ParseError:
            await session.all(
                "DELETE FROM anr_attempts WHERE id = ?", (row["id"],)
            )  # holds its gap for ever otherwise
            continue
        ended = replace(
            attempt, ended_at=now, reason=Reason.INTERRUPTED, detail="the process ended before the fill did"
        )
        if await end(session, ended):
            gap = await reading.gap(session, ended.gap_id) or _gap_of(ended)
            interrupted.append(Interrupted(gap, ended, await _placed(session, ended)))
    return interrupted


def _gap_of(attempt: Attempt) -> Gap:
    """Return what a try says of a gap whose row is gone."""
    window = attempt.window
    texts = format_instant(window.start), format_instant(window.end)
    return Gap(attempt.gap_id, attempt.camera_id, window, *texts)


async def _placed(session: Session, attempt: Attempt) -> Coverage:
    """Return what of its window a try put into place, with rows."""
    found: list[Window] = []
    for row in await session.all("SELECT start_time, end_time FROM anr_segments WHERE attempt_id = ?", (attempt.id,)):
        with suppress(ParseError):  # somebody else's edit of our row: history only
            found.append(rows.window_of(row["start_time"], row["end_time"]))
    return clip(attempt.window, found)


async def of_gap(session: Session, gap_id: str) -> list[Attempt]:
    """Return the readable tries at a gap, first one first."""
    return _readable(await session.all("SELECT * FROM anr_attempts WHERE gap_id = ? ORDER BY number", (gap_id,)))


async def newest_of_camera(session: Session, camera_id: str) -> tuple[Attempt | None, Attempt | None]:
    """Return the try that runs now and the newest one that ended."""
    running = _readable(
        await session.all("SELECT * FROM anr_attempts WHERE camera_id = ? AND ended_at IS NULL LIMIT 1", (camera_id,))
    )
    ended = _readable(
        await session.all(
            "SELECT * FROM anr_attempts WHERE camera_id = ? AND ended_at IS NOT NULL"
            " ORDER BY ended_at DESC, rowid DESC LIMIT 1",
            (camera_id,),
        )
    )
    return running[0] if running else None, ended[0] if ended else None


def _readable(found: list[sqlite3.Row]) -> list[Attempt]:
    attempts: list[Attempt] = []
    for row in found:
        try:
            attempts.append(rows.attempt_of(row))
        except ParseError:
            continue  # written by another version; only history for people
    return attempts


async def park(session: Session, camera_id: str, parked: Parked) -> None:
    """Note that nothing is asked of a camera until its cause goes away; the first time of one cause is kept."""
    await session.all(
        "INSERT INTO anr_parked (camera_id, reason, detail, fingerprint, since) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (camera_id) DO UPDATE SET detail = excluded.detail,"
        " since = CASE WHEN reason = excluded.reason AND fingerprint = excluded.fingerprint THEN since"
        " ELSE excluded.since END, reason = excluded.reason, fingerprint = excluded.fingerprint",
        (
            camera_id,
            parked.reason.value,
            one_line(redact(parked.detail), _DETAIL_LIMIT),
            parked.fingerprint,
            format_instant(parked.since),
        ),
    )


async def unpark(session: Session, camera_id: str) -> bool:
    """Let a camera be asked again; False if it was not parked."""
    return bool(await session.all("DELETE FROM anr_parked WHERE camera_id = ? RETURNING camera_id", (camera_id,)))


async def save_presence(session: Session, camera_id: str, presence: Presence, since: datetime) -> None:
    """Note what is believed about a camera, for `status` and the next start."""
    await session.all(
        "INSERT INTO anr_presence (camera_id, presence, since) VALUES (?, ?, ?) ON CONFLICT (camera_id)"
        " DO UPDATE SET presence = excluded.presence, since = excluded.since",
        (camera_id, presence.value, format_instant(since)),
    )


async def presences(session: Session) -> dict[str, tuple[Presence, datetime]]:
    """Return what was last believed, by camera id."""
    found: dict[str, tuple[Presence, datetime]] = {}
    for row in await session.all("SELECT camera_id, presence, since FROM anr_presence"):
        try:
            found[row["camera_id"]] = Presence(row["presence"]), parse_instant(row["since"])
        except (ValueError, ParseError):
            continue
    return found
