"""The judge of the long run: noise and steps back are flat, what grows is not, and few samples prove nothing."""

import random

import pytest

from tests.soak.judging import FEWEST, LIMITS, Limit, judged, slope, trend

MEMORY = Limit(0.04, 1.0)


def series(value, count=30, step_s=60.0):
    return [(number * step_s, value(number)) for number in range(count)]


def test_the_slope_is_that_of_a_line():
    assert slope(series(lambda n: 40 + 0.5 * n)) == pytest.approx(0.5 / 60)
    assert slope([(0.0, 3.0)]) == 0


def test_a_quarter_of_outliers_does_not_bend_it():
    chance = random.Random(3)
    spoiled = [
        (at, 40 + (25 if chance.random() < 0.25 else 0) + chance.uniform(-0.3, 0.3)) for at, _ in series(float)
    ]
    assert trend(spoiled, MEMORY).flat


def test_what_grows_only_while_it_warms_up_is_flat():
    assert trend(series(lambda n: min(n, 9) + 30.0), MEMORY).flat


@pytest.mark.parametrize(
    ("per_sample", "flat"), [(0.0, True), (0.04, True), (0.12, False), (2.0, False), (-1.0, True)]
)
def test_a_leak_is_seen_through_noise(per_sample, flat):
    chance = random.Random(5)
    found = trend(series(lambda n: 40 + per_sample * n + chance.uniform(-0.2, 0.2)), MEMORY)
    assert found.flat is flat, found


def test_one_descriptor_more_every_ten_waves_is_a_leak():
    assert not trend(series(lambda n: 20 + n // 10), LIMITS["daemon_fds"]).flat
    assert trend(series(lambda n: 20 + (n == 17)), LIMITS["daemon_fds"]).flat


def test_few_samples_prove_nothing():
    assert not trend(series(lambda _: 40.0, count=FEWEST), MEMORY).flat
    assert not trend([], MEMORY).flat


def test_every_figure_is_judged():
    samples = [{"at_s": 60.0 * n, **dict.fromkeys(LIMITS, 5.0)} for n in range(12)]
    assert all(found["flat"] for found in judged(samples).values())
    assert set(judged(samples)) == set(LIMITS)
