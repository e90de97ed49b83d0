"""The note in a file of ours: it says what it said, and nothing else is taken for one."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.footage.mark import KIND, SIZE_BYTES, Mark, box_of, mark_of
from anr_watch.model import Window

T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
LENGTHS = st.timedeltas(timedelta(microseconds=1), timedelta(days=1))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@given(INSTANTS, LENGTHS, LENGTHS)
def test_it_is_read_as_it_was_written(start, length, listed):
    mark = Mark(Window(start, start + length), Window(start, start + listed))
    box = box_of(mark)
    assert mark_of(box) == mark
    assert len(box) == SIZE_BYTES
    assert box[4:8] == KIND


@given(st.binary(max_size=2 * SIZE_BYTES))
def test_nonsense_is_no_note(box):
    assert mark_of(box) is None


@given(st.binary(min_size=32, max_size=32))
def test_times_that_make_no_sense_are_no_note(times):
    window = Window(at(0), at(4))
    found = mark_of(box_of(Mark(window, window))[:-32] + times)
    assert found is None or found.window.start < found.window.end


def test_it_holds_for_the_file_it_was_written_into_only():
    window = Window(at(0.7), at(4.7))
    mark = Mark(window, window)
    assert mark.fits(at(0), 4.0)
    assert mark.fits(at(60), 4.1), "the name may move by a minute"
    assert not mark.fits(at(70), 4.0), "a copy under another name"
    assert not mark.fits(at(0), 9.0), "more was put behind it"
