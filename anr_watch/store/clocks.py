"""Measured clocks of devices, and which guesses at a clock failed for a gap. Runs inside one transaction."""

from __future__ import annotations

from datetime import datetime

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.model import DeviceClock
from anr_watch.store.connection import Session


async def save(session: Session, clock: DeviceClock) -> None:
    """Note what is known of a device's clock now."""
    await session.all(
        "INSERT INTO anr_clocks (device, offset_s, spread_s, measured_at, samples, source) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (device) DO UPDATE SET offset_s = excluded.offset_s, spread_s = excluded.spread_s,"
        " measured_at = excluded.measured_at, samples = excluded.samples, source = excluded.source",
        (
            clock.device,
            clock.offset_s,
            clock.spread_s,
            format_instant(clock.measured_at),
            clock.samples,
            clock.source,
        ),
    )


async def known(session: Session) -> dict[str, DeviceClock]:
    """Return the measured clocks by device."""
    found: dict[str, DeviceClock] = {}
    for row in await session.all("SELECT device, offset_s, spread_s, measured_at, samples, source FROM anr_clocks"):
        try:
            at = parse_instant(row["measured_at"])
            values = float(row["offset_s"]), float(row["spread_s"])
        except (ParseError, TypeError, ValueError):
            continue  # somebody else changed our row: as if it had never been measured
        found[row["device"]] = DeviceClock(row["device"], *values, at, int(row["samples"]), str(row["source"]))
    return found


async def guessed(session: Session, gap_id: str) -> frozenset[str]:
    """Return the guesses that did not show the recorded pictures of a gap."""
    rows = await session.all("SELECT guess FROM anr_guesses WHERE gap_id = ?", (gap_id,))
    return frozenset(str(row["guess"]) for row in rows)


async def note_guess(session: Session, gap_id: str, guess: str, now: datetime) -> None:
    """Note that a guess was wrong for a gap: it is not tried for it again."""
    await session.all(
        "INSERT INTO anr_guesses (gap_id, guess, tried_at) VALUES (?, ?, ?) ON CONFLICT (gap_id, guess) DO NOTHING",
        (gap_id, guess, format_instant(now)),
    )


async def forget_guesses(session: Session, gap_id: str) -> None:
    """Let every guess be tried for a gap again."""
    await session.all("DELETE FROM anr_guesses WHERE gap_id = ?", (gap_id,))
