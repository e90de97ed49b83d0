"""What is told to the world, as ready messages: events (CloudEvents 1.0 JSON) and retained states. Pure.

Events go to `<base>/<node>/camera/<camera>/event` and are not retained (a retained event would be true for
ever); states are snapshots and are. An event's `id` is a hash of the fact it tells, so one that is sent again
after a crash or by a retry has the same id and a consumer drops it by `source` + `id`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import orjson

from anr_watch.instants import format_instant
from anr_watch.live_first import Pace
from anr_watch.log import one_line, redact
from anr_watch.model import Attempt, CameraFacts, DeviceClock, Gap, Message, Window
from anr_watch.mqtt.shapes import (
    CameraData,
    CameraState,
    ClockState,
    CurrentFill,
    FillData,
    GapData,
    GapDetected,
    JoinData,
    LastFill,
    PaceState,
    SpanData,
)
from anr_watch.mqtt.topics import Topics
from anr_watch.states import Presence, Reason

PREFIX = "io.anr-watch."
ONLINE, OFFLINE = b"online", b"offline"  # the payloads of the status topic
_DETAIL_CHARS = 300


class Announcer:
    """Builds the messages of one node. Every method returns a tuple, so that `Silent` can return an empty one."""

    def __init__(self, node: str, base: str = "anr-watch") -> None:
        self.topics = Topics(base, node)
        # A CloudEvents source is a URI reference.
        self._source = quote(self.topics.root, safe="/-._~")

    def gap_detected(
        self, gap: Gap, *, at: datetime, origin: str, reaction_ms: float | None = None
    ) -> tuple[Message, ...]:
        """Tell that a gap was registered."""
        data: GapDetected = {"gap": _gap(gap), "origin": origin}
        if reaction_ms is not None:
            data["reaction_ms"] = round(reaction_ms, 1)
        return self._event("gap.detected.v1", gap.camera_id, at, (_span_key(gap.window),), data)

    def fill_started(
        self, gap: Gap, attempt: Attempt, *, at: datetime, reaction_ms: float | None = None
    ) -> tuple[Message, ...]:
        """Tell that the camera is asked for `attempt.window`."""
        data = _fill(gap, attempt)
        if reaction_ms is not None:
            data["reaction_ms"] = round(reaction_ms, 1)
        return self._fill_event("fill.started.v1", gap, attempt, at=at, data=data)

    def fill_progress(self, gap: Gap, attempt: Attempt, *, at: datetime, step: int) -> tuple[Message, ...]:
        """Tell the counters of a running attempt; `step` is different for each call (the number of files does)."""
        return self._fill_event("fill.progress.v1", gap, attempt, at=at, data=_fill(gap, attempt), step=step)

    def fill_completed(
        self, gap: Gap, attempt: Attempt, *, at: datetime, filled: Iterable[Window]
    ) -> tuple[Message, ...]:
        """Tell that nothing of the gap is missing any more."""
        return self._fill_event("fill.completed.v1", gap, attempt, at=at, data=_ended(gap, attempt, filled, ()))

    def fill_partial(
        self, gap: Gap, attempt: Attempt, *, at: datetime, filled: Iterable[Window], missing: Iterable[Window]
    ) -> tuple[Message, ...]:
        """Tell that a part was recovered and `missing` stays a gap."""
        return self._fill_event("fill.partial.v1", gap, attempt, at=at, data=_ended(gap, attempt, filled, missing))

    def fill_failed(
        self, gap: Gap, attempt: Attempt, *, at: datetime, missing: Iterable[Window]
    ) -> tuple[Message, ...]:
        """Tell that the attempt recovered nothing."""
        return self._fill_event("fill.failed.v1", gap, attempt, at=at, data=_ended(gap, attempt, (), missing))

    def fill_ended(
        self, gap: Gap, attempt: Attempt, *, at: datetime, filled: Sequence[Window], missing: Sequence[Window]
    ) -> tuple[Message, ...]:
        """Tell the one of completed, partial and failed that the windows say."""
        if not missing:
            return self.fill_completed(gap, attempt, at=at, filled=filled)
        if filled:
            return self.fill_partial(gap, attempt, at=at, filled=filled, missing=missing)
        return self.fill_failed(gap, attempt, at=at, missing=missing)

    def camera_online(self, camera_id: str, *, at: datetime, source: str) -> tuple[Message, ...]:
        """Tell that a camera is believed to be back."""
        return self._camera_event("camera.online.v1", camera_id, at, {"source": source})

    def camera_offline(self, camera_id: str, *, at: datetime, source: str) -> tuple[Message, ...]:
        """Tell that a camera is believed to be gone."""
        return self._camera_event("camera.offline.v1", camera_id, at, {"source": source})

    def camera_parked(self, camera_id: str, *, at: datetime, reason: Reason, detail: str) -> tuple[Message, ...]:
        """Tell that nothing is asked of a camera until somebody changes something."""
        data: CameraData = {"reason": reason.value, "detail": _clean(detail)}
        return self._camera_event("camera.parked.v1", camera_id, at, data)

    def camera_unparked(self, camera_id: str, *, at: datetime) -> tuple[Message, ...]:
        """Tell that a parked camera is asked again."""
        return self._camera_event("camera.unparked.v1", camera_id, at, {})

    def clock_corrected(
        self, camera_id: str, *, at: datetime, clock: DeviceClock, before_s: float
    ) -> tuple[Message, ...]:
        """Tell that a camera's clock is off by something else than was believed, as its pictures prove."""
        data: CameraData = {
            "device": clock.device,
            "offset_s": round(clock.offset_s, 3),
            "before_s": round(before_s, 3),
        }
        return self._camera_event("camera.clock_corrected.v1", camera_id, at, data)

    def camera_slowed(self, camera_id: str, *, at: datetime, pace: Pace, why: str) -> tuple[Message, ...]:
        """Tell that live recording faltered while the camera replayed, so that it is asked later and slower."""
        data: CameraData = {
            "device": pace.device,
            "detail": _clean(why),
            "max_bytes_s": round(pace.max_bytes_s),
            "next_at": _time(pace.next_at),
        }
        return self._camera_event("camera.slowed.v1", camera_id, at, data)

    def camera_state(
        self,
        camera_id: str,
        *,
        at: datetime,
        presence: Presence,
        since: datetime | None,
        facts: CameraFacts,
        current: Attempt | None = None,
        parked: Reason | None = None,
        held: str = "",
        paused: bool = False,
        clock: DeviceClock | None = None,
        pace: Pace | None = None,
    ) -> tuple[Message, ...]:
        """Return the retained snapshot of a camera; see `shapes.CameraState`."""
        state: CameraState = {
            "camera": camera_id,
            "presence": presence.value,
            "since": _time(since) if since else None,
            "pending_gaps": facts.pending_gaps,
            "missing_s": round(facts.missing_s, 3),
            "current": _current(current) if current else None,
            "last": _last(facts.last),
            "parked": parked.value if parked else None,
            "held": _clean(held) or None,
            "paused": paused,
            "clock": _clock(clock) if clock else None,
            "slowed": _pace(pace) if pace else None,
            "updated_at": _time(at),
        }
        return self._retained(self.topics.state(camera_id), state)

    def no_camera(self, camera_id: str) -> tuple[Message, ...]:
        """Return what takes a camera's retained state back."""
        return self._retained(self.topics.state(camera_id), None)

    def info(
        self,
        *,
        version: str,
        boot_id: str,
        started_at: datetime,
        cameras: Iterable[tuple[str, str]],
        capabilities: Iterable[str] = (),
        paused: bool = False,
    ) -> tuple[Message, ...]:
        """Return the retained description of the node.

        `cameras` are pairs of id and name; addresses, users and URLs have no place here. `boot_id` changes with
        every start, so an `offline` of an earlier run can be told from one of this run.
        """
        described = {
            "version": version,
            "boot_id": boot_id,
            "started_at": _time(started_at),
            "cameras": [
                {"id": camera_id, "name": name, "topic": self.topics.state(camera_id).removesuffix("/state")}
                for camera_id, name in cameras
            ],
            "capabilities": sorted(capabilities),
            "paused": paused,
        }
        return self._retained(self.topics.info, described)

    def _fill_event(
        self, kind: str, gap: Gap, attempt: Attempt, *, at: datetime, data: FillData, step: int = 0
    ) -> tuple[Message, ...]:
        facts = (_span_key(gap.window), attempt.number, attempt.id, step)
        return self._event(kind, gap.camera_id, at, facts, data)

    def _camera_event(self, kind: str, camera_id: str, at: datetime, data: CameraData) -> tuple[Message, ...]:
        return self._event(kind, camera_id, at, (format_instant(at), *data.values()), data)

    def _event(
        self, kind: str, camera_id: str, at: datetime, facts: Sequence[object], data: Mapping[str, object]
    ) -> tuple[Message, ...]:
        event_id = _digest([self.topics.node, kind, camera_id, *facts])
        event = {
            "specversion": "1.0",
            "id": event_id,
            "type": PREFIX + kind,
            "source": self._source,
            "subject": camera_id,
            "time": _time(at),
            "datacontenttype": "application/json",
            "data": {"camera": camera_id, **data},
        }
        return (Message(event_id, self.topics.event(camera_id), _json(event)),)

    def _retained(self, topic: str, state: Mapping[str, object] | None) -> tuple[Message, ...]:
        payload = _json(state) if state is not None else b""
        return (Message(_digest([topic, payload.hex()]), topic, payload, retain=True),)


