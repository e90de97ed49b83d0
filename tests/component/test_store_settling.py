"""The end of a try: whatever happened to the row meanwhile, what is missing stays known and nothing is told twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from fixtures_database import FixedClock, Kernel, at, create_kernel_database, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anr_watch.config import DatabaseSettings
from anr_watch.instants import parse_instant
from anr_watch.model import Attempt, KernelEvent, Message, Window, merge, subtract
from anr_watch.states import FillState, Reason
from anr_watch.store import Outcome, Settlement, open_store

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


def pieces(*edges_and_kinds):
    """`pieces(0, True, 10, False, 20)`: filled from 0 to 10, missing from 10 to 20."""
    edges, kinds = edges_and_kinds[::2], edges_and_kinds[1::2]
    return tuple((w(a, b), kind) for a, b, kind in zip(edges, edges[1:], kinds, strict=False))


def ended(gap, reason=Reason.CUT_SHORT, name="a1", **more):
    return Attempt(name, gap.id, gap.camera_id, 1, gap.window, NOW, ended_at=NOW, reason=reason, **more)


def with_store(database, act):
    async def run():
        config = DatabaseSettings(path=database, busy_timeout_s=0.3)
        async with open_store(config, FixedClock(NOW)) as store:
            return await act(store)

    return asyncio.run(run())


def settle(database, parts, *, gap_id="g", meanwhile=None, counts=True, failed=False, times=1, **more):
    """Read the gap, let `meanwhile` happen, settle it with these parts (of the window as read)."""

    async def act(store):
        gap = await store.gap(gap_id)
        begun = await store.begin_attempt(replace(ended(gap, **more), ended_at=None, reason=None))
        if meanwhile is not None:
            meanwhile()
        attempt = replace(ended(gap, **more), number=begun.number)
        settlement = Settlement(gap, attempt, parts, counts, failed)
        for _ in range(times):
            settled = await store.settle(settlement)
        return settled

    return with_store(database, act)


def rows(kernel, camera_id="gate"):
    """Gap rows as (start, end, state, attempts) in seconds after T0."""

    def seconds(value):
        return (parse_instant(value) - at(0)).total_seconds()

    return [
        (seconds(row["gap_start"]), seconds(row["gap_end"]), row["fill_state"], row["fill_attempts"])
        for row in kernel.gaps(camera_id)
    ]


# ---- the plain ends


def test_all_recorded_makes_the_row_filled(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_attempts=1)
    settled = settle(database, pieces(0, True, 20, True, 60), reason=Reason.FILLED)
    assert settled.outcome is Outcome.FILLED
    assert settled.left == ()
    assert (settled.facts.pending_gaps, settled.facts.missing_s) == (0, 0.0)
    assert rows(kernel) == [(0, 60, "filled", 2)]
    (row,) = kernel.gaps()
    assert (row["filled_at"], row["last_attempt_at"], row["gap_seconds"]) == (text(NOW), text(NOW), 60)


def test_nothing_recorded_leaves_it_pending_and_counts_if_it_counts(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    settled = settle(database, pieces(0, False, 60))
    assert settled.outcome is Outcome.PENDING
    assert [gap.id for gap in settled.left] == ["g"]
    assert rows(kernel) == [(0, 60, "pending", 1)]
    assert settle(database, pieces(0, False, 60), counts=False, name="a2").outcome is Outcome.PENDING
    assert rows(kernel) == [(0, 60, "pending", 1)]
    assert kernel.gaps()[0]["filled_at"] is None


def test_the_last_try_in_vain_makes_it_failed(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_attempts=2)
    settled = settle(database, pieces(0, False, 60), failed=True, reason=Reason.NO_FOOTAGE)
    assert settled.outcome is Outcome.FAILED
    assert settled.left == ()
    assert rows(kernel) == [(0, 60, "failed", 3)]


def test_a_part_splits_the_row_and_the_rest_inherits_attempts_and_wait(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_attempts=1)
    settled = settle(database, pieces(0, False, 10, True, 20, False, 30, True, 40, False, 60), next_at=at(4000))
    assert settled.outcome is Outcome.PARTIAL
    assert rows(kernel) == [
        (0, 10, "pending", 2),
        (10, 20, "filled", 2),
        (20, 30, "pending", 2),
        (30, 40, "filled", 2),
        (40, 60, "pending", 2),
    ]
    assert kernel.gaps()[1]["id"] == settled.row.id == "g"
    assert [gap.window for gap in settled.left] == [w(0, 10), w(20, 30), w(40, 60)]
    assert (settled.facts.pending_gaps, settled.facts.missing_s) == (3, 40.0)
    waits = with_store(database, lambda store: store.waits(now=NOW))
    assert {(wait.next_at, wait.tries, wait.reason) for wait in waits.values()} == {(at(4000), 1, Reason.CUT_SHORT)}
    assert set(waits) == {gap.id for gap in settled.left}


def test_a_residual_that_fails_again_for_the_same_reason_counts_its_tries_on(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    (left,) = settle(database, pieces(0, True, 10, False, 60)).left

    async def act(store):
        attempt = await store.begin_attempt(ended(left, name="a2"))
        assert attempt.number == 1
        await store.settle(Settlement(left, ended(left, name="a2"), ((left.window, False),), False, False))
        again = (await store.waits(now=NOW))[left.id]
        await store.settle(
            Settlement(left, ended(left, Reason.BUSY, name="a3"), ((left.window, False),), False, False)
        )
        return again, (await store.waits(now=NOW))[left.id], await store.attempts(left.id)

    again, other, attempts = with_store(database, act)
    assert (again.tries, again.reason) == (2, Reason.CUT_SHORT)
    assert (other.tries, other.reason) == (1, Reason.BUSY)
    assert [attempt.id for attempt in attempts] == ["a2", "a3"]


def test_in_a_failed_split_the_missing_parts_fail(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", fill_attempts=2)
    assert settle(database, pieces(0, True, 30, False, 60), failed=True).outcome is Outcome.PARTIAL
    assert rows(kernel) == [(0, 30, "filled", 3), (30, 60, "failed", 3)]


def test_covered_without_asking_needs_no_attempt(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g", last_attempt_at=text(at(5)))

    async def act(store):
        gap = await store.gap("g")
        return await store.settle(Settlement(gap, None, ((gap.window, True),), False, False))

    assert with_store(database, act).outcome is Outcome.FILLED
    assert rows(kernel) == [(0, 60, "filled", 0)]
    assert kernel.gaps()[0]["last_attempt_at"] == text(at(5))


def test_covered_is_told_by_the_one_who_settles_it(database, kernel):
    """A fill that starts on a look from before the row was settled finds it settled: nothing is told twice."""
    kernel.add_gap("gate", at(0), at(60), id="g")

    async def act(store):
        gap = await store.gap("g")
        covered = Settlement(gap, None, ((gap.window, True),), False, False)
        outcomes = [
            (await store.settle(covered, lambda _facts, id_=id_: [Message(id_, "t", b"")])).outcome for id_ in "xy"
        ]
        return outcomes, [row.message.id for row in await store.outbox(0, 10)]

    assert with_store(database, act) == ([Outcome.FILLED, Outcome.OVERTAKEN], ["x"])


def test_texts_of_edges_that_stay_are_the_ones_that_were_read(database, kernel):
    start, end = "2026-06-13T12:00:00.000000000+00:00", "2026-06-13T12:01:00Z"
    kernel.add_gap("gate", start, end, id="g")
    settle(database, pieces(0, False, 10, True, 50, False, 60))
    texts = [(row["gap_start"], row["gap_end"]) for row in kernel.gaps()]
    assert texts == [(start, text(at(10))), (text(at(10)), text(at(50))), (text(at(50)), end)]


def test_below_a_microsecond_nothing_is_lost_and_no_row_is_empty(database, kernel):
    kernel.add_gap("gate", "2026-06-13T12:00:00.123456789+00:00", "2026-06-13T12:00:10.000000001+00:00", id="g")

    async def act(store):
        gap = await store.gap("g")
        cut = at(5)
        parts = ((Window(gap.window.start, cut), True), (Window(cut, gap.window.end), False))
        await store.settle(Settlement(gap, ended(gap), parts, True, False))

    with_store(database, act)
    assert [(row["gap_start"], row["gap_end"]) for row in kernel.gaps()] == [
        ("2026-06-13T12:00:00.123456789+00:00", text(at(5))),
        (text(at(5)), "2026-06-13T12:00:10.000000001+00:00"),
    ]


@pytest.mark.parametrize(
    "parts",
    [(), pieces(0, True, 30), pieces(0, True, 70), pieces(10, True, 60), pieces(0, True, 30) + pieces(40, True, 60)],
)
def test_pieces_must_be_a_partition(database, kernel, parts):
    kernel.add_gap("gate", at(0), at(60), id="g")
    with pytest.raises(ValueError, match="no partition"):
        settle(database, parts)


def test_only_an_ended_attempt_can_count(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    gap = with_store(database, lambda store: store.gap("g"))
    with pytest.raises(ValueError, match="only an attempt"):
        Settlement(gap, None, ((gap.window, False),), True, False)
    with pytest.raises(ValueError, match="needs an end"):
        Settlement(gap, replace(ended(gap), ended_at=None), ((gap.window, False),), True, False)


# ---- the row changed while the fill ran


def test_an_end_the_kernel_moved_on_stays_pending_as_a_row_of_its_own(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def later():
        kernel.execute("UPDATE recording_gaps SET gap_end = ? WHERE id = 'g'", [text(at(100))])

    settled = settle(database, pieces(0, True, 60), meanwhile=later)
    assert settled.outcome is Outcome.PARTIAL
    assert rows(kernel) == [(0, 60, "filled", 1), (60, 100, "pending", 0)]
    assert [gap.window for gap in settled.left] == [w(60, 100)]
    assert with_store(database, lambda store: store.waits(now=NOW)) == {}


def test_an_end_that_moved_while_the_last_try_failed_gets_its_own_tries(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def later():
        kernel.execute("UPDATE recording_gaps SET gap_end = ? WHERE id = 'g'", [text(at(100))])

    assert settle(database, pieces(0, False, 60), failed=True, meanwhile=later).outcome is Outcome.FAILED
    assert rows(kernel) == [(0, 60, "failed", 1), (60, 100, "pending", 0)]


def test_an_end_that_moved_while_nothing_came_leaves_one_row(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def later():
        kernel.execute("UPDATE recording_gaps SET gap_end = ? WHERE id = 'g'", [text(at(100))])

    assert settle(database, pieces(0, False, 60), meanwhile=later).outcome is Outcome.PENDING
    assert rows(kernel) == [(0, 100, "pending", 1)]


def test_a_row_that_became_shorter_is_settled_in_what_is_left_of_it(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def shorter():
        kernel.execute(
            "UPDATE recording_gaps SET gap_start = ?, gap_end = ? WHERE id = 'g'", [text(at(5)), text(at(30))]
        )

    assert settle(database, pieces(0, True, 20, False, 60), meanwhile=shorter).outcome is Outcome.PARTIAL
    assert rows(kernel) == [(5, 20, "filled", 1), (20, 30, "pending", 1)]


@pytest.mark.parametrize("state", ["filled", "failed"])
def test_a_row_somebody_else_resolved_is_left_alone(database, kernel, state):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def resolve():
        kernel.execute("UPDATE recording_gaps SET fill_state = ?, fill_attempts = 7 WHERE id = 'g'", [state])

    settled = settle(database, pieces(0, True, 20, False, 60), meanwhile=resolve)
    assert settled.outcome is Outcome.OVERTAKEN
    assert rows(kernel) == [(0, 60, state, 7)]
    (attempt,) = with_store(database, lambda store: store.attempts("g"))
    assert attempt.reason is Reason.CUT_SHORT


@pytest.mark.parametrize(
    "change", ["gap_end = 'soon'", f"gap_start = '{text(at(500))}', gap_end = '{text(at(600))}'"]
)
def test_a_row_that_became_nonsense_or_another_time_is_left_alone(database, kernel, change):
    kernel.add_gap("gate", at(0), at(60), id="g")

    def spoil():
        kernel.execute(f"UPDATE recording_gaps SET {change} WHERE id = 'g'")
        spoilt.extend(kernel.gaps())

    spoilt = []
    assert settle(database, pieces(0, True, 60), meanwhile=spoil).outcome is Outcome.OVERTAKEN
    assert kernel.gaps() == spoilt


@pytest.mark.parametrize("gone", ["recording_gaps WHERE id = 'g'", "cameras"])
def test_a_deleted_row_or_camera_stays_deleted(database, kernel, gone):
    kernel.add_gap("gate", at(0), at(60), id="g")
    said = []

    async def act(store):
        gap = await store.gap("g")
        kernel.execute(f"DELETE FROM {gone}")
        event = KernelEvent("e", "gate", "gap_filled", "info", NOW, b"{}")
        settlement = Settlement(gap, ended(gap), pieces(0, True, 20, False, 60), True, False, event)
        settled = await store.settle(settlement, lambda facts: said.append(facts) or [Message("m", "t", b"")])
        return settled, await store.outbox_depth()

    settled, depth = with_store(database, act)
    assert settled.outcome is Outcome.GONE
    assert (settled.row, settled.left) == (None, ())
    assert kernel.gaps() == []
    there = gone != "cameras"
    assert (len(said), depth, kernel.execute("SELECT count(*) FROM events")) == (there, there, [[int(there)]])


# ---- other rows in the way


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        # a residual begins where a row begins already: [20, 60) is missing
        ((20, 30, "pending"), [(0, 20, "filled", 1), (20, 60, "pending", 0)]),
        ((20, 90, "pending"), [(0, 20, "filled", 1), (20, 90, "pending", 0)]),
        ((20, 30, "filled"), [(0, 20, "filled", 1), (20, 30, "filled", 0), (30, 60, "pending", 1)]),
        ((20, 30, "failed"), [(0, 20, "filled", 1), (20, 30, "failed", 0), (30, 60, "pending", 1)]),
        ((20, 60, "filled"), [(0, 20, "filled", 1), (20, 60, "filled", 0)]),
        ((20, 90, "failed"), [(0, 20, "filled", 1), (20, 90, "failed", 0)]),
    ],
)
def test_a_residual_merges_with_a_row_that_begins_there(database, kernel, other, expected):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(other[0]), at(other[1]), fill_state=other[2])
    settle(database, pieces(0, True, 20, False, 60))
    assert rows(kernel) == expected


def test_a_residual_behind_several_resolved_rows_keeps_what_none_of_them_holds(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(20), at(30), fill_state="filled")
    kernel.add_gap("gate", at(30), at(35), fill_state="failed")
    kernel.add_gap("gate", at(35), at(40))
    settle(database, pieces(0, True, 20, False, 60))
    assert rows(kernel)[-1] == (35, 60, "pending", 0)


@pytest.mark.parametrize("state", ["pending", "filled"])
def test_a_recorded_part_that_begins_at_another_row_keeps_ours_whole(database, kernel, state):
    """The row cannot become its first recorded part, so it becomes its first missing one."""
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(20), at(25), id="other", fill_state=state)
    settled = settle(database, pieces(0, False, 20, True, 60))
    assert settled.outcome is Outcome.PARTIAL
    assert settled.row.window == w(0, 20)
    assert rows(kernel) == [(0, 20, "pending", 1), (20, 25, state, 0), (25, 60, "filled", 1)]


def test_a_row_of_nonsense_in_the_way_does_not_cost_missing_time(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(20), "garbage", id="bad")
    (left,) = settle(database, pieces(0, True, 20, False, 60)).left
    assert left.window == w(20, 60)
    stored = {row["id"]: row for row in kernel.gaps()}
    assert stored["bad"]["gap_end"] == "garbage"
    assert stored[left.id]["gap_start"] == "2026-06-13T12:00:20.000+00:00"


def test_the_same_instant_in_another_spelling_is_the_same_start(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", "2026-06-13T12:00:20.000000+00:00", at(30), id="other")
    (left,) = settle(database, pieces(0, True, 20, False, 60)).left
    assert (left.id, left.window) == ("other", w(20, 60))
    assert kernel.gaps()[1]["gap_start"] == "2026-06-13T12:00:20.000000+00:00"


def test_a_failed_residual_over_a_pending_row_leaves_that_pending(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.add_gap("gate", at(20), at(30), id="other")
    settle(database, pieces(0, True, 20, False, 60), failed=True)
    assert rows(kernel) == [(0, 20, "filled", 1), (20, 30, "pending", 0), (30, 60, "failed", 1)]


def test_other_cameras_rows_are_in_nobodys_way(database, kernel):
    kernel.add_camera("yard")
    kernel.add_gap("yard", at(20), at(30))
    kernel.add_gap("gate", at(0), at(60), id="g")
    settle(database, pieces(0, True, 20, False, 60))
    assert rows(kernel) == [(0, 20, "filled", 1), (20, 60, "pending", 1)]
    assert rows(kernel, "yard") == [(20, 30, "pending", 0)]


# ---- together or not at all


def test_rows_attempt_kernel_event_and_messages_are_one_transaction(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    kernel.execute("UPDATE cameras SET site_id = 'site'")
    event = KernelEvent("e1", "gate", "gap_filled", "info", at(1), b'{"got_s": 20}')

    async def act(store):
        gap = await store.gap("g")
        settlement = Settlement(gap, ended(gap), pieces(0, True, 20, False, 60), True, False, event)

        def broken(facts):
            assert (facts.pending_gaps, facts.missing_s, facts.last.id) == (1, 40.0, "a1")
            raise RuntimeError("no message today")

        with pytest.raises(RuntimeError):
            await store.settle(settlement, broken)
        assert rows(kernel) == [(0, 60, "pending", 0)]
        assert await store.attempts("g") == []
        assert kernel.execute("SELECT count(*) FROM events") == [[0]]
        for _ in range(3):
            await store.settle(settlement, lambda facts: [Message("m1", "t", str(facts.missing_s).encode())])
        return [row.message for row in await store.outbox(0, 10)]

    assert with_store(database, act) == [Message("m1", "t", b"40.0")]
    assert kernel.execute("SELECT * FROM events") == [
        ["e1", "gate", "site", "gap_filled", "info", text(at(1)), '{"got_s": 20}', text(NOW)]
    ]


def test_settling_one_attempt_again_changes_nothing(database, kernel):
    kernel.add_gap("gate", at(0), at(60), id="g")
    settled = settle(database, pieces(0, False, 60), times=3)
    assert settled.outcome is Outcome.REPEATED
    assert rows(kernel) == [(0, 60, "pending", 1)]


def test_what_a_person_asked_for_stays_asked_for_until_it_is_there(database, kernel):
    long_ago = at(-90 * 86400)
    kernel.add_gap("gate", long_ago, long_ago + timedelta(seconds=60), id="g")

    async def act(store):
        await store.retry(gap_id="g")
        gap = await store.gap("g")
        cut = long_ago + timedelta(seconds=20)
        parts = ((Window(long_ago, cut), True), (Window(cut, gap.window.end), False))
        (left,) = (await store.settle(Settlement(gap, ended(gap, next_at=at(9999)), parts, True, False))).left
        look = await store.look(now=NOW)
        assert look.asked == {left.id}
        assert list(await store.waits(now=NOW)) == [left.id]
        await store.settle(Settlement(left, ended(left, name="a2"), ((left.window, False),), True, True))
        return (await store.look(now=NOW)).asked

    assert with_store(database, act) == frozenset()


# ---- any partition


@st.composite
def partitions(draw):
    """A gap of 60 s cut anywhere, in any kinds, and how the row's end moved meanwhile."""
    cuts = sorted(draw(st.sets(st.integers(1, 599), max_size=6)))
    edges = [0.0, *(cut / 10 for cut in cuts), 60.0]
    kinds = draw(st.lists(st.booleans(), min_size=len(edges) - 1, max_size=len(edges) - 1))
    parts = tuple((w(a, b), kind) for a, b, kind in zip(edges, edges[1:], kinds, strict=False))
    return parts, draw(st.sampled_from([60.0, 60.0, 75.5, 41.2])), draw(st.booleans())


