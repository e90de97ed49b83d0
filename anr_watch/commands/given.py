"""What a person gives on the command line, read strictly: moments, windows, camera ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from difflib import get_close_matches

from anr_watch.errors import ParseError, UsageError
from anr_watch.instants import parse_instant
from anr_watch.log import one_line
from anr_watch.model import Window

_AGE = re.compile(r"-(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RIGHT = "right: 2026-06-13T12:00:00Z, now, or an age such as -90s, -10m, -2h, -1d"


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the instant of `now`, an age such as `-90s`, or an RFC 3339 text.

    Raises:
        UsageError: it is none of them.
    """
    text = text.strip()
    if text == "now":
        return now
    age = _AGE.fullmatch(text)
    try:
        return now - timedelta(seconds=float(age[1]) * _UNITS_S[age[2]]) if age else parse_instant(text)
    except (ParseError, OverflowError):
        raise UsageError(f"not a time: {one_line(text, 40)!r} ({_RIGHT})") from None


def parse_window(start_text: str, end_text: str, now: datetime) -> Window:
    """Return the window between two moments; an end in the future is cut to `now`.

    Raises:
        UsageError: a moment cannot be read, the end is not after the start, or all of it is in the future.
    """
    start, end = parse_moment(start_text, now), parse_moment(end_text, now)
    if end <= start:
        raise UsageError(
            f"the window ends ({end_text.strip()}) before it starts ({start_text.strip()}): swap the times"
        )
    if start >= now:
        raise UsageError(f"the window starts in the future ({start_text.strip()}): no camera has recorded that yet")
    if start.year < 1970:  # outside the kernel's and the devices' unix times
        raise UsageError(f"the window starts before 1970 ({start_text.strip()})")
    return Window(start, min(end, now))


def known_camera(camera_id: str, known: Iterable[str]) -> str:
    """Return `camera_id` if it is one of `known`.

    Raises:
        UsageError: it is not; the text names the nearest one.
    """
    ids = sorted(known)
    if camera_id in ids:
        return camera_id
    near = get_close_matches(camera_id, ids, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {one_line(near[0], 80)}?"
    elif ids:
        more = ", ..." if len(ids) > 8 else ""
        hint = "there are " + ", ".join(one_line(name, 80) for name in ids[:8]) + more
    else:
        hint = "the database holds no cameras"
    raise UsageError(f"no camera {one_line(camera_id, 80)!r}: {hint}")
