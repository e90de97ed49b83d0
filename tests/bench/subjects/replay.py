"""Replay of one gap and of four at once: throughput at the camera, CPU and memory of the worker; bare ffmpeg beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from anr_watch.camera.film import FilmSpec
from anr_watch.instants import format_instant
from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.footage import assert_every_frame_once
from tests.bench.stage.stage import Stage
from tests.bench.usage import cpu_s, tree, usage

ORDER = 30
ONE, ROUNDS, AT_ONCE = 7, 3, 4
GAP_S = 60
FILM = FilmSpec(width=320, height=180, fps=15, gop_frames=15, bitrate_bps=16_000_000)
CALM = FilmSpec(width=320, height=180, fps=15, gop_frames=15, bitrate_bps=4_000_000)
FFMPEG = "ffmpeg -c copy, same source"
FIGURES = (
    Spec("replay_mb_s", "MB/s", "replay throughput of one fill, unthrottled source", Budget(median_min=60)),
    Spec("replay_four_mb_s", "MB/s", "replay throughput of four fills at once, together"),
    Spec("replay_cpu_s_per_gb", "s/GB", "CPU of one fill: its worker and the daemon's share", Budget(ratio_max=2.5)),
    Spec("worker_pss_mb", "MB", "proportional memory of a running fill's worker", Budget(25)),
)


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure throughput and CPU together, memory with a source of a camera's usual pace."""
    found = []
    if wanted - {"worker_pss_mb"}:
        found += await throughput(bench)
    if "worker_pss_mb" in wanted:
        found.append(await memory(bench))
    return [figure for figure in found if figure.spec.name in wanted]


def by_name(name: str) -> Spec:
    return next(spec for spec in FIGURES if spec.name == name)


@contextlib.asynccontextmanager
async def prepared(bench: Bench, film: FilmSpec, count: int, *options: str) -> AsyncIterator[Stage]:
    """Yield a stage whose cameras have a minute that was not recorded; in memory where there is room for it."""
    with bench.memory_folder("replay") as folder:
        async with Stage.opened(folder, count=count, film=film, broker=False, camera_options=options) as stage:
            for index in range(count):
                stage.record(index, (-GAP_S - 40, -GAP_S - 30), (-30, -20), (-20, -10))
            reel = stage.reel(0)
            first, stop = reel.frame(stage.at(-GAP_S - 60)), reel.frame(stage.at(0))
            await stage.cameras.ask(cmd="film", first=first, stop=stop, timeout_s=120)
            yield stage


async def start_gaps(stage: Stage, indexes: range) -> None:
    """Note the gaps of some cameras in one transaction."""
    start, end = format_instant(stage.at(-GAP_S - 30)), format_instant(stage.at(-30))
    with stage.written() as db:
        for index in indexes:
            db.execute(
                "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, created_at)"
                " VALUES ('gap_' || lower(hex(randomblob(16))), ?, ?, ?, ?, ?)",
                (stage.names[index], start, end, GAP_S, end),
            )


async def streamed(stage: Stage, indexes: range, *, since: dict[int, int]) -> float:
    """Return megabytes per second from the first PLAY to the last byte, as the cameras saw it."""
    starts, ends, total = [], [], 0
    for index in indexes:
        lines = stage.events[index]
        play = await lines.first(lambda line: line["event"] == "playing", "PLAY", since=since[index])
        last = await lines.first(lambda line: line["event"] == "last_byte", "the end", since=since[index])
        starts.append(play["at"])
        ends.append(last["at"])
        total += last["bytes"]
    return total / 1e6 / (max(ends) - min(starts))


