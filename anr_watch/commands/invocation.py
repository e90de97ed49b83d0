"""What every command needs before it can begin: the settings it was told to use, and a log. It decides nothing."""

from __future__ import annotations

import argparse
import os

from anr_watch import log
from anr_watch.config import Settings, load


def load_settings(args: argparse.Namespace, *, quiet: bool = True) -> Settings:
    """Return the settings of `args.config` and the environment, and set the log up.

    Args:
        args: with `config` and `json`, as `cli.parse` returns them.
        quiet: a command that answers a person says itself what went wrong: only errors are logged, unless
            `[log] level` asks for `debug`.

    Raises:
        ConfigError: with every problem.
    """
    settings = load(args.config, os.environ)
    level = settings.log.level
    if quiet and level != "debug":
        level = "error"
    log.set_up(level=level, json=settings.log.format == "json" or (args.json and not quiet))
    return settings
