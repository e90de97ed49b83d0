"""The JSON of events and states, key by key: what consumers may rely on. Types only.

Times are RFC 3339 in UTC ending in `Z`. Keys may be added within a version; what a key means never changes.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class SpanData(TypedDict):
    """A half-open interval and its length."""

    start: str
    end: str
    seconds: float


class GapData(SpanData):
    """The `recording_gaps` row an event is about, as it stood before the event."""

    id: str


class GapDetected(TypedDict):
    """`gap.detected.v1`: a row was registered by us. `origin` says what showed it (`online`, `files`, ...)."""

    gap: GapData
    origin: str
    reaction_ms: NotRequired[float]  # from the evidence to this event


class JoinData(TypedDict):
    """How footage was joined to what is recorded on both sides; null as long as nothing was played.

    `exact`: by content, no picture missing and none double; `time`: by time, off by up to `tolerance_s` (null if no
    side is so); `none`: nothing recorded there to compare with. `offset_ms` is the camera's clock minus the
    recorder's, null where nothing measured it. `suspect`: what was kept covers the time of recorded pictures and
    lacks them, so it may be of another hour or day; no clock that was tried showed the right footage.
    """

    join_head: str | None
    join_tail: str | None
    offset_ms: float | None
    tolerance_s: float | None
    suspect: bool


class FillData(JoinData):
    """`fill.*.v1`: one attempt. Counters are those of this attempt, windows those of the gap.

    `fill.progress` comes once per segment in place. `speed` is footage seconds per wall second, `first_byte_s` the
    wait from the request to the first media byte. `reason` is null while the attempt runs; `next_at` is when the rest
    is asked for again, null if nothing but an event (or a person) brings that about.
    """

    gap: GapData
    attempt: int
    attempt_id: str
    window: SpanData
    wanted_s: float
    got_s: float
    bytes: int
    files: int
    speed: float | None
    first_byte_s: float | None
    reason: str | None
    detail: str
    next_at: str | None
    filled: NotRequired[list[SpanData]]
    missing: NotRequired[list[SpanData]]
    reaction_ms: NotRequired[float]  # only `started`: from the evidence that the camera is back to the request


class CameraData(TypedDict):
    """`camera.*.v1`: `source` for online and offline, `reason` and `detail` for parked, the rest for clock_corrected.

    `offset_s` is the camera's clock minus the recorder's as measured now, `before_s` what was believed until now.
    `slowed` has `device`, `detail` (what became of live), `max_bytes_s` (0: no cap any more) and `next_at`.
    """

    source: NotRequired[str]
    reason: NotRequired[str]
    detail: NotRequired[str]
    device: NotRequired[str]
    offset_s: NotRequired[float]
    before_s: NotRequired[float]
    max_bytes_s: NotRequired[float]
    next_at: NotRequired[str]


class ClockState(TypedDict):
    """How far the camera's clock is from the recorder's: last measurement, how far they differ, how many, when."""

    offset_s: float
    spread_s: float
    samples: int
    measured_at: str


class PaceState(TypedDict):
    """How slowly the camera's device is asked since live recording faltered, how often it did, when not before."""

    max_bytes_s: float
    falters: int
    faltered_at: str
    next_at: str


class CurrentFill(TypedDict):
    """The fill that runs for a camera."""

    gap: str
    attempt: int
    wanted_s: float
    got_s: float
    bytes: int


class LastFill(JoinData):
    """The attempt that ended last for a camera; `result` is completed, partial or failed."""

    result: str
    reason: str | None
    ended_at: str
    got_s: float
    wanted_s: float


class CameraState(TypedDict):
    """`camera/<camera>/state`, retained.

    `parked` is the reason nothing is asked of the camera, or null; `held` says in one line why nothing is filled of
    any camera (recordings folder gone, disk full), or null.

    `slowed` is null as long as live recording has not faltered while the camera's device replayed.
    """

    camera: str
    presence: str
    since: str | None
    pending_gaps: int
    missing_s: float
    current: CurrentFill | None
    last: LastFill | None
    parked: str | None
    held: str | None
    paused: bool
    clock: ClockState | None
    slowed: PaceState | None
    updated_at: str


class NodeCamera(TypedDict):
    """A camera as the node's info names it; `topic` is what its state and events lie under."""

    id: str
    name: str
    topic: str


class NodeInfo(TypedDict):
    """`info`, retained: what the node is. `boot_id` changes with every start."""

    version: str
    boot_id: str
    started_at: str
    cameras: list[NodeCamera]
    capabilities: list[str]
    paused: bool


class ReplyData(TypedDict):
    """The answer to a command: `data` when it was carried out, `error` (one line for a person) when not."""

    status: Literal["ok", "error"]
    data: dict[str, object] | None
    error: str | None
    transaction: str | int | None


# Every event type and the shape of its data.
EVENTS: dict[str, type] = {
    "gap.detected.v1": GapDetected,
    "fill.started.v1": FillData,
    "fill.progress.v1": FillData,
    "fill.completed.v1": FillData,
    "fill.partial.v1": FillData,
    "fill.failed.v1": FillData,
    "camera.online.v1": CameraData,
    "camera.offline.v1": CameraData,
    "camera.parked.v1": CameraData,
    "camera.unparked.v1": CameraData,
    "camera.clock_corrected.v1": CameraData,
    "camera.slowed.v1": CameraData,
}
SAYS: dict[str, str] = {
    "gap.detected.v1": "Footage is missing; a row was registered.",
    "fill.started.v1": "The camera is asked.",
    "fill.progress.v1": "One more file is in its place.",
    "fill.completed.v1": "Nothing of the gap is missing any more.",
    "fill.partial.v1": "A part came; the rest stays a gap.",
    "fill.failed.v1": "This try brought nothing.",
    "camera.online.v1": "The camera is back.",
    "camera.offline.v1": "The camera is gone.",
    "camera.parked.v1": "The camera is not asked any more until somebody changes something.",
    "camera.unparked.v1": "The camera is asked again.",
    "camera.clock_corrected.v1": "The camera's clock is off by something else than was believed.",
    "camera.slowed.v1": "Live recording faltered while the camera replayed: it is asked later and slower.",
}
