"""`anr-watch status`: one screen about database, daemon and cameras. It only reads, also beside a running daemon."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.advice import in_words
from anr_watch.commands.gaps import advice_on
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import attempt_facts, opened
from anr_watch.commands.running import Daemon, daemon_on
from anr_watch.commands.screen import clean, emit, instant, length, second, show, size, table
from anr_watch.config import Settings
from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.model import Attempt, Camera, DeviceClock
from anr_watch.replay.urls import device_of
from anr_watch.states import Reason
from anr_watch.store import Mode, StatusRow

_HEADER = ("CAMERA", "PRESENCE", "CLOCK", "GAPS", "MISSING", "NOW", "LAST RESULT")
_GOOD = (Reason.FILLED, Reason.COVERED)


@dataclass(frozen=True, slots=True)
class _View:
    """Everything the screen shows, read at one time."""

    now: datetime
    mode: Mode
    prepared: bool  # whether anr-watch has ever run on this database
    cameras: Sequence[StatusRow]
    clocks: Mapping[str, DeviceClock]  # by camera
    waiting_messages: int
    daemon: Daemon
    free_mb: float | None
    folder_trouble: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `status` has no options of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Show how things stand."""
    settings, clock = load_settings(args), SystemClock()
    view = asyncio.run(_look(settings, clock))
    if args.json:
        emit(_facts(view, settings))
    else:
        _show(view, settings)
    return 0


async def _look(settings: Settings, clock: Clock) -> _View:
    free_mb, trouble = None, ""
    try:
        pattern = NamePattern(settings.recordings.name_pattern)
        free_mb = Recordings(settings.recordings.path, pattern, clock).free_mb()
    except StorageError as error:  # shown in its place: the database may still be readable
        trouble = str(error)
    async with opened(settings, clock) as store:
        rows, clocks = await store.status_rows(), await store.clocks()
        return _View(
            now=clock.now(),
            mode=store.mode,
            prepared=store.prepared,
            cameras=rows,
            clocks={row.camera.id: known for row in rows if (known := _clock_of(row.camera, clocks)) is not None},
            waiting_messages=await store.outbox_depth(),
            daemon=daemon_on(settings.recordings.path),
            free_mb=free_mb,
            folder_trouble=trouble,
        )


def _clock_of(camera: Camera, clocks: Mapping[str, DeviceClock]) -> DeviceClock | None:
    """Return the measured clock of the device that is asked for a camera's footage."""
    try:
        clock = clocks.get(str(device_of(camera)))
    except ReplayRefused:  # nothing to ask: no device
        return None
    return clock if clock is not None and clock.samples else None


def _show(view: _View, settings: Settings) -> None:
    show(f"database    {settings.database.path} ({view.mode})")
    room = view.folder_trouble or f"{size((view.free_mb or 0) * 1e6)} free"
    show(f"recordings  {settings.recordings.path} ({clean(room)})")
    show(f"daemon      {view.daemon}" + ("" if view.prepared else "; it has never run on this database"))
    show(f"mqtt        {_mqtt(view, settings)}")
    show()
    if not view.cameras:
        show("no cameras")
        return
    show(table(_HEADER, [_line(row, view) for row in view.cameras]))
    if view.daemon.running is False and view.prepared:
        show("(presence as it was when anr-watch last ran)")
    total_s = sum(row.missing_s for row in view.cameras)
    gaps = sum(row.pending_gaps for row in view.cameras)
    if gaps:
        show(
            f"\n{length(total_s)} missing in {gaps} gap{'s' if gaps != 1 else ''} of the last"
            f" {settings.fills.max_gap_hours:g} h"
        )
    for line in advice_on(_troubles(view.cameras)):
        show(line)


def _mqtt(view: _View, settings: Settings) -> str:
    mqtt = settings.mqtt
    if not mqtt.host:
        return "not configured"
    waiting = f", {view.waiting_messages} messages wait to be sent" if view.waiting_messages else ""
    return f"{clean(mqtt.host)}:{mqtt.port} as {mqtt.base}/{mqtt.node}{waiting}"


