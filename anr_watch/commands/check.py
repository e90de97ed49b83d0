"""`anr-watch check`: says in plain words what would stop a fill, from the configuration to each camera's replay.

It leaves nothing behind: one test file in the staging folder is removed again, footage goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.check_broker import check_broker
from anr_watch.commands.check_camera import check_cameras
from anr_watch.commands.check_disk import check_database_file, check_recordings
from anr_watch.commands.check_names import check_names
from anr_watch.commands.check_secrets import check_secret_files
from anr_watch.commands.findings import Finding, Level, fail, ok, warn
from anr_watch.commands.given import known_camera
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import opened
from anr_watch.commands.running import daemon_on
from anr_watch.commands.screen import clean, coloured, emit, show
from anr_watch.config import Settings
from anr_watch.errors import AnrWatchError, ContractError, StoreUnavailable, UsageError
from anr_watch.metrics.library import lacking
from anr_watch.model import Camera, Window
from anr_watch.store import Mode, Parked, Store

_SHOWN_ROWS = 5  # unreadable rows that are named


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says that the later checks need."""

    cameras: dict[str, Camera]
    parked: dict[str, Parked]
    newest: dict[str, Window]  # per camera its newest footage
    running: frozenset[str]  # cameras with a fill at work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    parser.add_argument("--camera", metavar="ID", help="of the cameras this one only, also if its fills are off")
    parser.add_argument("--no-replay", action="store_true", help="do not ask the cameras for footage")


def run(args: argparse.Namespace) -> int:
    """Check everything and return 1 if a fill could not work."""
    settings = load_settings(args)
    return asyncio.run(_report(settings, SystemClock(), args))


async def _report(settings: Settings, clock: Clock, args: argparse.Namespace) -> int:
    counts = dict.fromkeys(Level, 0)

    def tell(finding: Finding) -> None:
        counts[finding.level] += 1
        _show(finding, as_json=args.json)

    await _check(settings, clock, args, tell)
    bad, odd = counts[Level.FAIL], counts[Level.WARN]
    if args.json:
        emit({"ok": bad == 0, "failures": bad, "warnings": odd})
    elif bad:
        show(f"\n{bad} problem{'s' if bad != 1 else ''} to solve" + (f", {odd} to look at" if odd else ""))
    else:
        show("\nfills can work" + (f"; {odd} to look at" if odd else ""))
    return 1 if bad else 0


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        facts = {key: clean(value) if isinstance(value, str) else value for key, value in finding.facts.items()}
        about, _, camera = finding.about.partition(" ")
        emit(
            {
                "level": finding.level,
                "about": about,
                "camera": camera or None,
                "text": clean(finding.text, 500),
                "advice": clean(finding.advice, 500) or None,
                **facts,
            }
        )
        return
    show(f"{coloured(finding.level.ljust(4))}  {clean(finding.about)}: {clean(finding.text, 500)}")
    if finding.advice:
        show(f"      {clean(finding.advice, 500)}")


async def _check(settings: Settings, clock: Clock, args: argparse.Namespace, tell: Callable[[Finding], None]) -> None:
    known, of_database = await _database(settings, clock, args.camera)
    tell(ok("config", "built-in defaults, no file" if settings.source == "defaults" else settings.source))
    for finding in await asyncio.to_thread(check_secret_files, settings.source):
        tell(finding)
    if problem := lacking(settings.metrics.listen):
        tell(fail("config", str(problem)))
    for finding in of_database:
        tell(finding)
    camera_ids = [camera.id for camera in known.cameras.values() if camera.wants_fills] if known else []
    for finding in await asyncio.to_thread(check_recordings, settings, clock, camera_ids):
        tell(finding)
    for finding in await asyncio.to_thread(check_names, settings, clock, known.cameras) if known else []:
        tell(finding)
    daemon = daemon_on(settings.recordings.path)
    tell(ok("daemon", str(daemon), running=daemon.running, pid=daemon.pid))
    for finding in await check_broker(settings.mqtt):
        tell(finding)
    if known is None:
        return
    for finding in _names_of_no_camera(settings, known):
        tell(finding)
    if not known.cameras:
        tell(fail("cameras", "there are none", _no_cameras(settings)))
    await check_cameras(
        [camera for camera_id, camera in sorted(known.cameras.items()) if args.camera in (None, camera_id)],
        settings,
        clock,
        newest=known.newest,
        parked=known.parked,
        busy=known.running,
        ask=not args.no_replay,
        even_if_off=args.camera is not None,
        tell=tell,
    )


