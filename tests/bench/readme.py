"""Puts the figures of a run into the README: its table in Markdown, made from the committed results alone.

`publish` copies a run's results and plot to docs/ and replaces what stands between two marks in the README; a test
compares both, so that no figure there is typed by hand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.bench.table import number

BEGIN, END = "<!-- figures of docs/bench.json: make bench, then python -m tests.bench --publish -->", "<!-- end -->"
MAIN = (
    "mqtt_to_connect_ms",
    "commit_to_connect_ms",
    "file_to_connect_ms",
    "commit_to_connect_busy_full_ms",
    "commit_to_connect_busy_normal_ms",
    "commit_to_connect_million_ms",
    "outage_to_filled_1_s",
    "outage_to_filled_8_s",
    "outage_to_filled_32_s",
    "outage_wrong_s",
    "replay_mb_s",
    "replay_cpu_s_per_gb",
    "rest_cpu_percent",
    "busy_cpu_percent",
    "watch_file_to_connect_ms",
    "watch_rest_cpu_percent",
    "rest_total_pss_mb",
    "worker_pss_mb",
    "first_look_s",
    "outbox_events_s",
    "ready_ms",
)


def told(value: float | None, unit: str) -> str:
    """Return a value with its unit, in the unit that people use for its size."""
    if value is None:
        return ""
    if unit == "ms" and value >= 1000:
        return f"{number(round(value / 1000, 1))} s"
    return f"{number(value)} %" if unit == "% core" else f"{number(value)} {unit}"


def beside(figure: Mapping[str, Any]) -> str:
    """Return the peer, its value and how it compares."""
    if figure["peer"] is None:
        return ""
    name, ratio = figure["peer_name"], figure["ratio"]
    text = f"{name}: {told(figure['peer'], figure['unit'])}"
    if not ratio:
        return text
    if name.startswith("polling loop"):
        return f"{text}, **{number(float(f'{1 / ratio:.2g}'))} times** ours"
    return f"{text}, ours is {number(float(f'{ratio:.2g}'))} times that"


def table(figures: Iterable[Mapping[str, Any]]) -> str:
    """Return the main figures as a table in Markdown."""
    known = {figure["name"]: figure for figure in figures}
    lines = ["| | median | p99 | limit | beside it |", "| --- | --- | --- | --- | --- |"]
    for name in MAIN:
        if name in known:
            figure = known[name]
            p99 = told(figure["p99"], figure["unit"]) if figure["n"] >= 100 else ""
            limit = f"{figure['budget']}{'' if figure['met'] is not False else ' (missed)'}".replace("<=", "≤")
            limit = limit.replace(">=", "≥").replace(" x peer", " times that")
            lines.append(
                f"| {figure['says']} | {told(figure['median'], figure['unit'])} | {p99} | {limit} | {beside(figure)} |"
            )
    return "\n".join(lines)


def replaced(readme: str, text: str) -> str:
    """Return the README with `text` between the marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README lacks the marks {BEGIN} and {END}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def publish(build: Path, root: Path) -> None:
    """Make a run the one that the documents speak of; one of some figures only replaces those and is named beside it."""
    docs = root / "docs"
    figures, known = (json.loads((at / "bench.json").read_text(encoding="utf-8")) for at in (build, docs))
    run, runs = (json.loads((at / "bench-run.json").read_text(encoding="utf-8")) for at in (build, docs))
    new = {figure["name"]: figure for figure in figures}
    if new.keys() >= {figure["name"] for figure in known}:
        runs = [run]
    else:
        runs = [*runs, run | {"figures": sorted(new)}]
        added = [figure for figure in figures if figure["name"] not in {old["name"] for old in known}]
        figures = [new.get(figure["name"], figure) for figure in known] + added
    (docs / "bench.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (docs / "bench-run.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    if "outage_to_filled_8_s" in new:
        shutil.copyfile(build / "missing.svg", docs / "missing.svg")
    readme = root / "README.md"
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), table(figures)), encoding="utf-8")
