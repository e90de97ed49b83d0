"""How fast devices may be asked since live recording faltered. Runs inside one transaction."""

from __future__ import annotations

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.live_first import Pace
from anr_watch.store.connection import Session


async def save(session: Session, pace: Pace) -> None:
    """Note how a device may be asked from now on."""
    await session.all(
        "INSERT INTO anr_paces (device, max_bytes_s, ceiling_bytes_s, falters, faltered_at, next_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET max_bytes_s = excluded.max_bytes_s,"
        " ceiling_bytes_s = excluded.ceiling_bytes_s, falters = excluded.falters,"
        " faltered_at = excluded.faltered_at, next_at = excluded.next_at",
        (
            pace.device,
            pace.max_bytes_s,
            pace.ceiling_bytes_s,
            pace.falters,
            format_instant(pace.faltered_at),
            format_instant(pace.next_at),
        ),
    )


async def forget(session: Session, device: str) -> None:
    """Let a device be asked as fast as it plays."""
    await session.all("DELETE FROM anr_paces WHERE device = ?", (device,))


async def known(session: Session) -> dict[str, Pace]:
    """Return the paces by device."""
    found: dict[str, Pace] = {}
    for row in await session.all(
        "SELECT device, max_bytes_s, ceiling_bytes_s, falters, faltered_at, next_at FROM anr_paces"
    ):
        try:
            rates = float(row["max_bytes_s"]), float(row["ceiling_bytes_s"])
            times = parse_instant(row["faltered_at"]), parse_instant(row["next_at"])
            falters = int(row["falters"])
        except (ParseError, TypeError, ValueError):
            continue  # somebody else changed our row: as if live had never faltered
        if rates[0] > 0:
            found[row["device"]] = Pace(row["device"], *rates, falters, *times)
    return found
