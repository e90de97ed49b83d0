"""A replay may take what its footage is worth, and an honest one never meets the bound."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.replay.allowance import MOST_BYTES_S, SPARE_BYTES, SPARE_FILES, SPARE_S, Allowance
from anr_watch.replay.ending import why_over
from anr_watch.replay.rtptime import TICKS
from anr_watch.states import Reason


def brought(seconds, wanted_s=3600.0, cap=0.0):
    allowance = Allowance(wanted_s, cap)
    allowance.saw(10**15)
    allowance.saw(10**15 + round(seconds * TICKS))
    return allowance


@given(st.floats(0, 3600), st.floats(0.01, 4.0), st.floats(0.06, 500))
def test_honest_footage_of_any_speed_is_let_through(footage_s, mb_s, speed):
    """From cameras at a sixteenth of life speed to files at 500 times of it, up to 32 Mbit/s."""
    allowance = brought(footage_s)
    allowance.files, allowance.breaks = round(footage_s / 10) + 2, round(footage_s / 10)
    assert allowance.exceeded(round(mb_s * 1e6 * footage_s) + (20 << 20), footage_s / speed + 60) is None


def test_bytes_without_footage_end_it():
    limit = SPARE_BYTES + 10 * MOST_BYTES_S
    assert brought(10).exceeded(limit, 1) is None
    reason, detail = brought(10).exceeded(limit + 1, 1)
    assert (reason, detail) == (Reason.BAD_MEDIA, "183 MB for 10 s of footage")
    assert Allowance(60, 0).exceeded(SPARE_BYTES + 1, 1)[0] is Reason.BAD_MEDIA


def test_a_leap_in_time_buys_no_more_than_what_was_wanted():
    assert brought(10**9, wanted_s=60).exceeded(SPARE_BYTES + 121 * MOST_BYTES_S, 1)[0] is Reason.BAD_MEDIA


def test_footage_slower_than_a_twentieth_of_life_ends_it_but_not_our_own_cap():
    assert brought(10).exceeded(1000, SPARE_S + 199) is None
    assert brought(10).exceeded(1000, SPARE_S + 201)[0] is Reason.STALLED
    assert brought(10, cap=1000.0).exceeded(1_000_000, SPARE_S + 1199) is None  # 1000 s of them are the cap's


@pytest.mark.parametrize(("name", "most"), [("files", SPARE_FILES + 30), ("breaks", 260)])
def test_too_many_pieces_end_it(name, most):
    allowance = brought(60, wanted_s=60)
    setattr(allowance, name, most)
    assert allowance.exceeded(0, 1) is None
    setattr(allowance, name, most + 1)
    assert allowance.exceeded(0, 1)[0] is Reason.BAD_MEDIA


def test_a_worker_s_own_limits_are_no_fault_of_the_disk():
    """A segment of 8 GiB ended every other fill: it looked like a broken disk."""
    assert why_over(OSError(errno.EFBIG, "File too large")).cause is Reason.BAD_MEDIA
    assert why_over(OSError(errno.EIO, "Input/output error")).cause is Reason.STORAGE
    assert why_over(OverflowError()).cause is Reason.BAD_MEDIA
    assert why_over(struct.error()).cause is Reason.BAD_MEDIA
    assert why_over(KeyError()) is None
