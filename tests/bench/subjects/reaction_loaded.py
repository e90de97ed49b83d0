"""A committed gap row to the TCP connection, beside a thousand commits per second and with millions of rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.history import database_with_history
from tests.bench.subjects import reaction

ORDER = 11
RATE = 1000
SEGMENTS, GAPS = 5_000_000, 1_000_000
TWICE = Budget(ratio_max=2)
FIGURES = (
    Spec("commit_to_connect_busy_full_ms", "ms", "the same with 1 000 unrelated commits/s, synchronous FULL", TWICE),
    Spec(
        "commit_to_connect_busy_normal_ms", "ms", "the same with 1 000 unrelated commits/s, synchronous NORMAL", TWICE
    ),
    Spec("commit_to_connect_million_ms", "ms", "the same with 1 000 000 gap rows and 5 000 000 segment rows", TWICE),
)
IDLE = "commit_to_connect_ms"


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure what is wanted, and the idle case to compare with if this run has not."""
    found = []
    if IDLE not in bench.figures:
        found += await reaction.measure(bench, frozenset({IDLE}))
        bench.figures[IDLE] = found[0]
    idle = bench.median(IDLE)
    for spec in FIGURES:
        if spec.name in wanted:
            with bench.folder(spec.name) as folder:
                samples, note = await (million if "million" in spec.name else busy)(bench, folder, spec)
            found.append(Figure(spec, samples, peer=idle, peer_name="the same, idle", note=note))
    return found


async def busy(bench: Bench, folder: Path, spec: Spec) -> tuple[list[float], str]:
    """Run the samples beside a process that commits."""
    managed: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()

    def heard(_, text: str) -> None:
        if "commits" in text:
            managed.set_result(json.loads(text))

    async with reaction.prepared(folder) as stage:
        synchronous = "full" if "full" in spec.name else "normal"
        load = await stage.python(
            "load", "tests.bench.stage.load", str(stage.database), str(RATE), synchronous, on_line=heard
        )
        samples = await reaction.committed(stage, bench)
        load.ending = True
        load.process.stdin.close()
        did = await asyncio.wait_for(managed, 30)
    rate = did["commits"] / did["seconds"]
    bench.say(f"beside {rate:.0f} commits/s")
    return samples, f"beside {rate:.0f} commits/s"


async def million(bench: Bench, folder: Path, _: Spec) -> tuple[list[float], str]:
    """Run the samples on a database with years of history."""
    begun_s = bench.now_s()
    database = await asyncio.to_thread(
        database_with_history, bench.cache, cameras=reaction.SAMPLES, segments=SEGMENTS, gaps=GAPS
    )
    bench.say(f"history of {database.stat().st_size >> 20} MB after {bench.now_s() - begun_s:.0f} s")
    async with reaction.prepared(folder, database=database) as stage:
        samples = await reaction.committed(stage, bench)
    return samples, f"database of {database.stat().st_size >> 20} MB"
