"""Gaps registered and tried anew, attempts, segments, parked cameras and the outbox, each on a real database."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from fixtures_database import FixedClock, Kernel, at, create_kernel_database, text

from anr_watch.config import DatabaseSettings
from anr_watch.model import Attempt, Message, Segment, Window
from anr_watch.states import FillState, Presence, Reason
from anr_watch.store import Origin, Outcome, Registered, Settlement, open_store

NOW = at(3600)


@pytest.fixture
def database(tmp_path):
    return create_kernel_database(tmp_path / "heldar.db")


@pytest.fixture
def kernel(database):
    with Kernel(database) as other:
        other.add_camera("gate")
        yield other


def w(start, end):
    return Window(at(start), at(end))


def with_store(database, act, clock=None, **options):
    async def run():
        config = DatabaseSettings(path=database, busy_timeout_s=0.3)
        async with open_store(config, clock or FixedClock(NOW), **options) as store:
            return await act(store)

    return asyncio.run(run())


def attempt(gap_id="g", name="a1", **more):
    return Attempt(name, gap_id, "gate", 0, w(0, 60), NOW, wanted_s=60.0, **more)


def told(*, topic="t"):
    """An announcement that names what it was told."""
    return lambda *facts: [Message(f"{topic}-{facts}", topic, repr(facts[-1].pending_gaps).encode())]


# ---- registering and extending


def test_a_gap_of_ours_looks_like_the_kernels(database, kernel):
    start_text = "2026-06-13T12:00:00.250000000+00:00"

    async def act(store):
        done = await store.register_gap("gate", Window(at(0.25), at(60)), start_text=start_text, announce=told())
        (row,) = await store.gaps()
        return done, row, await store.outbox_depth()

    done, row, depth = with_store(database, act)
    assert (done.what, done.gap.window, depth) == (Registered.INSERTED, Window(at(0.25), at(60)), 1)
    assert row.origin is Origin.EDGE
    assert row.gap == done.gap
    (stored,) = kernel.gaps()
    assert stored == {
        "id": done.gap.id,
        "camera_id": "gate",
        "gap_start": start_text,
        "gap_end": text(at(60)),
        "gap_seconds": 59,
        "fill_state": "pending",
        "fill_attempts": 0,
        "last_attempt_at": None,
        "filled_at": None,
        "created_at": text(NOW),
    }
    assert len(done.gap.id) == len("gap_") + 32


def test_the_kernels_later_finding_of_the_same_gap_changes_nothing(database, kernel):
    kernel.add_segment("gate", at(-60), "2026-06-13T12:00:00.120+00:00")

    async def act(store):
        await store.register_gap("gate", Window(at(0.12), at(60)), start_text="2026-06-13T12:00:00.120+00:00")

    with_store(database, act)
    kernel.add_gap("gate", "2026-06-13T12:00:00.120+00:00", at(70))
    assert [row["gap_end"] for row in kernel.gaps()] == [text(at(60))]


@pytest.mark.parametrize(
    ("there", "what", "end"),
    [
        ((0, 30, "pending"), Registered.EXTENDED, 60),
        ((0, 60, "pending"), Registered.KNOWN, 60),
        ((0, 90, "pending"), Registered.KNOWN, 90),
        ((0, 30, "filled"), Registered.KNOWN, 30),
        ((0, 30, "failed"), Registered.KNOWN, 30),
    ],
)
def test_a_row_that_begins_at_the_same_instant_is_kept(database, kernel, there, what, end):
    kernel.add_gap("gate", "2026-06-13T12:00:00.000+00:00", at(there[1]), id="g", fill_state=there[2])

    async def act(store):
        return await store.register_gap("gate", w(0, 60), announce=told()), await store.outbox_depth()

    done, depth = with_store(database, act)
    assert (done.what, done.gap.id, done.gap.window) == (what, "g", w(0, end))
    assert depth == (what is Registered.EXTENDED)
    (row,) = kernel.gaps()
    assert (row["gap_start"], row["gap_end"]) == ("2026-06-13T12:00:00.000+00:00", text(at(end)))


def test_rows_that_only_overlap_stand_beside_each_other(database, kernel):
    kernel.add_gap("gate", at(-10), at(30))
    done = with_store(database, lambda store: store.register_gap("gate", w(0, 60)))
    assert done.what is Registered.INSERTED
    assert len(kernel.gaps()) == 2


def test_no_gap_for_a_camera_that_is_gone(database, kernel):
    done = with_store(database, lambda store: store.register_gap("attic", w(0, 60), announce=told()))
    assert (done.what, done.gap) == (Registered.CAMERA_GONE, None)


def test_a_hole_makes_a_pending_row_before_it_longer_and_rows_of_the_rest(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(75.5), at(160), id="filled", fill_state="filled")

    async def act(store):
        told_of = []
        noted = [
            await store.register_hole(
                "gate",
                hole,
                longer_than_s=3,
                found=lambda gap, facts: told_of.append(gap.window) or [],
                extended=lambda facts: told_of.append("longer") or [],
            )
            for hole in (w(0, 50), w(0, 60), w(60, 62), w(30, 200), w(30, 200))
        ]
        return [(one.rows, [gap.window for gap in one.pending]) for one in noted], told_of

    as_it_was, after = [w(0, 60)], [w(0, 75.5), w(160, 200)]
    assert with_store(database, act) == (
        [(0, as_it_was), (0, as_it_was), (0, as_it_was), (2, after), (0, after)],
        ["longer", w(160, 200)],
    )
    assert [(row["gap_end"], row["gap_seconds"]) for row in kernel.gaps()] == [
        (text(at(75.5)), 75),
        (text(at(160)), 84),
        (text(at(200)), 40),
    ]


# ---- trying anew


def test_retry_of_a_gap_gives_it_everything_back(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_attempts=2)
    kernel.add_gap("gate", at(100), at(160), id="other", fill_state="failed", fill_attempts=3)

    async def act(store):
        gap = await store.gap("g")
        await store.begin_attempt(attempt())
        over = attempt(ended_at=NOW, reason=Reason.NO_FOOTAGE, next_at=at(9999))
        await store.settle(Settlement(gap, over, ((gap.window, False),), True, True))
        await store.park("gate", Reason.UNAUTHORIZED, "401", "f")
        counts = await store.retry(gap_id="g", announce=told()), await store.retry(gap_id="nothing")
        again = await store.begin_attempt(attempt(name="a2"))
        return counts, await store.waits(now=NOW), await store.parked(), await store.outbox_depth(), again.number

    assert with_store(database, act) == ((1, 0), {}, {}, 1, 2)
    rows = {row["id"]: row for row in kernel.gaps()}
    assert [rows["g"][key] for key in ("fill_state", "fill_attempts", "last_attempt_at", "filled_at")] == [
        "pending",
        0,
        None,
        None,
    ]
    assert (rows["other"]["fill_state"], rows["other"]["fill_attempts"]) == ("failed", 3)


def test_retry_of_a_camera_takes_what_is_wanted_and_not_filled(database, kernel):
    kernel.add_camera("yard")
    kernel.add_gap("gate", at(0), at(60), id="failed", fill_state="failed", fill_attempts=3)
    kernel.add_gap("gate", at(100), at(160), id="pending", fill_attempts=2)
    kernel.add_gap("gate", at(200), at(260), id="filled", fill_state="filled", fill_attempts=1)
    kernel.add_gap("gate", NOW - timedelta(days=3), NOW - timedelta(days=2), id="old", fill_state="failed")
    kernel.add_gap("yard", at(0), at(60), id="yard", fill_state="failed")
    assert with_store(database, lambda store: store.retry(camera_id="gate")) == 2
    states = {row["id"]: (row["fill_state"], row["fill_attempts"]) for row in kernel.gaps()}
    assert states == {
        "failed": ("pending", 0),
        "pending": ("pending", 0),
        "filled": ("filled", 1),
        "old": ("failed", 0),
        "yard": ("failed", 0),
    }


def test_a_filled_gap_is_not_tried_anew(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_state="filled")

    async def act(store):
        await store.park("gate", Reason.UNAUTHORIZED, "401", "f")
        return await store.retry(gap_id="g"), list(await store.parked()), (await store.look(now=NOW)).asked

    assert with_store(database, act) == (0, ["gate"], frozenset())


# ---- attempts


def test_one_try_at_a_time_and_only_at_pending_gaps(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(100), at(160), id="filled", fill_state="filled")

    async def act(store):
        first = await store.begin_attempt(attempt(), [Message("m", "t", b"")], told())
        second = await store.begin_attempt(attempt(name="a2"), [Message("m2", "t", b"")], told())
        other = await store.begin_attempt(attempt(gap_id="filled", name="a3"))
        gone = await store.begin_attempt(attempt(gap_id="gone", name="a4"))
        return first, second, other, gone, await store.outbox_depth(), await store.status_rows()

    first, second, other, gone, depth, (status,) = with_store(database, act)
    assert (first.number, first.ended_at) == (1, None)
    assert (second, other, gone) == (None, None, None)
    assert depth == 2
    assert status.running == first
    assert status.last is None


def test_a_try_is_read_back_as_it_was_written(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    whole = attempt(
        ended_at=at(3700.123456),
        reason=Reason.CUT_SHORT,
        detail="asked rtsp://u:hush@host/x\nand no more",
        got_s=12.5,
        bytes=3_000_000_000,
        files=2,
        first_byte_s=0.25,
        speed=8.0,
        next_at=at(4000),
    )

    async def act(store):
        gap = await store.gap("g")
        await store.settle(Settlement(gap, whole, ((gap.window, False),), True, False))
        return await store.attempts("g"), (await store.gaps())[0].last, (await store.status_rows())[0].last

    (found,), of_gap, of_camera = with_store(database, act)
    assert found == replace(whole, number=1, detail="asked rtsp://***@host/x\\x0aand no more")
    assert of_gap == of_camera == found


def test_a_segment_and_the_progress_of_its_try_are_one_transaction(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    segment = Segment("gate", "./data/recordings/gate/x.mp4", Window(at(0), at(30.5)), 123, "hevc", 640, 480)

    async def act(store):
        begun = await store.begin_attempt(attempt())
        grown = replace(begun, got_s=30.5, bytes=123, files=1, first_byte_s=0.1, speed=9.0)
        added = [await store.add_segment(segment, attempt=grown, announce=told()) for _ in range(2)]
        gone = await store.add_segment(replace(segment, camera_id="attic", path="y.mp4"))
        (found,) = await store.attempts("g")
        return added, gone, found == grown, await store.outbox_depth()

    # The second announcement of the same facts is the same event: it is not put twice.
    assert with_store(database, act) == ([True, False], False, True, 1)
    (row,) = kernel.segments()
    assert row.pop("id").startswith("seg_")
    assert row == {
        "camera_id": "gate",
        "path": "./data/recordings/gate/x.mp4",
        "start_time": text(at(0)),
        "end_time": text(at(30.5)),
        "duration_s": 30.5,
        "codec": "hevc",
        "width": 640,
        "height": 480,
        "size_bytes": 123,
        "container": "mp4",
        "locked": 0,
        "incident_id": None,
        "created_at": text(NOW),
        "evidence_locked": 0,
    }
    assert kernel.execute("SELECT state, last_segment_at, segments_written FROM camera_status") == [
        ["recording", None, 0]
    ]


def test_files_of_ours_are_told_from_the_recorders(database, kernel):
    kernel.add_segment("gate", at(0), at(10), path="live.mp4")
    mine = Segment("gate", "mine.mp4", w(10, 20), ours=True)
    found = [Segment("gate", "found.mp4", w(20, 30)), Segment("attic", "gone.mp4", w(20, 30))]

    async def act(store):
        assert await store.add_segment(mine)
        assert await store.add_segments([*found, mine]) == 1
        covered = await store.segments("gate", w(0, 30))
        return (
            {s.path: s.ours for s in covered},
            await store.segment_paths("gate", w(5, 20)),
            await store.newest_segment("gate"),
        )

    ours, paths, newest = with_store(database, act)
    assert ours == {"live.mp4": False, "mine.mp4": True, "found.mp4": False}
    assert paths == ["mine.mp4", "found.mp4"]
    assert newest.path == "found.mp4"
    kernel.execute("DELETE FROM segments WHERE path = 'mine.mp4'")
    with_store(database, lambda store: store.version())
    assert kernel.execute("SELECT * FROM anr_segments") == []


def test_tries_left_open_by_a_dead_process_are_interrupted_and_free_their_gaps(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(100), at(160), id="h")

    async def die(store):
        await store.begin_attempt(attempt())
        await store.begin_attempt(attempt(gap_id="h", name="b1"))

    async def start(store):
        interrupted = await store.interrupt_open_attempts(), await store.interrupt_open_attempts()
        return (
            interrupted,
            await store.attempts("g"),
            await store.waits(now=NOW),
            await store.begin_attempt(attempt(name="a2")),
        )

    with_store(database, die)
    interrupted, (first,), waits, again = with_store(database, start)
    assert interrupted == (2, 0)
    assert (first.reason, first.ended_at) == (Reason.INTERRUPTED, NOW)
    assert {(wait.reason, wait.next_at, wait.tries) for wait in waits.values()} == {(Reason.INTERRUPTED, None, 1)}
    assert again.number == 2


def test_what_a_dead_process_had_begun_is_told_to_its_end(database, kernel):
    """Its start went out; who heard it must hear how it ended, with what was in place by then."""
    kernel.add_gap("gate", at(0), at(60), id="g")
    told = []

    async def die(store):
        begun = await store.begin_attempt(attempt())
        placed = Segment("gate", "./data/recordings/gate/x.mp4", Window(at(-1), at(20)), ours=True)
        await store.add_segment(placed, attempt=begun)

    async def start(store):
        def announce(ended, facts):
            told.append((ended, facts.last.reason))
            return [Message("id", "topic", b"")]

        await store.interrupt_open_attempts(announce)
        return await store.outbox_depth()

    with_store(database, die)
    assert with_store(database, start) == 1
    ((ended, reason),) = told
    assert (ended.gap.id, ended.attempt.reason, reason) == ("g", Reason.INTERRUPTED, Reason.INTERRUPTED)
    assert ended.placed == (Window(at(0), at(20)),)


def test_a_file_of_ours_that_the_recorder_listed_first_is_noted_as_ours(database, kernel):
    """After a crash between a file's name and its row the kernel indexes it, as coarse as its name."""
    path = kernel.add_segment("gate", at(0), at(20))

    async def act(store):
        exact = Segment("gate", path, Window(at(0.7), at(20.7)), ours=True)
        return await store.add_segment(exact), await store.segments("gate", Window(at(-60), at(60)))

    added, (found,) = with_store(database, act)
    assert not added
    assert (found.window, found.ours) == (Window(at(0.7), at(20.7)), True)
    assert kernel.segments()[0]["start_time"] == text(at(0)), "the kernel's row stays as it is"


