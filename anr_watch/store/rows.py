"""Database rows to values: tolerant of NULL, strict about nonsense, one row at a time. Pure."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from functools import lru_cache

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant
from anr_watch.model import Attempt, Camera, Gap, ReplayOptions, Secret, Segment, Window
from anr_watch.states import FillState, Reason

_PORT_MAX = 65535
_GAPS_LEFT = 256  # rows that were settled since, and other states of those that pend
_SEGMENT_MAX_S = 86400
# Unix times begin in 1970; close to the year 10000 a margin or a time zone more is no date any longer.
_FIRST_YEAR, _LAST_YEAR = 1970, 9990


def decode_text(raw: bytes) -> str:
    """Return a TEXT value whatever its bytes are, so that one broken row cannot hide the others.

    Bytes that are no UTF-8 become lone surrogates, which `required_text` refuses.
    """
    return raw.decode("utf-8", "surrogateescape")


def shown(value: object) -> str:
    """Return a value from the database so that it can stand in a log line."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()[:80]


def required_text(row: sqlite3.Row, column: str) -> str:
    """Return a non-empty text.

    Raises:
        ParseError: NULL, empty, of another type or not UTF-8.
    """
    value = row[column]
    if not isinstance(value, str) or not value:
        raise ParseError(f"{column} is {shown(value) or 'empty'}, not a text")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ParseError(f"{column} is not UTF-8: {shown(value)}")
    return value


def _text(row: sqlite3.Row, column: str) -> str | None:
    return None if row[column] in (None, "") else required_text(row, column)


def _flag(row: sqlite3.Row, column: str, *, default: bool) -> bool:
    value = row[column]
    if value is None:
        return default
    if value in (0, 1):
        return bool(value)
    raise ParseError(f"{column} is {shown(value)}, not 0 or 1")


def _whole(row: sqlite3.Row, column: str, default: int, low: int, high: int) -> int:
    value = row[column]
    if value is None:
        return default
    if isinstance(value, int) and low <= value <= high:
        return value
    raise ParseError(f"{column} is {shown(value)}, not a whole number from {low} to {high}")


def optional_instant(row: sqlite3.Row, column: str) -> datetime | None:
    """Return the instant in a column that may be NULL; unreadable counts as absent (it only informs)."""
    try:
        return None if row[column] is None else parse_instant(row[column])
    except ParseError:
        return None


def window_of(start_text: object, end_text: object) -> Window:
    """Return the window between two stored times.

    Raises:
        ParseError: one is no time or no time of footage, or the end is not after the start.
    """
    start, end = parse_instant(start_text), parse_instant(end_text)
    if start.year < _FIRST_YEAR or end.year > _LAST_YEAR:
        raise ParseError(f"{start_text} to {end_text} lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}")
    if end <= start:
        raise ParseError(f"ends at {end_text}, not after its start {start_text}")
    return Window(start, end)


# The next two see the same rows at every look; an sqlite3.Row equals another one with the same columns and values.
@lru_cache(maxsize=1024)
def camera_of(row: sqlite3.Row, options: ReplayOptions) -> Camera:
    """Return the camera of a `cameras` row joined with its status.

    Raises:
        ParseError: a value we depend on is nonsense; the text names the column, never a secret.
    """
    for column in ("password", "anr_replay_url_template"):
        if row[column] is not None and not isinstance(row[column], str):
            raise ParseError(f"{column} is not a text")
    password, template = row["password"], row["anr_replay_url_template"]
    camera_id = required_text(row, "id")
    return Camera(
        id=camera_id,
        name=shown(row["name"]) if row["name"] else camera_id,
        vendor=_text(row, "vendor") or "generic",
        address=_text(row, "address"),
        rtsp_port=_whole(row, "rtsp_port", 554, 1, _PORT_MAX),
        username=_text(row, "username"),
        password=Secret(password) if password else None,
        record_stream=_text(row, "record_stream") or "main",
        record_audio=_flag(row, "record_audio", default=False),
        segment_s=_whole(row, "segment_seconds", 60, 1, _SEGMENT_MAX_S),
        enabled=_flag(row, "enabled", default=True),
        record_enabled=_flag(row, "record_enabled", default=True),
        record_mode=_text(row, "record_mode") or "continuous",
        anr_enabled=_flag(row, "anr_enabled", default=False),
        replay_url_template=Secret(template) if template else None,
        status=_text(row, "status") or "unknown",
        options=options,
    )


@lru_cache(maxsize=16384)
def gap_of(row: sqlite3.Row) -> Gap:
    """Return the gap of a `recording_gaps` row.

    Raises:
        ParseError: its times or state cannot be read.
    """
    state = row["fill_state"]
    if state not in FillState.__members__.values():
        raise ParseError(f"fill_state is {shown(state)}, not pending, filled or failed")
    attempts = row["fill_attempts"]
    return Gap(
        id=required_text(row, "id"),
        camera_id=required_text(row, "camera_id"),
        window=window_of(row["gap_start"], row["gap_end"]),
        start_text=row["gap_start"],
        end_text=row["gap_end"],
        state=FillState(state),
        attempts=attempts if isinstance(attempts, int) and attempts > 0 else 0,
        last_attempt_at=optional_instant(row, "last_attempt_at"),
    )


def forget_settled_gaps(pending: int) -> None:
    """Let go of remembered rows when most of them cannot be pending any more: 2 KB each, and they never end."""
    if gap_of.cache_info().currsize > 2 * pending + _GAPS_LEFT:
        gap_of.cache_clear()


def segment_of(row: sqlite3.Row) -> Segment:
    """Return the segment of a `segments` row.

    Raises:
        ParseError: its times or path cannot be read.
    """
    size, width, height = row["size_bytes"], row["width"], row["height"]
    return Segment(
        camera_id=required_text(row, "camera_id"),
        path=required_text(row, "path"),
        window=window_of(row["start_time"], row["end_time"]),
        size_bytes=size if isinstance(size, int) else 0,
        codec=row["codec"] if isinstance(row["codec"], str) else None,
        width=width if isinstance(width, int) else None,
        height=height if isinstance(height, int) else None,
        ours=bool(row["ours"]),
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """Return the attempt of an `anr_attempts` row.

    Raises:
        ParseError: somebody else changed our row so that it cannot be read.
    """
    reason = row["reason"]
    if reason is not None and reason not in Reason.__members__.values():
        raise ParseError(f"reason is {shown(reason)}, unknown to this version")
    return Attempt(
        id=row["id"],
        gap_id=row["gap_id"],
        camera_id=row["camera_id"],
        number=row["number"],
        window=window_of(row["window_start"], row["window_end"]),
        started_at=parse_instant(row["started_at"]),
        ended_at=optional_instant(row, "ended_at"),
        reason=None if reason is None else Reason(reason),
        detail=row["detail"],
        wanted_s=row["wanted_s"],
        got_s=row["got_s"],
        bytes=row["bytes"],
        files=row["files"],
        first_byte_s=row["first_byte_s"],
        speed=row["speed"],
        next_at=optional_instant(row, "next_at"),
        join_head=row["join_head"],
        join_tail=row["join_tail"],
        offset_ms=row["offset_ms"],
        tolerance_s=row["tolerance_s"],
        suspect=bool(row["suspect"]),
    )


def text_or_none(instant: datetime | None) -> str | None:
    """Return the stored form of an instant that may be absent."""
    return None if instant is None else format_instant(instant)


def json_list(values: list[str] | list[int]) -> str:
    """Return a parameter for `json_each(?)`: how a list goes into a constant SQL text."""
    return json.dumps(values)
