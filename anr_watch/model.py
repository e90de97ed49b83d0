"""The words of this program as values: windows and their arithmetic, cameras, gaps, segments. Pure.

Times are aware UTC datetimes, windows are half-open `[start, end)`, lengths are seconds. Nothing here
knows about files, SQL, sockets or the present.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.states import FillState, Reason


class Secret:
    """A text that must not be shown: `repr` and `str` are `***`, `.reveal()` gives it away on purpose."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself; call it only where it is handed to the peer it is meant for."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open interval of UTC time, never empty.

    Raises:
        ValueError: the times are naive or `end` is not after `start`.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window needs aware times")
        if self.end <= self.start:
            raise ValueError(f"a window must end after it starts: {self.start} .. {self.end}")

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return (self.end - self.start).total_seconds()

    def overlaps(self, other: Window) -> bool:
        """Say whether the two share any time."""
        return self.start < other.end and other.start < self.end

    def meet(self, other: Window) -> Window | None:
        """Return the time the two share, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def widened(self, lead_s: float, trail_s: float) -> Window:
        """Return the window with `lead_s` more before and `trail_s` more after it."""
        return Window(self.start - timedelta(seconds=lead_s), self.end + timedelta(seconds=trail_s))


Coverage = tuple[Window, ...]  # sorted, disjoint, not touching


def merge(windows: Iterable[Window], *, join_s: float = 0.0) -> Coverage:
    """Return the union as sorted disjoint windows; pieces at most `join_s` apart become one."""
    join = timedelta(seconds=join_s)
    merged: list[Window] = []
    for window in sorted(windows):
        if merged and window.start <= merged[-1].end + join:
            if window.end > merged[-1].end:
                merged[-1] = Window(merged[-1].start, window.end)
        else:
            merged.append(window)
    return tuple(merged)


def subtract(window: Window, covered: Iterable[Window]) -> Coverage:
    """Return the parts of `window` that no window of `covered` holds."""
    missing: list[Window] = []
    at = window.start
    for piece in merge(covered):
        if piece.end <= at:
            continue
        if piece.start >= window.end:
            break
        if piece.start > at:
            missing.append(Window(at, piece.start))
        at = max(at, piece.end)
    if at < window.end:
        missing.append(Window(at, window.end))
    return tuple(missing)


def near(window: Window, covered: Coverage) -> Coverage:
    """Return those of the sorted windows, which do not overlap, that share time with `window`: by halving."""
    first = bisect_right(covered, window.start, key=lambda piece: piece.end)
    last = bisect_left(covered, window.end, lo=first, key=lambda piece: piece.start)
    return covered[first:last]


def clip(window: Window, covered: Iterable[Window]) -> Coverage:
    """Return the parts of `covered` inside `window`."""
    return tuple(part for piece in merge(covered) if (part := piece.meet(window)) is not None)


def total_s(windows: Iterable[Window]) -> float:
    """Return the summed length in seconds of windows that do not overlap."""
    return sum(window.seconds for window in windows)


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """One network host and port: what can take one replay at a time, whatever cameras sit behind it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How one camera wants to be asked; from config.toml, per camera or for all.

    `lead_s` and `trail_s` are kept around a gap where it cannot be joined by content: file names are a second
    coarse and clocks differ, so a gap's recorded edges can be a second wrong on either side.
    """

    timezone: str = "utc"  # utc, local or an IANA zone: how the device reads the query's digits
    lead_s: float = 2.0
    trail_s: float = 2.0
    margin_s: float = 10.0  # asked for on both sides and not kept: recorded pictures are looked for in it
    channel: str | None = None  # {channel}; None: 101 for the main stream, 102 for the sub stream
    transport: str = "tcp"
    max_mb_s: float = 0.0  # 0: no cap
    tls_verify: bool = False
    tls_ca_file: Path | None = None  # whom `tls_verify` trusts; None: this machine's authorities


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera as the database (or `[[camera]]`) and config.toml describe it together."""

    id: str
    name: str
    vendor: str = "generic"
    address: str | None = None
    rtsp_port: int = 554
    username: str | None = None
    password: Secret | None = None  # as stored: maybe sealed (`enc:v1:`)
    record_stream: str = "main"
    record_audio: bool = False
    segment_s: int = 60
    enabled: bool = True
    record_enabled: bool = True
    record_mode: str = "continuous"
    anr_enabled: bool = False
    replay_url_template: Secret | None = None  # may hold credentials
    status: str = "unknown"  # camera_status.state
    options: ReplayOptions = field(default_factory=ReplayOptions)

    @property
    def wants_fills(self) -> bool:
        """Whether gaps of this camera are to be filled at all."""
        return self.anr_enabled and self.enabled

    @property
    def records_always(self) -> bool:
        """Whether a hole in the recording is never on purpose, so we may register one ourselves."""
        return self.enabled and self.record_enabled and self.record_mode == "continuous"


@dataclass(frozen=True, slots=True)
class Gap:
    """One `recording_gaps` row. The texts are kept because a value we read is written back unchanged."""

    id: str
    camera_id: str
    window: Window
    start_text: str
    end_text: str
    state: FillState = FillState.PENDING
    attempts: int = 0
    last_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One footage file as the database or the folder knows it; `path` is the text the kernel would use.

    `ours` says that a fill wrote it, so that its window is exact; a recorder's is as coarse as its file names.
    `listed` is what the row in `segments` is to say where that must differ from the pictures in the file.
    """

    camera_id: str
    path: str
    window: Window
    size_bytes: int = 0
    codec: str | None = None  # the kernel writes ffprobe's names: h264, hevc
    width: int | None = None
    height: int | None = None
    ours: bool = False
    listed: Window | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message ready to go out; `id` is the CloudEvents id, equal for every repeat of the same event."""

    id: str
    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One row for the kernel's own `events` table (its dashboard and webhooks read it)."""

    id: str
    camera_id: str
    event_type: str
    severity: str  # info, warning, critical
    timestamp: datetime
    payload: bytes  # JSON object


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a gap: what was asked, what came, why it ended. `end` is None while it runs."""

    id: str
    gap_id: str
    camera_id: str
    number: int  # 1 for the first try at this gap, counted or not
    window: Window  # what was missing and asked for, without margins
    started_at: datetime
    ended_at: datetime | None = None
    reason: Reason | None = None
    detail: str = ""
    wanted_s: float = 0.0
    got_s: float = 0.0
    bytes: int = 0
    files: int = 0
    first_byte_s: float | None = None  # from the request to the first media byte
    speed: float | None = None  # footage seconds per wall second
    next_at: datetime | None = None
    join_head: str | None = None  # job.Joint of the start of what was asked: exact, time, none
    join_tail: str | None = None  # and of its end
    offset_ms: float | None = None  # the camera's clock minus the recorder's, where a join measured it
    tolerance_s: float | None = None  # how far a cut by time may be from the true place; None: none was cut so
    suspect: bool = False  # what was kept lacks the pictures recorded beside the gap, though it covers their time


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """How far a device's clock is from the recorder's: `offset_s` is its time minus the recorder's.

    `spread_s` is by how much measurements differ, `source` what measured (`join`: equal pictures; `rhythm`: the same
    scene coded another way).
    """

    device: str
    offset_s: float
    spread_s: float
    measured_at: datetime
    samples: int
    source: str


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """What the database says about one camera's gaps inside the transaction that changes them."""

    camera_id: str
    pending_gaps: int
    missing_s: float
    last: Attempt | None