# ---- cameras


def test_parked_cameras_keep_their_first_time_until_the_cause_changes(database, kernel):
    clock = FixedClock(at(1))

    async def act(store):
        seen = []
        for second, fingerprint in ((1, "f"), (2, "f"), (3, "g")):
            clock.at = at(second)
            await store.park("gate", Reason.UNAUTHORIZED, f"try {second} rtsp://u:hush@h/", fingerprint, told())
            seen.append((await store.parked())["gate"])
        (status,) = await store.status_rows()
        return seen, status.parked, await store.unpark("gate"), await store.unpark("gate"), await store.parked()

    seen, status, first, second, left = with_store(database, act, clock)
    assert [parked.since for parked in seen] == [at(1), at(1), at(3)]
    assert seen[1].detail == "try 2 rtsp://***@h/"
    assert status == seen[-1]
    assert (first, second, left) == (True, False, {})


def test_presence_survives_a_restart(database, kernel):
    async def save(store):
        await store.save_presence("gate", Presence.OFFLINE, at(1))
        await store.save_presence("gate", Presence.ONLINE, at(2), told())

    async def read(store):
        (status,) = await store.status_rows()
        return await store.presences(), (status.presence, status.presence_since), await store.outbox_depth()

    with_store(database, save)
    expected = (Presence.ONLINE, at(2))
    assert with_store(database, read) == ({"gate": expected}, expected, 1)


