"""Somebody else writes at any time and callers are cancelled at any time: nothing half done, nothing done twice."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures_database import FixedClock, Kernel, at, create_kernel_database, kernel_process

from anr_watch.config import DatabaseSettings
from anr_watch.errors import ContractError, StorageError, StoreUnavailable
from anr_watch.model import Message, Window
from anr_watch.store import Registered, open_store
from anr_watch.store.connection import Reader, Writer, connect, in_our_words

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


def with_store(database, act, busy_timeout_s=0.3):
    async def run():
        config = DatabaseSettings(path=database, busy_timeout_s=busy_timeout_s)
        async with open_store(config, FixedClock(NOW)) as store:
            return await act(store)

    return asyncio.run(run())


async def until(condition, deadline_s=5.0):
    """Wait for a condition, at most so long."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.001)


def message(name="m", topic="t"):
    return Message(name, topic, b"")


# ---- locked


def test_a_lock_that_outlasts_the_busy_time_is_unavailable_and_then_works(database):
    with kernel_process(database) as foreign:
        foreign.add_camera("gate")

        async def act(store):
            foreign.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked by another program"):
                await store.put([message()])
            assert await store.outbox_depth() == 0  # reading goes on meanwhile
            assert (await store.look(now=NOW)).cameras.keys() == {"gate"}
            foreign.execute("ROLLBACK")
            await store.put([message()])
            return await store.outbox_depth()

        assert with_store(database, act) == 1


def test_a_lock_shorter_than_the_busy_time_is_waited_for(database):
    with kernel_process(database) as foreign:

        async def act(store):
            foreign.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(store.put([message()]))
            await until(lambda: store._writer.at_work)
            await store.version()  # the loop is free, and the other connection answers
            await store.outbox_depth()
            assert not writing.done()
            foreign.execute("COMMIT")
            await writing
            return await store.outbox_depth()

        assert with_store(database, act, busy_timeout_s=20.0) == 1


def test_a_locked_database_at_the_start_is_unavailable(database):
    with kernel_process(database) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            with_store(database, lambda store: store.version())


def test_a_transaction_that_meets_a_newer_snapshot_is_redone(database, kernel):
    """SQLITE_BUSY_SNAPSHOT: a transaction that read first cannot write after somebody else has."""

    async def run():
        async with connect(database, "rw", 1.0) as connection:
            writer = Writer(connection, database, 1.0)
            tries = []

            async def work(session):
                tries.append(1)
                if len(tries) == 1:
                    await session.all("ROLLBACK")
                    await session.all("BEGIN")
                    before = await session.number("SELECT count(*) FROM recording_gaps")
                    kernel.add_gap("gate", at(0), at(10))
                    await session.all("UPDATE cameras SET name = ?", (str(before),))
                    raise AssertionError("SQLite let a stale transaction write")
                count = await session.number("SELECT count(*) FROM recording_gaps")
                await session.all("UPDATE cameras SET name = ?", (str(count),))
                return len(tries)

            return await writer.transact(work)

    assert asyncio.run(run()) == 2
    assert kernel.execute("SELECT name FROM cameras") == [["1"]]


def test_transactions_of_many_callers_take_turns(database, kernel):
    async def act(store):
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(store.put([message(f"m{number}")]))
                group.create_task(store.register_gap("gate", w(number * 10, number * 10 + 5)))
                group.create_task(store.look(now=NOW))
        return await store.outbox_depth(), len((await store.look(now=NOW)).gaps)

    assert with_store(database, act) == (30, 30)


