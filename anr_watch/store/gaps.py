"""Gap rows: found, extended, placed beside what is there, tried anew. Every function runs inside one transaction.

The kernel's unique key is (camera, text of the start). Rows that begin at the same instant are merged, so that
neither the kernel's finding nor ours is doubled; rows that overlap otherwise cost nothing, coverage decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant
from anr_watch.model import Gap, Window, subtract
from anr_watch.states import FillState
from anr_watch.store import reading, rows
from anr_watch.store.connection import Session
from anr_watch.store.values import Origin, Registered, Registration

SQL_SAME_START = """
    SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts, last_attempt_at
    FROM recording_gaps WHERE camera_id = ? AND gap_start >= ? AND gap_start < ?
"""


@dataclass(frozen=True, slots=True)
class NewGap:
    """A row to be placed. The texts are what the database held, or None where the instant is new."""

    camera_id: str
    window: Window
    state: FillState
    origin: Origin
    start_text: str | None = None
    end_text: str | None = None
    attempts: int = 0
    last_attempt_at: str | None = None
    left_by: str | None = None
    asked: bool = False


async def camera_exists(session: Session, camera_id: str) -> bool:
    """Say whether rows may refer to this camera."""
    return await session.one("SELECT 1 FROM cameras WHERE id = ?", (camera_id,)) is not None


async def starting_at(session: Session, camera_id: str, start: datetime) -> Gap | None:
    """Return the camera's readable row that begins at this instant, however its text is written."""
    second = format_instant(start.replace(microsecond=0)).removesuffix("+00:00")
    for row in await session.all(SQL_SAME_START, (camera_id, second, second + "~")):
        try:
            gap = rows.gap_of(row)
        except ParseError:
            continue
        if gap.window.start == start:
            return gap
    return None


async def insert(session: Session, new: NewGap, now: datetime) -> Gap:
    """Insert a row; nothing readable begins at its instant."""
    at = format_instant(now)
    end_text = new.end_text or format_instant(new.window.end)
    filled_at = at if new.state is FillState.FILLED else None
    for start_text in _spellings(new):
        found = await session.one(
            "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, fill_state, fill_attempts,"
            " last_attempt_at, filled_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (camera_id, gap_start) DO NOTHING RETURNING id",
            (
                f"gap_{uuid.uuid4().hex}",
                new.camera_id,
                start_text,
                end_text,
                int(new.window.seconds),
                new.state.value,
                new.attempts,
                new.last_attempt_at,
                filled_at,
                at,
            ),
        )
        if found is not None:
            gap_id = str(found[0])
            await session.all(
                "INSERT INTO anr_gaps (gap_id, origin, asked, left_by, created_at) VALUES (?, ?, ?, ?, ?)",
                (gap_id, new.origin.value, int(new.asked), new.left_by, at),
            )
            return Gap(gap_id, new.camera_id, new.window, start_text, end_text, new.state, new.attempts)
    raise AssertionError("four rows of one camera begin at the same instant and none can be read")


def _spellings(new: NewGap) -> Iterator[str]:
    """Yield texts for the start: an unreadable row may hold the first, and what is missing must not be lost."""
    text = format_instant(new.window.start)
    yield new.start_text or text
    whole, _, fraction = text.removesuffix("+00:00").partition(".")
    for digits in (0, 3, 6, 9):
        if digits >= len(fraction):
            yield f"{whole}{'.' if digits else ''}{fraction.ljust(digits, '0')}+00:00"


async def extend(session: Session, gap: Gap, end: datetime, end_text: str | None = None) -> Gap | None:
    """Move the end of a pending row to a later instant; None if it is not pending any more or ends later."""
    if end <= gap.window.end:
        return None
    window = Window(gap.window.start, end)
    text = end_text or format_instant(end)
    found = await session.one(
        "UPDATE recording_gaps SET gap_end = ?, gap_seconds = ? WHERE id = ? AND fill_state = 'pending' RETURNING id",
        (text, int(window.seconds), gap.id),
    )
    if found is None:
        return None
    return Gap(gap.id, gap.camera_id, window, gap.start_text, text, gap.state, gap.attempts, gap.last_attempt_at)


async def ask(session: Session, gap_id: str, now: datetime) -> None:
    """Note that a person wants this gap, whatever its age."""
    await session.all(
        "INSERT INTO anr_gaps (gap_id, origin, asked, created_at) VALUES (?, 'kernel', 1, ?)"
        " ON CONFLICT (gap_id) DO UPDATE SET asked = 1",
        (gap_id, format_instant(now)),
    )


