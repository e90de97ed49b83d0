"""A 2-minute outage of 1, 8 and 32 cameras, from the cameras' return to the last gap filled; the polling loop at 8."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from anr_watch.camera.film import FilmSpec
from anr_watch.demo.children import Child
from anr_watch.demo.proof import Numbers, Proof
from tests.bench.figures import Budget, Figure, Spec
from tests.bench.plot import Line, svg
from tests.bench.running import Bench
from tests.bench.stage.footage import assert_every_frame_once, prove
from tests.bench.stage.stage import NODE, Stage

ORDER = 20
GAP_S = 120
LEAD_S = 15  # from the set-up to the cameras' return
LOST_S = LEAD_S - GAP_S  # when the cameras were lost, seconds of the stage's time
SPEED = 8.0
BITRATE_BPS = 1_000_000
COUNTS = (1, 8, 32)
FILM = FilmSpec(width=160, height=96, fps=10, gop_frames=10, bitrate_bps=BITRATE_BPS)
INTERVAL_S, DEFAULT_INTERVAL_S = 10.0, 300.0
LOOP = "polling loop, sweep every 10 s"
FIGURES = (
    Spec("outage_to_filled_1_s", "s", "1 camera back -> its 2-minute gap filled, verified, published"),
    Spec(
        "outage_to_filled_8_s", "s", "8 cameras back -> all gaps filled, verified, published", Budget(ratio_max=0.1)
    ),
    Spec("outage_to_filled_32_s", "s", "32 cameras back -> all gaps filled, verified, published"),
    Spec("outage_wrong_s", "s", "footage missing or there twice when 8 cameras' gaps are called filled"),
)


@dataclass
class Result:
    """What one outage came to."""

    took_s: float  # from the cameras' return to the last gap filled
    missing: list[tuple[float, float]]  # (seconds since the return, seconds of footage missing) over all cameras
    left_s: float  # missing at the end
    double_s: float  # shown twice at the end
    detected_s: float = 0.0  # polling: until the first gap row could be taken
    each_s: float = 0.0  # polling: one fill


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure the outages, ours and the loop's at 8 cameras, and draw the plot where both were measured."""
    ours: dict[int, Result] = {}
    for count in COUNTS:
        if f"outage_to_filled_{count}_s" in wanted or (count == 8 and "outage_wrong_s" in wanted):
            with bench.folder(f"outage-{count}") as folder:
                ours[count] = await with_daemon(bench, folder, count)
            bench.say(f"{count} cameras: {ours[count].took_s:.1f} s")
    loop: Result | None = None
    if shutil.which("ffmpeg") is None:
        bench.say("no ffmpeg: the polling loop cannot run, its column stays empty")
    else:
        with bench.folder("outage-loop") as folder:
            loop = await with_loop(bench, folder, 8)
        bench.say(
            f"polling loop, 8 cameras: {loop.took_s:.1f} s, {loop.left_s:.1f} s of footage missing for good,"
            f" {loop.double_s:.1f} s there twice"
        )
    by_name = {spec.name: spec for spec in FIGURES}
    found = []
    for count, result in ours.items():
        spec = by_name[f"outage_to_filled_{count}_s"]
        if spec.name in wanted:
            found.append(compared(spec, count, result, loop))
    if "outage_wrong_s" in wanted:
        wrong = Figure(by_name["outage_wrong_s"], [ours[8].left_s + ours[8].double_s], note="counted by decoding")
        if loop is not None:
            wrong.peer, wrong.peer_name = loop.left_s + loop.double_s, LOOP
        found.append(wrong)
    if loop is not None and 8 in ours:
        path = bench.build / "missing.svg"
        path.write_text(picture(ours[8], loop), encoding="utf-8")
        bench.say(f"plot: {path}")
    return found


def compared(spec: Spec, count: int, result: Result, loop: Result | None) -> Figure:
    """Return a figure with the loop beside it: measured at 8 cameras, calculated from that for others."""
    figure = Figure(spec, [result.took_s], note=f"source at {SPEED:g}x, {BITRATE_BPS / 1e6:g} Mbit/s per camera")
    if loop is not None:
        mean = loop_s(loop, count, DEFAULT_INTERVAL_S)
        figure.peer = loop.took_s if count == 8 else loop_s(loop, count, INTERVAL_S)
        figure.peer_name = LOOP if count == 8 else f"{LOOP} (calculated)"
        figure.extra = {"peer_default_s": round(mean), "peer_default_ratio": round(result.took_s / mean, 3)}
    return figure


def loop_s(loop: Result, count: int, interval_s: float) -> float:
    """Return the loop's time by calculation: gap rows written, half an interval, one fill after the other."""
    return loop.detected_s + interval_s / 2 + count * loop.each_s


