"""One connection per back-off step, whatever is said meanwhile; and at once where that is deserved."""

import pytest

from anr_watch.device_waits import DeviceWaits
from anr_watch.flapping import HOLDS_S
from anr_watch.model import Device
from anr_watch.states import POLICY, Reason

CAMERA = Device("10.0.0.1", 554)


class Asking:
    """A loop that asks the device whenever it may and counts; `up` says when the device is there."""

    def __init__(self, up=lambda _now: False, reason=Reason.UNREACHABLE):
        self.waits, self.up, self.reason = DeviceWaits(), up, reason
        self.at, self.now = [], 0.0

    def until(self, end, *, step=0.1, words=()):
        words = sorted(words)
        while self.now < end:
            while words and words[0][0] <= self.now:
                _, source, back = words.pop(0)
                if back:
                    self.waits.back(CAMERA, source, self.now)
                else:
                    self.waits.gone(CAMERA, source)
            if self.waits.until_s().get(CAMERA, 0.0) <= self.now:
                self.ask()
            self.now = round(self.now + step, 3)

    def ask(self):
        self.at.append(self.now)
        self.waits.asked(CAMERA, self.now)
        if self.up(self.now):
            self.waits.ended(CAMERA, Reason.FILLED, self.now, answered=True, broke=False, gained=True)
            self.now = 1e9
        else:
            self.waits.ended(CAMERA, self.reason, self.now, answered=False, broke=False, gained=False)


def flapping(source, every, start, end, on=0.5):
    words, at = [], start
    while at < end:
        words += [(at, source, True), (at + every * on, source, False)]
        at += every
    return words


def steps(until_s, reason=Reason.UNREACHABLE):
    count, at = 0, 0.0
    while at < until_s:
        count += 1
        at += POLICY[reason].delay_s(count)
    return count


@pytest.mark.parametrize("source", ["mqtt:cameras", "database"])
def test_a_camera_that_flaps_every_3_s_for_ten_minutes(source):
    asking = Asking()
    asking.until(600, words=flapping(source, 3.0, 1.0, 600))
    assert len(asking.at) <= steps(600)


def test_a_recorder_that_writes_recording_at_each_try_of_an_outage():
    """Every 30 s, and 15 s later the try has failed: a handful of early connections, then only the back-off."""
    asking = Asking()
    asking.until(7200, words=flapping("database", 30.0, 1.0, 7200))
    assert len(asking.at) <= steps(7200) + 3


def test_word_of_another_source_is_served_at_once_all_the_same():
    asking = Asking(up=lambda now: now >= 3000)
    asking.until(3100, words=[*flapping("database", 30.0, 1.0, 3000), (3001.0, "mqtt:cameras", True)])
    assert asking.at[-1] == pytest.approx(3001.0, abs=0.2)


def test_the_first_word_after_quiet_is_served_at_once():
    asking = Asking(up=lambda now: now >= 3000)
    asking.until(3100, words=[(3001.0, "mqtt:cameras", True)])
    assert asking.at[-1] == pytest.approx(3001.0, abs=0.2)


def test_a_camera_that_stays_after_flapping_is_asked_when_its_word_has_held():
    asking = Asking(up=lambda now: now >= 300)
    asking.until(400, words=[*flapping("mqtt:cameras", 3.0, 1.0, 300), (301.0, "mqtt:cameras", True)])
    assert 300 < asking.at[-1] <= 301 + HOLDS_S[-1] + 0.2


def test_a_busy_device_is_not_less_busy_for_being_back():
    asking = Asking(reason=Reason.BUSY)
    asking.until(600, words=flapping("mqtt:cameras", 3.0, 1.0, 600))
    assert len(asking.at) <= steps(600, Reason.BUSY)


def test_busy_and_gone_by_turns_begin_no_back_off_anew():
    waits, now = DeviceWaits(), 0.0
    for turn in range(20):
        reason = Reason.BUSY if turn % 2 else Reason.UNREACHABLE
        waits.asked(CAMERA, now)
        waits.ended(CAMERA, reason, now, answered=False, broke=False, gained=False)
        now = waits.until_s()[CAMERA]
    assert now > 3000


def test_a_replay_that_breaks_off_makes_the_device_wait_and_one_that_gained_not_longer():
    waits = DeviceWaits()
    for tries in (1, 2, 3):
        waits.asked(CAMERA, 0.0)
        waits.ended(CAMERA, Reason.CUT_SHORT, 0.0, answered=True, broke=True, gained=False)
        assert waits.until_s()[CAMERA] == POLICY[Reason.UNREACHABLE].delay_s(tries)
    waits.ended(CAMERA, Reason.CUT_SHORT, 0.0, answered=True, broke=True, gained=True)
    assert waits.until_s()[CAMERA] == POLICY[Reason.UNREACHABLE].delay_s(1)
    waits.ended(CAMERA, Reason.FILLED, 0.0, answered=True, broke=False, gained=True)
    assert waits.until_s() == {}


def test_a_person_ends_a_wait_for_live():
    waits = DeviceWaits()
    waits.hold(CAMERA, 500.0, Reason.LIVE_FALTERED)
    waits.back(CAMERA, "mqtt:cameras", 1.0)
    assert waits.until_s() == {CAMERA: 500.0}
    waits.forget(CAMERA)
    assert waits.until_s() == {}
