"""`anr-watch status`: one screen about database, daemon and cameras. It only reads, also beside a running daemon."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from datetime import timedelta

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.coverage import lanes
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import attempt_facts, opened
from anr_watch.commands.running import daemon_on
from anr_watch.commands.screen import clean, emit, instant, show
from anr_watch.commands.status_screen import HOURS, View, screen
from anr_watch.config import Settings
from anr_watch.errors import AnrWatchError, ReplayRefused, StorageError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.holding import not_mounted
from anr_watch.footage.names import NamePattern
from anr_watch.model import Camera, Window
from anr_watch.replay.urls import device_of
from anr_watch.store import StatusRow

_REDRAW_S = 2.0
# The terminal's alternate screen: what stood on it before is there again afterwards. Each line is cleared behind its
# end, so that nothing flickers.
_ENTER, _HOME, _LINE_END, _BELOW, _LEAVE = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[H",
    "\x1b[K\n",
    "\x1b[J",
    "\x1b[?25h\x1b[?1049l",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `status` takes."""
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"show it again every {_REDRAW_S:g} s, until Ctrl-C (a line each with --json)",
    )


def run(args: argparse.Namespace) -> int:
    """Show how things stand."""
    settings, clock = load_settings(args), SystemClock()
    if args.watch:
        asyncio.run(_watch(settings, clock, as_json=args.json))
        return 0
    view = asyncio.run(_look(settings, clock))
    if args.json:
        emit(_facts(view, settings))
    else:
        for line in screen(view, settings):
            show(line)
    return 0


async def _watch(settings: Settings, clock: Clock, *, as_json: bool) -> None:
    """Show it again and again until Ctrl-C; a database that cannot be read for a while is said in its place."""
    drawn = not as_json and sys.stdout.isatty()
    if drawn:
        sys.stdout.write(_ENTER)
    try:
        while True:
            try:
                view = await _look(settings, clock)
                facts, lines = _facts(view, settings), list(screen(view, settings))
            except AnrWatchError as error:
                text = clean(str(error))
                facts, lines = {"at": clock.now(), "error": text}, [f"anr-watch: {text}"]
            if as_json:
                emit(facts)
            elif drawn:
                _draw("\n".join(lines).split("\n"))
            else:
                show("\n".join([*lines, ""]))
            await clock.sleep(_REDRAW_S)
    except asyncio.CancelledError:  # Ctrl-C is how watching ends: it is no failure
        pass
    finally:
        if drawn:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()


def _draw(lines: list[str]) -> None:
    """Put the screen's lines over those of the last time, as many as the terminal has room for."""
    room = shutil.get_terminal_size().lines - 1
    sys.stdout.write(_HOME + "".join(line + _LINE_END for line in lines[:room]) + _BELOW)
    sys.stdout.flush()


async def _look(settings: Settings, clock: Clock) -> View:
    free_mb, trouble = None, ""
    try:
        pattern = NamePattern(settings.recordings.name_pattern)
        free_mb = Recordings(settings.recordings.path, pattern, clock).free_mb()
    except StorageError as error:  # shown in its place: the database may still be readable
        trouble = str(error)
    async with opened(settings, clock) as store:
        now = clock.now()
        root = settings.recordings.path.absolute()
        trouble = trouble or not_mounted(root, await store.recordings_home(root))
        rows, clocks, paces = await store.status_rows(), await store.clocks(), await store.paces()
        devices = {row.camera.id: _device(row.camera) for row in rows}
        day = Window(now - timedelta(hours=HOURS), now)
        return View(
            now=now,
            mode=store.mode,
            prepared=store.prepared,
            cameras=rows,
            lanes={lane.camera_id: lane for lane in await lanes(store, [row.camera.id for row in rows], day)},
            clocks={id_: found for id_, device in devices.items() if (found := clocks.get(device)) and found.samples},
            paces={id_: pace for id_, device in devices.items() if (pace := paces.get(device))},
            waiting_messages=await store.outbox_depth(),
            daemon=daemon_on(settings.recordings.path),
            free_mb=free_mb,
            folder_trouble=trouble,
        )


def _device(camera: Camera) -> str:
    """Return the device that is asked for a camera's footage, empty if there is nothing to ask."""
    try:
        return str(device_of(camera))
    except ReplayRefused:
        return ""


def _facts(view: View, settings: Settings) -> dict[str, object]:
    mqtt = settings.mqtt
    return {
        "node": mqtt.node,
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
        "cameras": [_camera_facts(row, view) for row in view.cameras],
    }


def _camera_facts(row: StatusRow, view: View) -> dict[str, object]:
    parked, clock, pace = row.parked, view.clocks.get(row.camera.id), view.paces.get(row.camera.id)
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
        "slowed": {
            "max_bytes_s": round(pace.max_bytes_s),
            "falters": pace.falters,
            "faltered_at": instant(pace.faltered_at),
            "next_at": instant(pace.next_at),
        }
        if pace
        else None,
        "running": attempt_facts(row.running),
        "last": attempt_facts(row.last),
    }