def picture(ours: Result, loop: Result) -> str:
    """Return the plot."""
    moved = DEFAULT_INTERVAL_S / 2 - INTERVAL_S / 2
    shifted = [(at + moved if at > loop.detected_s else at, value) for at, value in loop.missing]
    end_s = max(at for at, _ in shifted) * 1.04
    return svg(
        "Footage still missing after a 2-minute outage of 8 cameras",
        [
            Line("anr-watch", ours.missing, "#0072b2"),
            Line("polling loop, sweep every 10 s", loop.missing, "#d55e00", "8 4"),
            Line("polling loop, default 300 s (calculated)", shifted, "#cc79a7", "2 4"),
        ],
        x_label="seconds since the cameras are back (they replay at 8x, one session each)",
        y_label="seconds of footage",
        end_s=end_s,
    )


@contextlib.asynccontextmanager
async def outage(bench: Bench, folder: Path, count: int) -> AsyncIterator[tuple[Stage, Child]]:
    """Yield a stage whose cameras have been unreachable for two minutes, with the kernel that records them."""
    options = ["--speed", str(SPEED), "--cached-gops", "1200"]
    async with Stage.opened(folder, count=count, film=FILM, kernel_tables=True, camera_options=options) as stage:
        await stage.cameras.ask(cmd="offline")
        for index in range(count):
            stage.record(index, (LOST_S - 120, LOST_S - 60), (LOST_S - 60, LOST_S))
        film = stage.reel(0)
        first, stop = film.frame(stage.at(LOST_S - 60)), film.frame(stage.at(60))
        await stage.cameras.ask(cmd="film", first=first, stop=stop, timeout_s=120)
        yield stage, await start_kernel(stage)


async def start_kernel(stage: Stage) -> Child:
    """Start the stand-in kernel: it records, indexes every 10 s, notes gaps, and retries a lost camera every 2 s."""
    rows = [
        {
            "id": name, "name": name, "vendor": "hikvision", "address": "127.0.0.1", "rtsp_port": port,
            "username": "admin", "password": "camera", "segment_seconds": 60, "anr_enabled": 1,
        }
        for name, port in zip(stage.names, stage.ports, strict=True)
    ]  # fmt: skip
    cameras = stage.folder / "cameras.json"
    cameras.write_text(json.dumps(rows))
    return await stage.python(
        "kernel", "anr_watch.demo.kernel", "--database", str(stage.database), "--recordings", str(stage.recordings),
        "--cameras", str(cameras), "--last-retry-s", "2", on_line=stage.kernel_said,
    )  # fmt: skip


