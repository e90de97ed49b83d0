"""Messages that wait to be sent, in the same file and transaction as the state they tell of; it sends nothing.

Order is kept per topic. A retained message replaces an unsent one of its topic: only the newest state matters.
The number of rows is bounded, because a broker may stay away for ever: the oldest go first, counted and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from anr_watch.instants import format_instant
from anr_watch.model import Message
from anr_watch.store.connection import Session
from anr_watch.store.rows import json_list
from anr_watch.store.values import OutboxRow

LOG = logging.getLogger("anr_watch.store")
MAX_ROWS = 200_000  # about 150 MB of events: weeks without a broker


async def put(session: Session, messages: Sequence[Message], now: datetime, max_rows: int = MAX_ROWS) -> None:
    """Append messages, in order; an event that already waits is not put twice."""
    created = format_instant(now)
    for message in messages:
        if message.retain:
            await session.all("DELETE FROM anr_outbox WHERE topic = ? AND retain = 1", (message.topic,))
        await session.all(
            "INSERT INTO anr_outbox (event_id, topic, payload, retain, created_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (topic, event_id) DO NOTHING",
            (message.id, message.topic, message.payload, int(message.retain), created),
        )
    if messages:
        await _bound(session, max_rows)


async def _bound(session: Session, max_rows: int) -> None:
    # Ids grow by one, so their span is never less than the number of rows; both ends are one index step away.
    span = await session.number("SELECT (SELECT max(id) FROM anr_outbox) - (SELECT min(id) FROM anr_outbox) + 1")
    if span <= max_rows:
        return
    surplus = await depth(session) - max_rows
    if surplus <= 0:
        return
    await session.all(
        "DELETE FROM anr_outbox WHERE id IN (SELECT id FROM anr_outbox ORDER BY id LIMIT ?)", (surplus,)
    )
    dropped = await session.number(
        "INSERT INTO anr_meta (key, value) VALUES ('outbox_dropped', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + excluded.value RETURNING value",
        (surplus,),
    )
    if dropped == surplus or dropped // 1000 != (dropped - surplus) // 1000:  # the first, then one line a thousand
        LOG.warning("outbox is full, oldest messages dropped", extra={"dropped": dropped, "max_rows": max_rows})


async def waiting(session: Session, after_id: int, limit: int) -> list[OutboxRow]:
    """Return up to `limit` messages with a row id above `after_id`, oldest first."""
    found = await session.all(
        "SELECT id, event_id, topic, payload, retain FROM anr_outbox WHERE id > ? ORDER BY id LIMIT ?",
        (after_id, limit),
    )
    return [
        OutboxRow(row["id"], Message(row["event_id"], row["topic"], bytes(row["payload"]), bool(row["retain"])))
        for row in found
    ]


async def done(session: Session, row_ids: Sequence[int]) -> None:
    """Remove messages that the broker has taken."""
    await session.all("DELETE FROM anr_outbox WHERE id IN (SELECT value FROM json_each(?))", (json_list([*row_ids]),))


async def depth(session: Session) -> int:
    """Return how many messages wait."""
    return await session.number("SELECT count(*) FROM anr_outbox")


async def dropped(session: Session) -> int:
    """Return how many messages were dropped for want of room in the life of this file."""
    return await session.number("SELECT CAST(value AS INTEGER) FROM anr_meta WHERE key = 'outbox_dropped'")
