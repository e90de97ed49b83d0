"""When a replay has harmed live recording, what is no reason to think so, and how slowly it is tried again."""

from datetime import UTC, datetime, timedelta

import pytest

from anr_watch.live_first import (
    COME_BACK_S,
    FORGIVEN,
    SLOWEST_BYTES_S,
    SMALLEST_STEP_S,
    STEP_S,
    Pace,
    Rhythm,
    Witness,
    faster,
    lower_cap,
    slower,
    step_s,
    was_interrupted,
)
from anr_watch.model import Window

AT = datetime(2026, 6, 13, 12, tzinfo=UTC)
LIVE = 500_000.0  # 4 Mbit/s


def falter(before=None, *, rate=10e6, live=LIVE, at=AT):
    return slower(before, "cam:554", rate_bytes_s=rate, live_bytes_s=live, at=at, first_wait_s=60.0)


def witness(*, silence=5.0, alive=-0.5, expected=False):
    return Witness(silence, began_s=0.0, alive_s=alive, expected=expected)


def play(seen, start=0.0, end=60.0, *, dead_from=None, alive=()):
    """Let a replay receive bytes twice a second; return when live was seen to falter, and why."""
    now, count = start, 0
    while now <= end:
        if dead_from is None or now < dead_from:
            count += 1000
        for at in alive:
            if now - 0.5 < at <= now:
                seen.alive(at)
        seen.replayed(now, count)
        if why := seen.verdict(now):
            return now, why
        now += 0.5
    return None


def test_a_recording_that_stands_still_while_the_replay_goes_on():
    at, why = play(witness())
    assert at <= 5.0 + 0.5
    assert "stood still" in why


def test_a_recording_that_grows_in_its_rhythm():
    assert play(witness(), alive=[n * 4.9 for n in range(1, 13)]) is None


def test_a_replay_that_falls_silent_with_live_is_a_victim_too():
    """Camera or network gone at 2 s: what was under way arrives, then nothing."""
    seen = witness(alive=2.0)
    assert play(seen, dead_from=3.0) is None
    seen = witness(alive=2.0)
    seen.word(2.1, "live recording ended (database)")
    assert play(seen, dead_from=3.0) is None


def test_word_that_live_is_gone_while_the_replay_goes_on():
    seen = witness()
    seen.word(2.0, "live recording ended (mqtt)")
    assert play(seen, alive=[n * 0.5 for n in range(120)]) == (3.0, "live recording ended (mqtt)")


def test_word_about_a_recording_that_was_not_there_is_old():
    """A camera has just come back; its recorder's try from before fails only now."""
    seen = witness(alive=None)
    seen.word(2.0, "live recording ended (database)")
    assert play(seen, end=COME_BACK_S) is None


def test_a_recording_that_does_not_come_back():
    at, why = play(witness(alive=None, expected=True))
    assert COME_BACK_S + 5.0 <= at <= COME_BACK_S + 6.0
    assert "did not come back" in why


def test_a_camera_that_is_not_recorded_anyway():
    assert play(witness(alive=None), end=300.0) is None


def test_without_replay_nothing_is_its_fault():
    assert witness().verdict(1000.0) == ""


@pytest.mark.parametrize(
    ("bytes_s", "group_s", "segment_s", "expected"),
    [
        (1_000_000, 1.0, 60, 5.0),  # 8 Mbit/s: a burst each 0.3 s
        (250_000, 2.0, 60, 6.1),  # 2 Mbit/s: each second
        (25_000, 2.0, 60, 25.0),  # 200 kbit/s: each 10.5 s
        (2_000, 4.0, 60, 68.0),  # less than a burst per file: the next file is the sign of life
        (25_000, 2.0, 10, 14.0),
        (None, None, 60, 68.0),  # nothing is known of it
        (0, None, 60, 68.0),
    ],
)
def test_how_long_a_healthy_recording_may_stand_still(bytes_s, group_s, segment_s, expected):
    assert Rhythm(bytes_s, group_s, segment_s).silence_s(5.0) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("bytes_s", [25_000, 60_000, 250_000, 1_000_000])
def test_bursts_are_no_faltering(bytes_s):
    """ffmpeg: whole groups of pictures, 256 KiB at a time, also when the scene calms down to half the rate."""
    rhythm = Rhythm(float(bytes_s), 2.0, 60.0)
    for calm in (1.0, 2.0):
        burst = 256 * 1024 / bytes_s * calm
        grows = [-(-burst * n // 2.0) * 2.0 for n in range(1, int(120 / burst) + 2)]
        assert play(witness(silence=rhythm.silence_s(5.0)), end=100.0, alive=grows) is None


def test_the_first_cap_is_the_live_rate_then_halves_down_to_an_eighth():
    pace, caps, waits = None, [], []
    for _ in range(6):
        pace = falter(pace, rate=10e6 if pace is None else pace.max_bytes_s)
        caps.append(pace.max_bytes_s)
        waits.append((pace.next_at - AT).total_seconds())
    assert caps == [LIVE, LIVE / 2, LIVE / 4, LIVE / 8, LIVE / 8, LIVE / 8]
    assert waits == [60, 300, 1800, 7200, 21600, 21600]


def test_a_replay_slower_than_live_is_halved_at_once():
    assert falter(rate=200_000).max_bytes_s == 100_000


def test_no_cap_is_so_low_that_nothing_comes():
    assert falter(rate=100.0, live=None).max_bytes_s == SLOWEST_BYTES_S


def test_faster_again_with_care():
    pace = falter(rate=800_000)
    later = AT
    for _ in range(20):
        later += timedelta(minutes=10)
        pace = faster(pace, at=later, first_wait_s=60)
    assert pace.max_bytes_s == pytest.approx(0.8 * 800_000)  # near to what was too much, not beyond
    assert pace.falters == 0
    requests = 0
    while pace is not None:  # a day later: beyond it, and at last without a cap
        pace = faster(pace, at=AT + FORGIVEN, first_wait_s=60)
        requests += 1
    assert 5 < requests < 15


def test_where_every_replay_harms_live_the_steps_are_the_smallest_and_wait():
    pace = falter(falter(falter()))
    assert step_s(pace, 3600.0) == SMALLEST_STEP_S
    assert faster(pace, at=AT, first_wait_s=60).next_at == AT + timedelta(seconds=60)
    assert step_s(falter(), 3600.0) == STEP_S
    assert step_s(None, 3600.0) == 3600.0
    assert step_s(falter(), 10.0) == 10.0


def test_the_lower_cap_counts():
    pace = Pace("cam:554", 100_000.0, 0.0, 1, AT, AT)
    assert [lower_cap(0.0, None), lower_cap(5.0, None), lower_cap(0.0, pace), lower_cap(5.0, pace)] == [
        0.0,
        5.0,
        100_000.0,
        5.0,
    ]


def test_only_a_hole_that_began_after_the_replay_is_its_fault():
    second = timedelta(seconds=1)
    assert was_interrupted(Window(AT, AT + second), camera_began=AT)
    assert not was_interrupted(Window(AT - second, AT + 100 * second), camera_began=AT)
