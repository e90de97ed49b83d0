"""Live comes first: when a replay harms the live recording of its device, and how slowly that is tried again. Pure.

A recorder shows that it still records by signs of life: its newest file grows, or a new one appears. What counts is
how long a healthy recording may show none; a replay that goes on playing meanwhile is the likely reason and is ended.
A replay that falls silent together with live is no reason but a victim: the camera or its network is gone, and the
replay ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from anr_watch.model import Window

# ffmpeg hands a file to the disk in pieces of this size, at key frames (measured; the rest when the file is closed).
BURST_BYTES = 256 * 1024
# A scene that calms down takes half the rate for a while.
CALMER = 2.0
# Groups of pictures where the files do not tell their length.
USUAL_GROUP_S = 4.0
# After word that live is gone: what arrives for this long may have been under way when the device died.
UNDER_WAY_S = 1.0
# A recorder tries again within 30 s; a camera that plays this long while live does not come back keeps it out.
COME_BACK_S = 45.0
# Below this no camera's footage comes in less than hours, and requests time out instead.
SLOWEST_BYTES_S = 8_000.0
# The slowest rate as a share of the live one: Huawei advises a quarter for every replay.
SLOWEST_SHARE = 1 / 8
# How much faster after a request during which live did not falter, and how near to the rate at which it did.
FASTER, NEAR = 1.25, 0.8
# So long after a faltering the rate at which it happened is tried again: it may have had another reason.
FORGIVEN = timedelta(days=1)
# Requests are this short where live has faltered, so that a higher rate can take effect and a bad one costs little.
STEP_S, SMALLEST_STEP_S = 300.0, 30.0
# Waits after the first, second, ... faltering in a row, as multiples of the configured first one (60 s: up to 6 h).
WAITS = (1.0, 5.0, 30.0, 120.0, 360.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How one device may be asked since live recording faltered while it replayed.

    Args:
        device: `host:port`.
        max_bytes_s: cap of a replay in bytes per second.
        ceiling_bytes_s: the rate at which live faltered last.
        falters: falterings in a row; a request without one takes one off.
        faltered_at: the last one.
        next_at: nothing is asked before.
    """

    device: str
    max_bytes_s: float
    ceiling_bytes_s: float
    falters: int
    faltered_at: datetime
    next_at: datetime


def slower(
    before: Pace | None,
    device: str,
    *,
    rate_bytes_s: float,
    live_bytes_s: float | None,
    at: datetime,
    first_wait_s: float,
) -> Pace:
    """Return the pace after live faltered.

    The first cap is half the rate that was too much, and not more than what live itself takes: from an unthrottled
    replay a dozen halvings would lead to what a camera can bear, each at the cost of live seconds. Then every
    faltering halves it.

    Args:
        before: the pace until now; None: there was no cap.
        device: `host:port`.
        rate_bytes_s: how fast the replay was.
        live_bytes_s: what the live recording takes; None: unknown.
        at: now.
        first_wait_s: the first wait in seconds.
    """
    slowest = max(SLOWEST_BYTES_S, (live_bytes_s or 0.0) * SLOWEST_SHARE)
    if before is None:
        half = rate_bytes_s / 2 if live_bytes_s is None else min(rate_bytes_s / 2, live_bytes_s)
    else:
        half = min(before.max_bytes_s, rate_bytes_s or before.max_bytes_s) / 2
    falters = 1 if before is None else before.falters + 1
    wait_s = first_wait_s * WAITS[min(falters, len(WAITS)) - 1]
    return Pace(device, max(half, slowest), rate_bytes_s, falters, at, at + timedelta(seconds=wait_s))


