"""The end of a try: the gap's row is split into what is recorded and what is missing. Runs inside one transaction.

The pieces describe the window the gap had when the fill was planned; the row may have changed since. What of the
row lies outside that window stays pending with no attempts of its own; what of the window lies outside the row
belongs to nobody any more. Running it twice for one attempt changes nothing the second time.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant
from anr_watch.model import Gap, KernelEvent, Window
from anr_watch.states import FillState
from anr_watch.store import attempts, gaps, reading, rows
from anr_watch.store.connection import Session
from anr_watch.store.gaps import NewGap
from anr_watch.store.values import Origin, Outcome, Settlement


class _Kind(IntEnum):
    RECORDED = 0
    MISSING = 1  # tried, in vain
    UNTRIED = 2  # not part of the window when the fill was planned


@dataclass(frozen=True, slots=True)
class _Part:
    window: Window
    kind: _Kind


async def settle(
    session: Session, settlement: Settlement, now: datetime
) -> tuple[Outcome, Gap | None, tuple[Gap, ...]]:
    """Write a settlement; return what was done, the row as it is now, and the rows that hold what is missing."""
    attempt = settlement.attempt
    if attempt is not None and not await attempts.end(session, attempt):
        return Outcome.REPEATED, await reading.gap(session, settlement.gap.id), ()
    stored = await session.one(reading.SQL_GAP, (settlement.gap.id,))
    if settlement.kernel_event is not None and (attempt is not None or _is_pending(stored)):
        await _tell_kernel(session, settlement.kernel_event, now)
    if stored is None:
        return Outcome.GONE, None, ()
    try:
        row = rows.gap_of(stored)
    except ParseError:
        return Outcome.OVERTAKEN, None, ()
    parts = _parts(row.window, settlement)
    if row.state is not FillState.PENDING or all(part.kind is _Kind.UNTRIED for part in parts):
        return Outcome.OVERTAKEN, row, ()
    return await _split(session, row, parts, settlement, now)


def _is_pending(stored: sqlite3.Row | None) -> bool:
    return stored is not None and stored["fill_state"] == FillState.PENDING


def _parts(row: Window, settlement: Settlement) -> list[_Part]:
    """Return the row's present window cut into parts of one kind each, in order."""
    planned = settlement.gap.window
    found: list[_Part] = []
    if row.start < planned.start:
        found.append(_Part(Window(row.start, min(row.end, planned.start)), _Kind.UNTRIED))
    for window, recorded in settlement.pieces:
        inside = window.meet(row)
        if inside is None:
            continue
        kind = _Kind.RECORDED if recorded else _Kind.MISSING
        if found and found[-1].kind is kind:
            found[-1] = _Part(Window(found[-1].window.start, inside.end), kind)
        else:
            found.append(_Part(inside, kind))
    if row.end > planned.end:
        found.append(_Part(Window(max(row.start, planned.end), row.end), _Kind.UNTRIED))
    return found


async def _split(
    session: Session, row: Gap, parts: list[_Part], settlement: Settlement, now: datetime
) -> tuple[Outcome, Gap | None, tuple[Gap, ...]]:
    kinds = {part.kind for part in parts}
    count = row.attempts + int(settlement.counts)
    tried_at = format_instant(settlement.attempt.ended_at or now) if settlement.attempt is not None else None
    if _Kind.RECORDED not in kinds and not settlement.failed:
        # Nothing gained: the row stays whole, whatever was added to it.
        await _update(session, row, row.window, state=FillState.PENDING, count=count, tried_at=tried_at, now=now)
        stays = await reading.gap(session, row.id)
        return Outcome.PENDING, stays, (stays,) if stays else ()

    states = {
        _Kind.RECORDED: FillState.FILLED,
        _Kind.MISSING: FillState.FAILED if settlement.failed else FillState.PENDING,
        _Kind.UNTRIED: FillState.PENDING,
    }
    asked = await gaps.is_asked(session, row.id)
    # The row becomes its first recorded part, or its first tried one; where another row begins at that instant
    # the first part of all is taken: its start is the row's own, which nothing can be in the way of.
    keeper = min(parts, key=lambda part: (part.kind, part.window.start))
    if keeper is not parts[0] and await gaps.starting_at(session, row.camera_id, keeper.window.start) is not None:
        keeper = parts[0]
    untried = keeper.kind is _Kind.UNTRIED
    await _update(
        session,
        row,
        keeper.window,
        state=states[keeper.kind],
        count=row.attempts if untried else count,
        tried_at=None if untried else tried_at,
        now=now,
    )
    left: list[Gap] = []
    if states[keeper.kind] is FillState.PENDING and (kept := await reading.gap(session, row.id)) is not None:
        left.append(kept)
    for part in parts:
        if part is keeper:
            continue
        fresh = part.kind is _Kind.UNTRIED
        new = NewGap(
            row.camera_id,
            part.window,
            states[part.kind],
            Origin.RESIDUAL,
            row.start_text if part.window.start == row.window.start else None,
            row.end_text if part.window.end == row.window.end else None,
            0 if fresh else count,
            None if fresh else tried_at or rows.text_or_none(row.last_attempt_at),
            settlement.attempt.id if settlement.attempt is not None and not fresh else None,
            asked and states[part.kind] is FillState.PENDING,
        )
        placed = await gaps.place(session, new, now)
        if placed is not None:
            left.append(placed)
    if kinds == {_Kind.RECORDED}:
        outcome = Outcome.FILLED
    else:
        outcome = Outcome.PARTIAL if _Kind.RECORDED in kinds else Outcome.FAILED
    return outcome, await reading.gap(session, row.id), tuple(left)


async def _update(
    session: Session, row: Gap, window: Window, *, state: FillState, count: int, tried_at: str | None, now: datetime
) -> None:
    """Change the row; edges that stay keep their text byte for byte, `tried_at` None keeps the stored time."""
    await session.all(
        "UPDATE recording_gaps SET gap_start = ?, gap_end = ?, gap_seconds = ?, fill_state = ?, fill_attempts = ?,"
        " last_attempt_at = coalesce(?, last_attempt_at), filled_at = ? WHERE id = ? AND fill_state = 'pending'",
        (
            row.start_text if window.start == row.window.start else format_instant(window.start),
            row.end_text if window.end == row.window.end else format_instant(window.end),
            int(window.seconds),
            state.value,
            count,
            tried_at,
            format_instant(now) if state is FillState.FILLED else None,
            row.id,
        ),
    )
    if state is not FillState.PENDING:
        await session.all("UPDATE anr_gaps SET asked = 0 WHERE gap_id = ?", (row.id,))


async def _tell_kernel(session: Session, event: KernelEvent, now: datetime) -> None:
    """Insert a row the kernel's dashboard and webhooks read; not for a camera that is gone."""
    # created_at is the cursor of its webhooks: it must be the time of this transaction.
    await session.all(
        "INSERT INTO events (id, camera_id, site_id, event_type, severity, timestamp, payload, created_at)"
        " SELECT ?, id, site_id, ?, ?, ?, ?, ? FROM cameras WHERE id = ? ON CONFLICT (id) DO NOTHING",
        (
            event.id,
            event.event_type,
            event.severity,
            format_instant(event.timestamp),
            event.payload.decode(),
            format_instant(now),
            event.camera_id,
        ),
    )
