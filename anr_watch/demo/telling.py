"""What the demo has to say, as values, and the words for the events of the program; it prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anr_watch.demo.proof import Proof

PREFIX = "io.anr-watch."


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: seconds since the demo began and, once its camera is back, milliseconds since then."""

    kind: str
    text: str
    t_s: float
    camera: str = ""
    ms: float | None = None
    echo: bool = False  # says again what an event of the program said: for programs only
    facts: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the line of `--json`."""
        line: dict[str, object] = {"event": self.kind, "t_s": round(self.t_s, 3)}
        if self.camera:
            line["camera"] = self.camera
        if self.ms is not None:
            line["ms_since_return"] = round(self.ms, 1)
        return line | dict(self.facts)


@dataclass(frozen=True, slots=True)
class CameraResult:
    """What one camera's recording holds in the end."""

    camera: str
    proof: Proof
    recovered_frames: int  # in no file of the recorder, but there now
    outage_s: float
    online_to_connect_ms: float | None
    joins: tuple[str, ...] = ()  # how the fills were joined on both sides: exact, time, none
    offset_ms: float | None = None  # the camera's clock minus the recorder's, as the joins measured it

    @property
    def ok(self) -> bool:
        """Whether every frame is there exactly once, in order."""
        return self.proof.complete and not self.proof.double and not self.proof.out_of_order

    @property
    def joined(self) -> str:
        """The joins in one word: `exact` when every side of a fill that has a neighbour was joined by content."""
        return "time" if "time" in self.joins else "exact" if "exact" in self.joins else "none"

    @property
    def recovered_s(self) -> float:
        """Footage that only the fills brought, in seconds."""
        return self.recovered_frames / (self.proof.fps or 1)

    def as_json(self) -> dict[str, object]:
        """Return the camera's part of the last line of `--json`."""
        proof = self.proof
        return {
            "camera": self.camera,
            "ok": self.ok,
            "frames_expected": proof.expected,
            "frames_missing": proof.missing_frames,
            "frames_double": proof.double,
            "joins": self.joined,
            "offset_ms": _rounded(self.offset_ms),
            "frames_out_of_order": proof.out_of_order,
            "frames_unreadable": proof.unreadable,
            "files": proof.files,
            "files_broken": list(proof.broken),
            "missing": [list(hole) for hole in proof.missing],
            "outage_s": round(self.outage_s, 3),
            "recovered_s": round(self.recovered_s, 3),
            "online_to_connect_ms": _rounded(self.online_to_connect_ms),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """What the whole demo showed."""

    cameras: tuple[CameraResult, ...]
    events: int  # CloudEvents received from the program
    settled: bool  # all gap rows were filled in time
    took_s: float
    folder: str | None  # where everything was left

    @property
    def ok(self) -> bool:
        """Whether the demo shows what it promises."""
        return self.settled and bool(self.cameras) and all(result.ok for result in self.cameras)

    def as_json(self) -> dict[str, object]:
        """Return the last line of `--json`; the slowest camera counts for `online_to_connect_ms`."""
        connects = [r.online_to_connect_ms for r in self.cameras if r.online_to_connect_ms is not None]
        return {
            "ok": self.ok,
            "frames_expected": sum(result.proof.expected for result in self.cameras),
            "frames_missing": sum(result.proof.missing_frames for result in self.cameras),
            "frames_double": sum(result.proof.double for result in self.cameras),
            "joins": sorted({result.joined for result in self.cameras}),
            "outage_s": round(max((result.outage_s for result in self.cameras), default=0.0), 3),
            "recovered_s": round(sum(result.recovered_s for result in self.cameras), 3),
            "online_to_connect_ms": _rounded(max(connects, default=None)),
            "events": self.events,
            "settled": self.settled,
            "took_s": round(self.took_s, 1),
            "cameras": [result.as_json() for result in self.cameras],
        } | ({"folder": self.folder} if self.folder else {})


def words_for(event: Mapping[str, Any]) -> str:
    """Return what a CloudEvent of the program says, in a few words."""
    kind = str(event.get("type", "")).removeprefix(PREFIX).removesuffix(".v1")
    data = event.get("data", {})
    wanted, got = f"{data.get('wanted_s', 0):.1f}", f"{data.get('got_s', 0):.1f}"
    match kind:
        case "gap.detected":
            return f"gap found by {data['origin']}: {data['gap']['seconds']:.1f} s missing"
        case "fill.started":
            return f"fill starts: the camera is asked for {wanted} s"
        case "fill.progress":
            return f"fill: {got} s in {_files(data)} so far"
        case "fill.completed":
            speed = f", {data['speed']:.1f} times real time" if data.get("speed") else ""
            return f"gap filled: {got} s in {_files(data)}{speed}{_joins(data)}"
        case "fill.partial":
            return f"filled in part: {_part(data)}{_joins(data)}"
        case "fill.failed":
            return f"nothing came ({data.get('reason')}), to be asked again"
        case "camera.online" | "camera.offline":
            return f"believed {kind.removeprefix('camera.')} by {data.get('source')}"
        case "camera.clock_corrected":
            return f"its pictures prove that the camera's clock is off by {data.get('offset_s', 0.0):+.1f} s"
        case "camera.parked":
            return f"parked: {data.get('reason')} {data.get('detail', '')}"
        case _:
            return kind


def _part(data: Mapping[str, Any]) -> str:
    """Return what a try that left something of its gap brought, and what is left of the gap."""
    left_s = sum(window.get("seconds", 0.0) for window in data.get("missing", ()))
    if data.get("reason") == "filled":  # all that this try asked for; the gap is longer
        return f"{data.get('got_s', 0):.1f} s came, the other {left_s:.1f} s are asked for next"
    wanted, got = data.get("wanted_s", 0), data.get("got_s", 0)
    return f"{got:.1f} of {wanted:.1f} s ({data.get('reason')}), {left_s:.1f} s are asked for again"


def _joins(data: Mapping[str, Any]) -> str:
    head, tail, offset_ms = (data.get(key) for key in ("join_head", "join_tail", "offset_ms"))
    if head is None and tail is None:
        return ""
    clock = "" if offset_ms is None else f", camera clock {offset_ms:+,.0f} ms"
    return f"; joins: {head or '-'} before, {tail or '-'} after{clock}"


def _files(data: Mapping[str, Any]) -> str:
    count = data.get("files", 0)
    return f"{count} file" if count == 1 else f"{count} files"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
