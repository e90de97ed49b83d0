"""How values look to a person and to a program: times, lengths, tables, JSON lines. It knows no command.

Whatever came from outside (camera names, a device's words, rows somebody else wrote) passes `clean`, so that
nothing can colour or forge lines on the terminal and no URL shows its credentials.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from anr_watch.drawing.lanes import LOOKS
from anr_watch.log import json_line, one_line, redact
from anr_watch.replay.urls import mask_url

_COLOURS = {"ok": "32", "warn": "33", "FAIL": "31", "filled": "32", "failed": "31", "online": "32", "offline": "31"}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PAINT = {
    look.glyph: "\x1b[38;2;{};{};{}m{}\x1b[0m".format(*bytes.fromhex(look.colour.removeprefix("#")), look.glyph)
    for look in LOOKS.values()
}


def clean(text: str, limit: int = 300) -> str:
    """Return `text` as one printable line without credentials."""
    return one_line(mask_url(redact(text)), limit)


def instant(at: datetime | None) -> str:
    """Return a UTC instant to the second, or to the millisecond where it has a fraction; `-` for None."""
    if at is None:
        return "-"
    utc = at.astimezone(UTC)
    fraction = f".{utc.microsecond // 1000:03}" if utc.microsecond else ""
    return f"{utc:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"


def second(at: datetime | None) -> str:
    """Return a UTC instant cut to the second, for tables people read."""
    return instant(None if at is None else at.replace(microsecond=0))


def length(seconds: float) -> str:
    """Return a length of time with at most two units: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `4 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def until(at: datetime | None, now: datetime) -> str:
    """Return when something is due, as seen from `now`."""
    if at is None:
        return "-"
    return "now" if at <= now else f"in {length((at - now).total_seconds())}"


def size(count: float) -> str:
    """Return a number of bytes in the unit that suits it (1 kB = 1000 B)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def coloured(word: str) -> str:
    """Return a word of state in its colour, if stdout is a terminal that wants colours (NO_COLOR unset)."""
    colour = _COLOURS.get(word.strip())
    return f"\x1b[{colour}m{word}\x1b[0m" if colour and _wants_colours() else word


def painted_bar(letters: str) -> str:
    """Return a bar of `drawing.bar` in the colours of its kinds, if stdout is a terminal that wants colours."""
    if not _wants_colours():
        return letters
    return "".join(_PAINT.get(letter, letter) for letter in letters)


def _wants_colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header in columns as wide as their longest cell; no cell is cut."""
    lines = [header, *rows]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            coloured(cell + " " * (width - _width(cell))) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _width(cell: str) -> int:
    """Return how many columns a cell takes: its colours take none."""
    return len(_COLOUR.sub("", cell))


def show(text: str = "") -> None:
    """Print a line at once: a reader at the other end of a pipe sees it when it happens."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def emit(value: Mapping[str, object]) -> None:
    """Print one JSON object as a line. Times become RFC 3339 with `Z`."""
    try:
        line = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # a lone surrogate in a text from the database: the only thing orjson refuses
        line = orjson.dumps(_encodable(value), option=orjson.OPT_UTC_Z)
    show(json_line(line.decode()))


def _encodable(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case Mapping():
            return {str(key): _encodable(item) for key, item in value.items()}
        case list() | tuple():
            return [_encodable(item) for item in value]
        case _:
            return value
