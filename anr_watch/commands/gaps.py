"""`anr-watch gaps`: what is or was missing, how it stands, and when it is tried next. It changes nothing."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.advice import in_words
from anr_watch.commands.given import known_camera
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import attempt_facts, opened
from anr_watch.commands.screen import clean, emit, instant, length, second, show, table, until
from anr_watch.config import Settings
from anr_watch.model import Camera
from anr_watch.states import FillState, Reason
from anr_watch.store import GapRow, Parked, Wait

_SHORT_ID = 12  # `gap_` and 8 hex digits: enough to tell any two apart in a list
_HEADER = ("GAP", "CAMERA", "FROM", "TO", "LENGTH", "STATE", "TRIES", "NEXT TRY", "LAST RESULT")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What besides its row decides when a gap is tried next."""

    now: datetime
    cameras: Mapping[str, Camera]
    asked: frozenset[str]  # gaps a person asked for: age and switched-off fills do not matter
    parked: Mapping[str, Parked]
    waits: Mapping[str, Wait]
    max_gap_hours: float
    max_attempts: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gaps`."""
    parser.add_argument("--camera", metavar="ID", help="gaps of this camera only")
    parser.add_argument("--state", choices=[state.value for state in FillState], help="gaps in this state only")
    parser.add_argument("--limit", type=_limit, default=50, metavar="N", help="the newest N (default: 50)")


def run(args: argparse.Namespace) -> int:
    """List the gaps, newest first."""
    settings, clock = load_settings(args), SystemClock()
    rows, around = asyncio.run(_read(settings, clock, args))
    if args.json:
        for row in rows:
            emit(facts_of(row, around))
    elif rows:
        show(table(_HEADER, [_line(row, around) for row in rows]))
        for line in advice_on(_open_reasons(rows, around)):
            show(line)
    else:
        show("no gaps" + (" like that" if args.camera or args.state else ""))
    return 0


async def _read(settings: Settings, clock: Clock, args: argparse.Namespace) -> tuple[list[GapRow], Circumstances]:
    async with opened(settings, clock) as store:
        now = clock.now()
        look = await store.look(now=now)
        camera_id = known_camera(args.camera, look.cameras) if args.camera is not None else None
        rows = await store.gaps(camera_id, FillState(args.state) if args.state else None, args.limit)
        waits = await store.waits(now=now) if store.prepared else {}
        fills = settings.fills
        return rows, Circumstances(
            now, look.cameras, look.asked, look.parked, waits, fills.max_gap_hours, fills.max_attempts
        )


def next_try(row: GapRow, around: Circumstances) -> tuple[str, datetime | None]:
    """Return when the gap is tried next, in words and as an instant where it has one."""
    gap = row.gap
    camera = around.cameras.get(gap.camera_id)
    wait = around.waits.get(gap.id)
    if gap.state is not FillState.PENDING:
        return "-", None
    if gap.camera_id in around.parked:
        return "never: the camera is parked", None
    if gap.id not in around.asked:
        if camera is None or not camera.wants_fills:
            return "never: fills are off for the camera", None
        if gap.window.end <= around.now - timedelta(hours=around.max_gap_hours):
            return f"never: older than {around.max_gap_hours:g} h", None
        if gap.attempts >= around.max_attempts:
            return f"never: {gap.attempts} tries are used up", None
    if wait is not None and wait.next_at is not None:
        return until(wait.next_at, around.now), wait.next_at
    return "now", around.now


def last_reason(row: GapRow, around: Circumstances) -> Reason | None:
    """Return how the newest try ended; a rest that was never tried itself inherits it from the try that left it."""
    if row.last is not None:
        return row.last.reason
    wait = around.waits.get(row.gap.id)
    return wait.reason if wait is not None else None


def facts_of(row: GapRow, around: Circumstances) -> dict[str, object]:
    """Return one gap for JSON."""
    gap, reason = row.gap, last_reason(row, around)
    words, at = next_try(row, around)
    return {
        "gap": gap.id,
        "camera": gap.camera_id,
        "from": instant(gap.window.start),
        "to": instant(gap.window.end),
        "seconds": round(gap.window.seconds, 3),
        "state": gap.state,
        "attempts": gap.attempts,
        "origin": row.origin,
        "created_at": instant(row.created_at) if row.created_at else None,
        "filled_at": instant(row.filled_at) if row.filled_at else None,
        "reason": reason,
        "reason_text": in_words(reason).words if reason else None,
        "detail": clean(row.last.detail) if row.last else None,
        "last": attempt_facts(row.last),
        "next_try": words,
        "next_at": instant(at) if at else None,
    }


def _line(row: GapRow, around: Circumstances) -> tuple[str, ...]:
    gap, reason = row.gap, last_reason(row, around)
    result = "-"
    if reason is not None:
        detail = clean(row.last.detail) if row.last else ""
        result = f"{reason}: {detail}" if detail else reason.value
    return (
        clean(gap.id[:_SHORT_ID]),
        clean(gap.camera_id),
        second(gap.window.start),
        second(gap.window.end),
        length(gap.window.seconds),
        gap.state.value,
        str(gap.attempts),
        next_try(row, around)[0],
        result,
    )


def _open_reasons(rows: Sequence[GapRow], around: Circumstances) -> list[Reason]:
    reasons = (last_reason(row, around) for row in rows if row.gap.state is not FillState.FILLED)
    return [reason for reason in reasons if reason is not None]


def advice_on(reasons: Sequence[Reason]) -> list[str]:
    """Return a line of advice for each kind of reason that somebody can do something about."""
    lines = [f"{reason}: {in_words(reason).words}; {in_words(reason).do}" for reason in Reason if reason in reasons]
    return ["", *lines] if lines else []


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