class Silent(Announcer):
    """Says nothing: what the daemon uses when no broker is configured, so that no outbox fills up."""

    def __init__(self) -> None:
        super().__init__("node")

    def _event(
        self, kind: str, camera_id: str, at: datetime, facts: Sequence[object], data: Mapping[str, object]
    ) -> tuple[Message, ...]:
        del kind, camera_id, at, facts, data
        return ()

    def _retained(self, topic: str, state: Mapping[str, object] | None) -> tuple[Message, ...]:
        del topic, state
        return ()


def _time(instant: datetime) -> str:
    return format_instant(instant.astimezone(UTC)).removesuffix("+00:00") + "Z"


def _json(value: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a lone surrogate in a name: the only text orjson refuses
        return orjson.dumps(_encodable(value))


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


def _digest(facts: Sequence[object]) -> str:
    # JSON keeps the facts apart: ["a", "bc"] and ["ab", "c"] are different texts.
    return hashlib.sha256(_json({"facts": list(facts)})).hexdigest()[:32]


def _span_key(window: Window) -> str:
    return f"{format_instant(window.start)}/{format_instant(window.end)}"


def _span(window: Window) -> SpanData:
    return {"start": _time(window.start), "end": _time(window.end), "seconds": round(window.seconds, 3)}


def _gap(gap: Gap) -> GapData:
    return {"id": gap.id, **_span(gap.window)}


def _clean(detail: str) -> str:
    return one_line(redact(detail), _DETAIL_CHARS)


def _fill(gap: Gap, attempt: Attempt) -> FillData:
    joins = _joins(attempt)
    return {
        "gap": _gap(gap),
        "attempt": attempt.number,
        "attempt_id": attempt.id,
        "window": _span(attempt.window),
        "wanted_s": round(attempt.wanted_s, 3),
        "got_s": round(attempt.got_s, 3),
        "bytes": attempt.bytes,
        "files": attempt.files,
        "speed": None if attempt.speed is None else round(attempt.speed, 2),
        "first_byte_s": None if attempt.first_byte_s is None else round(attempt.first_byte_s, 3),
        "reason": attempt.reason.value if attempt.reason else None,
        "detail": _clean(attempt.detail),
        "next_at": _time(attempt.next_at) if attempt.next_at else None,
        "join_head": joins["join_head"],
        "join_tail": joins["join_tail"],
        "offset_ms": joins["offset_ms"],
        "tolerance_s": joins["tolerance_s"],
        "suspect": joins["suspect"],
    }


def _ended(gap: Gap, attempt: Attempt, filled: Iterable[Window], missing: Iterable[Window]) -> FillData:
    data = _fill(gap, attempt)
    data["filled"] = [_span(window) for window in filled]
    data["missing"] = [_span(window) for window in missing]
    return data


def _joins(attempt: Attempt) -> JoinData:
    offset_ms = attempt.offset_ms
    return {
        "join_head": attempt.join_head,
        "join_tail": attempt.join_tail,
        "offset_ms": None if offset_ms is None else round(offset_ms, 1),
        "tolerance_s": None if attempt.tolerance_s is None else round(attempt.tolerance_s, 3),
        "suspect": attempt.suspect,
    }


def _clock(clock: DeviceClock) -> ClockState:
    return {
        "offset_s": round(clock.offset_s, 3),
        "spread_s": round(clock.spread_s, 3),
        "samples": clock.samples,
        "measured_at": _time(clock.measured_at),
    }


def _pace(pace: Pace) -> PaceState:
    return {
        "max_bytes_s": round(pace.max_bytes_s),
        "falters": pace.falters,
        "faltered_at": _time(pace.faltered_at),
        "next_at": _time(pace.next_at),
    }


def _current(attempt: Attempt) -> CurrentFill:
    return {
        "gap": attempt.gap_id,
        "attempt": attempt.number,
        "wanted_s": round(attempt.wanted_s, 3),
        "got_s": round(attempt.got_s, 3),
        "bytes": attempt.bytes,
    }


def _last(attempt: Attempt | None) -> LastFill | None:
    if attempt is None or attempt.ended_at is None:
        return None
    good = attempt.reason in {Reason.FILLED, Reason.COVERED}
    return {
        "result": "completed" if good else "partial" if attempt.got_s > 0 else "failed",
        "reason": attempt.reason.value if attempt.reason else None,
        "ended_at": _time(attempt.ended_at),
        "got_s": round(attempt.got_s, 3),
        "wanted_s": round(attempt.wanted_s, 3),
        **_joins(attempt),
    }