async def is_asked(session: Session, gap_id: str) -> bool:
    """Say whether a person wants this gap."""
    return await session.one("SELECT 1 FROM anr_gaps WHERE gap_id = ? AND asked = 1", (gap_id,)) is not None


async def place(session: Session, new: NewGap, now: datetime) -> Gap | None:
    """Write a part of a split gap beside what is there; return the pending row that now holds missing time, if any.

    A row that begins at the same instant is kept: a pending one is extended; behind a resolved one that ends
    earlier the rest is written, so no missing time is lost. Recorded time needs no row where there is one already.
    """
    while (there := await starting_at(session, new.camera_id, new.window.start)) is not None:
        if there.state is FillState.PENDING and new.state is FillState.PENDING:
            if new.asked:
                await ask(session, there.id, now)
            return await extend(session, there, new.window.end, new.end_text) or there
        if there.window.end >= new.window.end:
            return there if there.state is FillState.PENDING else None
        new = NewGap(
            new.camera_id,
            Window(there.window.end, new.window.end),
            new.state,
            new.origin,
            there.end_text,
            new.end_text,
            new.attempts,
            new.last_attempt_at,
            new.left_by,
            new.asked,
        )
    gap = await insert(session, new, now)
    return gap if new.state is FillState.PENDING else None


async def register(
    session: Session, camera_id: str, window: Window, now: datetime, *, start_text: str | None, origin: Origin
) -> Registration:
    """Note a gap that we found ourselves; see `Registered`."""
    if not await camera_exists(session, camera_id):
        return Registration(Registered.CAMERA_GONE, None)
    asked = origin is Origin.COMMAND
    there = await starting_at(session, camera_id, window.start)
    if there is None:
        new = NewGap(camera_id, window, FillState.PENDING, origin, start_text, asked=asked)
        return Registration(Registered.INSERTED, await insert(session, new, now))
    if asked and there.state is FillState.PENDING:
        await ask(session, there.id, now)
    extended = await extend(session, there, window.end) if there.state is FillState.PENDING else None
    return Registration(Registered.EXTENDED if extended else Registered.KNOWN, extended or there)


async def register_hole(
    session: Session, camera_id: str, hole: Window, now: datetime, *, origin: Origin, longer_than_s: float
) -> list[tuple[Gap, bool]]:
    """Note what no row says yet of a hole; return the rows that this made, and whether each was there before."""
    known = await reading.gaps_in(session, camera_id, hole)
    found: list[tuple[Gap, bool]] = []
    for piece in subtract(hole, [gap.window for gap in known]):
        if piece.seconds <= longer_than_s:
            continue
        before = next((gap for gap in known if gap.window.end == piece.start), None)
        if before is not None and before.state is FillState.PENDING:
            longer = await extend(session, before, piece.end)
            if longer is not None:
                found.append((longer, True))
            continue
        done = await register(session, camera_id, piece, now, start_text=None, origin=origin)
        if done.gap is not None and done.what in (Registered.INSERTED, Registered.EXTENDED):
            found.append((done.gap, False))
    return found


async def retry(session: Session, gaps: list[Gap]) -> int:
    """Give rows that are not filled their attempts and waits back; return how many there were."""
    ids = rows.json_list([gap.id for gap in gaps])
    reset = await session.all(
        "UPDATE recording_gaps SET fill_state = 'pending', fill_attempts = 0, last_attempt_at = NULL,"
        " filled_at = NULL WHERE id IN (SELECT value FROM json_each(?)) AND fill_state IN ('pending', 'failed')"
        " RETURNING id",
        (ids,),
    )
    # tries = 0 takes the wait away but keeps the history; a residual lets go of the try that left it.
    await session.all(
        "UPDATE anr_attempts SET next_at = NULL, tries = 0 WHERE gap_id IN (SELECT value FROM json_each(?))", (ids,)
    )
    await session.all("UPDATE anr_gaps SET left_by = NULL WHERE gap_id IN (SELECT value FROM json_each(?))", (ids,))
    return len(reset)


async def retryable(session: Session, camera_id: str, now: datetime, max_gap_hours: float) -> list[Gap]:
    """Return a camera's pending and failed gaps that reach into the last `max_gap_hours`."""
    lately = Window(now - timedelta(hours=max_gap_hours), now)
    there = await reading.gaps_in(session, camera_id, lately)
    return [gap for gap in there if gap.state is not FillState.FILLED]