def _line(row: StatusRow, view: _View) -> tuple[str, ...]:
    presence = row.presence.value
    if row.presence_since is not None:
        presence += f" for {length(max(0.0, (view.now - row.presence_since).total_seconds()))}"
    return (
        clean(row.camera.id),
        presence,
        _off(view.clocks.get(row.camera.id), view.now),
        str(row.pending_gaps) if row.pending_gaps else "-",
        length(row.missing_s) if row.missing_s else "-",
        _doing(row, view),
        _result(row.last),
    )


def _off(clock: DeviceClock | None, now: datetime) -> str:
    """Return how far a camera's clock is from the recorder's, and how long ago that was measured."""
    if clock is None:
        return "-"
    return f"{clock.offset_s:+.1f} s, {length(max(0.0, (now - clock.measured_at).total_seconds()))} ago"


def _doing(row: StatusRow, view: _View) -> str:
    if not row.camera.wants_fills:
        return "fills are off"
    if row.running is not None and view.daemon.running is not False:
        return progress_words(row.running, view.now)
    if row.parked is not None:
        return f"parked: {row.parked.reason}"
    return "waiting" if row.pending_gaps else "-"


def progress_words(attempt: Attempt, now: datetime) -> str:
    """Return how far a running try is: share of what it wants, bytes, and bytes per second so far."""
    share = min(1.0, attempt.got_s / attempt.wanted_s) if attempt.wanted_s else 0.0
    took_s = max(0.001, (now - attempt.started_at).total_seconds())
    return (
        f"fetching {length(attempt.wanted_s)}: {share:.0%}, {size(attempt.bytes)}, {size(attempt.bytes / took_s)}/s"
    )


def _result(last: Attempt | None) -> str:
    if last is None or last.reason is None:
        return "-"
    if last.reason in _GOOD:
        text = in_words(last.reason).words + (f", {length(last.got_s)}" if last.got_s else "")
    else:
        text = f"{last.reason}: {clean(last.detail, 120)}".removesuffix(": ")
        text += f" ({length(last.got_s)} of {length(last.wanted_s)} came)" if last.got_s else ""
    return f"{second(last.ended_at)}  {text}"


def _troubles(rows: Sequence[StatusRow]) -> list[Reason]:
    found = [row.parked.reason for row in rows if row.parked is not None]
    found += [row.last.reason for row in rows if row.pending_gaps and row.last is not None and row.last.reason]
    return [reason for reason in found if reason not in _GOOD]


def _facts(view: _View, settings: Settings) -> dict[str, object]:
    mqtt = settings.mqtt
    return {
        "at": view.now,
        "database": {"path": str(settings.database.path), "mode": view.mode, "prepared": view.prepared},
        "recordings": {
            "path": str(settings.recordings.path),
            "free_mb": round(view.free_mb) if view.free_mb is not None else None,
            "error": clean(view.folder_trouble) or None,
        },
        "daemon": {"running": view.daemon.running, "pid": view.daemon.pid},
        "mqtt": {"host": mqtt.host, "port": mqtt.port, "waiting": view.waiting_messages} if mqtt.host else None,
        "pending_gaps": sum(row.pending_gaps for row in view.cameras),
        "missing_s": round(sum(row.missing_s for row in view.cameras), 3),
        "cameras": [_camera_facts(row, view.clocks.get(row.camera.id)) for row in view.cameras],
    }


def _camera_facts(row: StatusRow, clock: DeviceClock | None) -> dict[str, object]:
    parked = row.parked
    return {
        "camera": row.camera.id,
        "name": clean(row.camera.name),
        "fills": row.camera.wants_fills,
        "presence": row.presence,
        "since": instant(row.presence_since) if row.presence_since else None,
        "pending_gaps": row.pending_gaps,
        "missing_s": round(row.missing_s, 3),
        "parked": {"reason": parked.reason, "detail": clean(parked.detail), "since": instant(parked.since)}
        if parked
        else None,
        "clock": {
            "device": clock.device,
            "offset_s": round(clock.offset_s, 3),
            "spread_s": round(clock.spread_s, 3),
            "samples": clock.samples,
            "measured_at": instant(clock.measured_at),
        }
        if clock
        else None,
        "running": attempt_facts(row.running),
        "last": attempt_facts(row.last),
    }
