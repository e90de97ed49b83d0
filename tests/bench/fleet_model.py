"""A fleet after a core switch failed, in virtual time: the real planner, scheduler, verdicts and back-offs.

10 000 cameras on 200 nodes lose their network for 15 minutes and come back within 10 s. Simulated are only the
cameras (how fast a device plays, refuses, breaks off) and the store (which rows are pending); what is started when,
how long whom to leave alone after a failure, and what becomes of a row is decided by the daemon's own modules.

`make bench BENCH=fleet` runs it.

The model, per camera: an outage gap of 15 minutes; 30 % also have one to four older gaps of 1 to 60 minutes from the
last day. Half of the devices have one camera, the others are recorders with 8 channels. A device plays 1x to 16x real
time (log-uniform), 3 % are refused with 453 at a try (somebody watches), 2 % break off in the middle, and a device
answers only 0 to 5 s after its online message. 0.5 % of the cameras have nothing of an older gap any more.
"""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from anr_watch import scheduler as scheduling
from anr_watch.filling.tools import Trigger
from anr_watch.model import Camera, Device, Gap, Secret, Window, merge, subtract
from anr_watch.planner import Limits, Ranking, choose_target, newest_fair
from anr_watch.replay.urls import device_of
from anr_watch.scheduler import Scheduler
from anr_watch.states import POLICY, Follow, Presence, Reason
from anr_watch.store import Look
from anr_watch.verdict import ReplayEnd, Verdict, judge
from tests.bench.virtual_time import VirtualClock, VirtualLoop

START = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)
OUTAGE_S = 900.0
BACK_WITHIN_S = 10.0
RECORDER_CHANNELS = 8
FILE_S = 60.0  # the recorder's files, and so the progress events
CONNECT_S = 3.0  # until an unreachable device is given up
SHORTEST_CUT_S = 5.0  # both sides of a break-off are longer than what a verdict tells apart
END_S = 12 * 3600.0


@dataclass
class Fleet:
    """What the whole fleet counts."""

    loop: VirtualLoop
    rng: random.Random
    replays_by_device: Counter[Device] = field(default_factory=Counter)
    peak_device: int = 0
    peak_node: int = 0
    tries: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    messages: Counter[int] = field(default_factory=Counter)  # by second
    filled: list[tuple[float, float, bool]] = field(default_factory=list)  # when, seconds of footage, of the outage
    lost_s: float = 0.0

    def publish(self, count: int) -> None:
        """Count messages that went through the broker now."""
        self.messages[int(self.loop.time())] += count


@dataclass
class DeviceModel:
    """One device: when it answers, how fast it plays, which footage it lost."""

    speed: float
    answers_s: float = 0.0


