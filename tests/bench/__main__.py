"""Runs benchmarks, prints their table and writes build/bench.json.

python -m tests.bench                    everything (make bench)
python -m tests.bench NAME[,NAME ...]    subjects or single figures (make bench BENCH=NAME)
python -m tests.bench --list             what there is
python -m tests.bench --readme           the README's table, in Markdown, from build/bench.json
python -m tests.bench --publish          make that run the one that README and docs/ speak of
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from tests.bench import readme
from tests.bench.registry import UnknownBenchmarkError, chosen, subjects_found
from tests.bench.running import CLOCK, Bench
from tests.bench.table import plain

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "bench.json"


def main() -> int:
    """Return 0 when everything was measured and correct; a missed budget is told, not an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure anr-watch.")
    parser.add_argument("names", nargs="*", help="subjects or figures, also with commas between; none: all")
    parser.add_argument("--list", action="store_true", help="print what there is")
    parser.add_argument("--readme", action="store_true", help="print the README's table from the last run")
    parser.add_argument("--publish", action="store_true", help="put the last run into README and docs")
    given = parser.parse_args()
    if given.list:
        print_list()
        return 0
    if given.readme:
        sys.stdout.write(readme.table(json.loads(RESULTS.read_text(encoding="utf-8"))) + "\n")
        return 0
    if given.publish:
        readme.publish(RESULTS.parent, ROOT)
        return 0
    try:
        subjects = chosen(",".join(given.names).split(","))
    except UnknownBenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # As pip leaves an installed package: with PYTHONDONTWRITEBYTECODE each start would compile it anew, 0.2 s of CPU.
    compileall.compile_dir(ROOT / "anr_watch", quiet=1)
    bench = Bench(ROOT / "build")
    started_s = CLOCK.monotonic()
    failed: list[str] = []
    figures: list[dict[str, Any]] = []
    for subject, wanted in subjects:
        sys.stderr.write(f"{subject.name}: {subject.says}\n")
        begun_s = CLOCK.monotonic()
        try:
            found = asyncio.run(subject.measure(bench, wanted))
        except Exception as error:  # noqa: BLE001 - one benchmark that breaks must not cost the others' results
            failed.append(subject.name)
            sys.stderr.write(f"  FAILED: {told(error)}\n")
        else:
            bench.figures |= {figure.spec.name: figure for figure in found}
            bench.say(f"{CLOCK.monotonic() - begun_s:.0f} s")
        figures = [figure.as_json() for figure in bench.figures.values()]
        # After each: what breaks, or is broken off, later does not cost these.
        write(figures, CLOCK.monotonic() - started_s, failed)
    sys.stdout.write(plain(figures) + "\n" if figures else "")
    return 1 if failed else 0


def told(error: BaseException) -> str:
    """Return what went wrong, out of the groups it may be in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error} {chr(10).join(getattr(error, 'tail', ()))}".rstrip()


def write(figures: list[dict[str, Any]], took_s: float, failed: list[str]) -> None:
    """Write the figures, and beside them where and when they were measured."""
    RESULTS.parent.mkdir(exist_ok=True)
    run = {
        "at": f"{CLOCK.now():%Y-%m-%dT%H:%M:%SZ}",
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[1], 1),
        "took_s": round(took_s),
        "failed": failed,
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_name("bench-run.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def print_list() -> None:
    """Print subjects and their figures."""
    for subject in subjects_found():
        sys.stdout.write(f"{subject.name}: {subject.says}\n")
        for spec in subject.figures:
            budget = f"  ({spec.budget.text})" if spec.budget else ""
            sys.stdout.write(f"    {spec.name}: {spec.says}{budget}\n")


if __name__ == "__main__":
    sys.exit(main())
