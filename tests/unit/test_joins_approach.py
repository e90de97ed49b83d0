"""In which order a camera is asked, how much of it, and what joins prove."""

from datetime import UTC, datetime, timedelta

import pytest

from anr_watch.joins.approach import (
    JOIN,
    REFUSED,
    RHYTHM,
    UNMATCHED,
    is_unmatched,
    noted,
    offset_of,
    proved,
    requests,
    windows,
    with_doubt,
)
from anr_watch.joins.guesses import in_order, key_of
from anr_watch.model import DeviceClock, ReplayOptions, Window
from anr_watch.replay.job import Joined, Joint, Side, Unproved

T0 = datetime(2025, 7, 1, 12, tzinfo=UTC)
GUESSES = in_order("utc", T0, margin_s=10.0, known_s=None)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def w(start, end):
    return Window(at(start), at(end))


def asked(**options):
    defaults = {"comparable": True, "both": True, "tried": (), "keep_unproved": True} | {
        "matched": False,
        "unmatched": False,
    }
    return requests(GUESSES, **(defaults | options))


def test_every_guess_must_prove_itself_and_the_last_request_need_not():
    found = asked()
    assert [request.unproved for request in found] == [Unproved.STOP] * len(GUESSES) + [Unproved.KEEP]
    assert found[-1].guess == GUESSES[0]


def test_each_guess_at_most_once_per_gap():
    tried = {key_of(guess) for guess in GUESSES[:2]}
    assert [request.guess for request in asked(tried=tried)] == [*GUESSES[2:], GUESSES[0]]
    everything = {key_of(guess) for guess in GUESSES}
    assert [request.unproved for request in asked(tried=everything)] == [Unproved.KEEP]
    assert asked(tried=everything, keep_unproved=False, both=False) == ()


@pytest.mark.parametrize(
    "options", [{"keep_unproved": False}, {"matched": True}, {"matched": True, "unmatched": True}]
)
def test_what_must_be_proved_is_proved_by_one_side_at_least(options):
    found = asked(**options)
    assert [request.unproved for request in found] == [Unproved.STOP] * len(GUESSES) + [Unproved.PROVE]
    assert noted(found[-1]) == REFUSED
    assert with_doubt(found[-1]) == asked()[-1]
    assert asked(tried={*map(key_of, GUESSES), noted(found[-1])}, **options) == ()


def test_one_side_alone_refuses_nothing_under_keep():
    assert asked(matched=True, both=False)[-1].unproved is Unproved.KEEP


def test_without_anything_to_compare_there_is_nothing_to_guess():
    for options in ({"comparable": False}, {"comparable": False, "keep_unproved": False}, {"unmatched": True}):
        assert [(request.guess, request.unproved) for request in asked(**options)] == [(GUESSES[0], Unproved.KEEP)]
    assert len(asked(unmatched=True, keep_unproved=False)) == len(GUESSES) + 1


def test_margins_are_asked_for_and_not_kept():
    options = ReplayOptions(lead_s=2.0, trail_s=2.0)
    found = windows(w(0, 60), GUESSES[0], options, comparable=True, until=at(900), now=at(900))
    assert (found.keep, found.asked) == (w(-2, 62), w(-10, 70))
    found = windows(w(0, 60), GUESSES[0], options, comparable=False, until=at(900), now=at(900))
    assert found.keep == found.asked == w(-2, 62)


def test_nothing_is_kept_behind_the_open_end_or_asked_of_the_future():
    found = windows(w(0, 60), GUESSES[0], ReplayOptions(), comparable=True, until=at(60), now=at(64))
    assert (found.keep, found.asked) == (w(-2, 60), w(-10, 64))


def joined(head=Joint.NONE, tail=Joint.NONE, **offsets):
    return {
        Side.HEAD: Joined(Side.HEAD, head, offsets.get("head_s")),
        Side.TAIL: Joined(Side.TAIL, tail, offsets.get("tail_s")),
    }


@pytest.mark.parametrize(
    ("joins", "placed", "tail_at", "jumps", "time"),
    [
        (joined(), [w(1, 50)], None, [], ()),
        (joined(Joint.TIME, Joint.TIME), [w(1, 50)], at(60), [], ()),
        (joined(Joint.EXACT), [w(1, 50)], None, [], (w(0, 1),)),
        (joined(Joint.EXACT), [w(9, 50)], None, [at(1)], ()),  # a hole right behind the pictures before the piece
        (joined(Joint.TIME, Joint.EXACT), [w(1, 30), w(30, 50)], at(59), [], (w(50, 60),)),
        (joined(Joint.EXACT, Joint.EXACT), [w(1, 30), w(40, 50)], at(63), [at(30)], (w(0, 1), w(50, 64))),
        (joined(Joint.EXACT, Joint.EXACT), [w(1, 30)], at(59), [at(30)], (w(0, 1),)),  # a hole before the tail
        (joined(Joint.EXACT, Joint.EXACT), [], at(55), [], (w(0, 60),)),
        (joined(Joint.EXACT, Joint.EXACT), [], at(55), [at(2)], ()),
        (joined(Joint.EXACT, Joint.TIME), [], at(55), [], ()),
    ],
)
def test_what_exact_joins_prove(joins, placed, tail_at, jumps, time):
    assert proved(w(0, 60), placed, joins, head_at=at(1), tail_at=tail_at, jumps=jumps) == time


def test_the_head_measures_the_clock_and_else_the_tail():
    assert offset_of(joined(Joint.EXACT, Joint.EXACT, head_s=1.0, tail_s=2.0)) == (1.0, JOIN)
    assert offset_of(joined(Joint.TIME, Joint.EXACT, head_s=None, tail_s=2.0)) == (2.0, JOIN)
    assert offset_of(joined(Joint.TIME, Joint.EXACT, head_s=1.0, tail_s=2.0)) == (2.0, JOIN)
    assert offset_of(joined(Joint.TIME, Joint.TIME, head_s=None, tail_s=2.0)) == (2.0, RHYTHM)
    assert offset_of(joined(Joint.TIME, Joint.NONE)) is None


def test_a_storage_of_other_pictures_is_asked_about_again_after_a_day():
    clock = DeviceClock("cam:554", 0.0, 0.0, T0, 0, UNMATCHED)
    assert is_unmatched(clock, T0 + timedelta(hours=23))
    assert not is_unmatched(clock, T0 + timedelta(hours=25))
    assert not is_unmatched(DeviceClock("cam:554", 0.0, 0.0, T0, 3, "join"), T0)
    assert not is_unmatched(None, T0)