class SimulatedFill:
    """Stands for `fill.Fill` in the scheduler: a replay of the model's length, judged by the real verdict."""

    def __init__(self, node: "Node", gap: Gap, camera: Camera, *, tries: int, last_reason: Reason | None) -> None:
        self.gap, self.camera, self._node = gap, camera, node
        self._tries, self._last_reason = tries, last_reason
        self.stopping = self.settling = False

    async def stop(self) -> None:
        """Nothing stops a fill of the model: its camera stays configured and its row stays pending."""
        raise AssertionError("the scheduler let a wanted fill go")

    async def run(self):
        """Ask, wait as long as the device plays, judge, settle the row."""
        node, fleet, loop = self._node, self._node.fleet, self._node.fleet.loop
        device = device_of(self.camera)
        model = node.devices[device]
        fleet.tries += 1
        fleet.replays_by_device[device] += 1
        fleet.peak_device = max(fleet.peak_device, fleet.replays_by_device[device])
        fleet.peak_node = max(fleet.peak_node, len(node.scheduler.running))
        fleet.publish(2)  # fill.started and the camera's state
        target = choose_target((self.gap.window,), node.limits.max_request_s)
        end, got_s, answered = ReplayEnd(None), 0.0, True
        if loop.time() < model.answers_s:
            await asyncio.sleep(CONNECT_S)
            end, answered = ReplayEnd(Reason.UNREACHABLE, "no answer"), False
        elif fleet.rng.random() < 0.03:
            await asyncio.sleep(0.2)
            end, answered = ReplayEnd(Reason.BUSY, "453"), False
        elif self.gap.id in node.gone:
            await asyncio.sleep(0.5)
        else:
            got_s = target.seconds
            if got_s > SHORTEST_CUT_S * 2 and fleet.rng.random() < 0.02:
                got_s = fleet.rng.uniform(SHORTEST_CUT_S, got_s - SHORTEST_CUT_S)
                end = ReplayEnd(Reason.CUT_SHORT, "connection lost")
            played_s = 0.0
            while played_s < got_s:
                step_s = min(FILE_S, got_s - played_s)
                await asyncio.sleep(step_s / model.speed)
                played_s += step_s
                fleet.publish(1)  # fill.progress
        fleet.replays_by_device[device] -= 1
        fleet.publish(2)  # the result and the camera's state
        return self._settle(target, end, got_s, answered=answered)

    def _settle(self, target: Window, end: ReplayEnd, got_s: float, *, answered: bool):
        row = self.gap.window
        got = merge([Window(target.start, target.start + timedelta(seconds=got_s))] if got_s else [])
        verdict = judge(
            row,
            target,
            before=(),
            after=got,
            end=end,
            attempts=self.gap.attempts,
            max_attempts=self._node.limits.max_attempts,
            presence=Presence.ONLINE,
        )
        self._node.fleet.ends[verdict.reason] += 1
        tries = self._tries + 1 if verdict.reason is self._last_reason and not got_s else 1
        left = self._node.settle(self.gap, verdict, got)
        waiting = tuple(gap.id for gap in left if gap.window.overlaps(target))
        return SimpleNamespace(
            gap=self.gap,
            verdict=verdict,
            waiting_ids=waiting,
            pending_ids=tuple(gap.id for gap in left),
            delay_s=POLICY[verdict.reason].delay_s(tries) if verdict.follow is not Follow.NOTHING else 0.0,
            tries=tries,
            answered=answered,
            broke=end.reason is Reason.CUT_SHORT,
        )


class Node:
    """One box: its cameras, its pending rows, and the real scheduler."""

    def __init__(self, fleet: Fleet, number: int, cameras: Sequence[Camera], ranking: Ranking) -> None:
        self.fleet, self.number = fleet, number
        self.cameras = {camera.id: camera for camera in cameras}
        self.devices: dict[Device, DeviceModel] = {}
        self.gaps: dict[str, Gap] = {}
        self.gone: set[str] = set()
        self.limits = Limits()
        self._ranking = ranking
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Start what is due, whenever something changed or a wait ended, until nothing is missing."""
        clock = VirtualClock(self.fleet.loop, START)
        settings = SimpleNamespace(
            fills=SimpleNamespace(
                max_attempts=self.limits.max_attempts,
                max_gap_hours=self.limits.max_gap_hours,
                parallel=self.limits.parallel,
                max_request_s=self.limits.max_request_s,
                live_silence_s=0.0,  # the model has no live recordings
            )
        )
        tools = SimpleNamespace(settings=settings, clock=clock, paces={})
        async with asyncio.TaskGroup() as group:
            self.scheduler = Scheduler(
                tools,
                group,
                wake=lambda _why: self._changed.set(),
                presence_of=lambda _camera: Presence.ONLINE,
                park=self._park,
                ranking=self._ranking,
            )
            while self.gaps or self.scheduler.running or self.fleet.loop.time() < BACK_WITHIN_S:
                self._changed.clear()
                look = Look(self.cameras, tuple(self.gaps.values()))
                due_s = self.scheduler.start_due(look, (), Trigger("fleet", clock.monotonic()))
                wait_s = END_S - clock.monotonic() if due_s is None else max(due_s - clock.monotonic(), 0.001)
                await _until(self._changed, min(wait_s, max(BACK_WITHIN_S - clock.monotonic(), 0.0) or wait_s))
                if clock.monotonic() >= END_S:
                    raise AssertionError(f"node {self.number} still misses {list(self.gaps.values())[:3]}")

    async def _park(self, camera: Camera, reason: Reason, _detail: str) -> None:
        raise AssertionError(f"{camera.id} parked for {reason}")

    def came_back(self, camera: Camera, outage: Gap) -> None:
        """An online message: the outage becomes a row, waits for the camera end."""
        self.fleet.publish(3)  # the message itself, camera.online, gap.detected
        self.gaps[outage.id] = outage
        self.scheduler.online_edge(camera, "mqtt")
        self._changed.set()

    def settle(self, gap: Gap, verdict: Verdict, got: Sequence[Window]) -> list[Gap]:
        """Take a verdict over into the rows, as the store does; return what is still pending of the gap."""
        del self.gaps[gap.id]
        now_s, of_outage = self.fleet.loop.time(), gap.id.startswith("outage")
        self.fleet.filled += [(now_s, window.seconds, of_outage) for window in got]
        missing = [piece for whole in verdict.missing for piece in subtract(whole, got)]
        if verdict.failed:
            self.fleet.lost_s += sum(window.seconds for window in missing)
            return []
        left = []
        for part, window in enumerate(missing):
            rest = replace(
                gap,
                id=gap.id if part == 0 and not got else f"{gap.id}.{part}",
                window=window,
                attempts=gap.attempts + (1 if verdict.counts else 0),
            )
            self.gaps[rest.id] = rest
            left.append(rest)
            if gap.id in self.gone:
                self.gone.add(rest.id)
        return left


async def _until(event: asyncio.Event, wait_s: float) -> None:
    """Wait for the event at most `wait_s`, a little faster than asyncio.timeout."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(wait_s, event.set)
    await event.wait()
    timer.cancel()


