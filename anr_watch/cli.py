"""The command line: parser, choice of the command, exit status. It may import nothing a command needs to run.

`anr-watch --version` and `--help` cost one interpreter and argparse; a command's module is imported only when that
command is the one asked for.

Exit status: 0 done; 1 it did not work (one line says why); 2 wrong usage or configuration; 70 a defect of ours
(one line; the trace at log level debug); 130 and 143 stopped by SIGINT and SIGTERM; 141 the reader
of our output left.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol, cast

from anr_watch import __version__
from anr_watch.commands.catalogue import COMMANDS, Command
from anr_watch.errors import AnrWatchError, ConfigError, UsageError
from anr_watch.log import one_line, redact


class Exit(IntEnum):
    """The exit statuses that `main` itself decides."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DEFECT = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT
    PIPE = 141  # 128 + SIGPIPE


class CommandModule(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own options and arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit status."""


_DESCRIPTION = """\
Watches for cameras that come back, fetches what they recorded meanwhile from their own storage, and puts it into
the recorder's timeline.
"""
_EPILOGUE = """\
`--config` and `--json` may stand before or after the command. Times are UTC.
anr-watch COMMAND --help shows the command's options and examples.
"""
# A length of time with a minus in front, which argparse would take for an option.
_AGE = re.compile(r"-\d+(\.\d+)?[a-z]{1,3}", re.ASCII)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; argparse would print the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {one_line(message)} (see: {self.prog} --help)\n")


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser; only the `chosen` command knows its own options, the others are names with a line."""
    parser = _Parser(
        prog="anr-watch",
        description=_DESCRIPTION,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"anr-watch {__version__}", help="print the version and end"
    )
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, command in COMMANDS.items():
        under = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  {line}" for line in command.examples) + "\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            conflict_handler="resolve",  # a command may bring its own --json: the common one replaces it
        )
        if name == chosen:
            _module(command).add_arguments(under)
            _add_common(under)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: what was given before the command must not be overwritten by a default after it.
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=argparse.SUPPRESS,
        help="default: ./config.toml, else /etc/anr-watch/config.toml, else the built-in defaults",
    )
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs")


def _module(command: Command) -> CommandModule:
    return cast("CommandModule", import_module(command.module))


def chosen_command(argv: Sequence[str]) -> str | None:
    """Return the first argument that is neither an option nor the value of `--config`, or None."""
    words = iter(argv)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments with `command`, `config` (a path or None) and `json` always present.

    Raises:
        UsageError: no command, or one that does not exist.
        SystemExit: after `--help`, `--version`, and for wrong options (one line is on stderr).
    """
    chosen = chosen_command(argv)
    if chosen is not None and chosen not in COMMANDS:
        near = get_close_matches(chosen, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise UsageError(f"no command {chosen!r}: {hint}")
    # In front of an age goes a blank, so that argparse takes it for an argument.
    words = [f" {word}" if _AGE.fullmatch(word) else word for word in argv]
    args = build_parser(chosen).parse_args(words)
    if chosen is None:
        raise UsageError(f"which command? there are {', '.join(COMMANDS)} (see: anr-watch --help)")
    args.json = getattr(args, "json", False)
    args.config = getattr(args, "config", None)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; nothing but a defect of Python itself leaves as an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter gets its number
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return status


def _run(argv: Sequence[str]) -> int:
    try:
        args = parse(argv)
        return _module(COMMANDS[args.command]).run(args)
    except SystemExit as left:  # argparse has said what there was to say
        return left.code if isinstance(left.code, int) else Exit.USAGE
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the outermost rim: whatever it is becomes one line and a status
        return _explain(error)


def _explain(error: Exception) -> int:
    cause = next((leaf for leaf in _leaves(error) if isinstance(leaf, AnrWatchError)), None)
    if isinstance(cause, ConfigError):
        for problem in cause.problems:
            _say(f"{cause.source}: {problem}")
        return Exit.USAGE
    if cause is not None:
        _say(str(cause))
        return Exit.USAGE if isinstance(cause, UsageError) else Exit.FAILED
    leaf = next(_leaves(error))
    if isinstance(leaf, BrokenPipeError):
        raise leaf
    _say(f'a defect of anr-watch: {type(leaf).__name__}: {leaf} (the trace: [log] level = "debug")')
    logging.getLogger("anr_watch.cli").debug("defect", exc_info=error)
    return Exit.DEFECT


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the errors that a TaskGroup has bundled."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads our complaint: the exit status still says it
        sys.stderr.write(f"anr-watch: {one_line(redact(text))}\n")
        sys.stderr.flush()


def _let_go_of_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at the end does not complain."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout has no descriptor, or is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