def test_of_two_processes_one_gets_the_gap(database, kernel):
    """A claim is one conditional write: of two who want a gap one gets it, for each of the gaps."""
    for number in range(40):
        kernel.add_gap("gate", at(number * 100), at(number * 100 + 50), id=f"g{number}")
    script = (
        "import asyncio, sys\n"
        "from datetime import UTC, datetime, timedelta\n"
        "from pathlib import Path\n"
        "from anr_watch.clock import SystemClock\n"
        "from anr_watch.config import DatabaseSettings\n"
        "from anr_watch.model import Attempt, Window\n"
        "from anr_watch.store import open_store\n"
        "async def main():\n"
        "    t = datetime(2026, 6, 13, 12, tzinfo=UTC)\n"
        "    async with open_store(DatabaseSettings(path=Path(sys.argv[1])), SystemClock()) as store:\n"
        "        print('ready', flush=True)\n"
        "        sys.stdin.readline()\n"
        "        for number in range(40):\n"
        "            attempt = Attempt(f'{sys.argv[2]}{number}', f'g{number}', 'gate', 0, Window(t, t + timedelta(1)), t)\n"
        "            if await store.begin_attempt(attempt) is not None:\n"
        "                print(number, flush=True)\n"
        "asyncio.run(main())\n"
    )
    with (
        subprocess.Popen([sys.executable, "-c", script, database, "a"], **_PIPES) as one,
        subprocess.Popen([sys.executable, "-c", script, database, "b"], **_PIPES) as two,
    ):
        for child in (one, two):
            assert child.stdout.readline() == "ready\n"
        for child in (one, two):
            child.stdin.write("\n")
            child.stdin.flush()
        claimed = [child.communicate(timeout=20)[0].split() for child in (one, two)]
    assert sorted(int(number) for numbers in claimed for number in numbers) == list(range(40))
    assert kernel.execute("SELECT count(*) FROM anr_attempts") == [[40]]


_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


# ---- cancelled


def test_a_cancelled_caller_gets_its_cancellation_after_the_commit(database, kernel):
    """A statement whose awaiter is gone runs all the same; left alone it would sit in the next transaction."""

    async def act(store):
        inside = asyncio.Event()

        def announce(gap, facts):
            inside.set()
            return [message("told")]

        writing = asyncio.ensure_future(store.register_gap("gate", w(0, 60), announce=announce))
        await inside.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert store.outgoing.is_set()
        assert not store._writer.at_work
        return len(kernel.gaps()), [row.message.id for row in await store.outbox(0, 10)]

    assert with_store(database, act) == (1, ["told"])


def test_cancelled_at_any_point_a_change_is_whole_or_absent(database, kernel):
    """Gap row, note and message belong together, wherever in the transaction the cancellation falls."""

    async def act(store):
        for turns in range(40):
            start = turns * 100
            writing = asyncio.ensure_future(
                store.register_gap(
                    "gate", w(start, start + 50), announce=lambda gap, facts, turns=turns: [message(f"m{turns}")]
                )
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(3):  # impatient
                writing.cancel()
                await asyncio.sleep(0)
            await asyncio.wait({writing})
            assert writing.cancelled() or writing.result().what is Registered.INSERTED
            assert not store._writer._connection.in_transaction
        await store.put([message("last")])
        return {row.message.id for row in await store.outbox(0, 100)}

    ids = with_store(database, act)
    gaps = {row["id"]: int(row["gap_seconds"]) for row in kernel.gaps()}
    notes = {row[0] for row in kernel.execute("SELECT gap_id FROM anr_gaps")}
    assert notes == set(gaps)
    assert len(ids) == len(gaps) + 1


def test_a_caller_cancelled_while_the_database_is_locked_is_free_at_once(database):
    with kernel_process(database) as foreign:
        foreign.add_camera("gate")

        async def act(store):
            foreign.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.ensure_future(store.put([message(f"m{number}")])) for number in range(5)]
            await until(lambda: store._writer.at_work)
            began = time.perf_counter()
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            took_s = time.perf_counter() - began
            foreign.execute("COMMIT")
            assert all(task.cancelled() for task in waiting)
            return took_s, await store.outbox_depth()

        # The busy time is far away: the bound says that it is not waited for, not how fast the machine is.
        took_s, depth = with_store(database, act, busy_timeout_s=60.0)
        assert took_s < 20
        assert depth == 0


def test_an_error_inside_rolls_everything_back(database, kernel):
    async def act(store):
        def broken(gap, facts):
            raise LookupError(gap.id)

        with pytest.raises(LookupError):
            await store.register_gap("gate", w(0, 60), announce=broken)
        with pytest.raises(ContractError, match="NOT NULL"):
            await store.put([message("fine"), Message(None, "t", b"")])
        return await store.outbox_depth()

    assert with_store(database, act) == 0
    assert kernel.gaps() == []


# ---- has somebody else written?


