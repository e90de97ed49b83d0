"""`anr-watch retry`: makes gaps pending again and lets a parked camera be asked. It fetches nothing itself."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.given import known_camera
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import opened
from anr_watch.commands.running import daemon_on
from anr_watch.commands.screen import clean, emit, show
from anr_watch.config import Settings
from anr_watch.errors import UsageError
from anr_watch.model import Gap
from anr_watch.states import FillState
from anr_watch.store import Store

_FEWEST_CHARACTERS = 8  # of an id's beginning
_LOOKED_THROUGH = 100_000  # newest gaps in which a shortened id is looked for


@dataclass(frozen=True, slots=True)
class _Done:
    gaps: int
    unparked: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `retry`: exactly one of the three."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("gap", nargs="?", metavar="GAP", help="id of a gap, or its first characters (at least 8)")
    what.add_argument("--camera", metavar="ID", help="all gaps of this camera that are not filled and not too old")
    what.add_argument("--all", action="store_true", help="all gaps that are not filled and not too old")


def run(args: argparse.Namespace) -> int:
    """Reset the gaps and say whether somebody is there to fetch them."""
    settings = load_settings(args)
    done = asyncio.run(_retry(settings, SystemClock(), args))
    daemon = daemon_on(settings.recordings.path)
    if args.json:
        emit({"gaps": done.gaps, "unparked": list(done.unparked), "daemon_running": daemon.running})
        return 0
    show(f"{done.gaps} gap{'' if done.gaps == 1 else 's'} to be tried again")
    for camera_id in done.unparked:
        show(f"camera {clean(camera_id)} is asked again (it was parked)")
    if daemon.running is False and done.gaps:
        show("no anr-watch is running on these recordings: it happens when it is started (anr-watch run)")
    return 0


async def _retry(settings: Settings, clock: Clock, args: argparse.Namespace) -> _Done:
    async with opened(settings, clock, readonly=False) as store:
        look = await store.look(now=clock.now())
        if args.gap is not None:
            gap = await _gap(store, args.gap)
            chosen, count = [gap.camera_id], await store.retry(gap_id=gap.id)
        else:
            chosen = sorted(look.cameras) if args.all else [known_camera(args.camera, look.cameras)]
            count = sum([await store.retry(camera_id=camera_id) for camera_id in chosen])
        return _Done(count, tuple(camera_id for camera_id in chosen if camera_id in look.parked))


async def _gap(store: Store, given: str) -> Gap:
    if not given.isprintable():  # bytes that are no UTF-8 come as lone surrogates, which the database does not take
        raise UsageError(f"no gap {clean(given, 80)!r} (see: anr-watch gaps)")
    gap = await store.gap(given)
    if gap is None and len(given) >= _FEWEST_CHARACTERS:
        rows = await store.gaps(limit=_LOOKED_THROUGH)
        near = [row.gap for row in rows if row.gap.id.startswith(given)]
        if len(near) > 1:
            raise UsageError(f"{len(near)} gaps begin with {clean(given, 80)!r}: give more of the id")
        gap = near[0] if near else None
    if gap is None:
        raise UsageError(f"no gap {clean(given, 80)!r} (see: anr-watch gaps)")
    if gap.state is FillState.FILLED:
        raise UsageError(f"gap {clean(gap.id, 80)} is filled already (to fetch a window anew: anr-watch fill)")
    return gap
