"""Replay jobs and events as JSON lines and back; it trusts no line, because a worker reads bytes from the network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.model import Secret, Window
from anr_watch.replay.job import (
    Cause,
    End,
    Ended,
    Event,
    Joined,
    Joint,
    Jump,
    Opened,
    Progress,
    ReplayJob,
    SegmentReady,
    Side,
    TimeSource,
    Unproved,
)
from anr_watch.states import Reason

MAX_LINE_BYTES: Final = 8192  # the longest honest line is below 1 kB plus a detail of 400 characters
MAX_JOB_BYTES: Final = 98_304  # two sides of MAX_PRINTS fingerprints of 27 bytes and sizes of 9 each, and the rest
MAX_PRINTS: Final = 1000  # a side has about 200
MAX_TEXT: Final = 400
_LARGEST: Final = 2**53  # JSON numbers above it are not exact everywhere
_FILE: Final = re.compile(r"\d{4,8}\.mp4", re.ASCII)
_PRINT: Final = re.compile(r"(?:[0-9a-f]{2}){1,12}", re.ASCII)
_NAMES: Final[dict[str, type[Event]]] = {
    "opened": Opened,
    "segment": SegmentReady,
    "progress": Progress,
    "jump": Jump,
    "joined": Joined,
    "ended": Ended,
}
_KINDS: Final = {kind: name for name, kind in _NAMES.items()}
_T = TypeVar("_T")


def event_line(event: Event) -> bytes:
    """Return one event as a line with its newline."""
    return _line({"event": _KINDS[type(event)]} | {f.name: _plain(getattr(event, f.name)) for f in fields(event)})


def job_line(job: ReplayJob) -> bytes:
    """Return a job as a line with its newline. It holds the secret: only for the worker's own pipe."""
    return _line({f.name: _plain(getattr(job, f.name)) for f in fields(job)})


def parse_event(line: bytes) -> Event:
    """Return the event of a line.

    Raises:
        ParseError: too long, no JSON object, an unknown event, or a field that is missing, unknown or out of range.
    """
    values = _object(line, MAX_LINE_BYTES)
    name = values.pop("event", None)
    kind = _NAMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ParseError(f"unknown event {str(name)[:40]!r}")
    return _build(kind, values, _EVENT_FIELDS[kind])


def parse_job(line: bytes) -> ReplayJob:
    """Return the job of a line.

    Raises:
        ParseError: as for `parse_event`; the text never holds the URL.
    """
    return _build(ReplayJob, _object(line, MAX_JOB_BYTES), _JOB_FIELDS)


def _line(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _plain(value: object) -> object:
    match value:
        case Secret():
            return value.reveal()
        case Window():
            return [format_instant(value.start), format_instant(value.end)]
        case datetime():
            return format_instant(value)
        case StrEnum():
            return value.value
        case Path():
            return str(value)
        case tuple():
            return [item.hex() if isinstance(item, bytes) else item for item in value]
        case _:
            return value


def _object(line: bytes, most: int) -> dict[str, Any]:
    if len(line) > most:
        raise ParseError(f"a line of {len(line)} bytes (at most {most})")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ParseError("a line that is no JSON") from None
    if not isinstance(values, dict):
        raise ParseError("a line that is no JSON object")
    return values


def _build(kind: type[_T], values: dict[str, Any], checks: Mapping[str, Callable[[object], object]]) -> _T:
    if values.keys() != checks.keys():
        raise ParseError(f"{kind.__name__}: fields missing or unknown: {sorted(values.keys() ^ checks.keys())}"[:200])
    built: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            built[name] = check(values[name])
        except (ParseError, ValueError, OverflowError):
            raise ParseError(f"{kind.__name__}: {name} is not what it must be") from None
    return kind(**built)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ParseError("number")
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _LARGEST:  # type: ignore[arg-type]
        raise ParseError("number")
    return float(value)  # type: ignore[arg-type]


def _positive(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ParseError("number")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ParseError("text")
    return value


def _url(value: object) -> Secret:
    if not isinstance(value, str) or not value.isprintable():
        raise ParseError("url")
    return Secret(value)


def _path(value: object) -> Path:
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ParseError("path")
    return Path(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ParseError("flag")
    return value


def _file(value: object) -> str:
    if not isinstance(value, str) or not _FILE.fullmatch(value):
        raise ParseError("file")
    return value


def _window(value: object) -> Window:
    if not isinstance(value, list) or len(value) != 2:
        raise ParseError("window")
    return Window(parse_instant(value[0]), parse_instant(value[1]))


def _prints(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_PRINTS:
        raise ParseError("fingerprints")
    if not all(isinstance(text, str) and _PRINT.fullmatch(text) for text in value):
        raise ParseError("fingerprints")
    return tuple(map(bytes.fromhex, value))


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_PRINTS:
        raise ParseError("sizes")
    return tuple(map(_whole, value))


def _instant_or_none(value: object) -> datetime | None:
    return None if value is None else parse_instant(value)


def _status(value: object) -> int | None:
    return None if value is None else _whole(value)


def _cause(value: object) -> Cause:
    text = _text(value)
    return End(text) if text in tuple(End) else Reason(text)


def _one_of(*allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in allowed:
            raise ParseError("choice")
        return str(value)

    return check


_EVENT_FIELDS: Final[dict[type[Event], dict[str, Callable[[object], object]]]] = {
    Opened: {"codec": _text, "width": _whole, "height": _whole, "audio_codec": _text, "after_s": _positive},
    SegmentReady: {
        "file": _file,
        "window": _window,
        "bytes": _whole,
        "frames": _whole,
        "codec": _one_of("h264", "hevc"),
        "width": _whole,
        "height": _whole,
        "clock": lambda value: TimeSource(_text(value)),
    },
    Progress: {"bytes": _whole, "until": _instant_or_none},
    Jump: {"at": parse_instant, "by_s": _number},
    Joined: {
        "side": lambda value: Side(_text(value)),
        "kind": lambda value: Joint(_text(value)),
        "offset_s": lambda value: None if value is None else _number(value),
        "run": _whole,
        "detail": _text,
        "tolerance_s": lambda value: None if value is None else _positive(value),
        "suspect": _flag,
    },
    Ended: {
        "cause": _cause,
        "detail": _text,
        "bytes": _whole,
        "seconds": _positive,
        "until": _instant_or_none,
        "status": _status,
        "played_until": _instant_or_none,
    },
}
_JOB_FIELDS: Final[dict[str, Callable[[object], object]]] = {
    "url": _url,
    "asked": _window,
    "keep": _window,
    "staging": _path,
    "segment_s": _positive,
    "audio": _flag,
    "connect_timeout_s": _positive,
    "stall_timeout_s": _positive,
    "max_bytes_s": _positive,
    "transport": _one_of("tcp", "udp", "http"),
    "tls_verify": _flag,
    "tls_ca_file": lambda value: None if value is None else _path(value),
    "head": _prints,
    "tail": _prints,
    "head_sizes": _sizes,
    "tail_sizes": _sizes,
    "head_at": _instant_or_none,
    "tail_at": _instant_or_none,
    "shift_s": _number,
    "shift_known": _flag,
    "unproved": lambda value: Unproved(_text(value)),
}
