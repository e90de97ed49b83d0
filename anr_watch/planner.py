"""Which gaps are due, in which order, and when something becomes due next. Pure: values in, values out.

Rules: newest first, but fair between cameras (every camera's newest gap before any camera's second); one replay
per device; a global limit; gaps, devices, cameras and the disk may each have to wait. Nothing is polled: the plan
names the next moment at which one of those waits ends, and that is the only timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from anr_watch.coverage import NAME_STEP_S, TOLERANCE_S
from anr_watch.model import Camera, Coverage, Device, Gap, Window

ANY_AGE_HOURS = 24.0 * 366 * 50  # for gaps a person asked for: as old as they like


# Puts the gaps that could start into the order in which they should: takes the ready gaps by camera, when a camera
# was last served (monotonic seconds), and the devices by camera.
Ranking = Callable[[Mapping[str, Sequence[Gap]], Mapping[str, float], Mapping[str, Device]], list[Gap]]


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits the planner needs."""

    max_attempts: int = 3
    max_gap_hours: float = 24.0
    parallel: int = 8
    max_request_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds gaps back at the moment; waits are monotonic seconds."""

    running_gaps: AbstractSet[str] = frozenset()
    busy_devices: AbstractSet[Device] = frozenset()
    gap_waits: Mapping[str, float] = field(default_factory=dict)
    device_waits: Mapping[Device, float] = field(default_factory=dict)
    all_wait_s: float | None = None  # the recordings folder takes no files until then
    held_cameras: AbstractSet[str] = frozenset()  # paused
    parked_cameras: AbstractSet[str] = (
        frozenset()
    )  # asking again is asking for a lock-out: holds for forced gaps, too
    paused: bool = False
    last_started_s: Mapping[str, float] = field(default_factory=dict)  # per camera
    forced: AbstractSet[str] = frozenset()  # gaps a person asked for: age and attempts do not matter


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start now, in order, and when to look again (monotonic; None: only an event can change anything)."""

    starts: tuple[Gap, ...]
    next_due_s: float | None


def fillable(gap: Gap, now: datetime, max_gap_hours: float) -> Window | None:
    """Return the part of the gap that is old enough to exist and young enough to be wanted, or None.

    The last name step after the gap's end belongs to it: the file that ended the gap may begin that much later
    than its name says.
    """
    oldest = now - timedelta(hours=max_gap_hours)
    start = max(gap.window.start, oldest)
    end = min(gap.window.end + timedelta(seconds=NAME_STEP_S), now)
    if gap.window.end <= oldest or start >= end:
        return None
    if start > gap.window.start and (gap.window.end - start).total_seconds() <= TOLERANCE_S:
        return None  # what is left of an ageing gap is shorter than what we can tell apart
    return Window(start, end)


def plan(
    gaps: Iterable[Gap],
    cameras: Mapping[str, Camera],
    devices: Mapping[str, Device],
    standing: Standing,
    limits: Limits,
    *,
    now: datetime,
    now_s: float,
    ranking: Ranking | None = None,
) -> Plan:
    """Return what to start at once and when something becomes due without an event.

    Args:
        gaps: pending rows.
        cameras: by id; gaps of other cameras are left alone.
        devices: by camera id; a camera without one cannot be asked.
        standing: what holds gaps back.
        limits: configured limits.
        now: the present, for the age of gaps.
        now_s: the present, for waits.
        ranking: the order of what could start; None: `newest_fair`.
    """
    dues: list[float] = []
    ready: dict[str, list[Gap]] = {}
    for gap in gaps:
        camera = cameras.get(gap.camera_id)
        if (
            gap.camera_id in standing.parked_cameras
            or camera is None
            or gap.camera_id not in devices
            or gap.id in standing.running_gaps
        ):
            continue
        forced = gap.id in standing.forced
        if not camera.wants_fills and not forced:
            continue
        if not forced and (gap.attempts >= limits.max_attempts or gap.camera_id in standing.held_cameras):
            continue
        if fillable(gap, now, ANY_AGE_HOURS if forced else limits.max_gap_hours) is None:
            if gap.window.start >= now:
                dues.append(now_s + (gap.window.start - now).total_seconds() + 1.0)
            continue
        waits = (standing.gap_waits.get(gap.id, 0.0), standing.device_waits.get(devices[gap.camera_id], 0.0))
        due_s = max(*waits, standing.all_wait_s or 0.0)
        if due_s > now_s:
            if due_s < float("inf"):  # for ever: only a person ends that wait
                dues.append(due_s)
        else:
            ready.setdefault(gap.camera_id, []).append(gap)
    if standing.paused:
        return Plan((), None)
    ranked = (ranking or newest_fair)(ready, standing.last_started_s, devices)
    return Plan(_choose(ranked, devices, standing, limits), min(dues, default=None))


def newest_fair(
    ready: Mapping[str, Sequence[Gap]], last_started_s: Mapping[str, float], devices: Mapping[str, Device]
) -> list[Gap]:
    """Return every camera's newest gap before any camera's second, the camera that waited longest first."""
    del devices
    ranked: list[tuple[int, float, float, Gap]] = []
    for camera_id, gaps in ready.items():
        newest_first = sorted(gaps, key=lambda gap: gap.window.start, reverse=True)
        last_s = last_started_s.get(camera_id, float("-inf"))
        ranked += [(rank, last_s, -gap.window.start.timestamp(), gap) for rank, gap in enumerate(newest_first)]
    ranked.sort(key=lambda entry: (*entry[:3], entry[3].id))
    return [entry[3] for entry in ranked]


def _choose(
    ranked: Iterable[Gap], devices: Mapping[str, Device], standing: Standing, limits: Limits
) -> tuple[Gap, ...]:
    room = limits.parallel - len(standing.running_gaps)
    taken = set(standing.busy_devices)
    chosen: list[Gap] = []
    for gap in ranked:
        if len(chosen) >= room:
            break
        device = devices[gap.camera_id]
        if device not in taken:
            taken.add(device)
            chosen.append(gap)
    return tuple(chosen)


def choose_target(missing: Coverage, max_request_s: float) -> Window:
    """Return what one replay asks for: the oldest missing piece, at most `max_request_s` of it.

    Within a gap time runs forwards: a camera overwrites its oldest footage first. Pieces that are not asked for
    now stay pending and are due at once.
    """
    piece = missing[0]
    return Window(piece.start, min(piece.end, piece.start + timedelta(seconds=max_request_s)))
