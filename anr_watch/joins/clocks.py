"""The measured clock of a device: how a new measurement changes what is known of it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from anr_watch.model import DeviceClock

JUMP_S: Final = 5.0  # a step larger than this is a clock that was set, not one that drifts
TOLD_S: Final = 2.0  # file names are a second coarse, and so is every measurement against them
_FADING: Final = 0.8  # of the spread per measurement: an old outlier is forgotten after some


def measured(before: DeviceClock | None, device: str, offset_s: float, *, at: datetime, source: str) -> DeviceClock:
    """Return what is known of a device's clock after one more measurement."""
    if before is None or abs(offset_s - before.offset_s) > JUMP_S:
        return DeviceClock(device, offset_s, 0.0, at, 1, source)
    spread_s = max(abs(offset_s - before.offset_s), before.spread_s * _FADING)
    return DeviceClock(device, offset_s, spread_s, at, before.samples + 1, source)


def is_news(before: DeviceClock | None, offset_s: float) -> bool:
    """Say whether a measurement differs so much from what was believed that people want to know."""
    return abs(offset_s - (before.offset_s if before is not None else 0.0)) > TOLD_S