# ---- outbox


def test_messages_come_out_as_they_went_in_until_they_are_done(database, kernel):
    messages = [Message(f"e{number}", f"t{number % 3}", bytes([number, 0, 255])) for number in range(10)]

    async def act(store):
        await store.put(messages)
        first = await store.outbox(0, 4)
        second = await store.outbox(first[-1].row_id, 100)
        await store.outbox_done([row.row_id for row in first])
        left = await store.outbox(0, 100)
        await store.outbox_done([row.row_id for row in left])
        await store.put([Message("later", "t", b"")])
        (new,) = await store.outbox(0, 100)
        return first, second, left, new

    first, second, left, new = with_store(database, act)
    assert [row.message for row in first + second] == messages
    assert left == second
    assert new.row_id > second[-1].row_id


def test_of_retained_messages_only_the_newest_of_a_topic_waits(database, kernel):
    async def act(store):
        await store.put([Message("s1", "state", b"1", retain=True), Message("e1", "event", b"1")])
        await store.put([Message("x1", "other", b"1", retain=True), Message("s2", "state", b"2", retain=True)])
        await store.put([Message("s2", "state", b"2", retain=True), Message("e2", "event", b"2")])
        return [(row.message.topic, row.message.payload) for row in await store.outbox(0, 100)]

    assert with_store(database, act) == [("event", b"1"), ("other", b"1"), ("state", b"2"), ("event", b"2")]


