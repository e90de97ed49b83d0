"""Interval arithmetic and secrets: properties that must hold for all windows."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Secret, Window, clip, merge, subtract, total_s

T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def w(start: float, end: float) -> Window:
    return Window(at(start), at(end))


seconds = st.integers(0, 200)
windows = st.builds(lambda a, n: w(a, a + n), seconds, st.integers(1, 60))
many = st.lists(windows, max_size=12)


def covered_seconds(pieces):
    return {s for p in pieces for s in range(int((p.start - T0).total_seconds()), int((p.end - T0).total_seconds()))}


@given(many)
def test_merge_covers_the_same_seconds_sorted_and_disjoint(pieces):
    merged = merge(pieces)
    assert covered_seconds(merged) == covered_seconds(pieces)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))


@given(windows, many)
def test_subtract_and_clip_partition_the_window(window, pieces):
    missing, inside = subtract(window, pieces), clip(window, pieces)
    assert covered_seconds(missing) | covered_seconds(inside) == covered_seconds([window])
    assert not covered_seconds(missing) & covered_seconds(inside)
    assert total_s(missing) + total_s(inside) == window.seconds


@given(windows, many)
def test_nothing_is_missing_once_the_missing_came(window, pieces):
    assert subtract(window, [*pieces, *subtract(window, pieces)]) == ()


def test_merge_joins_pieces_across_a_small_seam():
    assert merge([w(0, 10), w(11, 20)], join_s=1.5) == (w(0, 20),)
    assert merge([w(0, 10), w(12, 20)], join_s=1.5) == (w(0, 10), w(12, 20))


@pytest.mark.parametrize(("start", "end"), [(5, 5), (5, 4)])
def test_a_window_is_never_empty(start, end):
    with pytest.raises(ValueError, match="must end after"):
        w(start, end)


def test_a_window_needs_aware_times():
    with pytest.raises(ValueError, match="aware"):
        Window(datetime(2026, 1, 1), at(0))


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")
    assert not Secret("")