@st.composite
def others(draw):
    """Rows of the same camera that may begin or end at the cuts."""
    found = []
    for start in draw(st.sets(st.integers(1, 599), max_size=4)):
        end = draw(st.integers(start + 1, 700))
        found.append((start / 10, end / 10, draw(st.sampled_from(["pending", "filled", "failed"]))))
    return found


def windows_of(found, *states):
    return merge(w(start, end) for start, end, state, _ in found if state in states)


async def settled_twice(store, kernel, parts, end_s, *, failed):
    gap = await store.gap("g")
    kernel.execute("UPDATE recording_gaps SET gap_end = ? WHERE id = 'g'", [text(at(end_s))])
    settlement = Settlement(gap, ended(gap), parts, True, failed)
    first = await store.settle(settlement)
    once = kernel.gaps()
    await store.settle(settlement)
    assert kernel.gaps() == once
    return first


def on_fresh_rows(database, act):
    """Run many examples on one database: rows go, tables stay."""

    async def run():
        async with open_store(DatabaseSettings(path=database, busy_timeout_s=0.3), FixedClock(NOW)) as store:
            with Kernel(database) as kernel:
                for table in ("recording_gaps", "anr_attempts", "anr_gaps"):
                    kernel.execute(f"DELETE FROM {table}")
                kernel.add_gap("gate", at(0), at(60), id="g")
                await act(store, kernel)

    asyncio.run(run())


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(example=partitions())
def test_rows_afterwards_describe_exactly_the_window(database, kernel, example):
    parts, end_s, failed = example

    async def act(store, kernel):
        settled = await settled_twice(store, kernel, parts, end_s, failed=failed)
        found = rows(kernel)
        row = w(0, end_s)
        assert merge(w(start, end) for start, end, _, _ in found) == (row,)
        assert sum(end - start for start, end, _, _ in found) == pytest.approx(end_s)  # none twice
        recorded = merge(inside for part, kind in parts if kind and (inside := part.meet(row)))
        tried = merge(inside for part, _ in parts if (inside := part.meet(row)))
        missing = subtract(row, recorded)
        untried = subtract(row, tried)
        assert windows_of(found, "filled") == recorded
        if failed and recorded != (row,):
            assert windows_of(found, "pending") == untried
            assert windows_of(found, "failed", "pending") == missing
        else:
            assert windows_of(found, "pending") == missing
        assert merge(gap.window for gap in settled.left) == windows_of(found, "pending")
        assert {state for _, _, state, _ in found} <= set(FillState)

    on_fresh_rows(database, act)


