"""How long the program takes to start: the version, being ready, and a first look at half a million files and rows."""

from __future__ import annotations

import asyncio
import os
import sys

from anr_watch.instants import format_instant
from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.footage import NAME
from tests.bench.stage.history import add_segments
from tests.bench.stage.stage import PROGRAM, Stage
from tests.bench.usage import usage

ORDER = 40
VERSIONS, STARTS, LOOKS = 25, 15, 3
FILES, CAMERAS = 500_000, 64
FIGURES = (
    Spec("version_ms", "ms", "`anr-watch --version`, from start to end", Budget(150)),
    Spec("ready_ms", "ms", "`anr-watch run`, from start to ready", Budget(400)),
    Spec("first_look_s", "s", "start -> the camera of a pending gap is asked, 500 000 files and rows", Budget(10)),
    Spec("first_look_rss_mb", "MB", "the daemon's peak resident memory in that", Budget(100)),
)


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure what is wanted."""
    by_name = {spec.name: spec for spec in FIGURES}
    found = []
    if "version_ms" in wanted:
        bare = Figure(by_name["version_ms"], await timed(bench, sys.executable, "-c", "pass"))
        samples = await timed(bench, str(PROGRAM), "--version")
        found.append(Figure(by_name["version_ms"], samples, peer=bare.median, peer_name="python -c pass"))
    if "ready_ms" in wanted:
        bare = Figure(by_name["ready_ms"], await timed(bench, sys.executable, "-c", "import asyncio"))
        figure = Figure(by_name["ready_ms"], await ready(bench))
        figure.peer, figure.peer_name = bare.median, "python -c 'import asyncio'"
        found.append(figure)
    if wanted & {"first_look_s", "first_look_rss_mb"}:
        seconds, peaks = await first_look(bench)
        found += [Figure(by_name["first_look_s"], seconds), Figure(by_name["first_look_rss_mb"], peaks)]
    return [figure for figure in found if figure.spec.name in wanted]


async def timed(bench: Bench, *command: str) -> list[float]:
    """Return how long a command takes, in milliseconds; the first run, which fills the page cache, is left out."""
    samples = []
    for _ in range(VERSIONS + 1):
        at_s = bench.now_s()
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
        samples.append((bench.now_s() - at_s) * 1000)
    return samples[1:]


async def ready(bench: Bench) -> list[float]:
    """Start the daemon beside a kernel's database and a broker, again and again."""
    samples = []
    with bench.folder("ready") as folder:
        async with Stage.opened(folder, count=8, cameras=False) as stage:
            for number in range(STARTS + 1):
                at_s = bench.now_s()
                daemon = await stage.start_daemon(until="ready")
                if number:
                    samples.append((bench.now_s() - at_s) * 1000)
                await stage.children.stop(daemon)
    return samples


async def first_look(bench: Bench) -> tuple[list[float], list[float]]:
    """Start the daemon on days of footage; a gap that waits shows when it has looked."""
    seconds, peaks = [], []
    with bench.memory_folder("look") as folder:
        async with Stage.opened(folder, count=CAMERAS, simulated=LOOKS) as stage:
            begun_s = bench.now_s()
            await asyncio.to_thread(fill_folders, stage)
            bench.say(f"{FILES} files and rows made in {bench.now_s() - begun_s:.0f} s")
            for index in range(LOOKS):
                with stage.written() as db:
                    start, end = format_instant(stage.at(-480)), format_instant(stage.at(-420))
                    db.execute(
                        "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, created_at)"
                        " VALUES (?, ?, ?, ?, 60, ?)",
                        (f"gap_{index:032x}", stage.names[index], start, end, end),
                    )
                at_s, since = bench.now_s(), stage.connects(index)
                daemon = await stage.start_daemon(until="")
                seconds.append(await stage.connected(index, since=since, timeout_s=180) - at_s)
                await stage.fill_ended(index, since=0)
                peaks.append(usage(daemon.process.pid).peak_rss / 1e6)
                await stage.children.stop(daemon)
            await stage.all_filled(timeout_s=10)
    return seconds, peaks


def fill_folders(stage: Stage) -> None:
    """Give every camera its days of 60-s files with rows up to ten minutes ago, then real footage, some with a hole."""
    each = FILES // CAMERAS
    template = stage.folder / "minute.mp4"
    template.write_bytes(stage.reel(0).mp4(stage.at(-60), stage.at(0)))
    epoch = int(stage.at(-600).timestamp())
    for index, name in enumerate(stage.names):
        folder = stage.recordings / name
        folder.mkdir()
        for number in range(each):
            start = stage.at(-600 - 60 * (each - number))
            os.link(template, folder / f"{start:{NAME}}")
        spans = [(-600, -540), (-540, -480), (-480, -420), (-420, -360), (-360, -300)]
        if index < LOOKS:
            del spans[2]
        stage.record(index, *spans)
    with stage.written() as db:
        for number, name in enumerate(stage.names):
            add_segments(db, name, each, first=number * each, until=epoch, root=str(stage.recordings))
    os.sync()
