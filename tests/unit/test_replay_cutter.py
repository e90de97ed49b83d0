"""What is kept of a replay, and where segments begin."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Window
from anr_watch.replay.cutter import LEAD_BYTES, Cutter, Op
from anr_watch.replay.merge import WAIT_BYTES, Merge
from anr_watch.replay.stamps import Unit
from anr_watch.replay.timeline import TICKS, Break, Placed, ticks_of

START = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)
ZERO = ticks_of(START)
FRAME = 6000


def keep(start_s, end_s):
    return Window(START + timedelta(seconds=start_s), START + timedelta(seconds=end_s))


def picture(number, *, gop=15, dts=None, key=None, clean=True, size=1000, form=None):
    unit = Unit(True, None, None, FRAME, number % gop == 0 if key is None else key, size, clean=clean, format=form)
    unit.payload = number
    return Placed(ZERO + number * FRAME, ZERO + (number if dts is None else dts) * FRAME, unit)


def sound(at_s, length_s=0.02):
    unit = Unit(False, None, None, round(length_s * TICKS), True, 160, payload=at_s)
    at = ZERO + round(at_s * TICKS)
    return Placed(at, at, unit)


def files(cutter, items):
    """Return what each segment holds, in writing order."""
    out, current = [], None
    steps = [step for item in items for step in cutter.push(item)] + cutter.finish()
    for step in steps:
        if step.op is Op.OPEN:
            assert current is None
            current = []
        if step.op is Op.CLOSE:
            out.append(current)
            current = None
        else:
            current.append(step.item.unit.payload)
    assert current is None
    return out


def test_from_the_key_frame_before_the_start_to_the_end():
    cutter = Cutter(keep(4.5, 10), 60)
    assert files(cutter, [picture(n) for n in range(300)]) == [list(range(60, 150))]
    assert cutter.done
    assert cutter.doubt is None


def test_a_start_on_a_key_frame_needs_no_group_before():
    assert files(Cutter(keep(4, 6), 60), [picture(n) for n in range(200)]) == [list(range(60, 90))]


def test_footage_that_begins_late_or_in_a_group():
    assert files(Cutter(keep(0, 10), 60), [picture(n) for n in range(40, 100)]) == [list(range(45, 100))]


def test_segments_are_cut_at_key_frames():
    out = files(Cutter(keep(0, 30), 10), [picture(n, gop=40) for n in range(1000)])
    assert [segment[0] for segment in out] == [0, 160, 320]  # 10.67 s: the first key frame after 10 s
    assert [n for segment in out for n in segment] == list(range(450))


def test_a_key_frame_that_leans_back_is_no_place_to_cut_for_a_while():
    pictures = [picture(n, clean=n % 60 == 0) for n in range(300)]
    assert [segment[0] for segment in files(Cutter(keep(0, 20), 2), pictures)] == [0, 60, 120, 180, 240]
    never = [picture(n, clean=False) for n in range(300)]
    assert [segment[0] for segment in files(Cutter(keep(0, 20), 2), never)] == [0, 90, 180, 270]


def test_another_format_gets_another_file():
    pictures = [picture(n, form="a" if n < 30 else "b") for n in range(60)]
    assert files(Cutter(keep(0, 20), 60), pictures) == [list(range(30)), list(range(30, 60))]


def test_the_tail_keeps_what_the_last_pictures_need():
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11, 15, 13, 14]
    items = [picture(n, dts=index - 2, key=n == 0) for index, n in enumerate(order)]
    kept = files(Cutter(keep(0, 8 / 15), 60), items)[0]  # up to picture 7, which needs 9
    assert sorted(kept) == list(range(10))
    assert files(Cutter(keep(0, 7 / 15), 60), items)[0] == [0, 3, 1, 2, 6, 4, 5]


def test_after_a_hole_it_goes_on_at_the_next_key_frame():
    items = [picture(n) for n in range(40)]
    items.append(Break(ZERO + 40 * FRAME, 60 * FRAME, proven=True))
    items += [picture(n) for n in range(100, 150)]
    assert files(Cutter(keep(0, 60), 60), items) == [list(range(40)), list(range(105, 150))]


def test_what_comes_again_is_not_written_again():
    items = [picture(n) for n in range(40)]
    items.append(Break(ZERO + 40 * FRAME, -25 * FRAME, proven=False))
    items += [picture(n) for n in range(15, 90)]
    assert files(Cutter(keep(0, 60), 60), items) == [list(range(40)), list(range(45, 90))]


def test_an_unproven_jump_out_of_the_window_is_no_good_end():
    cutter = Cutter(keep(0, 60), 60)
    items = [picture(n) for n in range(40)]
    jump = Break(ZERO + 40 * FRAME, 3600 * TICKS, proven=False)
    assert files(cutter, [*items, jump, picture(60_000)]) == [list(range(40))]
    assert cutter.done
    assert cutter.doubt == jump


def test_a_proven_one_is():
    cutter = Cutter(keep(0, 60), 60)
    files(cutter, [picture(0), Break(ZERO + FRAME, 3600 * TICKS, proven=True), picture(60_000)])
    assert cutter.done
    assert cutter.doubt is None


def test_a_group_without_end_before_the_start_is_not_held_for_ever():
    cutter = Cutter(keep(100, 200), 60)
    items = [picture(n, key=n == 0, size=LEAD_BYTES // 10) for n in range(30)]
    assert files(cutter, items) == [list(range(30))]


def test_sound_goes_with_the_open_segment():
    cutter = Cutter(keep(1, 4), 60)
    items = []
    for n in range(90):
        items += [picture(n), sound(n / 15 + 0.01)]
    out = files(cutter, items)[0]
    heard = [entry for entry in out if isinstance(entry, float)]
    assert heard[0] == 1.01
    early = files(Cutter(keep(1.5, 4), 60), items)[0]
    assert next(entry for entry in early if isinstance(entry, float)) == 1.01  # from the key frame on
    assert heard[-1] < 4
    assert not files(Cutter(keep(1, 4), 60), [sound(n / 50) for n in range(300)])


@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 40), st.floats(0.5, 9), st.integers(0, 200))
def test_every_picture_of_the_window_once(start_s, length_s, gop, segment_s, first):
    pictures = [picture(n, gop=gop) for n in range(first, 700)]
    out = files(Cutter(keep(start_s, start_s + length_s), segment_s), pictures)
    got = [n for segment in out for n in segment]
    wanted_end = (start_s + length_s) * 15
    first_key = -(-first // gop) * gop
    begin = max(first_key, start_s * 15 // gop * gop)
    assert got == list(range(begin, wanted_end))
    assert all(segment[0] % gop == 0 for segment in out)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=120), st.integers(0, 2))
def test_merging_keeps_each_order_and_loses_nothing(kinds, shift):
    merge, out, n, heard = Merge(), [], 0, 0
    for is_picture, step in kinds:
        if is_picture:
            n += 1 + (step == 3) * 40
            out += merge.push(picture(n))
        else:
            heard += 1 + step
            out += merge.push(sound(heard / 50 + shift))
    out += merge.finish()
    pictures = [item.unit.payload for item in out if item.unit.video]
    blocks = [item.unit.payload for item in out if not item.unit.video]
    assert len(out) == len(kinds)
    assert pictures == sorted(pictures)
    assert blocks == sorted(blocks)


def test_sound_that_is_late_at_a_cut_still_belongs_to_the_segment_before():
    merge, items = Merge(), []
    for n in range(90):
        items += merge.push(picture(n))
        if n >= 5:
            items += merge.push(sound((n - 5) / 15 + 0.03))
    items += merge.finish()
    first, second = files(Cutter(keep(0, 5.9), 3), items)[:2]
    assert max(e for e in first if isinstance(e, float)) < 3 <= min(e for e in second if isinstance(e, float))
    assert len([e for e in first if isinstance(e, float)]) == 45


def test_pictures_wait_for_silent_sound_no_longer_than_the_bounds():
    merge = Merge()
    assert not merge.push(picture(0))
    released = [n for n in range(1, 40) if merge.push(picture(n))]
    assert released[0] == 16
    merge = Merge()
    assert merge.push(picture(0, size=WAIT_BYTES + 1))
