"""From an event to the TCP connection at the camera: MQTT message, committed row, new file; idle, busy and large."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import aiomqtt

from anr_watch.instants import format_instant
from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.footage import NAME, assert_every_frame_once
from tests.bench.stage.stage import NODE, Stage

ORDER = 10
SAMPLES = 100
FIGURES = (
    Spec("mqtt_to_connect_ms", "ms", "MQTT online message published -> TCP connect at the camera", Budget(15, 40)),
    Spec("commit_to_connect_ms", "ms", "gap row committed by another process -> TCP connect", Budget(30, 70)),
    Spec("file_to_connect_ms", "ms", "new segment file of a silent camera -> TCP connect", Budget(60, 150)),
)

# The polling loop in the middle of its wait: a new gap row waits for half an interval of 10 s. Without a row it waits
# for the first file after the outage to be closed (60 s) and for half an interval of the indexer (10 s) before that.
LOOP = "polling loop, sweep every 10 s (calculated)"
LOOP_MS = {"commit_to_connect_ms": 5e3, "mqtt_to_connect_ms": 70e3, "file_to_connect_ms": 70e3}
LIVE_S = 3
# A recorder's first file reaches back before the message that its camera is there: it looks into the stream first.
RESUMED_BEFORE_S = 2

React = Callable[[int], Awaitable[float]]
After = Callable[[int], Awaitable[None]]


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure what is wanted, one world each."""
    ways = {"mqtt_to_connect_ms": mqtt, "commit_to_connect_ms": commit, "file_to_connect_ms": file}
    found = []
    for spec in FIGURES:
        if spec.name in wanted:
            with bench.folder(spec.name) as folder:
                samples = await ways[spec.name](bench, folder)
            found.append(Figure(spec, samples, peer=LOOP_MS[spec.name], peer_name=LOOP))
    return found


async def sampled(stage: Stage, bench: Bench, react: React, then: After | None = None) -> list[float]:
    """Let `react` cause one reaction per camera, each after the last one's fill has ended; return milliseconds.

    `react` returns the moment of the cause, `then` is called when the fill has ended. A pause of no fixed length lies
    between two samples, so that no timer of the program keeps step with them; what a sample leaves behind (the live
    file of its camera is noticed) is over by then.
    """
    pauses = random.Random(1)
    samples = []
    for index in range(stage.count):
        await asyncio.sleep(pauses.uniform(0.18, 0.24))
        since, lines = stage.connects(index), len(stage.log.seen)
        at_s = await react(index)
        connected_s = await stage.connected(index, since=since)
        samples.append((connected_s - at_s) * 1000)
        await stage.fill_ended(index, since=lines)
        if then is not None:
            await then(index)
    bench.say(f"{len(samples)} reactions")
    return samples


async def commit(bench: Bench, folder: Path) -> list[float]:
    """A gap row per camera, ten seconds that its card has."""
    async with prepared(folder) as stage:
        return await committed(stage, bench)


@contextlib.asynccontextmanager
async def prepared(folder: Path, *, database: Path | None = None) -> AsyncIterator[Stage]:
    """Yield a stage whose cameras have a hole in the past that nobody has noted; the daemon runs."""
    async with Stage.opened(folder, count=SAMPLES, database=database) as stage:
        for index in range(stage.count):
            stage.record(index, (-60, -50), (-40, -30), (-30, -20))
        await stage.start_daemon()
        yield stage


async def committed(stage: Stage, bench: Bench) -> list[float]:
    """Have another process note the hole of one camera after the other."""
    foreigner = await stage.foreigner()

    async def react(index: int) -> float:
        start, end = format_instant(stage.at(-50)), format_instant(stage.at(-40))
        return (await foreigner.ask(cmd="gap", camera=stage.names[index], start=start, end=end))["at"]

    samples = await sampled(stage, bench, react)
    await finished(stage, bench, -60, lambda _: stage.at(-20))
    return samples