def faster(pace: Pace, *, at: datetime, first_wait_s: float) -> Pace | None:
    """Return the pace after a request during which live did not falter; None: no cap any more.

    At the smallest steps the next one waits, too: on such a camera every replay is a risk.
    """
    cap = pace.max_bytes_s * FASTER
    if at < pace.faltered_at + FORGIVEN:
        cap = max(pace.max_bytes_s, min(cap, pace.ceiling_bytes_s * NEAR))
    elif cap > 4 * pace.ceiling_bytes_s:
        return None
    rest_s = first_wait_s if _is_risky(pace) else 0.0
    return replace(pace, max_bytes_s=cap, falters=max(0, pace.falters - 1), next_at=at + timedelta(seconds=rest_s))


def step_s(pace: Pace | None, max_request_s: float) -> float:
    """Return how much footage one request may ask for, in seconds."""
    if pace is None:
        return max_request_s
    return min(max_request_s, SMALLEST_STEP_S if _is_risky(pace) else STEP_S)


def lower_cap(configured_bytes_s: float, pace: Pace | None) -> float:
    """Return the cap of a request in bytes per second, 0 for none: the lower of the user's and the learned one."""
    caps = [cap for cap in (configured_bytes_s, 0.0 if pace is None else pace.max_bytes_s) if cap > 0]
    return min(caps, default=0.0)


def _is_risky(pace: Pace) -> bool:
    return pace.falters >= 3


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a healthy live recording shows itself: its bytes per second, seconds per group of pictures and per file."""

    bytes_s: float | None
    group_s: float | None
    segment_s: float

    def silence_s(self, least_s: float) -> float:
        """Return how long a healthy recording may show no sign of life.

        A file grows when a burst is full and a group of pictures is over; at the latest the next file is opened.
        """
        group_s = USUAL_GROUP_S if self.group_s is None else self.group_s
        by_file_s = self.segment_s + 2 * group_s
        if not self.bytes_s:
            return max(least_s, by_file_s)
        return max(least_s, min(CALMER * BURST_BYTES / self.bytes_s + 2 * group_s, by_file_s))


class Witness:
    """What is seen of one camera's live recording while its device replays; times are monotonic seconds.

    Args:
        silence_s: how long a healthy recording may show no sign of life.
        began_s: when the replay was asked for.
        alive_s: the last sign of life before; None: it did not record.
        expected: the camera has just come back, so its recorder will be back soon.
    """

    def __init__(self, silence_s: float, *, began_s: float, alive_s: float | None, expected: bool) -> None:
        self.silence_s = silence_s
        self._began_s, self._alive_s, self._expected = began_s, alive_s, expected
        self._word: tuple[float, str] | None = None
        self._replayed_s: float | None = None
        self._bytes = 0

    def alive(self, now_s: float) -> None:
        """Note that the recording grew, or began a file."""
        self._alive_s = now_s

    def word(self, now_s: float, why: str) -> None:
        """Note that somebody says that live is gone or was interrupted; where none was seen that is old news."""
        if self._word is None and self._alive_s is not None:
            self._word = now_s, why

    def replayed(self, now_s: float, count: int) -> None:
        """Note how many bytes the replay has received so far."""
        if count != self._bytes:
            self._bytes, self._replayed_s = count, now_s

    def verdict(self, now_s: float) -> str:
        """Return what became of live because of the replay, in a few words; empty: nothing."""
        replayed_s = self._replayed_s
        if replayed_s is None:
            return ""
        if self._word is not None and replayed_s >= self._word[0] + UNDER_WAY_S:
            return self._word[1]
        if self._alive_s is None:
            late = self._expected and replayed_s >= self._began_s + COME_BACK_S + self.silence_s
            return f"live recording did not come back for {now_s - self._began_s:.0f} s" if late else ""
        silent_s = now_s - self._alive_s
        # Live must have stood still for a good part of what it may, with the replay going on.
        if silent_s > self.silence_s and replayed_s >= self._alive_s + self.silence_s / 2 + UNDER_WAY_S / 2:
            return f"live recording stood still for {silent_s:.1f} s"
        return ""


def was_interrupted(gap: Window, *, camera_began: datetime) -> bool:
    """Say whether a gap row tells of live seconds lost after a replay began (and not of what is being filled)."""
    return gap.start >= camera_began
