"""The README's figures and plot are those of the committed run, and the run is one of the benchmark as it is."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import readme, registry
from tests.bench.plot import Line, steps, svg

ROOT = Path(__file__).parents[2]
FIGURE = {
    "name": "commit_to_connect_ms", "unit": "ms", "says": "row -> connect", "median": 20.5, "p99": 61.0, "max": 70.0,
    "n": 110, "peer": 5000.0, "peer_name": "polling loop", "ratio": 0.0041, "budget": "p50 <= 30, p99 <= 70", "met": True,
}  # fmt: skip


def test_the_readme_has_the_figures_of_the_committed_run():
    figures = json.loads((ROOT / "docs" / "bench.json").read_text())
    text = (ROOT / "README.md").read_text()

    assert readme.replaced(text, readme.table(figures)) == text
    names = [figure["name"] for figure in figures]
    assert len(names) == len(set(names))
    specs = {spec.name: spec for subject in registry.subjects_found() for spec in subject.figures}
    assert set(readme.MAIN) <= set(names) <= set(specs)
    assert {figure["name"]: figure["unit"] for figure in figures} == {name: specs[name].unit for name in names}
    runs = json.loads((ROOT / "docs" / "bench-run.json").read_text())
    assert [run["failed"] for run in runs] == [[]] * len(runs)


def test_the_plot_is_a_picture():
    root = ET.parse(ROOT / "docs" / "missing.svg").getroot()
    assert root.tag.endswith("svg")
    assert sum(element.tag.endswith("path") for element in root.iter()) == 3


def test_a_row_of_the_table():
    assert readme.table([FIGURE]).splitlines()[-1] == (
        "| row -> connect | 20.5 ms | 61 ms | p50 ≤ 30, p99 ≤ 70 | polling loop: 5 s, **240 times** ours |"
    )
    missed = FIGURE | {"met": False, "n": 3, "peer_name": "ffmpeg", "ratio": 1.3}
    assert readme.table([missed]).splitlines()[-1] == (
        "| row -> connect | 20.5 ms |  | p50 ≤ 30, p99 ≤ 70 (missed) | ffmpeg: 5 s, ours is 1.3 times that |"
    )


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="lacks the marks"):
        readme.replaced("nothing", "text")


@pytest.mark.parametrize(
    ("longest", "marks"), [(10, [0, 2, 4, 6, 8, 10]), (380, [0, 50, 100, 150, 200, 250, 300, 350])]
)
def test_round_marks(longest, marks):
    assert steps(longest) == marks


def test_a_line_holds_its_value_until_the_next_point():
    line = Line("a & b", [(0, 100), (10, 50), (99, 0)], "#000")
    drawn = svg("Title", [line], x_label="s", y_label="s", end_s=20)
    root = ET.fromstring(drawn)
    path = next(element.get("d") for element in root.iter() if element.tag.endswith("path"))
    assert path.count("V") == 1  # what lies behind the end is left out
    assert path.startswith("M62.0 ")
    assert path.endswith("H740.0")
    assert "a &amp; b" in drawn