async def mqtt(bench: Bench, folder: Path) -> list[float]:
    """An online message per camera that was said to be offline; nothing has been recorded for a while."""
    async with Stage.opened(folder, count=SAMPLES) as stage:
        for index in range(stage.count):
            stage.record(index, (-40, -30), (-30, -20))
        await stage.start_daemon()
        async with aiomqtt.Client("127.0.0.1", stage.broker.port) as client:
            await offline(stage, client)
            back: dict[int, datetime] = {}

            async def react(index: int) -> float:
                at_s = bench.now_s()
                back[index] = bench.now().replace(microsecond=0) - timedelta(seconds=RESUMED_BEFORE_S)
                await client.publish(f"cameras/{stage.names[index]}/status", "online", qos=1)
                return at_s

            async def then(index: int) -> None:
                await hold(stage, client, index)
                live(stage, index, back[index])

            samples = await sampled(stage, bench, react, then)
            await go_on(stage, client)
            await finished(stage, bench, -40, lambda index: back[index] + timedelta(seconds=LIVE_S))
    return samples


async def file(bench: Bench, folder: Path, *, settings: str = "", count: int = SAMPLES) -> list[float]:
    """The first file of a camera that recorded nothing for a while: opened, with as much in it as ffmpeg puts first."""
    async with Stage.opened(folder, count=count) as stage:
        for index in range(stage.count):
            stage.record(index, (-40, -30), (-30, -20))
        foreigner = await stage.foreigner()
        await stage.start_daemon(settings)
        source = next((stage.recordings / "cam0").glob("*.mp4"))
        back: dict[int, datetime] = {}
        async with aiomqtt.Client("127.0.0.1", stage.broker.port) as client:

            async def react(index: int) -> float:
                start = back[index] = bench.now().replace(microsecond=0)
                path = stage.recordings / stage.names[index] / f"{start:{NAME}}"
                return (await foreigner.ask(cmd="file", path=str(path), first=28, source=str(source)))["at"]

            samples = await sampled(stage, bench, react, lambda index: hold(stage, client, index))
            while bench.now() < max(back.values()) + timedelta(seconds=LIVE_S):  # no card has what is still to come
                await asyncio.sleep(0.1)
            for index, start in back.items():
                live(stage, index, start)
            await go_on(stage, client)
            await finished(stage, bench, -40, lambda index: back[index] + timedelta(seconds=LIVE_S))
    return samples


async def offline(stage: Stage, client: aiomqtt.Client) -> None:
    """Say of every camera that it is offline and wait until the program believes it."""
    for name in stage.names:
        await client.publish(f"cameras/{name}/status", "offline", qos=1)
    await stage.log.count(
        lambda line: line["event"] == "presence" and line["after"] == "offline",
        stage.count,
        "cameras known to be offline",
        timeout_s=30,
    )


async def hold(stage: Stage, client: aiomqtt.Client, index: int) -> None:
    """Keep the rest of a camera's gap, due some seconds later, out of the next samples."""
    await client.publish(f"anr-watch/{NODE}/cmd/pause", json.dumps({"camera": stage.names[index]}), qos=1)


async def go_on(stage: Stage, client: aiomqtt.Client) -> None:
    """Let the rest of all gaps be fetched."""
    for name in stage.names:
        await client.publish(f"anr-watch/{NODE}/cmd/resume", json.dumps({"camera": name}), qos=1)


def live(stage: Stage, index: int, start: datetime) -> None:
    """Put the first pictures after the gap into a file of the recorder's."""
    stage.reel(index).write(stage.recordings / stage.names[index], start, start + timedelta(seconds=LIVE_S))


async def finished(stage: Stage, bench: Bench, first_s: float, recorded_until: Callable[[int], datetime]) -> None:
    """Check that every gap was found and filled, and that every frame from `first_s` on is there once."""
    await stage.all_filled(timeout_s=120)
    gaps = stage.gaps()
    assert {row[0] for row in gaps} == set(stage.names), "some camera's gap was not noted"
    frames = assert_every_frame_once(
        (
            stage.recordings / name,
            stage.reel(index).frame(stage.at(first_s)),
            stage.reel(index).frame(recorded_until(index)) - 1,
            stage.reel(index).spec.camera_number,
        )
        for index, name in enumerate(stage.names)
    )
    bench.say(f"{len(gaps)} gaps filled, {frames} frames decoded, each there once")