def test_the_version_follows_others_commits_not_our_own(database, kernel):
    async def act(store):
        seen = [await store.version()]
        await store.put([message()])
        await store.register_gap("gate", w(0, 60))
        seen.append(await store.version())
        kernel.set_status("gate", "offline")
        seen.append(await store.version())
        seen.append(await store.version())
        await store.put([message("m2")])
        kernel.set_status("gate", "recording")
        await store.put([message("m3")])
        seen.append(await store.version())
        return seen

    first, own, others, same, mixed = with_store(database, act)
    assert first == own
    assert others > own
    assert same == others
    assert mixed > same


def test_no_commit_of_others_is_missed_while_our_writer_waits(database):
    with kernel_process(database) as foreign, Kernel(database) as second:
        second.add_camera("gate")

        async def act(store):
            before = await store.version()
            foreign.execute("BEGIN IMMEDIATE")
            foreign.execute("UPDATE camera_status SET state = 'offline'")
            writing = asyncio.ensure_future(store.put([message()]))
            await until(lambda: store._writer.at_work)
            foreign.execute("COMMIT")
            await store.version()
            await writing
            return before, await store.version()

        before, after = with_store(database, act, busy_timeout_s=20.0)
        assert after > before


def test_rows_are_fetched_whole_so_the_log_can_be_checkpointed(database, kernel):
    """An open read cursor would pin the write-ahead log and let it grow."""

    async def act(store):
        for number in range(200):
            kernel.add_gap("gate", at(number * 10), at(number * 10 + 5))
        await store.look(now=NOW)
        await store.gaps(limit=3)
        await store.segments("gate", w(0, 10))
        return kernel.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert with_store(database, act)[0][0] == 0
    assert not database.with_name("heldar.db-wal").exists() or database.with_name("heldar.db-wal").stat().st_size == 0


def test_after_closing_a_call_is_unavailable_not_a_crash(database, kernel):
    kept = []

    async def act(store):
        kept.append(store)

    with_store(database, act)
    for call in (lambda: kept[0].look(now=NOW), lambda: kept[0].put([message()]), kept[0].version):
        with pytest.raises(StoreUnavailable, match="closed"):
            asyncio.run(call())


def test_the_reading_side_cannot_write(database, kernel):
    async def act(store):
        with pytest.raises(StorageError):
            await store._reader.read(lambda session: session.all("DELETE FROM cameras"))

    with_store(database, act)
    assert kernel.execute("SELECT count(*) FROM cameras") == [[1]]


# ---- errors in our words


@pytest.mark.parametrize(
    ("code", "kind", "full"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailable, None),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable, None),
        (sqlite3.SQLITE_LOCKED, StoreUnavailable, None),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable, None),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable, None),
        (sqlite3.SQLITE_FULL, StorageError, True),
        (sqlite3.SQLITE_READONLY, StorageError, False),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageError, False),
        (sqlite3.SQLITE_CORRUPT, ContractError, None),
        (sqlite3.SQLITE_NOTADB, ContractError, None),
        (sqlite3.SQLITE_ERROR, ContractError, None),
        (sqlite3.SQLITE_SCHEMA, ContractError, None),
        (sqlite3.SQLITE_CONSTRAINT_TRIGGER, ContractError, None),
    ],
)
def test_what_sqlite_says_becomes_what_can_be_done_about_it(code, kind, full):
    error = sqlite3.OperationalError("text of SQLite")
    error.sqlite_errorcode = code
    ours = in_our_words(error, Path("/x/heldar.db"))
    assert type(ours) is kind
    assert str(ours).startswith("/x/heldar.db: ")
    assert "\n" not in str(ours)
    assert getattr(ours, "full", None) == full


def test_a_mistake_of_this_program_stays_one():
    assert in_our_words(sqlite3.ProgrammingError("Incorrect number of bindings"), Path("/x")) is None


def test_a_schema_that_changed_under_us_is_a_contract_error(database, kernel):
    async def act(store):
        kernel.execute("ALTER TABLE cameras RENAME COLUMN anr_enabled TO anr")
        with pytest.raises(ContractError, match="anr_enabled"):
            await store.look(now=NOW)

    with_store(database, act)


def test_a_reader_asks_again_while_the_database_is_busy(database, kernel):
    async def run():
        async with connect(database, "rw", 1.0) as connection:
            tries = []

            async def work(session):
                tries.append(1)
                if len(tries) < 3:
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
                    raise error
                return await session.number("SELECT count(*) FROM cameras")

            return await Reader(connection, database, 1.0).read(work), len(tries)

    assert asyncio.run(run()) == (1, 3)
