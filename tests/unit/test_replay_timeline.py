"""From packets to true UTC: reports that are sane, late, missing or about now; holes, jumps and repeats."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Window
from anr_watch.replay.job import TimeSource
from anr_watch.replay.rtptime import Report, RtpTime
from anr_watch.replay.stamps import NoTimes, Stamper, Unit
from anr_watch.replay.timeline import (
    HOLD_WALL_S,
    TICKS,
    Break,
    Placed,
    Timeline,
    TimeWentBack,
    instant_of,
    ticks_of,
)

START = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)
ASKED = Window(START, START + timedelta(seconds=60))
ZERO = ticks_of(START)
FRAME = 6000  # 15 fps
NOW_US = ZERO * 100 // 9 + 3_600_000_000  # an hour later


class Now:
    """A clock the test turns."""

    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def timeline(now=None, wall_us=NOW_US):
    return Timeline(ASKED, wall_us=lambda: wall_us, monotonic=now or Now())


def picture(number, *, at=None, utc_s=None, report=False, key=None, size=1000):
    """Picture `number`; `at` its RTP time in ticks, `utc_s` what the report says, seconds from the asked start."""
    pts = number * FRAME if at is None else at
    utc_us = None if utc_s is None else ZERO * 100 // 9 + round(utc_s * 1e6)
    sender = Report(utc_us, pts % 2**32) if report and utc_us is not None else None
    return Unit(True, pts, pts, FRAME, number % 15 == 0 if key is None else key, size, utc_us, sender, payload=number)


def run(line, units, *, stamper=None):
    stamper = stamper or Stamper()
    out = []
    for unit in units:
        for item in stamper.push(unit):
            out += line.push(item)
    for item in stamper.finish():
        out += line.push(item)
    return out + line.finish()


def seconds(out):
    """(number, seconds since the asked start) of the pictures placed; breaks as they are."""
    return [item if isinstance(item, Break) else (item.unit.payload, (item.pts - ZERO) / TICKS) for item in out]


def test_ticks_and_instants_agree():
    for instant in (START, START + timedelta(microseconds=66667), datetime(1970, 1, 1, tzinfo=UTC)):
        assert abs(instant_of(ticks_of(instant)) - instant) <= timedelta(microseconds=12)


def test_true_reports_place_the_pictures():
    line = timeline()
    units = [picture(n, utc_s=-1 + n / 15, report=n % 30 == 0) for n in range(60)]
    assert seconds(run(line, units)) == [(n, pytest.approx(-1 + n / 15, abs=1e-4)) for n in range(60)]
    assert line.source is TimeSource.SENDER_REPORT


def test_without_reports_the_first_picture_is_the_asked_start():
    line = timeline()
    units = [picture(n, at=1_000_000 + n * FRAME) for n in range(200)]
    assert seconds(run(line, units))[:2] == [(0, 0.0), (1, pytest.approx(1 / 15))]
    assert line.source is TimeSource.ASKED


def test_a_late_report_places_the_pictures_before_it():
    line = timeline()
    units = [picture(n) for n in range(45)]
    units += [picture(n, utc_s=-2 + n / 15, report=n == 45) for n in range(45, 90)]
    placed = seconds(run(line, units))
    assert placed[0] == (0, pytest.approx(-2, abs=1e-4))
    assert len(placed) == 90


def test_what_the_first_report_says_about_the_picture_before_it_is_dropped():
    # libav's parser copies the next picture's side data onto one that has none.
    units = [picture(n) for n in range(44)]
    units.append(picture(44, utc_s=45 / 15, report=True))
    units += [picture(n, utc_s=n / 15, report=n == 45) for n in range(45, 60)]
    assert seconds(run(timeline(), units))[0] == (0, pytest.approx(0, abs=1e-4))
    units = [picture(0, utc_s=1 / 15, report=True), *(picture(n, utc_s=n / 15, report=n == 1) for n in range(1, 9))]
    units[0].pts = units[0].dts = None
    assert seconds(run(timeline(), units))[0] == (0, pytest.approx(0, abs=1e-4))


@pytest.mark.parametrize("apart_s", [3600, 300, 61])
def test_reports_that_say_now_are_not_believed(apart_s):
    line = timeline(wall_us=ZERO * 100 // 9 + round(apart_s * 1e6))
    units = [picture(n, utc_s=apart_s + n / 15, report=n == 0) for n in range(30)]
    assert seconds(run(line, units))[0] == (0, 0.0)
    assert line.source is TimeSource.ASKED


def test_now_inside_a_window_that_reaches_the_present_is_not_believed():
    line = timeline(wall_us=ZERO * 100 // 9 + 55_000_000)
    assert seconds(run(line, [picture(0, utc_s=55, report=True), picture(1, utc_s=55 + 1 / 15)]))[0] == (0, 0.0)


def test_footage_that_begins_late_is_placed_late():
    line = timeline()
    assert seconds(run(line, [picture(0, utc_s=40, report=True), picture(1, utc_s=40 + 1 / 15)]))[0][1] == 40


def test_another_time_is_not_believed():
    line = timeline()
    units = [picture(n, utc_s=-7200 + n / 15, report=n == 0) for n in range(5)]  # two time zones away
    assert seconds(run(line, units))[0] == (0, 0.0)


def test_waiting_for_a_report_is_bounded_by_footage():
    line = timeline()
    stamper = Stamper()
    placed_at = None
    for n in range(200):
        for item in stamper.push(picture(n)):
            if line.push(item) and placed_at is None:
                placed_at = n
    assert placed_at == 120  # 8 s


def test_waiting_for_a_report_is_bounded_by_bytes():
    line = timeline()
    out = run_until_placed(line, [picture(n, size=4 << 20) for n in range(20)])
    assert out == 3


def run_until_placed(line, units):
    stamper = Stamper()
    for n, unit in enumerate(units):
        for item in stamper.push(unit):
            if line.push(item):
                return n
    return None


def test_waiting_for_a_report_is_bounded_by_the_clock():
    now = Now()
    line = timeline(now)
    for item in Stamper().push(picture(0)):
        assert line.push(item) == []
    assert line.tick() == []
    now.s = HOLD_WALL_S
    assert seconds(line.tick()) == [(0, 0.0)]


def test_the_first_picture_without_times_is_counted_back():
    units = [picture(n) for n in range(5)]
    units[0].pts = units[0].dts = None
    assert seconds(run(timeline(), units)) == [(n, pytest.approx(n / 15)) for n in range(5)]


def test_reordered_pictures_get_decoding_times_from_the_start():
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    units = [picture(n, key=n == 0) for n in order]
    for index, unit in enumerate(units):
        unit.dts = None if index < 3 else (index - 2) * FRAME
    units[0].pts = None
    placed = run(timeline(), units)
    assert [item.unit.payload for item in placed] == order
    assert [(item.pts - ZERO) // FRAME for item in placed] == order
    decoding = [item.dts for item in placed]
    assert decoding == sorted(set(decoding))
    assert all(item.dts <= item.pts for item in placed)


def test_one_single_picture_is_placed():
    unit = picture(0)
    unit.pts = unit.dts = None
    assert seconds(run(timeline(), [unit])) == [(0, 0.0)]


def test_pictures_without_any_times_are_an_error():
    units = [picture(n) for n in range(100)]
    for unit in units:
        unit.pts = unit.dts = None
    with pytest.raises(NoTimes):
        run(timeline(), units)
    units = [picture(n) for n in range(400)]
    for unit in units[10:]:
        unit.pts = unit.dts = None
    with pytest.raises(NoTimes):
        run(timeline(), units)


@pytest.mark.parametrize("reports", [True, False])
def test_a_hole_is_told_and_what_follows_keeps_its_time(reports):
    units = [
        picture(n, utc_s=n / 15 if reports else None, report=reports and n in {0, 30, 180, 210})
        for n in [*range(60), *range(180, 240)]
    ]
    out = seconds(run(timeline(), units))
    broken = out[60]
    assert isinstance(broken, Break)
    assert (broken.at - ZERO, broken.by, broken.proven) == (60 * FRAME, 120 * FRAME, reports)
    assert out[61] == (180, pytest.approx(12, abs=1e-4))


@pytest.mark.parametrize("jump_s", [3600, 50, -3600, -50, 30000])
@pytest.mark.parametrize("wait", [0, 40])
def test_a_jump_of_rtp_alone_loses_nothing(jump_s, wait):
    """The report after the jump, maybe some pictures later, says that footage went on."""
    units = [picture(n, utc_s=n / 15, report=n % 30 == 0) for n in range(50)]
    for n in range(50, 150):
        fresh = n >= 50 + wait
        said = n / 15 + (0 if fresh else jump_s)  # an old report's time jumps along
        units.append(picture(n, at=n * FRAME + jump_s * TICKS, utc_s=said, report=n == 50 + wait))
    out = seconds(run(timeline(), units))
    assert out == [(n, pytest.approx(n / 15, abs=1e-3)) for n in range(150)]


def test_a_jump_that_no_report_explains_is_not_proven():
    units = [picture(n) for n in range(200)]
    units += [picture(n, at=n * FRAME + 3600 * TICKS) for n in range(200, 220)]
    out = seconds(run(timeline(), units))
    assert out[200] == Break(ZERO + 200 * FRAME, 3600 * TICKS, proven=False)


def test_a_short_step_back_is_a_repeat_and_a_long_one_is_an_end():
    units = [picture(n) for n in range(200)]
    repeat = seconds(run(timeline(), [*units, *(picture(n) for n in range(150, 230))]))
    assert repeat[200] == Break(ZERO + 200 * FRAME, -50 * FRAME, proven=False)
    assert repeat[201] == (150, pytest.approx(10))
    with pytest.raises(TimeWentBack):
        run(timeline(), [*units, *(picture(n, at=n * FRAME - 3600 * TICKS) for n in range(200, 230))])


def test_reports_reveal_a_hole_that_rtp_hides():
    units = [picture(n, utc_s=n / 15, report=n == 0) for n in range(60)]
    units += [picture(n, utc_s=n / 15 + 20, report=n == 60) for n in range(60, 90)]
    out = seconds(run(timeline(), units))
    assert out[60] == Break(ZERO + 60 * FRAME, 20 * TICKS, proven=True)
    assert out[61] == (60, pytest.approx(24, abs=1e-3))


def test_reports_that_fall_behind_are_about_now_and_no_longer_believed():
    line = timeline()
    units = [picture(n, utc_s=n / 15, report=n == 0) for n in range(60)]
    units += [picture(n, utc_s=n / 15 - 3, report=n == 60) for n in range(60, 90)]
    out = seconds(run(line, units))
    assert out == [(n, pytest.approx(n / 15, abs=1e-3)) for n in range(90)]
    assert line.source is TimeSource.ASKED


def test_rtp_time_undoes_reports_that_say_now():
    """With sound, libav's pts runs with the reports: at 2 s back to 41 ms. The RTP time stamps are still in there."""
    clock = RtpTime(TICKS)
    base = 2**32 - 100_000  # and RTP wraps on the way
    out, report, zero_us = [], None, 0
    for n in range(90):
        if n % 30 == 0:
            report = Report(NOW_US + n // 30 * 41_000, (base + n * FRAME) % 2**32)
            zero_us = zero_us or report.ntp_us
        since_us = (n % 30) * FRAME * 100 // 9
        libav = (report.ntp_us - zero_us) * 9 // 100 + (n % 30) * FRAME
        out.append(clock.media(libav, FRAME, report.ntp_us + since_us, report if n % 30 == 0 else None))
    assert out == [n * FRAME for n in range(90)]


@given(st.lists(st.tuples(st.integers(-(2**33), 2**33), st.booleans(), st.integers(-4000, 4000)), max_size=60))
def test_no_time_stamps_break_the_time_line(steps):
    """Whatever comes, it ends in placed pictures or one of the two errors, decoding never after presentation."""
    units = [
        picture(n, at=at, utc_s=utc_s if report else None, report=report)
        for n, (at, report, utc_s) in enumerate(steps)
    ]
    try:
        out = run(timeline(), units)
    except (TimeWentBack, NoTimes):
        return
    placed = [item for item in out if isinstance(item, Placed)]
    assert [item.unit.payload for item in placed] == list(range(len(steps)))
    assert all(item.dts <= item.pts for item in placed)