def test_an_event_that_waits_already_is_not_put_twice(database, kernel):
    async def act(store):
        for _ in range(3):
            await store.put([Message("e1", "t", b"once"), Message("e1", "other", b"topic")])
        return len(await store.outbox(0, 100))

    assert with_store(database, act) == 2


def test_a_full_outbox_drops_the_oldest_counts_them_and_says_so_once(database, kernel, caplog):
    async def act(store):
        with caplog.at_level(logging.WARNING, "anr_watch.store"):
            for number in range(30):
                await store.put([Message(f"e{number}", "t", b"")])
        return [row.message.id for row in await store.outbox(0, 100)], await store.outbox_dropped()

    kept, dropped = with_store(database, act, outbox_rows=10)
    assert kept == [f"e{number}" for number in range(20, 30)]
    assert dropped == 20
    assert [record.getMessage() for record in caplog.records] == ["outbox is full, oldest messages dropped"]
    assert with_store(database, lambda store: store.outbox_dropped()) == 20


def test_whoever_sends_is_woken_after_the_commit_not_before(database, kernel):
    async def act(store):
        assert not store.outgoing.is_set()
        seen_inside = []

        def announce(facts):
            seen_inside.append(store.outgoing.is_set())
            return [Message("m", "t", b"")]

        await store.register_gap("gate", w(0, 60), announce=lambda gap, facts: announce(facts))
        assert seen_inside == [False]
        assert store.outgoing.is_set()
        store.outgoing.clear()
        await store.outbox_done([1])
        return store.outgoing.is_set(), await store.outbox_depth()

    assert with_store(database, act) == (False, 0)


def test_filled_is_an_outcome_a_state_and_a_row(database, kernel):
    """The three words for it agree, because each stands in another table."""
    kernel.add_gap("gate", at(0), at(60), id="g")

    async def act(store):
        gap = await store.gap("g")
        over = attempt(ended_at=NOW, reason=Reason.FILLED)
        settled = await store.settle(Settlement(gap, over, ((gap.window, True),), True, False))
        (row,) = await store.gaps(state=FillState.FILLED)
        return settled, row

    settled, row = with_store(database, act)
    assert settled.outcome is Outcome.FILLED
    assert row.gap == settled.row
    assert row.filled_at == NOW
    assert row.last == settled.facts.last
