"""What is read on every event: cameras and pending gaps. Cheap by construction, and it never writes.

Pending gaps are reached in one of two ways. While there are few, by the kernel's index (fill_state, camera_id).
The kernel leaves pending rows to age for ever, so there may be many; then by the unique key (camera_id, gap_start):
the rows that begin within the wanted hours, and each camera's last ones before (a unary plus keeps SQLite off the
other index). With a million rows that took 9 ms for 64 cameras, where one range over a month took 165 ms to 3 s.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from anr_watch.config.settings import CameraSettings
from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.model import Camera, CameraFacts, Gap, ReplayOptions, Window, merge, total_s
from anr_watch.states import Reason
from anr_watch.store import rows
from anr_watch.store.connection import Session
from anr_watch.store.values import Look, Parked, Wait

# More pending rows than this are not walked through: 2 000 take about 3 ms.
FEW = 2000
# A gap that began before the wanted hours and reaches into them is among this many of its camera's rows: a camera's
# gaps follow each other, only rows that somebody registered on top of others overlap.
ROWS_BEFORE = 32
# A row that shares time with a window began at most this long before it.
LONGEST_GAP = timedelta(days=32)
TEXT_SLACK = timedelta(seconds=1)  # texts are compared to the second, instants decide

SQL_CAMERAS = """
    SELECT c.id, c.name, c.vendor, c.address, c.rtsp_port, c.username, c.password, c.record_stream, c.record_audio,
           c.segment_seconds, c.anr_enabled, c.anr_replay_url_template, c.enabled, c.record_enabled, c.record_mode,
           s.state AS status
    FROM cameras AS c LEFT JOIN camera_status AS s ON s.camera_id = c.id
"""
SQL_NEWEST_GAP = "SELECT max(rowid) FROM recording_gaps"
SQL_COUNT = "SELECT count(*) FROM (SELECT 1 FROM recording_gaps WHERE fill_state = 'pending' LIMIT ?)"
SQL_COUNT_OF_CAMERA = """
    SELECT count(*) FROM (SELECT 1 FROM recording_gaps WHERE fill_state = 'pending' AND camera_id = ? LIMIT ?)
"""
# ?1: earliest start, ?2: earliest end (both only to the text's worth; instants decide)
SQL_PENDING_FEW = """
    SELECT g.id, g.camera_id, g.gap_start, g.gap_end, g.fill_state, g.fill_attempts, g.last_attempt_at
    FROM recording_gaps AS g WHERE g.fill_state = 'pending' AND (g.gap_start >= ?1 OR g.gap_end > ?2)
"""
SQL_PENDING_MANY = """
    SELECT g.id, g.camera_id, g.gap_start, g.gap_end, g.fill_state, g.fill_attempts, g.last_attempt_at
    FROM cameras AS c CROSS JOIN recording_gaps AS g
    WHERE g.camera_id = c.id AND g.gap_start >= ?1 AND +g.fill_state = 'pending'
    UNION ALL
    SELECT g.id, g.camera_id, g.gap_start, g.gap_end, g.fill_state, g.fill_attempts, g.last_attempt_at
    FROM cameras AS c CROSS JOIN recording_gaps AS g
    WHERE g.rowid IN (SELECT n.rowid FROM recording_gaps AS n WHERE n.camera_id = c.id AND n.gap_start < ?1
                      ORDER BY n.gap_start DESC LIMIT ?3)
        AND +g.fill_state = 'pending' AND g.gap_end > ?2
"""
# the same two for one camera, ?4
SQL_PENDING_FEW_OF_CAMERA = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps WHERE fill_state = 'pending' AND camera_id = ?4 AND (gap_start >= ?1 OR gap_end > ?2)
"""
SQL_PENDING_MANY_OF_CAMERA = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps WHERE camera_id = ?4 AND gap_start >= ?1 AND +fill_state = 'pending'
    UNION ALL
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps
    WHERE rowid IN (SELECT n.rowid FROM recording_gaps AS n WHERE n.camera_id = ?4 AND n.gap_start < ?1
                    ORDER BY n.gap_start DESC LIMIT ?3)
        AND +fill_state = 'pending' AND gap_end > ?2