@SETTINGS
@given(example=partitions(), there=others())
def test_missing_time_is_never_lost_whatever_rows_are_in_the_way(database, kernel, example, there):
    parts, end_s, failed = example

    async def act(store, kernel):
        for start, end, state in there:
            kernel.add_gap("gate", at(start), at(end), fill_state=state)
        before = kernel.gaps()
        await settled_twice(store, kernel, parts, end_s, failed=failed)
        found, after = rows(kernel), {row["id"]: row for row in kernel.gaps()}
        row = w(0, end_s)
        assert subtract(row, [w(start, end) for start, end, _, _ in found]) == ()
        resolved_before = [w(start, end) for start, end, state in there if state != "pending"]
        for part, kind in parts:
            inside = part.meet(row)
            if kind or inside is None:
                continue
            known = windows_of(found, "pending", "failed") if failed else windows_of(found, "pending")
            assert subtract(inside, [*known, *resolved_before]) == ()
        for old in before:
            if old["id"] == "g":
                continue
            new = after[old["id"]]
            if old["fill_state"] != "pending":
                assert new == old
            else:  # kept, at most longer
                assert (new["gap_start"], new["fill_state"], new["fill_attempts"]) == (old["gap_start"], "pending", 0)
                assert parse_instant(new["gap_end"]) >= parse_instant(old["gap_end"])

    on_fresh_rows(database, act)
