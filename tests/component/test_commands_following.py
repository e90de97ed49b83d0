"""Following a gap through the database: every way it can end, with somebody else doing the work between two looks."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from fixtures_database import FixedClock, Kernel, at, create_kernel_database

from anr_watch.commands.following import PATIENCE_S, UNTOUCHED_S, Following
from anr_watch.config import DatabaseSettings
from anr_watch.model import Attempt, Segment, Window
from anr_watch.states import Reason
from anr_watch.store import Origin, Settlement, open_store

WINDOW = Window(at(0), at(60))


class Script(FixedClock):
    """A clock whose every sleep lets the next step of somebody else's work happen and the time go on."""

    def __init__(self, *steps):
        super().__init__(at(120))
        self.steps = list(steps)

    async def sleep(self, delay_s):
        self.at += timedelta(seconds=delay_s)
        if self.steps:
            await self.steps.pop(0)()


class Filler:
    """What the daemon writes."""

    def __init__(self, store, clock, gap):
        self.store, self.clock, self.gap = store, clock, gap
        self.attempt = None

    async def begin(self):
        attempt = Attempt(
            id=f"att_{uuid.uuid4().hex}",
            gap_id=self.gap.id,
            camera_id=self.gap.camera_id,
            number=1,
            window=self.gap.window,
            started_at=self.clock.now(),
            wanted_s=self.gap.window.seconds,
        )
        self.attempt = await self.store.begin_attempt(attempt)

    async def place(self, start_s, end_s):
        window = Window(at(start_s), at(end_s) + timedelta(microseconds=1))
        self.attempt = replace(self.attempt, bytes=self.attempt.bytes + 1000, files=self.attempt.files + 1)
        await self.store.add_segment(
            Segment("gate", f"./data/recordings/gate/{start_s}.mp4", window, 1000, "h264", 16, 16),
            attempt=self.attempt,
        )

    async def close(self, counts=0):
        """Close the row without a try: anr-watch, or with a counted one Heldar's own loop."""
        with Kernel(self.store.path) as kernel:
            kernel.execute(
                f"UPDATE recording_gaps SET fill_state = 'filled', fill_attempts = fill_attempts + {counts}"
            )

    async def settle(self, reason, pieces, *, failed=False, wait_s=None, join=None):
        now = self.clock.now()
        next_at = now + timedelta(seconds=wait_s) if wait_s is not None else None
        ended = replace(self.attempt, ended_at=now, reason=reason, detail="as scripted", next_at=next_at)
        ended = replace(ended, join_head=join, join_tail=join)
        done = await self.store.settle(Settlement(self.gap, ended, pieces, counts=True, failed=failed))
        self.gap = done.left[0] if done.left else self.gap


def followed(tmp_path, script, *, served=lambda: True):
    """Register a gap, follow it while `script(filler)`'s steps happen; return the ending and the snapshots."""
    database = create_kernel_database(tmp_path / "heldar.db")
    with Kernel(database) as kernel:
        kernel.add_camera("gate")

    async def run():
        clock = Script()
        async with open_store(DatabaseSettings(path=database), clock) as store:
            done = await store.register_gap("gate", WINDOW, origin=Origin.COMMAND)
            clock.steps = list(script(Filler(store, clock, done.gap)))
            shown = []
            following = Following(store, clock, done.gap, WINDOW, still_served=served)
            assert await following.begin() == 60
            ending = await following.until_settled(shown.append)
            assert clock.steps == []
            return ending, shown

    return asyncio.run(run())


ALL = ((WINDOW, True),)
NONE = ((WINDOW, False),)
HALF = ((Window(at(0), at(30)), True), (Window(at(30), at(60)), False))


def test_filled(tmp_path):
    ending, shown = followed(
        tmp_path,
        lambda filler: (
            filler.begin,
            lambda: filler.place(0, 30),
            lambda: filler.place(30, 60),
            lambda: filler.settle(Reason.FILLED, ALL),
        ),
    )
    assert (ending.ok, ending.reason) == (True, Reason.FILLED)
    assert [round(snapshot.covered_s) for snapshot in shown] == [0, 0, 30, 60, 60]
    assert ending.last.bytes == 2000


@pytest.mark.parametrize(
    ("join", "start_s", "ok"), [("exact", 0.8, True), ("time", 0.8, False), ("exact", 1.2, False)]
)
def test_what_equal_pictures_proved_counts_though_rows_leave_a_second_open(tmp_path, join, start_s, ok):
    ending, _ = followed(
        tmp_path,
        lambda filler: (
            filler.begin,
            lambda: filler.place(start_s, 60),
            lambda: filler.settle(Reason.FILLED, ALL, join=join),
        ),
    )
    assert ending.ok is ok
    open_s = start_s + 1  # a recorder's file may begin up to a second later than its name says
    assert ending.last.covered_s == pytest.approx(60 if ok else 60 - open_s, abs=0.01)


