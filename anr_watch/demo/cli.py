"""`anr-watch demo`: its options, its folder, and its exit status; the story is told elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import math
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anr_watch.clock import SystemClock
from anr_watch.demo.children import ChildFailedError, Children
from anr_watch.demo.show import JsonShow, Show, TextShow
from anr_watch.demo.stage import Stage
from anr_watch.demo.story import Story, StoryOptions
from anr_watch.errors import UsageError
from anr_watch.log import one_line

MAX_CAMERAS = 8
_TERMINATED = 128 + signal.SIGTERM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo`; `--json` comes with every command."""
    add = parser.add_argument
    add("--cameras", type=int, default=2, metavar="N", help=f"simulated cameras, 1 to {MAX_CAMERAS} (default: 2)")
    add("--outage", type=float, default=20.0, metavar="S", help="how long the network is cut (default: 20 s)")
    add("--keep", type=Path, metavar="DIR", help="leave config, database, recordings and logs there")


def run(args: argparse.Namespace) -> int:
    """Play the demo and remove all traces of it, unless `--keep` says otherwise.

    Returns:
        0 if nothing is missing in the end, 1 if something is or a process failed, 128 + 15 after SIGTERM.

    Raises:
        UsageError: an option that makes no sense.
    """
    if not 1 <= args.cameras <= MAX_CAMERAS:
        raise UsageError(f"--cameras {args.cameras}: right is 1 to {MAX_CAMERAS}")
    if not (math.isfinite(args.outage) and 4 <= args.outage <= 600):
        raise UsageError(f"--outage {args.outage:g}: right is 4 to 600 (holes of 3 s are none)")
    options = StoryOptions(cameras=args.cameras, outage_s=args.outage, keep=args.keep is not None)
    show: Show = JsonShow() if getattr(args, "json", False) else TextShow()
    try:
        with _folder(args.keep) as folder:
            return asyncio.run(_play(options, folder, show))
    finally:
        show.close()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder to play in; a temporary one is removed, however the demo ends."""
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
            taken = any(keep.iterdir())
        except OSError as error:
            raise UsageError(f"--keep {keep}: {error.strerror}") from None
        if taken:
            raise UsageError(f"--keep {keep}: the folder must be empty or not exist yet")
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="anr-watch-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _play(options: StoryOptions, folder: Path, show: Show) -> int:
    main, terminated = asyncio.current_task(), False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        if main is not None:
            main.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, terminate)
    clock = SystemClock()
    try:
        async with Children(folder / "logs") as children:
            stage = Stage(folder, children, clock)
            stage.prepare()
            summary = await Story(options, stage, show, clock).run(children)
    except asyncio.CancelledError:
        if terminated:
            return _TERMINATED
        raise
    except BaseExceptionGroup as group:  # the children's group bundles whatever goes wrong in it
        failed = group.subgroup(ChildFailedError)
        if failed is None:
            raise
        show.close()
        _explain(failed)
        return 1
    show.summary(summary)
    return 0 if summary.ok else 1


def _explain(failed: BaseExceptionGroup[BaseException]) -> None:
    """Say on stderr which process failed, with the end of its log."""
    for error in failed.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _explain(error)
            continue
        with suppress(OSError):
            for line in error.tail if isinstance(error, ChildFailedError) else ():
                sys.stderr.write(f"    {one_line(line)}\n")
            sys.stderr.write(f"anr-watch demo: {one_line(str(error))}\n")
