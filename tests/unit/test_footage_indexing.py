"""When a file is finished, what it covers, and what is missing between files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.footage.folder import FootageFile
from anr_watch.footage.indexing import QUIET_EXTRA_S, SETTLED_S, clipped, holes, settles_in_s
from anr_watch.model import Segment, Window, merge

T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def file(*, mtime=0.0, ctime=0.0):
    return FootageFile(Path("x.mp4"), T0, 1, at(mtime).timestamp(), at(ctime).timestamp())


def test_the_newest_file_has_to_be_silent_for_a_segment_and_a_bit():
    assert settles_in_s(file(mtime=60), at(60), segment_s=60, is_newest=True) == 60 + QUIET_EXTRA_S
    assert settles_in_s(file(mtime=60), at(135), segment_s=60, is_newest=True) == 0


def test_a_file_with_a_successor_has_to_rest_a_moment_also_after_it_was_moved_into_place():
    assert settles_in_s(file(mtime=60), at(60 + SETTLED_S), segment_s=60, is_newest=False) == 0
    assert settles_in_s(file(mtime=60, ctime=100), at(101), segment_s=60, is_newest=False) == SETTLED_S - 1


def test_a_file_that_was_heard_being_closed_waits_for_nothing():
    assert settles_in_s(file(mtime=60), at(60), segment_s=60, is_newest=True, closed=True) == 0


@given(mtime=st.floats(-1e6, 1e9), now=st.floats(-1e6, 1e6), newest=st.booleans())
def test_no_clock_holds_a_file_for_longer_than_silence_would(mtime, now, newest):
    wait_s = settles_in_s(file(mtime=mtime, ctime=mtime), at(now), segment_s=60, is_newest=newest)
    assert wait_s <= 60 + QUIET_EXTRA_S


def segment(start, end):
    return Segment("cam", "x.mp4", Window(at(start), at(end)))


def test_only_a_small_overlap_is_cut_back():
    assert clipped(segment(0, 60.5), at(60)).window == Window(at(0), at(60))
    assert clipped(segment(0, 600), at(300)).window == Window(at(0), at(600))
    assert clipped(segment(0, 59), at(60)).window == Window(at(0), at(59))
    assert clipped(segment(0, 60), None).window == Window(at(0), at(60))


@given(edges=st.lists(st.integers(0, 10_000), min_size=2, max_size=20, unique=True), until=st.integers(0, 10_000))
def test_holes_lie_between_pieces_and_before_the_first_unread_file(edges, until):
    edges = sorted(edges)[: len(edges) // 2 * 2]
    covered = merge((Window(at(a), at(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)), join_s=3.0)
    found = holes(covered, at(-1), at(until), 3.0)
    for hole in found:
        assert hole.seconds > 3.0
        assert hole.end <= at(until)
        assert not any(hole.overlaps(piece) for piece in covered)
    assert len(found) == sum(piece.start <= at(until) for piece in covered[1:])
