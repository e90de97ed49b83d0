"""What the process meets: no file descriptors, a suspended machine, a worker without memory, thousands of gaps at the start."""

import asyncio
import contextlib
import os
import random
import resource
import signal
from datetime import timedelta
from pathlib import Path

from anr_watch.camera.core import CameraSpec
from anr_watch.instants import parse_instant
from tests.torture.machine import (
    NO_BROKER,
    QUICK,
    children,
    open_files,
    over,
    plain,
    resident_mb,
    said,
    short_outage,
    stopped,
    workers_of,
)
from tests.world import World, until

SETTINGS = QUICK + NO_BROKER
SLOW = CameraSpec(name="gate", replay_speed=10)
PENDING = 3000


async def worker(daemon) -> int:
    """Return the worker that has a job: it stood by before, so it is the oldest."""
    return (await until(lambda: workers_of(daemon.process.pid), lambda: f"a worker: {daemon.log}"))[0]


def limit(pid: int, what: int, soft: int) -> tuple[int, int]:
    """Lower a process's limit from outside; return what it was."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    return before


def test_no_file_descriptors_then_suspended_then_a_worker_without_memory(tmp_path, tally, rounds):
    """One after the other on one daemon; each costs a try that does not count, or nothing."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, SLOW, settings=SETTINGS) as world:
            async with world.daemon() as daemon:
                pid = daemon.process.pid
                await said(daemon, "presence")
                idle = await until(lambda: open_files(pid), "files")
                before = limit(pid, resource.RLIMIT_NOFILE, idle + chance.choice([0, 1, 3]))
                short_outage(world)
                await until(lambda: "fill ended" in daemon.log or "could not go on" in daemon.log, lambda: daemon.log)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
                tally.faults += 1
                await world.settled()
                assert world.kernel.gaps("gate")[0]["fill_attempts"] <= 1
                await until(lambda: len(workers_of(pid)) <= 1, "the workers' end, but for the one that stands by")
                # A connection to the broker may be under way: one more for a moment.
                await until(lambda: open_files(pid) <= idle + 1, lambda: f"{open_files(pid)} open, {idle} at rest")

                # Suspended in the middle of a fill: the camera goes on, or gives up, meanwhile.
                world.record("gate", -30, -25)
                world.record("gate", -10, -5)
                world.note_hole("gate")
                listening = await worker(daemon)
                await asyncio.sleep(chance.uniform(0, 1) if rounds.long else 0.2)
                tree = [pid, *children(pid)]
                for process in tree:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(2, 12) if rounds.long else 3)
                for process in reversed(tree):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGCONT)
                tally.faults += 1
                await world.settled()
                assert not Path(f"/proc/{listening}").exists() or listening not in children(pid)

                # The worker's memory ends: it alone dies, is told of, and the gap is tried again.
                world.record("gate", -100, -95)
                hole = world.note_hole("gate")
                listening = await worker(daemon)
                for what in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
                    resource.prlimit(listening, what, (1 << 20, 1 << 20))
                tally.faults += 1
                # Of this gap: what the suspension broke off may still be settled at the same time.
                ended = await until(
                    lambda: next((line for line in daemon.lines if "fill ended" in line and hole in line), None),
                    lambda: daemon.log,
                )
                assert daemon.process.returncode is None
                if "reason=filled" not in ended:
                    status, _, err = await world.command("retry", "--camera", "gate")
                    assert status == 0, err
                await world.settled()
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log, kept=(-100, -40))
            over(world, tally, kept=(-30, -5))

    for seed in rounds(short=1, share=0.05):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def test_three_thousand_pending_gaps_at_the_start(tmp_path, tally):
    """Ready as fast as with none, newest first, camera by camera in turn, in bounded memory; a stop ends it at once."""
    names = ("gate", "yard", "dock")

    async def run():
        specs = [CameraSpec(name=name, replay_speed=0) for name in names]
        async with World(tmp_path, *specs, settings=SETTINGS) as world:
            rows = []
            for number in range(PENDING):
                start = world.at(-80_000 + 20 * (number // len(names)))
                rows.append((f"gap_{number:05}", names[number % len(names)], start, start + timedelta(seconds=3)))
            for first in range(0, PENDING, 500):
                values = [
                    value
                    for gap, name, start, end in rows[first : first + 500]
                    for value in (gap, name, start.isoformat(), end.isoformat(), 3, start.isoformat())
                ]
                marks = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows[first : first + 500]))
                world.kernel.execute(
                    "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, created_at) VALUES "
                    + marks,
                    values,
                )
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with world.daemon() as daemon:
                ready_s = loop.time() - began_s
                await said(daemon, "fill ended")
                first_s = loop.time() - began_s
                await until(
                    lambda: (
                        world.kernel.execute("SELECT count(*) FROM anr_attempts WHERE ended_at IS NOT NULL") >= [[9]]
                    ),
                    "some fills",
                )
                memory_mb = resident_mb(daemon.process.pid)
                tally.orphans += len(await stopped(daemon))
            print(f"ready after {ready_s:.2f} s, first fill ended after {first_s:.2f} s, {memory_mb:.0f} MB")
            tally.faults += 1
            assert memory_mb < 70
            order = world.kernel.execute(
                "SELECT camera_id, window_start FROM anr_attempts ORDER BY started_at, rowid LIMIT 9"
            )
            for name in names:
                starts = [parse_instant(start) for camera, start in order if camera == name]
                assert len(starts) == 3, order
                assert starts == sorted(starts, reverse=True), order
            left = world.kernel.execute("SELECT count(*) FROM recording_gaps WHERE fill_state = 'pending'")[0][0]
            filled = world.kernel.execute("SELECT count(*) FROM recording_gaps WHERE fill_state = 'filled'")[0][0]
            # The stop may have ended a fill of each device: what that had recovered becomes a row of its own.
            assert PENDING <= left + filled <= PENDING + len(names)
            plain(daemon.log)

    asyncio.run(run())