"""
SQL_GAP = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps WHERE id = ?
"""
SQL_GAPS_IN = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps WHERE camera_id = ? AND gap_start >= ? AND gap_start < ? AND gap_end > ?
"""
SQL_ASKED = """
    SELECT g.id, g.camera_id, g.gap_start, g.gap_end, g.fill_state, g.fill_attempts, g.last_attempt_at
    FROM anr_gaps AS o CROSS JOIN recording_gaps AS g
    WHERE o.asked = 1 AND g.id = o.gap_id AND +g.fill_state = 'pending'
"""
SQL_WAITS = """
    SELECT w.value AS gap_id, a.reason, a.next_at, a.tries
    FROM json_each(?) AS w LEFT JOIN anr_gaps AS o ON o.gap_id = w.value
    CROSS JOIN anr_attempts AS a
    WHERE a.id = coalesce(
        (SELECT n.id FROM anr_attempts AS n WHERE n.gap_id = w.value ORDER BY n.number DESC LIMIT 1), o.left_by)
        AND a.ended_at IS NOT NULL AND a.tries > 0
"""


def bounds(now: datetime, max_gap_hours: float) -> tuple[str, str, int]:
    """Return the first three parameters of the queries for pending gaps."""
    oldest = now - timedelta(hours=max_gap_hours)
    # A day less, because times need not be written in UTC: such texts are up to 14 h off.
    return format_instant(oldest), format_instant(oldest - timedelta(days=1)), ROWS_BEFORE


def is_wanted(gap: Gap, now: datetime, max_gap_hours: float) -> bool:
    """Say whether any part of the gap lies in the last `max_gap_hours`."""
    return gap.window.end > now - timedelta(hours=max_gap_hours)


class Options:
    """What config.toml adds to the cameras of the database."""

    def __init__(
        self, cameras: Sequence[CameraSettings], overrides: Mapping[str, ReplayOptions], replay: ReplayOptions
    ) -> None:
        self.configured = {camera.id: camera for camera in cameras}
        self._overrides = overrides
        self._replay = replay
        self._rows: tuple[bool, Sequence[sqlite3.Row]] = (False, [])
        self._cameras: dict[str, Camera] = {}
        self._malformed: list[tuple[str, str]] = []

    def of(self, camera_id: str) -> ReplayOptions:
        """Return how a camera wants to be asked."""
        return self._overrides.get(camera_id, self._replay)

    def cameras(
        self, found: Sequence[sqlite3.Row], *, standalone: bool
    ) -> tuple[dict[str, Camera], Sequence[tuple[str, str]]]:
        """Return the cameras of rows by id, and which rows cannot be read.

        Beside a busy database nearly every look finds the very same rows: comparing them takes a tenth of the time.
        """
        if (standalone, found) != self._rows:
            self._cameras, self._malformed = {}, []
            for row in found:
                try:
                    camera = rows.camera_of(row, self.of(str(row["id"])))
                except ParseError as error:
                    self._malformed.append((rows.shown(row["id"]), f"camera: {error}"))
                else:
                    self._cameras[camera.id] = self.applied(camera) if standalone else camera
            self._rows = standalone, found
        return self._cameras.copy(), self._malformed

    def applied(self, camera: Camera) -> Camera:
        """Return a standalone database's camera with what is never stored: credentials and the template."""
        settings = self.configured.get(camera.id)
        if settings is None:
            return camera
        return replace(
            camera,
            username=settings.username or None,
            password=settings.password or None,
            replay_url_template=settings.replay_url_template or None,
            options=self._overrides.get(camera.id, settings.options),
        )


async def look(
    session: Session,
    now: datetime,
    max_gap_hours: float,
    options: Options,
    *,
    standalone: bool,
    prepared: bool = True,
) -> Look:
    """Return all cameras and the pending gaps that reach into the last `max_gap_hours`."""
    cameras, wrong = options.cameras(await session.all(SQL_CAMERAS), standalone=standalone)
    malformed = [*wrong]
    gaps: list[Gap] = []
    few = await session.number(SQL_COUNT, (FEW + 1,)) <= FEW
    sql, bound = (SQL_PENDING_FEW, 2) if few else (SQL_PENDING_MANY, 3)
    for row in await session.all(sql, bounds(now, max_gap_hours)[:bound]):
        try:
            gap = rows.gap_of(row)
        except ParseError as error:
            malformed.append((rows.shown(row["id"]), f"gap: {error}"))
        else:
            if gap.camera_id in cameras and is_wanted(gap, now, max_gap_hours):
                gaps.append(gap)
    rows.forget_settled_gaps(len(gaps))
    asked = await _asked(session) if prepared else []
    known = {gap.id for gap in gaps}
    gaps += [gap for gap in asked if gap.camera_id in cameras and gap.id not in known]
    held = await parked(session) if prepared else {}
    return Look(cameras, tuple(gaps), tuple(malformed), frozenset(gap.id for gap in asked), held)


