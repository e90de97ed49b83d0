"""The two ways to notice changes, `[watch] backend`, side by side: one directly after the other."""

from __future__ import annotations

from collections import defaultdict

from tests.bench.figures import Figure, Spec
from tests.bench.running import Bench
from tests.bench.subjects.reaction import file
from tests.bench.subjects.rest import crowded, rested

ORDER = 17
BACKENDS = ("inotify", "watchfiles")
REACTIONS = 40  # per backend
SLICES = 2
FIGURES = (
    Spec("watch_file_to_connect_ms", "ms", "`inotify`: new file of a silent camera -> TCP connect"),
    Spec("watch_rest_cpu_percent", "% core", "`inotify`: CPU at rest, 64 cameras, all our processes"),
    Spec("watch_rest_wakeups_s", "1/s", "`inotify`: voluntary context switches at rest"),
    Spec("watch_files_cpu_percent", "% core", "`inotify`: CPU of the daemon beside 500 cameras, 8 000 writes/s"),
)


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Measure what is wanted with both; `watchfiles` is the peer."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for backend in BACKENDS:
        settings = f'[watch]\nbackend = "{backend}"\n'
        if "watch_file_to_connect_ms" in wanted:
            with bench.folder("watching") as folder:
                found = await file(bench, folder, settings=settings, count=REACTIONS)
            samples["watch_file_to_connect_ms", backend] += found
        if wanted & {"watch_rest_cpu_percent", "watch_rest_wakeups_s"}:
            seen = await rested(bench, settings=settings, slices=SLICES)
            samples["watch_rest_cpu_percent", backend] += seen.cpu_percent
            samples["watch_rest_wakeups_s", backend] += seen.wakeups_s
        if "watch_files_cpu_percent" in wanted:
            seen, _ = await crowded(bench, settings=settings)
            samples["watch_files_cpu_percent", backend] += seen.cpu_percent
    figures = []
    for spec in FIGURES:
        if spec.name in wanted:
            peer = Figure(spec, samples[spec.name, "watchfiles"])
            figure = Figure(spec, samples[spec.name, "inotify"], peer=peer.median, peer_name="watchfiles")
            figures.append(figure)
    return figures
