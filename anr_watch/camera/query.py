"""What a URL asks of the camera: live, or the footage of a window, in the vendors' ways of writing time. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000_US: Final = 253_402_300_800_000_000
_DIGITS: Final = re.compile(
    r"(\d{4})[-_]?(\d\d)[-_]?(\d\d)[Tt_ ]?(\d\d)[:_]?(\d\d)[:_]?(\d\d)(?:\.(\d{1,6}))?(?:[Zz])?", re.ASCII
)
_TRACK: Final = re.compile(r"/+trackID=(\d+)$")
_LIVE: Final = re.compile(r"/(?:Streaming/Channels/\d+|live|cam/realmonitor)", re.IGNORECASE)
_HIKVISION: Final = re.compile(r"/(?:ISAPI/|PSIA/)?Streaming/tracks/\d+", re.IGNORECASE)
_DAHUA: Final = re.compile(r"/cam/playback", re.IGNORECASE)
_UNIX: Final = re.compile(r"/playback", re.IGNORECASE)
_CLOCK_RANGE: Final = re.compile(r"clock=([^-]+)-(.*)")


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open interval of the camera's own UTC clock, in microseconds since 1970; None is open."""

    start_us: int
    end_us: int | None = None

    def __post_init__(self) -> None:
        """Refuse times outside the calendar.

        Raises:
            ValueError: a time before 1970 or after the year 9999.
        """
        if not (0 <= self.start_us < _YEAR_10000_US and 0 <= (self.end_us or 0) < _YEAR_10000_US):
            raise ValueError("a time outside 1970 to 9999")

    def __str__(self) -> str:
        end = "" if self.end_us is None else instant_text(self.end_us)
        return f"{instant_text(self.start_us)}-{end}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: a live stream, or a replay (whose window may still come in a Range header)."""

    live: bool
    window: Window | None = None
    track: int | None = None


def instant_text(utc_us: int) -> str:
    """Return an instant in the form of RTSP's absolute time, `20260613T120500.000000Z`."""
    return f"{_EPOCH + timedelta(microseconds=utc_us):%Y%m%dT%H%M%S.%fZ}"


def read_instant(text: str, zone: tzinfo) -> int:
    """Return microseconds since 1970 of calendar digits that are meant in `zone`.

    Raises:
        ValueError: no calendar digits.
    """
    match = _DIGITS.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text[:40]!r}")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    micros = int((match[7] or "").ljust(6, "0"))
    try:
        local = datetime(year, month, day, hour, minute, second, micros, tzinfo=zone)
        return (local - _EPOCH) // timedelta(microseconds=1)
    except OverflowError as error:  # the first day of year 1 in a zone east of Greenwich
        raise ValueError(f"not a time: {text}") from error


def read_unix(text: str) -> int:
    """Return microseconds since 1970 of seconds since 1970.

    Raises:
        ValueError: no finite number.
    """
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(f"not a time: {text[:40]!r}")
    return round(seconds * 1e6) if abs(seconds) < 1e12 else round(seconds) * 1_000_000


def read_range(header: str | None, zone: tzinfo) -> Window | None:
    """Return the window of an absolute RTSP Range header (`clock=a-b`), None for any other.

    Raises:
        ValueError: a clock range without readable times.
    """
    match = _CLOCK_RANGE.match(header or "")
    if match is None:
        return None
    end = match[2].split(";")[0].strip()
    return Window(read_instant(match[1].strip(), zone), read_instant(end, zone) if end else None)


def read_url(url: str, *, device_zone: tzinfo, utc_read_as: tzinfo = UTC) -> Target | None:
    """Return what `url` names, or None for a path this camera does not have.

    `device_zone` is the zone of the camera's wall clock (Dahua digits); `utc_read_as` is UTC unless the
    camera reads digits that say UTC in its own zone, as many recorders do.

    Raises:
        ValueError: the path is known, its times cannot be read.
    """
    track_match = _TRACK.search(url)
    track = int(track_match[1]) if track_match else None
    parts = urlsplit(_TRACK.sub("", url).rstrip("/"))
    path = parts.path.rstrip("/")
    if _LIVE.fullmatch(path):
        return Target(live=True, track=track)
    query = {name.lower(): value for name, value in parse_qsl(parts.query)}
    if _HIKVISION.fullmatch(path):
        return Target(live=False, window=_window(query, utc_read_as), track=track)
    if _DAHUA.fullmatch(path):
        return Target(live=False, window=_window(query, device_zone), track=track)
    if _UNIX.fullmatch(path) and {"start_unix", "end_unix"} <= query.keys():
        window = Window(read_unix(query["start_unix"]), read_unix(query["end_unix"]))
        return Target(live=False, window=window, track=track)
    return None


def _window(query: dict[str, str], zone: tzinfo) -> Window | None:
    if "starttime" not in query:
        return None
    end = query.get("endtime")
    return Window(read_instant(query["starttime"], zone), read_instant(end, zone) if end else None)