async def _database(settings: Settings, clock: Clock, camera_id: str | None) -> tuple[Known | None, list[Finding]]:
    """Return what the database says, or None with the reason among the findings.

    Raises:
        UsageError: there is no camera `camera_id`.
    """
    try:
        async with opened(settings, clock) as store:
            known = await _known(store, settings)
            if camera_id is not None:
                known_camera(camera_id, known.cameras)
            return known, await _of_database(store, settings, known, clock)
    except UsageError:
        raise
    except StoreUnavailable as error:
        if settings.cameras and settings.database.mode != "heldar" and not settings.database.path.exists():
            known = _configured(settings)
            if camera_id is not None:
                known_camera(camera_id, known.cameras)
            return known, [ok("database", f"{settings.database.path}: not there yet, `anr-watch run` creates it")]
        advice = 'set [database] path to Heldar\'s database; without Heldar: mode = "standalone" and a [[camera]]'
        return None, [fail("database", str(error), advice)]
    except ContractError as error:
        advice = "[database] path must name Heldar's database, or a new file for a standalone anr-watch"
        return None, [fail("database", str(error), advice)]
    except AnrWatchError as error:
        return None, [fail("database", str(error))]


def _configured(settings: Settings) -> Known:
    """Return the cameras as a standalone database will have them."""
    cameras = {
        camera.id: Camera(
            id=camera.id,
            name=camera.name or camera.id,
            vendor=camera.vendor,
            address=camera.address or None,
            rtsp_port=camera.rtsp_port,
            username=camera.username or None,
            password=camera.password or None,
            record_stream=camera.record_stream,
            record_audio=camera.record_audio,
            segment_s=camera.segment_s,
            enabled=camera.enabled,
            anr_enabled=True,
            replay_url_template=camera.replay_url_template or None,
            options=camera.options,
        )
        for camera in settings.cameras
    }
    return Known(cameras, {}, {}, frozenset())


async def _known(store: Store, settings: Settings) -> Known:
    """Return the cameras the next start will know: standalone, those of the configuration as it is now."""
    rows = await store.status_rows()
    cameras = {row.camera.id: row.camera for row in rows}
    newest = {row.camera.id: await store.newest_segment(row.camera.id) for row in rows}
    return Known(
        cameras=_configured(settings).cameras if store.mode is Mode.STANDALONE else cameras,
        parked=await store.parked(),
        newest={camera_id: segment.window for camera_id, segment in newest.items() if segment is not None},
        running=frozenset(row.camera.id for row in rows if row.running is not None),
    )


async def _of_database(store: Store, settings: Settings, known: Known, clock: Clock) -> list[Finding]:
    path = settings.database.path
    look = await store.look(now=clock.now())
    wanted = sum(camera.wants_fills for camera in known.cameras.values())
    found = [
        ok(
            "database",
            f"{path}: {store.mode}, cameras: {len(known.cameras)} ({wanted} with fills on),"
            f" pending gaps: {len(look.gaps)}",
            mode=store.mode,
            cameras=len(known.cameras),
            pending_gaps=len(look.gaps),
        )
    ]
    found += [
        warn("database", f"row {row_id} cannot be read and is ignored: {why}")
        for row_id, why in look.malformed[:_SHOWN_ROWS]
    ]
    if len(look.malformed) > _SHOWN_ROWS:
        found.append(warn("database", f"{len(look.malformed) - _SHOWN_ROWS} more rows cannot be read"))
    dropped = await store.outbox_dropped()
    if dropped:
        found.append(
            warn("database", f"{dropped} messages for the broker were dropped, because it was away too long")
        )
    if store.mode is Mode.HELDAR and settings.cameras:
        found.append(
            warn(
                "config",
                "[[camera]] is ignored: beside Heldar the cameras come from its database",
                "say how a camera is asked in [cameras.<id>]",
            )
        )
    return found + await asyncio.to_thread(check_database_file, path)


def _names_of_no_camera(settings: Settings, known: Known) -> list[Finding]:
    """Find ids in the configuration that no camera has: a typing error there says nothing by itself."""
    named = [(f"[cameras.{camera_id}]", camera_id) for camera_id in settings.overrides]
    for rule in settings.mqtt.presence:
        named += [
            (f"[[mqtt.presence]] {rule.name or rule.topic}: names", camera_id) for camera_id in rule.names.values()
        ]
    found = []
    for where, camera_id in named:
        if camera_id not in known.cameras:
            near = get_close_matches(camera_id, known.cameras, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "the database has no such camera"
            found.append(warn("config", f"{where}: no camera {camera_id!r}: {hint}"))
    return found


def _no_cameras(settings: Settings) -> str:
    if settings.database.mode == "heldar":
        return "add one in Heldar, with anr_enabled"
    return "add one in Heldar, with anr_enabled, or a [[camera]] here"
