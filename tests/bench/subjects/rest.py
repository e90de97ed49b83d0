"""What the program uses while nothing is missing: at rest, beside a busy kernel, beside very many files."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from anr_watch.camera.film import FilmSpec
from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.stage import Stage
from tests.bench.usage import cpu_s, tree, usage

ORDER = 15
CAMERAS, MANY = 64, 500
SETTLE_S, SLICE_S = 6.0, 10.0
REST_SLICES, BUSY_SLICES = 4, 2
MEDIUM = FilmSpec(width=160, height=96, fps=10, gop_frames=10, bitrate_bps=2_000_000)
BURST = 256 << 10  # bytes that ffmpeg collects before it writes
WRITES_S = 8000
COMMITS_S = 1000
FIGURES = (
    Spec(
        "rest_cpu_percent", "% core", "CPU at rest, 64 cameras recording 60-s segments, all our processes", Budget(1)
    ),
    Spec("rest_rss_mb", "MB", "resident memory of the daemon at rest", Budget(45)),
    Spec("rest_total_pss_mb", "MB", "proportional memory at rest, all our processes", Budget(65)),
    Spec("rest_wakeups_s", "1/s", "voluntary context switches at rest, all our processes"),
    Spec("busy_cpu_percent", "% core", "CPU of the daemon beside 1 000 commits/s", Budget(8)),
    Spec("files_cpu_percent", "% core", "CPU of the daemon beside 500 cameras' files, 8 000 writes/s", Budget(8)),
)


@dataclass
class Watched:
    """What slices of time showed."""

    cpu_percent: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    pss_mb: list[float] = field(default_factory=list)
    wakeups_s: list[float] = field(default_factory=list)


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure rest, busy database and busy folder, each with a daemon of its own."""
    found = []
    if any(name.startswith("rest_") for name in wanted):
        found += await rest(bench)
    if "busy_cpu_percent" in wanted:
        found.append(await busy(bench))
    if "files_cpu_percent" in wanted:
        found.append(await files(bench))
    return [figure for figure in found if figure.spec.name in wanted]


def by_name(name: str) -> Spec:
    return next(spec for spec in FIGURES if spec.name == name)


async def rest(bench: Bench) -> list[Figure]:
    """A usual installation that records."""
    seen = await rested(bench)
    return [
        Figure(by_name("rest_cpu_percent"), seen.cpu_percent),
        Figure(by_name("rest_rss_mb"), seen.rss_mb),
        Figure(by_name("rest_total_pss_mb"), seen.pss_mb),
        Figure(by_name("rest_wakeups_s"), seen.wakeups_s),
    ]


async def rested(bench: Bench, *, settings: str = "", slices: int = REST_SLICES) -> Watched:
    """Return what all our processes use beside 64 cameras that record."""
    with bench.memory_folder("rest") as folder:
        async with (
            Stage.opened(folder, count=CAMERAS, cameras=False, film=MEDIUM) as stage,
            recording(stage, BURST) as did,
        ):
            daemon = await stage.start_daemon(settings)
            seen = await watched(tree(daemon.process.pid), slices)
            nothing_missing(stage)
        bench.say(f"{did['writes']} writes, {did['files']} new files meanwhile")
    return seen


async def busy(bench: Bench) -> Figure:
    """A kernel that commits all the time, for other reasons than gaps."""
    managed: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()

    def heard(_: object, text: str) -> None:
        if "commits" in text:
            managed.set_result(json.loads(text))

    with bench.folder("busy") as folder:
        async with Stage.opened(folder, count=CAMERAS, cameras=False) as stage:
            daemon = await stage.start_daemon()
            load = await stage.python(
                "load", "tests.bench.stage.load", str(stage.database), str(COMMITS_S), "normal", on_line=heard
            )
            seen = await watched([daemon.process.pid], BUSY_SLICES)
            load.ending = True
            load.process.stdin.close()
            did = await asyncio.wait_for(managed, 30)
    rate = did["commits"] / did["seconds"]
    return Figure(by_name("busy_cpu_percent"), seen.cpu_percent, note=f"beside {rate:.0f} commits/s")


async def files(bench: Bench) -> Figure:
    """Very many cameras, each writing small pieces."""
    seen, note = await crowded(bench)
    return Figure(by_name("files_cpu_percent"), seen.cpu_percent, note=note)


async def crowded(bench: Bench, *, settings: str = "") -> tuple[Watched, str]:
    """Return what the daemon uses beside very many cameras, and what those did."""
    with bench.memory_folder("files") as folder:
        async with Stage.opened(folder, count=MANY, cameras=False) as stage:
            step = max(1, len(minute(stage)) * MANY // (60 * WRITES_S))
            async with recording(stage, step) as did:
                daemon = await stage.start_daemon(settings)
                seen = await watched([daemon.process.pid], BUSY_SLICES)
                nothing_missing(stage)
    return seen, f"{did['writes']} writes, {did['files']} files"


def minute(stage: Stage) -> bytes:
    """Return a minute of footage."""
    return stage.reel(0).mp4(stage.at(-60), stage.at(0))


@contextlib.asynccontextmanager
async def recording(stage: Stage, step: int) -> AsyncIterator[dict[str, int]]:
    """Let all cameras record during the block; afterwards the value has what was done."""
    did: dict[str, int] = {}
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(_: object, text: str) -> None:
        line = json.loads(text)
        did.update(line)
        (started if "recording" in line else ended).set_result(None)

    template = stage.folder / "minute.mp4"
    template.write_bytes(minute(stage))
    writers = await stage.python(
        "writers", "tests.bench.stage.writers", str(stage.recordings), str(stage.database), str(template),
        str(stage.count), str(step), on_line=heard,
    )  # fmt: skip
    await asyncio.wait_for(started, 60)
    yield did
    writers.ending = True
    writers.process.stdin.close()
    await asyncio.wait_for(ended, 60)


async def watched(pids: list[int], slices: int) -> Watched:
    """Look at processes over slices of time, after a while in which they come to rest."""
    seen = Watched()
    await asyncio.sleep(SETTLE_S)
    loop = asyncio.get_running_loop()
    for _ in range(slices):
        at_s, cpu, wakeups = loop.time(), sum(map(cpu_s, pids)), sum(usage(pid).wakeups for pid in pids)
        await asyncio.sleep(SLICE_S)
        took_s = loop.time() - at_s
        now = [usage(pid) for pid in pids]
        seen.cpu_percent.append((sum(map(cpu_s, pids)) - cpu) / took_s * 100)
        seen.wakeups_s.append((sum(one.wakeups for one in now) - wakeups) / took_s)
        seen.rss_mb.append(now[0].rss / 1e6)
        seen.pss_mb.append(sum(one.pss for one in now) / 1e6)
    return seen


def nothing_missing(stage: Stage) -> None:
    """Check that nothing was asked of any camera: what was measured is rest."""
    assert stage.gaps() == [], "a gap was noted where nothing is missing"
