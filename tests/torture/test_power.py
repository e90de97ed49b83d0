"""The power fails after any call of a fill: what the disk holds then never lies, and the next start heals it.

One run is written down call by call. A power loss is simulated behind each call: the files hold what was synced, and
more or less of the rest; the database's log is cut anywhere, as it may be with synchronous=NORMAL. Filled rows must have
their whole files at once; then the program opens the state and must end with every picture once.
"""

import asyncio
import contextlib
import json
import random
import shutil
import sqlite3
import sys
from pathlib import Path

from anr_watch.clock import SystemClock
from anr_watch.config.loading import load
from anr_watch.daemon import open_engine
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.replay.process import Workers
from tests.torture import aftermath
from tests.torture.powerless import Disk, Loss, lay_out
from tests.torture.tally import Rounds, Tally
from tests.torture.test_kills import camera
from tests.world import World, until

SCRIPT = Path(__file__).with_name("traced.py")
SETTINGS = "[fills]\nsettle_s = 0.2\n[replay]\nmargin_s = 4\n"
HOLES = {"cam1": [(-60.3, -49.0)], "cam2": [(-58.7, -52.0)]}
SPAN_S = (-70.0, -38.0)


class Run:
    """One run of the program, its calls, and the database's log as it stood when it was killed."""

    def __init__(self, world: World) -> None:
        self.world, self.trace = world, world.folder / "trace"
        self.base, self.wal = world.folder / "base.db", b""
        self.before, self.calls = world.folder / "before", []

    async def record(self) -> None:
        world = self.world
        world.kernel.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what the kernel had is on disk
        shutil.copytree(world.recordings, self.before)
        self.disk = Disk(world.recordings)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            "daemon",
            *(str(path) for path in (self.trace, world.recordings, world.database)),
            *("--config", str(world.config), "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            for name in world.cameras:
                await until(lambda name=name: world.states(name) == {"filled"}, world.attempts)
            await until(lambda: not list((world.recordings / ".anr-watch").glob("gap*")), "an empty staging folder")
        finally:
            process.kill()
            await process.communicate()
        # Files of the database are not opened where a connection of this process is: that would drop its locks.
        self.wal = Path(f"{world.database}-wal").read_bytes()
        shutil.copyfile(world.database, self.base)
        self.calls = [json.loads(line) for line in self.trace.read_text().splitlines()]
        lengths = [call["wal"] for call in self.calls]
        assert lengths == sorted(lengths), (
            "the log was folded into the database in between: cutting it proves nothing"
        )

    def put_database(self, wal_bytes: int) -> None:
        """Put the database back with its log cut off; nobody has it open."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.world.database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.base, self.world.database)
        if wal_bytes:
            Path(f"{self.world.database}-wal").write_bytes(self.wal[:wal_bytes])

    def rows_of_ours(self, wal_bytes: int) -> list[tuple[str, int]]:
        """Return path and size of every row a fill wrote, as a database cut there says."""
        self.put_database(wal_bytes)
        with contextlib.closing(sqlite3.connect(self.world.database)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'anr_segments'").fetchall():
                return []
            return database.execute(
                "SELECT s.path, s.size_bytes FROM segments AS s JOIN anr_segments AS o ON o.path = s.path"
            ).fetchall()


def lies(run: Run, tally: Tally) -> list[str]:
    """Look behind every call at what every database that may be found says of files of ours."""
    disk, chance = run.disk, random.Random(0)
    world = run.world
    said = {length: run.rows_of_ours(length) for length in {0, len(run.wal), *(call["wal"] for call in run.calls)}}
    assert len(said[len(run.wal)]) >= 2 * len(world.cameras), "the run wrote too little to lose"
    faults = []
    for number, call in enumerate(run.calls):
        disk.apply(call)
        found = disk.after_power_loss(chance, Loss.ALL)
        tally.cases += 1
        for path, size in said[call["wal"]]:
            content = found.get(str(Path(path).relative_to(world.recordings)))
            if content is None or len(content) != size:
                faults.append(
                    f"behind call {number} ({call['op']}) {path} is {content and len(content)}, not {size} bytes"
                )
    return faults


def states(run: Run, chance: random.Random):
    """Yield states of disk and log that may be found, in no order."""
    shutil.rmtree(run.world.recordings)
    shutil.copytree(run.before, run.world.recordings)
    at = sorted(chance.sample(range(len(run.calls)), k=min(3, len(run.calls))))
    disk = Disk(run.world.recordings)
    for number, call in enumerate(run.calls):
        disk.apply(call)
        if number in at:
            loss = chance.choice(list(Loss))
            yield (
                number,
                loss,
                disk.after_power_loss(chance, loss),
                chance.choice([call["wal"], chance.randrange(call["wal"] + 1)]),
            )


async def heal(run: Run, workers: Workers, found: dict, wal_bytes: int, tally: Tally) -> list[str]:
    """Open a state as the daemon does and look what becomes of it."""
    world = run.world
    shutil.rmtree(world.recordings)
    lay_out(found, world.recordings)
    run.put_database(wal_bytes)
    settings, clock = load(world.config, {}), SystemClock()
    recordings = Recordings(world.recordings, NamePattern(settings.recordings.name_pattern), clock)

    def pending() -> int:
        with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
            return database.execute("SELECT count(*) FROM recording_gaps WHERE fill_state <> 'filled'").fetchone()[0]

    with recordings.lock():
        recordings.empty_staging()
        async with open_engine(settings, clock, recordings, workers):
            await until(lambda: not pending(), "filled gaps")
            await until(lambda: not list((world.recordings / ".anr-watch").glob("gap*")), "an empty staging folder")
    tally.faults += 1
    faults = aftermath.count_frames_of(world, tally)
    faults += aftermath.rows_against_files(world)
    faults += aftermath.gaps_against_files(world, tally)
    return faults + aftermath.left_in_folders(world, tally)


def test_the_power_fails_behind_any_call_of_a_fill(tmp_path: Path, tally: Tally, rounds: Rounds):
    async def run():
        specs = [camera(number) for number in (1, 2)]
        async with World(tmp_path, *specs, settings=SETTINGS) as world:
            for name, holes in HOLES.items():
                aftermath.outages(world, name, holes=holes, span_s=SPAN_S, segment_s=4)
            run = Run(world)
            await run.record()
            world.kernel.close()  # nobody else has the database from here on
            faults = lies(run, tally)
            assert not faults, "\n".join(faults)
            async with Workers() as workers:
                await workers.start()
                for seed in rounds(short=2, share=0.08):
                    chance = random.Random(seed)
                    for number, loss, found, wal_bytes in states(run, chance):
                        faults = await heal(run, workers, found, wal_bytes, tally)
                        what = f"seed {seed}: behind call {number} of {len(run.calls)}, lost {loss}, log of {wal_bytes} bytes"
                        assert not faults, f"{what}\n" + "\n".join(faults)

    asyncio.run(run())


def test_the_model_loses_what_was_not_synced(tmp_path: Path):
    (tmp_path / "cam").mkdir()
    (tmp_path / "cam" / "old.mp4").write_bytes(b"old")
    disk, chance = Disk(tmp_path), random.Random(1)

    def after(loss: Loss) -> dict:
        return disk.after_power_loss(chance, loss)

    write = {"op": "write", "node": 7, "data": "bmV3"}
    for call in ({"op": "create", "path": "new.part", "node": 7, "cut": False}, write):
        disk.apply(call)
    assert after(Loss.ALL) == {"cam": None, "cam/old.mp4": b"old"}
    assert after(Loss.CONTENT) == {"cam": None, "cam/old.mp4": b"old", "new.part": b"\0\0\0"}
    disk.apply({"op": "link", "paths": ["new.part", "cam/new.mp4"]})
    disk.apply({"op": "sync_folder", "path": "cam", "node": 1})
    assert after(Loss.ALL) == {"cam": None, "cam/old.mp4": b"old", "cam/new.mp4": b""}, "a name without its content"
    disk.apply({"op": "sync", "node": 7, "path": "cam/new.mp4"})
    disk.apply({"op": "unlink", "paths": ["cam/old.mp4"]})
    assert after(Loss.ALL) == {"cam": None, "cam/old.mp4": b"old", "cam/new.mp4": b"new"}
    assert "cam/old.mp4" not in after(Loss.CONTENT)
    disk.apply(write)
    assert {after(Loss.SOME)["cam/new.mp4"][:3] for _ in range(20)} == {b"new"}
