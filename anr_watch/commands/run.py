"""`anr-watch run`: the daemon in the foreground. It only loads settings and log; `daemon.py` does the rest."""

from __future__ import annotations

import argparse
import asyncio

from anr_watch import log
from anr_watch.clock import SystemClock
from anr_watch.commands.invocation import load_settings
from anr_watch.config import Settings

_LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.add_argument("--log-level", choices=_LEVELS, help="more or fewer log lines than [log] level says")


def run(args: argparse.Namespace) -> int:
    """Run the daemon until SIGTERM or SIGINT; `--json` turns the log into JSON lines."""
    settings = load_settings(args, quiet=False)
    if args.log_level:
        log.set_up(level=args.log_level, json=args.json or settings.log.format == "json")
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    # A wrong configuration was said before these imports, which take 0.2 s.
    from anr_watch.replay.process import Workers  # noqa: PLC0415 - see above

    async with Workers() as workers:
        await workers.launch()  # it takes as long to load, meanwhile
        from anr_watch.daemon import run_daemon  # noqa: PLC0415 - see above

        return await run_daemon(settings, SystemClock(), workers)
