"""Covered time decides what becomes of a gap; an exit never does."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Window, merge, total_s
from anr_watch.states import Follow, Presence, Reason
from anr_watch.verdict import PATIENCE, ReplayEnd, judge

T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)


def w(start: float, end: float) -> Window:
    return Window(T0 + timedelta(seconds=start), T0 + timedelta(seconds=end))


def verdict(
    after, *, reason=None, attempts=0, presence=Presence.ONLINE, row=(0, 60), target=None, before=(), unreached=()
):
    return judge(
        w(*row),
        w(*(target or row)),
        before=tuple(w(*p) for p in before),
        after=tuple(w(*p) for p in after),
        end=ReplayEnd(reason),
        attempts=attempts,
        max_attempts=3,
        presence=presence,
        unreached=[T0 + timedelta(seconds=second) for second in unreached],
    )


@pytest.mark.parametrize("reason", [None, Reason.STALLED, Reason.CUT_SHORT, Reason.BAD_MEDIA])
def test_a_covered_gap_is_filled_however_the_replay_ended(reason):
    result = verdict([(-2, 62)], reason=reason)
    assert result.reason is Reason.FILLED
    assert result.pieces == ((w(0, 60), True),)


def test_a_second_at_each_end_is_tolerated_and_more_is_not():
    assert verdict([(1.0, 59.0)]).reason is Reason.FILLED
    assert verdict([(1.1, 60)]).missing == (w(0, 1.1),)


def test_nothing_is_tolerated_where_the_recorded_pictures_were_not_reached():
    assert verdict([(0.9, 59.4)], unreached=[61]).missing == (w(59.4, 60),)
    assert verdict([(0.9, 59.4)], unreached=[0]).missing == (w(0, 0.9),)
    assert verdict([(0.9, 59.9)], unreached=[60]).reason is Reason.FILLED  # no hole, but jitter of time stamps


def test_an_end_in_order_that_came_short_gets_its_second_pass():
    result = verdict([(0, 45)])
    assert result.reason is Reason.CUT_SHORT
    assert result.follow is Follow.SETTLE
    assert result.pieces == ((w(0, 45), True), (w(45, 60), False))
    assert not result.counts
    assert result.got_s == 45


def test_a_target_that_reaches_beyond_the_row_changes_nothing():
    assert verdict([(0, 45)], target=(0, 61)).reason is Reason.CUT_SHORT


def test_a_hole_in_the_cameras_storage_counts_and_fails_in_the_end():
    for attempts, failed in ((0, False), (1, False), (2, True)):
        result = verdict([(0, 20), (30, 60)], before=[(0, 20), (30, 60)], target=(20, 30), attempts=attempts)
        assert result.reason is Reason.NO_FOOTAGE
        assert result.counts
        assert result.failed is failed


@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.BUSY, Reason.DISK_FULL, Reason.INTERRUPTED])
def test_what_is_not_the_cameras_answer_never_fails_a_gap(reason):
    result = verdict([], reason=reason, attempts=2)
    assert result.reason is reason
    assert not result.counts
    assert not result.failed


def test_wrong_credentials_count_but_never_use_up_the_last_attempt():
    assert verdict([], reason=Reason.UNAUTHORIZED).counts
    last = verdict([], reason=Reason.UNAUTHORIZED, attempts=2)
    assert not last.counts
    assert not last.failed
    assert last.follow is Follow.PARK_CAMERA


def test_a_stall_of_a_camera_that_is_gone_is_no_fault_of_the_replay():
    assert verdict([(0, 9)], reason=Reason.STALLED, presence=Presence.OFFLINE).reason is Reason.INTERRUPTED
    assert verdict([(0, 9)], reason=Reason.STALLED, presence=Presence.UNKNOWN).reason is Reason.STALLED


def test_a_replay_that_breaks_off_before_the_gap_says_nothing_about_it():
    short = {"before": [], "after": [], "attempts": 2, "max_attempts": 3, "presence": Presence.ONLINE}
    end = ReplayEnd(Reason.CUT_SHORT, reached=False)
    assert not judge(w(0, 60), w(0, 60), end=end, tries=PATIENCE - 1, **short).counts
    tired = judge(w(0, 60), w(0, 60), end=end, tries=PATIENCE, **short)
    assert (tired.counts, tired.failed) == (True, True)


def test_what_a_camera_says_that_goes_away_meanwhile_is_no_answer():
    gone = {"attempts": 2, "max_attempts": 3, "presence": Presence.OFFLINE, "went_away": True}
    for end in (ReplayEnd(None), ReplayEnd(Reason.NO_FOOTAGE)):
        result = judge(w(0, 60), w(0, 60), before=[], after=[], end=end, **gone)
        assert (result.reason, result.counts, result.failed) == (Reason.INTERRUPTED, False, False)


def test_the_part_that_was_not_asked_for_yet_waits_for_nothing():
    result = verdict([(0, 30)], target=(0, 30))
    assert result.reason is Reason.FILLED
    assert result.follow is Follow.NOTHING
    assert result.missing == (w(30, 60),)


spans = st.lists(st.tuples(st.integers(-50, 600), st.integers(1, 300)), max_size=6)


@given(spans, spans, st.sampled_from([None, *(set(Reason) - {Reason.FILLED, Reason.COVERED})]), st.integers(0, 3))
def test_a_verdict_never_forgets_missing_time(before, gained, reason, attempts):
    old = merge(w(a / 10, (a + n) / 10) for a, n in before)
    new = merge([*old, *(w(a / 10, (a + n) / 10) for a, n in gained)])
    result = judge(
        w(0, 60),
        w(0, 60),
        before=old,
        after=new,
        end=ReplayEnd(reason),
        attempts=attempts,
        max_attempts=3,
        presence=Presence.ONLINE,
    )
    assert total_s(result.filled) + total_s(result.missing) == pytest.approx(60)
    assert all(not piece.meet(covered) for piece in result.missing for covered in new)
    assert (result.reason is Reason.FILLED) == (not result.missing)
    assert not (result.failed and not result.counts)