def shortest_fair(ready, last_started_s, devices) -> list[Gap]:
    """Every camera's shortest gap before any camera's second, short ones first."""
    ranked = [
        (rank, gap.window.seconds, gap.id, gap)
        for gaps in ready.values()
        for rank, gap in enumerate(sorted(gaps, key=lambda gap: gap.window.seconds))
    ]
    return [entry[3] for entry in sorted(ranked)]


def shortest(ready, last_started_s, devices) -> list[Gap]:
    """The shortest gap of all first, whosever it is."""
    return sorted((gap for gaps in ready.values() for gap in gaps), key=lambda gap: (gap.window.seconds, gap.id))


def newest(ready, last_started_s, devices) -> list[Gap]:
    """The newest gap of all first, whosever it is."""
    return sorted(
        (gap for gaps in ready.values() for gap in gaps), key=lambda gap: (-gap.window.start.timestamp(), gap.id)
    )


def oldest(ready, last_started_s, devices) -> list[Gap]:
    """The oldest gap of all first: what the camera overwrites next."""
    return sorted((gap for gaps in ready.values() for gap in gaps), key=lambda gap: (gap.window.start, gap.id))


def longest_lane(ready, last_started_s, devices) -> list[Gap]:
    """Every camera's newest gap before any camera's second, devices with the most to play first.

    A recorder with eight channels plays one after the other: begun last, it ends last.
    """
    lane_s = Counter()
    for camera_id, gaps in ready.items():
        lane_s[devices[camera_id]] += sum(gap.window.seconds for gap in gaps)
    ranked = [
        (rank, -lane_s[devices[gap.camera_id]], -gap.window.start.timestamp(), gap.id, gap)
        for gaps in ready.values()
        for rank, gap in enumerate(sorted(gaps, key=lambda gap: gap.window.start, reverse=True))
    ]
    return [entry[-1] for entry in sorted(ranked)]


ORDERS: dict[str, Ranking] = {
    "newest_fair": newest_fair,
    "longest_lane": longest_lane,
    "newest": newest,
    "shortest_fair": shortest_fair,
    "shortest": shortest,
    "oldest": oldest,
}


def _gap(gap_id: str, camera_id: str, start: datetime, seconds: float) -> Gap:
    window = Window(start, start + timedelta(seconds=seconds))
    return Gap(gap_id, camera_id, window, window.start.isoformat(), window.end.isoformat())


