"""A database that is locked, for a while and for ever, replaced, restored from a backup, deleted, corrupt."""

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path

import pytest

from anr_watch.camera.core import CameraSpec
from tests.fixtures_database import kernel_process
from tests.torture.machine import NO_BROKER, QUICK, over, plain, said, short_outage, stopped
from tests.world import World, until

SETTINGS = QUICK.replace("[fills]\n", "[fills]\nstop_grace_s = 1\n") + NO_BROKER
SLOW = CameraSpec(name="gate", replay_speed=16)


def impatient(world: World) -> None:
    """Give up waiting for a lock after half a second instead of 15."""
    text = world.config.read_text().replace("[database]\n", "[database]\nbusy_timeout_s = 0.5\n")
    world.config.write_text(text)


@contextlib.contextmanager
def locked(database: Path):
    """Hold the write lock from another connection."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def backup(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


def reopened(world: World) -> None:
    """Let the recorder, too, write into the file that stands at the path now."""
    world.kernel = world._stack.enter_context(kernel_process(world.database))


def test_the_database_is_locked_in_the_middle_of_a_fill_and_for_ever(tmp_path, tally, rounds):
    """What is on disk gets its row when the lock goes; a stop under a lock that stays is in order and bounded."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, SLOW, settings=SETTINGS) as world:
            impatient(world)
            short_outage(world)
            async with world.daemon() as daemon:
                await said(daemon, "fill started")
                await asyncio.sleep(chance.uniform(0, 1) if rounds.long else 0)
                with locked(world.database):
                    tally.faults += 1
                    await until(
                        lambda: "locked by another program" in daemon.log or len(world.files("gate")) > 3,
                        lambda: daemon.log,
                    )
                    await asyncio.sleep(30 if rounds.long else 1.5)
                await world.settled()
                world.record("gate", -30, -25)
                world.record("gate", -10, -5)
                gap = world.note_hole("gate")
                await said(daemon, gap)
                with locked(world.database):
                    tally.faults += 1
                    began = asyncio.get_running_loop().time()
                    left = await stopped(daemon)
                    assert asyncio.get_running_loop().time() - began < 15, daemon.log
                    tally.orphans += len(left)
            async with world.daemon() as again:
                await world.settled()
                tally.orphans += len(await stopped(again))
            over(world, tally, daemon.log, again.log)
            over(world, tally, kept=(-30, -5))

    for seed in rounds(short=1, share=0.06):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def test_the_database_is_replaced_restored_and_deleted(tmp_path, tally, rounds):
    """An older backup knows less than the disk: what was filled since is found there, not fetched and not doubled."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, SLOW, settings=SETTINGS) as world:
            impatient(world)
            short_outage(world)
            old, older = folder / "backup.db", folder / "again.db"
            backup(world.database, old)
            async with world.daemon() as daemon:
                await world.settled()
                files = world.files("gate")

                ways = ["rename", "delete", "into"]
                chance.shuffle(ways)
                for way in ways:
                    marker = len(daemon.lines)
                    if way == "into":  # by SQLite itself, under the open connections
                        backup(old, world.database)
                    else:
                        if way == "delete":
                            for path in world.database.parent.glob("heldar.db*"):
                                if not path.name.endswith(".lock"):
                                    path.unlink()
                            await said(daemon, "is not there yet", since=marker)
                        backup(old, older)
                        with contextlib.closing(sqlite3.connect(older)) as made:
                            made.execute("PRAGMA journal_mode = wal")
                        for side in ("-wal", "-shm"):
                            world.database.with_name(world.database.name + side).unlink(missing_ok=True)
                        older.rename(world.database)
                    reopened(world)
                    tally.faults += 1
                    await until(lambda: world.states() == {"filled"}, lambda w=way: f"after {w}:\n{daemon.log}")
                    assert world.kernel.execute("SELECT count(*) FROM segments") > [[2]]
                assert world.files("gate") == files, f"footage that lies on the disk was fetched again:\n{daemon.log}"
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    for seed in rounds(short=1, share=0.05):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def test_pages_of_the_database_are_overwritten_while_it_runs(tmp_path, tally, rounds):
    """One clear line and exit status 1, for a supervisor to restart; with a sound database the next start goes on."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, SLOW, settings=SETTINGS) as world:
            impatient(world)
            short_outage(world)
            sound = folder / "sound.db"
            async with world.daemon() as daemon:
                await said(daemon, "fill started")
                backup(world.database, sound)
                with contextlib.closing(sqlite3.connect(world.database, timeout=10)) as other:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                with world.database.open("r+b", buffering=0) as file:
                    for page in range(1, world.database.stat().st_size // 4096):
                        file.seek(page * 4096)
                        file.write(chance.randbytes(64))
                tally.faults += 1
                with contextlib.suppress(sqlite3.Error):
                    world.kernel.execute("UPDATE cameras SET enabled = 1")
                status = await asyncio.wait_for(daemon.process.wait(), 25)
            assert status == 1, (status, daemon.log)
            last = daemon.lines[-1]
            assert last.startswith("anr-watch: "), daemon.log
            assert "corrupt" in last or "not an SQLite database" in last, daemon.log
            plain(daemon.log)
            for side in ("-wal", "-shm"):
                world.database.with_name(world.database.name + side).unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(sound)) as made:
                made.execute("PRAGMA journal_mode = wal")
            sound.rename(world.database)
            reopened(world)
            async with world.daemon() as again:
                await world.settled()
                tally.orphans += len(await stopped(again))
            over(world, tally, again.log)

    for seed in rounds(short=1, share=0.03):
        asyncio.run(one_day(tmp_path / str(seed), seed))


@pytest.mark.parametrize("together", [200])
def test_writers_that_get_in_between_reading_and_writing(tmp_path, tally, together):
    """SQLITE_BUSY_SNAPSHOT is met by doing the transaction again: no row of ours or theirs is lost."""

    async def run():
        async with World(tmp_path, SLOW, settings=SETTINGS) as world:
            short_outage(world)
            async with world.daemon() as daemon:
                with contextlib.closing(sqlite3.connect(world.database, isolation_level=None, timeout=20)) as other:
                    for number in range(together):
                        other.execute("BEGIN")
                        other.execute("SELECT count(*) FROM recording_gaps").fetchall()
                        try:
                            other.execute("UPDATE cameras SET name = ?", [f"name {number}"])
                            other.execute("COMMIT")
                        except sqlite3.OperationalError:  # it is their snapshot that was stale
                            other.execute("ROLLBACK")
                        tally.faults += 1
                        await asyncio.sleep(0)
                await world.settled()
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    asyncio.run(run())
