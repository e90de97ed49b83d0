"""The states of a gap and the reasons a fill ends for: one table, nothing else decides about them.

`FillState` is the kernel's vocabulary (`recording_gaps.fill_state`). `Reason` is finer and lives in
`anr_attempts`, in events and in what people read. `POLICY` says for each reason whether the try counts
as an attempt and what happens next; `tests/unit/test_states.py` checks that no reason is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FillState(StrEnum):
    """`recording_gaps.fill_state` as the kernel and its dashboard know it."""

    PENDING = "pending"
    FILLED = "filled"
    FAILED = "failed"


class Presence(StrEnum):
    """What we believe about a camera."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a try ended as it did. `FILLED` is the only good end; `COVERED` needed no replay at all."""

    FILLED = "filled"
    COVERED = "covered"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    NO_FOOTAGE = "no_footage"
    STALLED = "stalled"
    CUT_SHORT = "cut_short"
    BAD_MEDIA = "bad_media"
    WRONG_FOOTAGE = "wrong_footage"
    INTERRUPTED = "interrupted"
    LIVE_FALTERED = "live_faltered"
    DISK_FULL = "disk_full"
    STORAGE = "storage"
    NO_REPLAY_URL = "no_replay_url"
    BAD_CONFIG = "bad_config"


class Counts(StrEnum):
    """Whether a try counts as one of the gap's attempts."""

    NO = "no"
    YES = "yes"
    UNLESS_GAINED = "unless_gained"


class Follow(StrEnum):
    """What has to happen before the same gap is tried again."""

    NOTHING = "nothing"  # settled
    DEVICE_BACKOFF = "device_backoff"  # the whole device waits; a fresh online edge ends the wait
    GAP_BACKOFF = "gap_backoff"  # this gap waits
    SETTLE = "settle"  # the residual is fetched again after the settle time
    ONLINE_EDGE = "online_edge"  # at the next online edge or start, at the latest after the back-off
    PARK_CAMERA = "park_camera"  # until its row or the configuration changes, or a person asks
    STOP_ALL = "stop_all"  # no fill runs until the recordings folder takes files again


@dataclass(frozen=True, slots=True)
class Policy:
    """What one reason means: attempt or not, what follows, and the waits in seconds.

    `delays_s` are the waits after the first, second, ... try in a row with this reason; the last one repeats.
    """

    counts: Counts
    follow: Follow
    delays_s: tuple[float, ...] = ()

    def delay_s(self, tries: int) -> float:
        """Return the wait after `tries` tries in a row (1 = the first) ended for this reason."""
        return self.delays_s[min(max(tries, 1), len(self.delays_s)) - 1] if self.delays_s else 0.0


def _doubling(first_s: float, last_s: float) -> tuple[float, ...]:
    delays = [first_s]
    while delays[-1] < last_s:
        delays.append(min(delays[-1] * 2, last_s))
    return tuple(delays)


# 20 s: recorders close their last file late; Nx waits 20 to 30 s before its second pass.
SETTLE_S = 20.0

POLICY: dict[Reason, Policy] = {
    Reason.FILLED: Policy(Counts.YES, Follow.NOTHING),
    Reason.COVERED: Policy(Counts.NO, Follow.NOTHING),
    Reason.UNREACHABLE: Policy(Counts.NO, Follow.DEVICE_BACKOFF, _doubling(2.0, 300.0)),
    Reason.BUSY: Policy(Counts.NO, Follow.DEVICE_BACKOFF, _doubling(15.0, 300.0)),
    Reason.UNAUTHORIZED: Policy(Counts.YES, Follow.PARK_CAMERA),
    Reason.NO_FOOTAGE: Policy(Counts.YES, Follow.GAP_BACKOFF, (30.0, 300.0)),
    Reason.STALLED: Policy(Counts.UNLESS_GAINED, Follow.SETTLE, (SETTLE_S, 60.0, 300.0)),
    Reason.CUT_SHORT: Policy(Counts.UNLESS_GAINED, Follow.SETTLE, (SETTLE_S, 60.0, 300.0)),
    Reason.BAD_MEDIA: Policy(Counts.YES, Follow.GAP_BACKOFF, (30.0, 300.0)),
    Reason.WRONG_FOOTAGE: Policy(Counts.YES, Follow.GAP_BACKOFF, (30.0, 300.0)),
    Reason.INTERRUPTED: Policy(Counts.NO, Follow.ONLINE_EDGE, _doubling(2.0, 300.0)),
    # At least; the device's pace (`live_first`) says how long it really waits.
    Reason.LIVE_FALTERED: Policy(Counts.NO, Follow.DEVICE_BACKOFF, (60.0, 300.0)),
    Reason.DISK_FULL: Policy(Counts.NO, Follow.STOP_ALL, (30.0,)),
    Reason.STORAGE: Policy(Counts.NO, Follow.STOP_ALL, (30.0,)),
    Reason.NO_REPLAY_URL: Policy(Counts.NO, Follow.PARK_CAMERA),
    Reason.BAD_CONFIG: Policy(Counts.NO, Follow.PARK_CAMERA),
}


def counts_as_attempt(reason: Reason, *, gained: bool) -> bool:
    """Say whether a try that ended for `reason` counts, given whether it recovered any footage."""
    policy = POLICY[reason].counts
    return policy is Counts.YES or (policy is Counts.UNLESS_GAINED and not gained)