def _node(fleet: Fleet, number: int, cameras: int, ranking: Ranking) -> tuple[Node, list[tuple[float, Camera, Gap]]]:
    """A node with its cameras and older gaps, and when which camera comes back with which outage."""
    rng, found, models = fleet.rng, [], {}
    while len(found) < cameras:
        host = f"10.{number // 256}.{number % 256}.{len(found) + 1}"
        channels = RECORDER_CHANNELS if rng.random() < 0.5 / RECORDER_CHANNELS * 2 else 1
        models[Device(host, 554)] = DeviceModel(2.0 ** rng.uniform(0.0, 4.0))
        for channel in range(min(channels, cameras - len(found))):
            found.append(
                Camera(
                    id=f"n{number}c{len(found)}",
                    name=f"channel {channel}",
                    address=host,
                    username="viewer",
                    password=Secret("not asked for here"),
                    anr_enabled=True,
                )
            )
    node = Node(fleet, number, found, ranking)
    node.devices = models
    returns = []
    for camera in found:
        back_s = rng.uniform(0.0, BACK_WITHIN_S)
        model = models[device_of(camera)]
        model.answers_s = max(model.answers_s, back_s + rng.uniform(0.0, 5.0))
        began = START - timedelta(seconds=OUTAGE_S)
        returns.append((back_s, camera, _gap(f"outage-{camera.id}", camera.id, began, OUTAGE_S + back_s - 0.01)))
        if rng.random() < 0.3:
            at = began
            for index in range(rng.randint(1, 4)):
                length_s = 60.0 * 60.0 ** rng.random()
                at -= timedelta(seconds=length_s + rng.uniform(600.0, 4 * 3600.0))
                gap = _gap(f"older-{camera.id}-{index}", camera.id, at, length_s)
                if (START - at).total_seconds() < 20 * 3600.0:
                    node.gaps[gap.id] = gap
                    if rng.random() < 0.005:
                        node.gone.add(gap.id)
    return node, sorted(returns, key=lambda entry: entry[0])


async def _returns(node: Node, returns: Sequence[tuple[float, Camera, Gap]]) -> None:
    for back_s, camera, gap in returns:
        await asyncio.sleep(max(back_s - node.fleet.loop.time(), 0.0))
        node.came_back(camera, gap)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def simulate(order: str, *, nodes: int = 200, cameras: int = 10_000, seed: int = 7) -> dict[str, float]:
    """Run one fleet with one planner order; see the module for the model.

    Raises:
        AssertionError: a device saw two replays, a node more than its limit, or something is left missing.
    """
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_simulate(loop, order, nodes, cameras, seed))
    finally:
        loop.close()


async def _simulate(loop: VirtualLoop, order: str, nodes: int, cameras: int, seed: int) -> dict[str, float]:
    fleet = Fleet(loop, random.Random(seed))
    made = [_node(fleet, number, cameras // nodes, ORDERS[order]) for number in range(nodes)]
    outage_s = sum(gap.window.seconds for _, returns in made for _, _, gap in returns)
    older_s = sum(gap.window.seconds for node, _ in made for gap in node.gaps.values())
    real_fill = scheduling.Fill
    scheduling.Fill = _fill_of({id(node.cameras[camera]): node for node, _ in made for camera in node.cameras})
    try:
        async with asyncio.TaskGroup() as group:
            for node, returns in made:
                group.create_task(node.run())
                group.create_task(_returns(node, returns))
    finally:
        scheduling.Fill = real_fill
    got_s = sum(seconds for _, seconds, _ in fleet.filled)
    assert fleet.peak_device == 1, f"a device saw {fleet.peak_device} replays at once"
    assert fleet.peak_node <= Limits().parallel, f"a node ran {fleet.peak_node} replays at once"
    assert abs(outage_s + older_s - got_s - fleet.lost_s) < 1.0, "every second is filled once or given up"
    of_outage = [(at_s, seconds) for at_s, seconds, of_outage in fleet.filled if of_outage]
    return {
        "full_coverage_s": max(at_s for at_s, *_ in fleet.filled),
        "outage_covered_s": max(at_s for at_s, _ in of_outage),
        "outage_p50_s": _percentile([at_s for at_s, _ in of_outage], 0.5),
        "outage_p99_s": _percentile([at_s for at_s, _ in of_outage], 0.99),
        # What a person who looks at a random missing second at the moment of the return has to wait for it.
        "mean_wait_s": sum(at_s * seconds for at_s, seconds, _ in fleet.filled) / got_s,
        "outage_mean_wait_s": sum(at_s * seconds for at_s, seconds in of_outage) / sum(s for _, s in of_outage),
        "peak_replays_node": fleet.peak_node,
        "peak_replays_device": fleet.peak_device,
        "tries": fleet.tries,
        "messages": sum(fleet.messages.values()),
        "messages_peak_s": max(fleet.messages.values()),
        "messages_mean_s": statistics.fmean(
            fleet.messages.get(second, 0) for second in range(int(max(fleet.messages)) + 1)
        ),
        "given_up_s": fleet.lost_s,
    }


def _fill_of(nodes):
    """What the scheduler makes its fills with: the simulated one, on the camera's node."""

    def make(_tools, gap, camera, *, tries, last_reason, **_rest):
        return SimulatedFill(nodes[id(camera)], gap, camera, tries=tries, last_reason=last_reason)

    return make
