"""The table of reasons is complete and its waits are bounded."""

import pytest

from anr_watch.states import POLICY, Counts, Follow, Reason, counts_as_attempt


def test_every_reason_has_a_policy():
    assert set(POLICY) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_waits_grow_and_end(reason):
    policy = POLICY[reason]
    waits = [policy.delay_s(n) for n in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] <= 300.0
    assert (policy.delays_s == ()) == (policy.follow in (Follow.NOTHING, Follow.PARK_CAMERA))


@pytest.mark.parametrize(
    ("reason", "first_s", "last_s"),
    [(Reason.UNREACHABLE, 2, 300), (Reason.BUSY, 15, 300), (Reason.NO_FOOTAGE, 30, 300), (Reason.CUT_SHORT, 20, 300)],
)
def test_the_waits_of_the_design(reason, first_s, last_s):
    assert POLICY[reason].delay_s(1) == first_s
    assert POLICY[reason].delay_s(99) == last_s


def test_a_camera_that_is_down_or_busy_burns_no_attempt():
    for reason in (Reason.UNREACHABLE, Reason.BUSY, Reason.INTERRUPTED, Reason.DISK_FULL, Reason.STORAGE):
        assert not counts_as_attempt(reason, gained=False)


def test_a_stall_counts_only_without_gain():
    assert counts_as_attempt(Reason.STALLED, gained=False)
    assert not counts_as_attempt(Reason.STALLED, gained=True)
    assert POLICY[Reason.CUT_SHORT].counts is Counts.UNLESS_GAINED
