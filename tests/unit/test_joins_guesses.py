"""Likely mistakes of a clock, each once, the likely ones first; and what a new measurement changes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.joins.clocks import JUMP_S, is_news, measured
from anr_watch.joins.guesses import SAME_S, in_order, key_of

SUMMER = datetime(2025, 7, 1, 12, tzinfo=UTC)
WINTER = datetime(2025, 1, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from(["utc", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "local"])


def shifts(zone, at, known_s=None):
    return [guess.shift_s for guess in in_order(zone, at, margin_s=10.0, known_s=known_s)]


@given(ZONES, st.sampled_from([SUMMER, WINTER]), st.none() | st.floats(-90_000, 90_000), st.floats(0, 600))
def test_each_shift_is_tried_once_and_what_is_known_comes_first(zone, at, known_s, margin_s):
    found = in_order(zone, at, margin_s=margin_s, known_s=known_s)
    assert len({key_of(guess) for guess in found}) == len(found)
    assert found[0].shift_s == (known_s or 0.0)
    assert found[0].known == (known_s is not None)
    narrow = [guess.shift_s for guess in found if guess.margin_s == margin_s and guess.name != "wide"]
    assert all(abs(a - b) >= SAME_S for i, a in enumerate(narrow) for b in narrow[:i])
    assert any(abs(shift) < SAME_S for shift in narrow)
    assert all(guess.margin_s > margin_s for guess in found if guess.name == "wide")


@pytest.mark.parametrize(("at", "hours"), [(SUMMER, 2), (WINTER, 1)])
def test_a_configured_zone_may_be_wrong_in_both_directions(at, hours):
    found = shifts("Europe/Berlin", at)
    assert found[0] == 0
    assert {-hours * 3600.0, hours * 3600.0} <= set(found)
    assert {3600.0, -3600.0} <= set(found)


def test_the_order_of_the_likely():
    assert shifts("America/New_York", WINTER, known_s=42.0) == [42, 0, 18000, -18000, 3600, -3600, 0, 0]


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=20))
def test_measurements_of_one_clock_add_up(offsets):
    clock = None
    for number, offset_s in enumerate(offsets):
        before = clock
        clock = measured(before, "cam:554", offset_s, at=SUMMER + timedelta(minutes=number), source="join")
        assert clock.offset_s == offset_s
        if before is not None and abs(offset_s - before.offset_s) <= JUMP_S:
            assert clock.samples == before.samples + 1
            assert clock.spread_s >= abs(offset_s - before.offset_s)
        else:
            assert (clock.samples, clock.spread_s) == (1, 0.0)


def test_only_a_difference_that_is_no_name_step_is_news():
    clock = measured(None, "cam:554", 10.0, at=SUMMER, source="join")
    assert not is_news(None, 0.9)
    assert is_news(None, -10.0)
    assert not is_news(clock, 10.9)
    assert is_news(clock, 0.0)
