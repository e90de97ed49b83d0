"""How commands open the database, and what they show of it alike. It writes nothing by itself."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from anr_watch.clock import Clock
from anr_watch.commands.screen import clean, instant
from anr_watch.config import Settings
from anr_watch.model import Attempt
from anr_watch.store import Store, open_store


def opened(settings: Settings, clock: Clock, *, readonly: bool = True) -> AbstractAsyncContextManager[Store]:
    """Open the store of these settings; read-only it works beside a running daemon and creates nothing.

    Raises:
        AnrWatchError: as `open_store`.
    """
    return open_store(
        settings.database,
        clock,
        cameras=settings.cameras,
        overrides=settings.overrides,
        replay=settings.replay,
        max_gap_hours=settings.fills.max_gap_hours,
        readonly=readonly,
    )


def attempt_facts(attempt: Attempt | None) -> dict[str, object] | None:
    """Return an attempt for JSON."""
    if attempt is None:
        return None
    return {
        "id": attempt.id,
        "gap": attempt.gap_id,
        "number": attempt.number,
        "from": instant(attempt.window.start),
        "to": instant(attempt.window.end),
        "started_at": instant(attempt.started_at),
        "ended_at": instant(attempt.ended_at) if attempt.ended_at else None,
        "reason": attempt.reason,
        "detail": clean(attempt.detail),
        "wanted_s": round(attempt.wanted_s, 3),
        "got_s": round(attempt.got_s, 3),
        "bytes": attempt.bytes,
        "files": attempt.files,
        "first_byte_s": attempt.first_byte_s,
        "speed": attempt.speed,
        "next_at": instant(attempt.next_at) if attempt.next_at else None,
        "join_head": attempt.join_head,
        "join_tail": attempt.join_tail,
        "offset_ms": attempt.offset_ms,
        "tolerance_s": attempt.tolerance_s,
        "suspect": attempt.suspect,
    }
