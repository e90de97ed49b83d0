"""The ways in which a simulated camera misbehaves, as plain values; it injects nothing by itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class End(StrEnum):
    """What the camera does after the last picture of a window."""

    BYE = "bye"  # compound sender report + BYE: what every client understands
    LONE_BYE = "lone_bye"  # 8 bytes: FFmpeg ignores RTCP under 12 bytes and goes on waiting
    CLOSE = "close"
    SILENT = "silent"
    TEARDOWN = "teardown"  # the camera itself sends a TEARDOWN request
    ANNOUNCE = "announce"  # ANNOUNCE with "End-of-Stream", as Uniview does


class Reports(StrEnum):
    """What the sender reports of the camera are worth."""

    TRUE = "true"
    ABSENT = "absent"
    LATE = "late"
    NOW = "now"  # NTP is the present, not the time of the footage


class Scope(StrEnum):
    """Which streams the faults of sending hit."""

    REPLAY = "replay"
    LIVE = "live"
    BOTH = "both"


class Suffers(StrEnum):
    """What becomes of the live stream while a replay is too much for the camera."""

    NOT = ""
    DROP = "drop"  # live connections end and new ones are refused
    FALTER = "falter"  # live goes on, without the pictures of that time


class Hang(StrEnum):
    """The request that is never answered, or at which the connection is reset."""

    NONE = ""
    OPTIONS = "options"
    DESCRIBE = "describe"
    SETUP = "setup"
    PLAY = "play"
    TEARDOWN = "teardown"
    GET = "get"  # of the HTTP server


@dataclass(slots=True)
class Faults:
    """All off by default. Seconds of `*_after_s` are seconds of footage since the first picture sent.

    Faults may be changed while the camera runs; a stream that already plays keeps those it started with,
    except `rate_bytes_s` and `live_*`, which count at once. `hole` is relative to the start of the asked window.
    """

    refuse: bool = False
    unauthorized: bool = False
    describe_status: int = 0
    setup_status: int = 0
    play_status: int = 0
    status_count: int = 0  # the statuses above are sent that many times; 0 is for ever
    hang: Hang = Hang.NONE
    vanish: Hang = Hang.NONE  # answered by a TCP reset; not for `get`
    answer_bytes_s: float = 0.0  # RTSP answers come at that rate
    phrase: str = ""  # what stands behind an RTSP status of 400 and more
    sdp_line: str = ""  # stands in the SDP, too
    scope: Scope = Scope.REPLAY
    stall_after_s: float | None = None
    cut_after_s: float | None = None
    rst_after_s: float | None = None
    short_window_s: float = 0.0
    overrun_s: float = 0.0
    early_start_s: float = 0.0
    late_start_s: float = 0.0
    hole: tuple[float, float] | None = None
    timestamp_jump: tuple[float, float] | None = None  # after so many seconds, by so many
    stuck_after_s: float | None = None  # from then on RTP time stands still
    change_after_s: float | None = None  # from then on the pictures are those of the spec's `changed_film`
    reports: Reports = Reports.TRUE
    reports_late_s: float = 3.0
    end: End = End.BYE
    empty_window: bool = False
    rate_bytes_s: float = 0.0
    live_suffers: Suffers = Suffers.NOT
    live_limit_bytes_s: float = 0.0  # the replay rate from which live suffers; 0: from any replay
    corrupt: float = 0.0  # share of RTP packets in which one bit is flipped
    lose: float = 0.0  # share of RTP packets that are numbered but not sent
    corrupt_seed: int = 1  # for both
    other_camera: int | None = None
    local_time: str = ""  # IANA zone in which the camera reads the digits of a query that says UTC
    session_linger_s: float = 0.0  # a replay session left without TEARDOWN is counted that much longer
    http_status: int = 0
    http_redirect: str = ""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set one fault; values may be written as on a command line.

        Raises:
            ValueError: an unknown name or a value that does not fit.
        """
        object.__setattr__(self, name, _checked(name, value))

    def hits(self, *, live: bool) -> bool:
        """Return whether the faults of sending apply to a live (or replayed) stream."""
        return self.scope == Scope.BOTH or (self.scope == Scope.LIVE) is live

    def as_json(self) -> dict[str, Any]:
        """Return the faults that are on, as JSON values."""
        return {name: getattr(self, name) for name, off in _DEFAULTS.items() if getattr(self, name) != off}

    def copy(self) -> Faults:
        """Return the faults as they are now."""
        return dataclasses.replace(self)

    def update(self, changes: dict[str, Any]) -> None:
        """Set several faults at once from values as JSON or a command line gives them.

        Raises:
            ValueError: an unknown name or a value that does not fit; nothing is changed then.
        """
        checked = {name: _checked(name, value) for name, value in changes.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def clear(self) -> None:
        """Switch every fault off."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, field.default)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Faults)}
_PAIRS = ("hole", "timestamp_jump")


def _checked(name: str, value: Any) -> Any:
    """Return `value` in the type of the fault `name`."""
    if name not in _DEFAULTS:
        raise ValueError(f"no fault {name!r}; there are: {', '.join(_DEFAULTS)}")
    default = _DEFAULTS[name]
    try:
        if value in (None, "") and (default is None or isinstance(default, Hang | Suffers)):
            return default
        if name in _PAIRS:
            first, second = value.split(",") if isinstance(value, str) else value
            return (float(first), float(second))
        if isinstance(default, StrEnum):
            return type(default)(value)
        if isinstance(default, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).lower()]
        if name == "local_time":
            return ZoneInfo(value).key if value else ""
        if isinstance(default, str):
            return str(value)
        whole = isinstance(default, int) or name == "other_camera"
        return int(value) if whole else float(value)
    except (KeyError, TypeError, ValueError, ZoneInfoNotFoundError) as error:
        raise ValueError(f"fault {name} cannot be {value!r}") from error
