"""The JSON of events and states, key by key: what consumers may rely on. Types only.

Times are RFC 3339 in UTC ending in `Z`. Keys may be added within a version; what a key means never changes.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


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


class FillData(TypedDict):
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
    """`camera.*.v1`: `source` is set for online and offline, `reason` and `detail` for parked."""

    source: NotRequired[str]
    reason: NotRequired[str]
    detail: NotRequired[str]


class CurrentFill(TypedDict):
    """The fill that runs for a camera."""

    gap: str
    attempt: int
    wanted_s: float
    got_s: float
    bytes: int


class LastFill(TypedDict):
    """The attempt that ended last for a camera; `result` is completed, partial or failed."""

    result: str
    reason: str | None
    ended_at: str
    got_s: float
    wanted_s: float


class CameraState(TypedDict):
    """`camera/<camera>/state`, retained. `parked` is the reason nothing is asked of the camera, or null."""

    camera: str
    presence: str
    since: str | None
    pending_gaps: int
    missing_s: float
    current: CurrentFill | None
    last: LastFill | None
    parked: str | None
    updated_at: str