async def parked(session: Session) -> dict[str, Parked]:
    """Return the parked cameras by id."""
    found: dict[str, Parked] = {}
    for row in await session.all("SELECT camera_id, reason, detail, fingerprint, since FROM anr_parked"):
        try:
            since = parse_instant(row["since"])
            found[row["camera_id"]] = Parked(Reason(row["reason"]), row["detail"], row["fingerprint"], since)
        except (ValueError, ParseError):
            continue
    return found


async def _asked(session: Session) -> list[Gap]:
    found: list[Gap] = []
    for row in await session.all(SQL_ASKED):
        with contextlib.suppress(ParseError):
            found.append(rows.gap_of(row))
    return found


async def gaps_in(session: Session, camera_id: str, window: Window) -> list[Gap]:
    """Return the camera's readable rows of any state that share time with the window, by start."""
    found: list[Gap] = []
    lowest, end = format_instant(window.start - LONGEST_GAP), format_instant(window.end + TEXT_SLACK)
    start = format_instant(window.start - TEXT_SLACK)
    for row in await session.all(SQL_GAPS_IN, (camera_id, lowest, end, start)):
        try:
            gap = rows.gap_of(row)
        except ParseError:
            continue
        if gap.window.overlaps(window):
            found.append(gap)
    return sorted(found, key=lambda gap: gap.window)


async def gap(session: Session, gap_id: str) -> Gap | None:
    """Return the row with this id; None if there is none or it cannot be read."""
    row = await session.one(SQL_GAP, (gap_id,))
    try:
        return None if row is None else rows.gap_of(row)
    except ParseError:
        return None


async def pending(session: Session, camera_id: str, now: datetime, max_gap_hours: float) -> list[Gap]:
    """Return one camera's readable pending gaps that reach into the last `max_gap_hours`."""
    found: list[Gap] = []
    few = await session.number(SQL_COUNT_OF_CAMERA, (camera_id, FEW + 1)) <= FEW
    sql = SQL_PENDING_FEW_OF_CAMERA if few else SQL_PENDING_MANY_OF_CAMERA
    for row in await session.all(sql, (*bounds(now, max_gap_hours), camera_id)):
        try:
            gap = rows.gap_of(row)
        except ParseError:
            continue  # `look` reports it
        if is_wanted(gap, now, max_gap_hours):
            found.append(gap)
    return found


def missing_s(gaps: Sequence[Gap], asked: frozenset[str], now: datetime, max_gap_hours: float) -> float:
    """Return the seconds that are missing and wanted: overlaps once, too old time not unless it was asked for."""
    oldest = now - timedelta(hours=max_gap_hours)
    windows = [
        gap.window if gap.id in asked else Window(max(gap.window.start, oldest), gap.window.end) for gap in gaps
    ]
    return total_s(merge(windows))


async def facts(session: Session, camera_id: str, now: datetime, max_gap_hours: float) -> CameraFacts:
    """Return what is missing of a camera's last `max_gap_hours` (or asked for) and how its newest try ended."""
    wanted = {gap.id: gap for gap in await pending(session, camera_id, now, max_gap_hours)}
    asked = {gap.id: gap for gap in await _asked(session) if gap.camera_id == camera_id}
    gaps = [*(wanted | asked).values()]
    row = await session.one(
        "SELECT * FROM anr_attempts WHERE camera_id = ? AND ended_at IS NOT NULL ORDER BY ended_at DESC, rowid DESC"
        " LIMIT 1",
        (camera_id,),
    )
    try:
        last = None if row is None else rows.attempt_of(row)
    except ParseError:
        last = None
    return CameraFacts(camera_id, len(gaps), missing_s(gaps, frozenset(asked), now, max_gap_hours), last)


async def waits(session: Session, gaps: Sequence[Gap]) -> dict[str, Wait]:
    """Return how the newest try at each of these gaps ended; a residual inherits from the try that left it."""
    found: dict[str, Wait] = {}
    for row in await session.all(SQL_WAITS, (rows.json_list([gap.id for gap in gaps]),)):
        if row["reason"] in Reason.__members__.values():
            found[row["gap_id"]] = Wait(rows.optional_instant(row, "next_at"), row["tries"], Reason(row["reason"]))
    return found
