"""Finding recorded pictures again: the right place, or none; never a wrong one."""

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.joins.matching import (
    DAMAGED,
    FEWEST,
    MIN_RUN,
    SURE_RUN,
    Ambiguous,
    HeadSearch,
    TailSearch,
    repeats,
    run_needed,
)

WRONG = "ambiguous"


def film(count, first=0):
    return [number.to_bytes(12, "big") for number in range(first + 1, first + count + 1)]


def head_in(replay, head, *, expected=None, early=False):
    """Search `head` in the pictures of `replay`; positions count from 0. `early`: stop as soon as it is sure."""
    search = HeadSearch(head)
    for at, fingerprint in enumerate(replay):
        search.push(fingerprint, at)
        if early and search.sure:
            break
    else:
        search.end_run(len(replay))
    return chosen(search, expected)


def tail_in(replay, tail, *, expected=None, early=False):
    search = TailSearch(tail)
    for at, fingerprint in enumerate(replay):
        search.push(fingerprint, at)
        if early and search.sure:
            break
    return chosen(search, expected)


def chosen(search, expected):
    try:
        place = search.choose(expected)
    except Ambiguous:
        return WRONG
    return None if place is None else (place.cut, place.run)


def longest(replay, side, *, head):
    """What is right, by trying every place: (cut, run) or ambiguous."""
    if head:
        replay, side = replay[::-1], side[::-1]
    needed = run_needed(side)
    runs = {}
    for at in range(len(replay)):
        for damaged in range(DAMAGED + 1 if head else 1):
            run = damaged
            while run < len(side) and at + run < len(replay) and replay[at + run] == side[run] != b"":
                run += 1
            run -= damaged
            if 0 < (max(needed, MIN_RUN) if damaged and needed else needed) <= run:
                runs[len(replay) - at if head else at] = run
                break
    best = [at for at, run in runs.items() if run == max(runs.values())]
    return None if not best else WRONG if len(best) > 1 else (best[0], runs[best[0]])


outages = st.tuples(
    st.integers(1, 80),  # pictures before the head that the replay has
    st.integers(0, 60),  # of the head, cut off by the replay's begin
    st.integers(FEWEST, 60),
    st.integers(0, 100),  # missing
    st.integers(FEWEST, 60),
    st.integers(0, 80),
)


@given(outages, st.booleans())
def test_what_is_missing_is_found_exactly(outage, early):
    before, cut, head_count, missing, tail_count, after = outage
    everything = film(before + head_count + missing + tail_count + after)
    gap = before + head_count
    begin = min(before + cut, gap - run_needed(film(head_count)))
    head, tail = everything[before:gap], everything[gap + missing : gap + missing + tail_count]
    replay = everything[begin:]
    found_head, found_tail = head_in(replay, head, early=early), tail_in(replay, tail, early=early)
    assert found_head is not None
    assert found_tail is not None
    assert found_head[0] + begin == gap
    assert found_tail[0] + begin == gap + missing


few = st.lists(st.integers(0, 3), max_size=60).map(lambda numbers: [bytes([n]) if n else b"" for n in numbers])


@given(few, few)
def test_of_many_places_the_longest_or_none(replay, side):
    assert head_in(replay, side) == longest(replay, side, head=True)
    assert tail_in(replay, side) == longest(replay, side, head=False)


gops = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(
    lambda names: [picture for name in names for picture in film(15, 100 * name)]
)


@given(gops, gops, st.integers(0, 14), st.integers(1, 100))
def test_repeated_groups_are_no_proof_of_one_place(replay, source, skip, count):
    side = source[skip : skip + count]
    right = longest(replay, side, head=False)
    assert tail_in(replay, side) == right
    assert head_in(replay, side) == longest(replay, side, head=True)
    if not repeats(side) and right not in {None, WRONG} and right[1] >= SURE_RUN:
        assert tail_in(replay, side, early=True) is not None


def test_a_static_scene_needs_an_expected_time():
    still = film(15) * 20
    side = film(15) * 3
    assert repeats(side)
    assert tail_in(still, side) == WRONG
    assert head_in(still, side) == WRONG
    assert tail_in(still, side, expected=62) == (60, 45)
    assert head_in(still, side, expected=131) == (135, 45)


def test_a_scene_that_moves_within_the_side_is_told_apart():
    still, moving = film(15) * 4, film(60, 1000)
    assert tail_in(still + moving, film(15) * 2 + moving[:20]) == (30, 50)
    assert head_in(moving + still, moving[-20:] + film(15)) == (75, 35)


@given(st.integers(0, 40), st.integers(3, 60))
def test_other_footage_matches_nowhere(other, count):
    side = film(count, 100_000)
    assert head_in(film(300, other), side) is None
    assert tail_in(film(300, other), side) is None


def test_one_picture_too_few_is_no_match():
    everything = film(100)
    assert head_in(everything[50 - MIN_RUN + 1 :], everything[20:50]) is None
    assert head_in(everything[50 - MIN_RUN :], everything[20:50]) == (MIN_RUN, MIN_RUN)
    assert tail_in(everything[: 60 + MIN_RUN - 1], everything[60:90]) is None
    assert tail_in(everything[: 60 + MIN_RUN], everything[60:90]) == (60, MIN_RUN)
    assert head_in(everything, everything[8:10]) is None
    assert tail_in(everything, everything[8:10]) is None


def test_a_lost_picture_breaks_a_run_and_no_more():
    everything = film(200)
    replay = everything[:30] + everything[31:]
    assert head_in(replay, everything[20:60]) == (59, 29)
    replay = everything[:130] + everything[131:]
    assert tail_in(replay, everything[100:160]) == (100, 30)


def test_a_hole_in_the_footage_is_no_neighbourhood():
    everything = film(60)
    head, tail = HeadSearch(everything[10:30]), TailSearch(everything[40:55])
    for at in range(27):
        head.push(everything[at], at)
    head.lose(27)
    for at in range(27, 60):
        head.push(everything[at], at)
    assert head.choose(None) is None
    for at in range(40, 43):
        tail.push(everything[at], at)
    tail.lose()
    for at in range(43, 60):
        tail.push(everything[at], at)
    assert tail.choose(None) is None


def test_a_head_at_the_edge_of_a_hole_ends_where_its_picture_ends():
    everything = film(30)
    head = HeadSearch(everything)
    for at, fingerprint in enumerate(everything):
        head.push(fingerprint, at * 10)
    head.lose(300)
    head.push(b"x", 5000)
    assert chosen(head, None) == (300, 30)


def test_what_lies_before_every_possible_place_is_safe():
    everything = film(100)
    tail = TailSearch(everything[50:90])
    for at in range(50):
        tail.push(everything[at], at)
        assert tail.earliest is None
    for at in range(50, 60):
        tail.push(everything[at], at)
        assert tail.earliest == 50
    tail.forget_before(51)
    assert tail.earliest is None


@given(st.integers(0, 3), st.integers(1, 60))
def test_half_a_picture_at_the_end_of_a_head_is_in_its_place(damaged, missing):
    everything = film(150)
    head = everything[20:50]
    for number in range(damaged):
        head[-1 - number] = f"half of {number}".encode()
    replay = everything[: 50 + missing]
    found = head_in(replay, head)
    assert found == ((50, 30 - damaged) if damaged <= DAMAGED else None)
    assert head_in(replay, head, early=True) == found


def test_a_still_scene_before_half_a_picture_is_no_proof():
    head = [*film(15) * 2, b"half"]
    assert head_in(film(15) * 10, head) == WRONG
