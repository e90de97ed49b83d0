"""`anr-watch timeline`: the coverage of all cameras over a stretch of time, as bars or a picture. It only reads."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.coverage import lanes
from anr_watch.commands.given import known_camera, parse_window
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import opened
from anr_watch.commands.screen import clean, emit, instant, length, painted_bar, second, show
from anr_watch.config import Settings
from anr_watch.drawing.bar import bar, legend
from anr_watch.drawing.lanes import Kind, Lane
from anr_watch.errors import StorageError, UsageError
from anr_watch.model import Window

_KINDS = (".svg", ".html", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `timeline` takes."""
    parser.add_argument("--from", dest="start", default="-24h", metavar="TIME", help="default: -24h")
    parser.add_argument("--to", dest="end", default="now", metavar="TIME", help="default: now")
    parser.add_argument("--camera", metavar="ID", action="append", help="only this camera; may be given again")
    parser.add_argument("--zone", default="UTC", help="times of the picture: UTC (default), local, or Europe/Berlin")
    parser.add_argument(
        "-o", "--output", type=_picture, metavar="FILE", help="write a picture: .svg, .html or .png (default: bars)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw it."""
    settings, clock = load_settings(args), SystemClock()
    window = parse_window(args.start, args.end, clock.now())
    zone = _zone(args.zone)
    found = asyncio.run(_read(settings, clock, window, args.camera))
    if args.output is not None:
        _write(args.output, found, window, zone)
    if args.json:
        for lane in found:
            emit(_facts(lane, window))
    elif args.output is None:
        _bars(found, window)
    else:
        cameras = f"{len(found)} camera{'s' if len(found) != 1 else ''}"
        show(f"{args.output}: {cameras}, {length(window.seconds)}; {_sum(found)}")
    return 0


async def _read(settings: Settings, clock: Clock, window: Window, wanted: Sequence[str] | None) -> list[Lane]:
    async with opened(settings, clock) as store:
        known = (await store.look(now=clock.now())).cameras
        chosen = [known_camera(camera_id, known) for camera_id in wanted] if wanted else sorted(known)
        return await lanes(store, dict.fromkeys(chosen), window, only=bool(wanted))


def _write(path: Path, found: Sequence[Lane], window: Window, zone: tzinfo) -> None:
    from anr_watch.drawing.html import html  # noqa: PLC0415 - drawing is imported only when something is drawn
    from anr_watch.drawing.png import png  # noqa: PLC0415 - same
    from anr_watch.drawing.scene import scene  # noqa: PLC0415 - same
    from anr_watch.drawing.svg import svg  # noqa: PLC0415 - same

    start, end = (f"{at.astimezone(zone):%Y-%m-%d %H:%M %Z}" for at in (window.start, window.end))
    picture = scene(found, window, zone, f"anr-watch: footage from {start} to {end}. {_sum(found)}")
    match path.suffix.lower():
        case ".png":
            data = png(picture)
        case ".html":
            data = html(picture, found, zone).encode()
        case _:
            data = svg(picture).encode()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def _bars(found: Sequence[Lane], window: Window) -> None:
    if not found:
        show("no cameras")
        return
    names = [clean(lane.camera_id, 40) for lane in found]
    gutter = max(len(name) for name in names)
    count = max(24, min(shutil.get_terminal_size().columns - gutter - 24, 144))
    show(f"{second(window.start)} to {second(window.end)}, a letter is {length(window.seconds / count)}")
    for name, lane in zip(names, found, strict=True):
        show(f"{name.ljust(gutter)}  {painted_bar(bar(lane, window, count))}  {_missing(lane)}".rstrip())
    show()
    show(f"{legend()}   {_sum(found)}")


def _missing(lane: Lane) -> str:
    missing_s, lost_s = lane.seconds(Kind.MISSING), lane.seconds(Kind.LOST)
    parts = [f"{length(missing_s)} missing" if missing_s else "", f"{length(lost_s)} lost" if lost_s else ""]
    return ", ".join(part for part in parts if part)


def _sum(found: Sequence[Lane]) -> str:
    sums = {kind: sum(lane.seconds(kind) for lane in found) for kind in Kind}
    words = [f"{length(sums[kind])} {kind.value}" for kind in (Kind.FILLED, Kind.MISSING, Kind.LOST) if sums[kind]]
    return ", ".join(words) or "no gap is open"


def _facts(lane: Lane, window: Window) -> dict[str, object]:
    return {
        "camera": lane.camera_id,
        "from": instant(window.start),
        "to": instant(window.end),
        **{f"{kind.name.lower()}_s": round(lane.seconds(kind), 3) for kind in Kind},
        "pieces": [
            {
                "from": instant(piece.window.start),
                "to": instant(piece.window.end),
                "kind": piece.kind.name.lower(),
                **({"why": piece.why} if piece.why else {}),
            }
            for piece in lane.pieces
        ],
    }


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    if name == "local":
        return _local()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"no time zone {clean(name, 40)!r} (right: UTC, local, or a name such as Europe/Berlin)"
        ) from None


def _local() -> tzinfo:
    """Return this machine's zone, with its changes of the year where the system tells its name."""
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC  # what a machine without the file runs on


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in _KINDS:
        raise argparse.ArgumentTypeError(f"{clean(text, 80)!r} does not end in {', '.join(_KINDS)}")
    return path