class Witness:
    """Looks at the folders of a stage several times a second and notes when a file of the recorder's kind appears."""

    def __init__(self, bench: Bench, stage: Stage) -> None:
        self._bench, self._stage = bench, stage
        self.seen: dict[Path, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(0.1)

    def look(self) -> None:
        """Note what is new."""
        at_s = self._bench.now_s()
        for name in self._stage.names:
            for path in (self._stage.recordings / name).glob("*.mp4"):
                self.seen.setdefault(path, at_s)


async def with_daemon(bench: Bench, folder: Path, count: int) -> Result:
    """Let the cameras come back, tell it by MQTT as their firmware would, and wait until nothing is pending."""
    async with outage(bench, folder, count) as (stage, kernel):
        await stage.start_daemon()
        told: dict[str, list[tuple[float, int]]] = {name: [] for name in stage.names}  # pending gaps, as published
        async with (
            aiomqtt.Client("127.0.0.1", stage.broker.port) as client,
            watched(Witness(bench, stage)) as witness,
            listened(bench, stage, told),
        ):
            for name in stage.names:
                await client.publish(f"cameras/{name}/status", "offline", qos=1)
            await stage.log.count(
                lambda line: line["event"] == "presence" and line["after"] == "offline",
                count,
                "offline",
                timeout_s=30,
            )
            back_s = await back(bench, stage)
            for name in stage.names:
                await client.publish(f"cameras/{name}/status", "online", qos=1)
            await quiet(bench, stage)
        peaks = (await stage.cameras.ask(cmd="status"))["peaks"]
        assert max(peaks) == 1, f"a camera saw {max(peaks)} replays at once"
        await stage.children.stop(kernel)
        done_s = max(next(at for at, pending in reversed_run(told[name])) for name in stage.names)
        result = await counted(stage, witness, back_s, done_s)
        live = {index: first_live(stage, index) for index in range(count)}
        assert_every_frame_once(
            (stage.recordings / name, stage.reel(0).frame(stage.at(LOST_S - 120)), live[index] + 20, 1)
            for index, name in enumerate(stage.names)
        )
    assert result.left_s == result.double_s == 0, result
    return result


async def back(bench: Bench, stage: Stage) -> float:
    """Let the cameras come back when the outage has lasted two minutes; return that moment."""
    await asyncio.sleep(max(0.0, (stage.at(LEAD_S) - bench.now()).total_seconds()))
    back_s = bench.now_s()
    await stage.cameras.ask(cmd="online")
    return back_s


def reversed_run(told: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the messages of the last unbroken run of `nothing pending`, first to last."""
    assert told, "no state was published"
    assert told[-1][1] == 0, "gaps are still pending, as published"
    last = len(told)
    while last and told[last - 1][1] == 0:
        last -= 1
    return told[last:]


@contextlib.asynccontextmanager
async def watched(witness: Witness) -> AsyncIterator[Witness]:
    """Run a witness during the block."""
    task = asyncio.ensure_future(witness.run())
    try:
        yield witness
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    witness.look()


@contextlib.asynccontextmanager
async def listened(bench: Bench, stage: Stage, told: dict[str, list[tuple[float, int]]]) -> AsyncIterator[None]:
    """Note what is published of pending gaps during the block."""

    async def collect(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            camera = str(message.topic).split("/")[-2]
            told[camera].append((bench.now_s(), json.loads(message.payload)["pending_gaps"]))

    async with aiomqtt.Client("127.0.0.1", stage.broker.port) as client:
        await client.subscribe(f"anr-watch/{NODE}/camera/+/state", qos=1)
        task = asyncio.ensure_future(collect(client))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def quiet(bench: Bench, stage: Stage, *, for_s: float = 7.0, timeout_s: float = 300.0) -> None:
    """Wait until live recording goes on everywhere and no gap has been pending for a while."""
    end_s, since_s = bench.now_s() + timeout_s, bench.now_s()
    while bench.now_s() - since_s < for_s:
        gaps = stage.gaps()
        waiting = [row for row in gaps if row[3] != "filled"]
        if waiting or {row[0] for row in gaps} != set(stage.names) or len(stage.live) < stage.count:
            since_s = bench.now_s()
        if bench.now_s() > end_s:
            raise TimeoutError(f"not filled within {timeout_s:g} s: {waiting[:3]}")
        await asyncio.sleep(0.2)


async def with_loop(bench: Bench, folder: Path, count: int) -> Result:
    """The same with the polling loop in place of the program."""
    async with outage(bench, folder, count) as (stage, kernel):
        said: list[dict] = []
        await stage.python(
            "polling", "tests.bench.stage.polling", str(stage.database), str(stage.recordings), str(INTERVAL_S),
            on_line=lambda child, text: said.append(json.loads(text)),
        )  # fmt: skip
        async with watched(Witness(bench, stage)) as witness:
            back_s = await back(bench, stage)
            noted_s = None
            end_s = bench.now_s() + 60 + 60 + count * (GAP_S + 60)
            while len(gaps := stage.gaps()) < count or any(row[3] == "pending" for row in gaps):
                if noted_s is None and gaps:
                    noted_s = bench.now_s()
                assert bench.now_s() < end_s, f"the loop is not done: {gaps}"
                await asyncio.sleep(0.1)
        await stage.children.stop(kernel)
        begun = [line["at"] for line in said if line["event"] == "begun"]
        ended = [line["at"] for line in said if line["event"] == "ended"]
        result = await counted(stage, witness, back_s, ended[-1])
    result.detected_s = (noted_s or begun[0]) - back_s
    result.each_s = sum(end - start for start, end in zip(begun, ended, strict=True)) / len(begun)
    return result


def first_live(stage: Stage, index: int) -> int:
    """Return the number of the first frame that was recorded live after the outage."""
    [proof] = prove([([stage.live[stage.names[index]]], None, None, 1)])
    assert proof.first is not None
    return proof.first


async def counted(stage: Stage, witness: Witness, back_s: float, done_s: float) -> Result:
    """Decode what was there when, and count what was missing over time and in the end."""
    fps = stage.film.fps
    lost_from = stage.reel(0).frame(stage.at(LOST_S))
    changes: list[tuple[float, float]] = []
    total = double = 0.0
    for index, name in enumerate(stage.names):
        until = await asyncio.to_thread(first_live, stage, index)
        total += (until - lost_from) / fps
        files = sorted((path for path in witness.seen if path.parent.name == name), key=witness.seen.__getitem__)
        proofs = await asyncio.to_thread(prove, [([path], None, None, 1) for path in files])
        there = Numbers()
        for path, proof in zip(files, proofs, strict=True):
            before = there.count(lost_from, until - 1)
            if proof.present:
                for first, last in present(proof):
                    there.add_range(first, last)
            gained = there.count(lost_from, until - 1) - before
            shown = sum(min(last, until - 1) - max(first, lost_from) + 1 for first, last in present(proof)
                        if first < until and last >= lost_from)  # fmt: skip
            double += (shown - gained) / fps
            if gained:
                changes.append((max(0.0, witness.seen[path] - back_s), gained / fps))
    missing = [(0.0, total)]
    for at, gained in sorted(changes):
        missing.append((at, missing[-1][1] - gained))
    return Result(done_s - back_s, missing, round(missing[-1][1], 3), round(double, 3))


def present(proof: Proof) -> list[tuple[int, int]]:
    """Return the ranges of frames that a file shows."""
    if proof.first is None:
        return []
    ranges, at = [], proof.first
    for first, last in proof.missing:
        ranges.append((at, first - 1))
        at = last + 1
    return [*ranges, (at, proof.last)]
