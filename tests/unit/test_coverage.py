"""Coverage trusts file names only as far as a second goes."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.coverage import SMALLEST_HOLE_S, TOLERANCE_S, missing, partition, still_missing, trusted
from anr_watch.model import Segment, Window, merge, subtract

T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)


def w(start: float, end: float) -> Window:
    return Window(T0 + timedelta(seconds=start), T0 + timedelta(seconds=end))


def seg(start: float, end: float, *, ours: bool = False) -> Segment:
    return Segment("cam", f"{start}.mp4", w(start, end), ours=ours)


def test_the_first_second_of_a_recorders_run_is_not_trusted():
    assert trusted([seg(10, 70), seg(70, 130)]) == (w(11, 130),)


def test_neighbouring_files_named_a_second_early_are_one_run():
    assert trusted([seg(10, 69.4), seg(70, 129.9), seg(131, 190)]) == (w(11, 190),)


def test_a_file_of_ours_counts_from_its_first_picture():
    assert trusted([seg(10.066667, 20, ours=True)]) == (w(10.066667, 20),)
    assert trusted([seg(10, 20, ours=True)]) == (w(10, 20),)


def test_a_hole_between_two_files_of_ours_is_seen():
    covered = trusted([seg(10.1, 20, ours=True), seg(21.4, 30, ours=True)])
    assert missing(w(10.1, 30), covered) == (w(20, 21.4),)


def test_a_late_live_file_leaves_its_first_second_to_be_fetched():
    """The recorder's file 20 may begin at 20.9: what a gap ending at 20 needs goes up to 21."""
    covered = trusted([seg(0, 10), seg(20, 80)])
    assert missing(w(10, 21), covered) == (w(10, 21),)
    assert missing(w(10, 21), trusted([seg(0, 10), seg(10.2, 21.3, ours=True), seg(20, 80)])) == ()


def test_the_tolerance_belongs_to_the_verdict_not_to_the_plan():
    covered = (w(0.9, 9.2),)
    assert [piece.seconds for piece in missing(w(0, 10), covered)] == [0.9, 0.8]
    assert still_missing(w(0, 10), covered) == ()


def test_nothing_is_tolerated_of_what_the_camera_may_not_have_stored_yet():
    covered = (w(0, 9.5),)
    assert still_missing(w(0, 10), covered, settled_before=T0 + timedelta(seconds=20)) == ()
    assert still_missing(w(0, 10), covered, settled_before=T0) == (w(9.5, 10),)


pieces = st.lists(
    st.builds(lambda a, n: w(a / 10, a / 10 + n / 10), st.integers(0, 600), st.integers(1, 200)), max_size=8
)


@given(pieces)
def test_a_partition_describes_exactly_the_window(covered):
    window = w(0, 60)
    remaining = still_missing(window, merge(covered))
    parts = partition(window, remaining)
    assert parts[0][0].start == window.start
    assert parts[-1][0].end == window.end
    assert all(a[0].end == b[0].start and a[1] != b[1] for a, b in itertools.pairwise(parts))
    assert tuple(p for p, filled in parts if not filled) == remaining
    assert all(p.seconds > TOLERANCE_S for p in remaining)
    assert all(p.seconds >= SMALLEST_HOLE_S for p in missing(window, merge(covered)))
    assert sum(p.seconds for p in subtract(window, covered)) - sum(p.seconds for p in remaining) <= TOLERANCE_S * 9
