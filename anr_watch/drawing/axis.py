"""Where the marks of a time axis stand and what they say, in any zone. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from anr_watch.model import Window

# Steps that people read without thinking.
_STEPS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400)


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark: when, what stands beside it, and whether a day begins there."""

    at: datetime
    text: str
    day: bool


def marks(window: Window, zone: tzinfo, most: int) -> Iterator[Mark]:
    """Yield about `most` marks in the window at most, on round times of `zone` also where its clock changes."""
    step_s = next((step for step in _STEPS_S if window.seconds / step <= most), 0)
    step_s = step_s or -(-int(window.seconds / most) // 86400) * 86400
    local = window.start.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    # Walks the wall clock, so that midnight stays midnight when a day has 23 or 25 hours.
    wall = midnight
    while True:
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        if at >= window.end:
            return
        exists = at.astimezone(zone).replace(tzinfo=None) == wall  # not in the hour that a spring night leaves out
        if at >= window.start and exists:
            day = wall.hour == wall.minute == wall.second == 0
            text = f"{wall:%d %b}" if day else f"{wall:%H:%M}" if step_s >= 60 else f"{wall:%H:%M:%S}"
            yield Mark(at, text, day)
        wall += timedelta(seconds=step_s)
