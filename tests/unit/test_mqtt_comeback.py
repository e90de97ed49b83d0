"""Coming back: growing waits with jitter, one line per trouble, and the rival that uses our id."""

import logging

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.mqtt.comeback import LAST_DELAY_S, Rivals, Trouble, back_off_s
from anr_watch.mqtt.link import LinkLost, Loss


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.booleans())
def test_the_wait_stays_between_its_bounds(failures, chance, slow):
    assert (30.0 if slow else 0.5) <= back_off_s(failures, chance, slow=slow) <= LAST_DELAY_S


def test_the_wait_grows_to_a_minute():
    assert [back_off_s(n, 0.999999) > 0.9 * min(60, 0.5 * 2**n) for n in range(1, 12)] == [True] * 11
    assert back_off_s(1, 0.0) == 0.5


def test_the_same_trouble_is_told_at_a_limited_rate_and_another_at_once(caplog):
    caplog.set_level(logging.INFO)
    trouble = Trouble("MQTT broker b:1")
    refused, wrong = LinkLost("refused", Loss.UNREACHABLE), LinkLost("wrong password", Loss.REFUSED)
    for second in range(29):
        trouble.failed(refused, float(second))
    trouble.failed(wrong, 29.0)
    trouble.worked()
    trouble.worked()
    assert [record.getMessage() for record in caplog.records] == [
        "MQTT broker b:1: refused",
        "MQTT broker b:1: wrong password",
        "MQTT broker b:1: works again",
    ]


def test_three_take_overs_a_minute_are_told_once_and_slow_us_down(caplog):
    rivals = Rivals("anr-watch-nvr1")
    assert [rivals.taken_over(at, surely=True) for at in (0.0, 1.0, 2.0, 30.0, 61.0)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "another client connects as 'anr-watch-nvr1'" in record.getMessage()


def test_take_overs_an_hour_apart_are_nobodys_fault(caplog):
    rivals = Rivals("x")
    assert not any(rivals.taken_over(hour * 3600.0, surely=False) for hour in range(10))
    assert not caplog.records


def test_a_broker_that_restarts_is_no_rival(caplog):
    rivals = Rivals("x")
    for second in range(10):
        assert not rivals.taken_over(float(second), surely=False)
        rivals.forget()
    assert not caplog.records


def test_a_loss_is_one_printable_line():
    assert str(LinkLost("a\nb\x1b", Loss.CLOSED)) == "a\\x0ab\\x1b"