async def throughput(bench: Bench) -> list[Figure]:
    """One fill after the other, then four at once; then ffmpeg on the same cameras."""
    async with prepared(bench, FILM, ONE + ROUNDS * AT_ONCE, "--canned") as stage:
        daemon = await stage.start_daemon()
        forkserver = next(pid for pid in tree(daemon.process.pid) if is_forkserver(pid))
        one, cpu, four = [], [], []
        for number in range(ONE + ROUNDS):
            first = number if number < ONE else ONE + (number - ONE) * AT_ONCE
            indexes = range(first, first + (1 if number < ONE else AT_ONCE))
            lines = len(stage.log.seen)
            since = {index: stage.connects(index) for index in indexes}
            before = cpu_s(daemon.process.pid) + usage(forkserver).children_cpu_s
            await start_gaps(stage, indexes)
            for index in indexes:
                await stage.fill_ended(index, since=lines, timeout_s=120)
            rate = await streamed(stage, indexes, since=since)
            while len(tree(forkserver)) > 2:  # a worker counts once it has been waited for; another one stands by
                await asyncio.sleep(0.01)
            used = cpu_s(daemon.process.pid) + usage(forkserver).children_cpu_s - before
            if number >= ONE:
                four.append(rate)
            elif number:  # the first one fills the source's store of packets
                one.append(rate)
                cpu.append(used / (sent(stage, number, since[number]) / 1e9))
        await stage.all_filled(timeout_s=60)
        frames = await asyncio.to_thread(
            assert_every_frame_once,
            [
                (stage.recordings / name, stage.reel(0).frame(stage.at(-GAP_S - 40)), stage.reel(0).frame(stage.at(-10)) - 1, 1)
                for name in stage.names
            ],
        )  # fmt: skip
        bench.say(f"{frames} frames decoded, each there once")
        await stage.children.stop(daemon)
        figures = [
            Figure(by_name("replay_mb_s"), one),
            Figure(by_name("replay_four_mb_s"), four),
            Figure(by_name("replay_cpu_s_per_gb"), cpu),
        ]
        if shutil.which("ffmpeg") is None:
            bench.say("no ffmpeg: nothing to compare with")
            return figures
        return await beside_ffmpeg(stage, figures)


async def beside_ffmpeg(stage: Stage, figures: list[Figure]) -> list[Figure]:
    """Add what ffmpeg needs for the same."""
    one, cpu = [], []
    await ffmpeg(stage, range(1))
    for _ in range(ONE - 1):
        rate, used = await ffmpeg(stage, range(1))
        one.append(rate)
        cpu.append(used)
    four = [(await ffmpeg(stage, range(AT_ONCE)))[0] for _ in range(ROUNDS)]
    for figure, samples in zip(figures, (one, four, cpu), strict=True):
        figure.peer, figure.peer_name = Figure(figure.spec, samples).median, FFMPEG
    return figures


async def ffmpeg(stage: Stage, indexes: range) -> tuple[float, float]:
    """Run ffmpeg once per camera at the same time; return megabytes per second and CPU seconds per gigabyte."""
    since = {index: stage.connects(index) for index in indexes}
    before = os.times()
    running = []
    for index in indexes:
        form = "%Y%m%dT%H%M%SZ"
        window = f"starttime={stage.at(-GAP_S - 30):{form}}&endtime={stage.at(-30):{form}}"
        url = f"rtsp://admin:camera@127.0.0.1:{stage.ports[index]}/Streaming/tracks/101?{window}"
        running.append(
            await asyncio.create_subprocess_exec(
                "ffmpeg", "-loglevel", "error", "-nostdin", "-y", "-rtsp_transport", "tcp", "-i", url,
                "-c", "copy", "-f", "mp4", str(stage.folder / f"ffmpeg-{index}.mp4"),
                stderr=asyncio.subprocess.DEVNULL,
            )
        )  # fmt: skip
    for process in running:
        assert await process.wait() == 0
    rate = await streamed(stage, indexes, since=since)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return rate, used / (sum(sent(stage, index, since[index]) for index in indexes) / 1e9)


def sent(stage: Stage, index: int, since: int) -> int:
    """Return the bytes a camera sent."""
    return sum(line["bytes"] for line in stage.events[index].seen[since:] if line["event"] == "last_byte")


def is_forkserver(pid: int) -> bool:
    """Say whether a process is the parent of the replay workers."""
    return b"anr_watch.replay.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def memory(bench: Bench) -> Figure:
    """Look at the worker's memory while it receives 4 Mbit/s at 8x."""
    samples = []
    async with prepared(bench, CALM, 2, "--speed", "8") as stage:
        daemon = await stage.start_daemon()
        forkserver = next(pid for pid in tree(daemon.process.pid) if is_forkserver(pid))
        for index in range(2):
            lines, since = len(stage.log.seen), stage.connects(index)
            await start_gaps(stage, range(index, index + 1))
            await stage.events[index].first(lambda line: line["event"] == "playing", "PLAY", since=since)
            while not any(line["event"] == "fill ended" for line in stage.log.seen[lines:]):
                for pid in tree(forkserver)[1:]:
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        samples.append(usage(pid).pss / 1e6)
                await asyncio.sleep(0.2)
        await stage.all_filled(timeout_s=60)
    return Figure(by_name("worker_pss_mb"), [value for value in samples if value > 0])