def test_a_row_closed_without_a_try_was_recorded_already(tmp_path):
    """A fill just before proved by equal pictures that what rows leave open holds none; only it knows that."""
    ending, _ = followed(tmp_path, lambda filler: (filler.close,))
    assert (ending.ok, ending.reason, ending.text) == (True, Reason.COVERED, "")
    assert (ending.last.wanted_s, ending.last.covered_s, ending.last.attempts) == (0, 0, 0)


def test_a_row_that_the_recorders_own_loop_calls_filled_proves_nothing(tmp_path):
    ending, _ = followed(tmp_path, lambda filler: (lambda: filler.close(counts=1),))
    assert (ending.ok, ending.reason) == (False, None)
    assert (ending.last.wanted_s, ending.last.covered_s) == (60, 0)


def test_a_second_pass_is_waited_for(tmp_path):
    ending, shown = followed(
        tmp_path,
        lambda filler: (
            filler.begin,
            lambda: filler.place(0, 30),
            lambda: filler.settle(Reason.CUT_SHORT, HALF, wait_s=20),
            filler.begin,
            lambda: filler.place(30, 60),
            lambda: filler.settle(Reason.FILLED, ((Window(at(30), at(60)), True),)),
        ),
    )
    assert ending.ok
    assert shown[-1].covered_s == 60


def test_a_rest_that_waits_too_long_is_not_waited_for(tmp_path):
    ending, _ = followed(
        tmp_path,
        lambda filler: (
            filler.begin,
            lambda: filler.place(0, 30),
            lambda: filler.settle(Reason.STALLED, HALF, wait_s=PATIENCE_S + 60),
        ),
    )
    assert (ending.ok, ending.reason, ending.detail) == (False, Reason.STALLED, "as scripted")
    assert round(ending.last.covered_s) == 30
    assert ending.next_at is not None


@pytest.mark.parametrize(
    "reason", [Reason.UNREACHABLE, Reason.UNAUTHORIZED, Reason.DISK_FULL, Reason.STORAGE, Reason.BAD_CONFIG]
)
def test_what_only_somebody_can_change_ends_at_once(tmp_path, reason):
    ending, _ = followed(tmp_path, lambda filler: (filler.begin, lambda: filler.settle(reason, NONE, wait_s=2)))
    assert (ending.ok, ending.reason) == (False, reason)


def test_given_up(tmp_path):
    ending, _ = followed(
        tmp_path, lambda filler: (filler.begin, lambda: filler.settle(Reason.NO_FOOTAGE, NONE, failed=True))
    )
    assert (ending.ok, ending.reason) == (False, Reason.NO_FOOTAGE)


def test_a_parked_camera(tmp_path):
    ending, _ = followed(
        tmp_path, lambda filler: (lambda: filler.store.park("gate", Reason.NO_REPLAY_URL, "no address", "f"),)
    )
    assert (ending.ok, ending.reason, ending.detail) == (False, Reason.NO_REPLAY_URL, "no address")


def test_a_row_that_somebody_removed(tmp_path):
    async def remove(filler):
        with Kernel(filler.store.path) as kernel:
            kernel.execute("DELETE FROM recording_gaps")

    ending, _ = followed(tmp_path, lambda filler: (lambda: remove(filler),))
    assert (ending.ok, ending.text) == (False, "the gap's row was removed")


def test_nobody_is_there_any_more(tmp_path):
    ending, _ = followed(tmp_path, lambda _: (), served=lambda: False)
    assert (ending.ok, ending.text) == (False, "the anr-watch that was to fill it has ended")


def test_nobody_begins(tmp_path):
    ending, shown = followed(tmp_path, lambda _: ())
    assert not ending.ok
    assert ending.text.startswith(f"nobody has begun it for {UNTOUCHED_S:.0f} s")
    assert len(shown) == 1


def test_recorded_by_somebody_else_meanwhile(tmp_path):
    async def record(filler):
        with Kernel(filler.store.path) as kernel:
            kernel.add_segment("gate", at(-10), at(70))
            kernel.execute("UPDATE recording_gaps SET fill_state = 'filled'")

    ending, _ = followed(tmp_path, lambda filler: (lambda: record(filler),))
    assert (ending.ok, ending.reason) == (True, None)
