"""What the benchmark makes of samples: statistics, budgets, ratios, the choice by name, the table."""

import json

import pytest

from tests.bench import registry
from tests.bench.figures import Budget, Figure, Spec, quantile, rounded
from tests.bench.table import plain


@pytest.mark.parametrize(
    ("samples", "median", "p99"),
    [([3], 3, 3), ([1, 2], 1.5, 2), (range(1, 101), 50.5, 99), (range(1, 111), 55.5, 109), ([5, 1, 9], 5, 9)],
)
def test_statistics(samples, median, p99):
    assert quantile(samples, 0.5) == median
    assert quantile(samples, 0.99) == p99


@pytest.mark.parametrize(
    ("value", "told"), [(0, 0), (12.345, 12.3), (0.012345, 0.0123), (1234.5, 1234), (99.96, 100.0), (150, 150)]
)
def test_no_more_digits_than_mean_something(value, told):
    assert rounded(value) == told


@pytest.mark.parametrize(
    ("budget", "peer", "met", "text"),
    [
        (Budget(15, 40), None, True, "p50 <= 15, p99 <= 40"),
        (Budget(15, 20), None, False, "p50 <= 15, p99 <= 20"),
        (Budget(9), None, False, "<= 9"),
        (Budget(median_min=11), None, False, ">= 11"),
        (Budget(median_min=9), None, True, ">= 9"),
        (Budget(ratio_max=2), 5, True, "<= 2 x peer"),
        (Budget(ratio_max=2), 4, False, "<= 2 x peer"),
        (Budget(ratio_max=2), None, None, "<= 2 x peer"),
    ],
)
def test_budgets(budget, peer, met, text):
    figure = Figure(Spec("x_ms", "ms", "x", budget), [10] * 90 + [30] * 10, peer=peer)
    assert budget.text == text
    assert figure.met is met
    told = figure.as_json()
    assert (told["median"], told["p99"], told["max"], told["n"], told["met"]) == (10, 30, 30, 100, met)
    assert told["ratio"] == (None if peer is None else 10 / peer)
    json.dumps(told)


def test_a_figure_without_samples_is_none():
    with pytest.raises(ValueError, match="no samples"):
        Figure(Spec("x", "s", ""), [])


def test_benchmarks_are_found_and_chosen_by_subject_or_figure():
    every = registry.chosen([""])
    names = [spec.name for subject, _ in every for spec in subject.figures]
    assert len(names) == len(set(names))
    assert all(subject.says and subject.figures for subject, _ in every)
    assert not set(names) & {subject.name for subject, _ in every}
    (subject, wanted), *others = registry.chosen(["commit_to_connect_ms", "file_to_connect_ms"])
    assert (subject.name, wanted, others) == ("reaction", {"commit_to_connect_ms", "file_to_connect_ms"}, [])
    (_, wanted), *_ = registry.chosen(["reaction"])
    assert "mqtt_to_connect_ms" in wanted
    with pytest.raises(registry.UnknownBenchmarkError, match="did you mean reaction"):
        registry.chosen(["reactoin"])


def test_the_table_has_a_row_per_figure():
    budget = Budget(15, 40)
    figures = [
        Figure(Spec("a_ms", "ms", "a", budget), [1234.5], peer=100.0, peer_name="loop").as_json(),
        Figure(Spec("b_s", "s", "b"), [0.5]).as_json(),
    ]
    lines = plain(figures).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:3] == ["a_ms", "ms", "1"]
    assert "MISSED" in lines[2]
    assert lines[2].endswith("12.3  loop")
    assert lines[3].split() == ["b_s", "s", "0.5", "0.5", "0.5", "1"]
