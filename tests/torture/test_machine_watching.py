"""The kernel's file watches run out, overflow or die: the sweep and the re-armed watch find what they did not tell."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess

import pytest

from anr_watch.camera.core import CameraSpec
from tests.torture.machine import NO_BROKER, QUICK, over, said, short_outage, stopped
from tests.world import PROGRAM, World, until

SETTINGS = QUICK.replace("[fills]\n", "[fills]\nsweep_s = 2\n") + NO_BROKER
QUEUE = 16_384  # fs.inotify.max_queued_events


def _may_limit() -> bool:
    done = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", "echo 9 > /proc/sys/user/max_inotify_watches"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.skipif(not _may_limit(), reason="limits of its own need the right to make a user namespace")
@pytest.mark.parametrize("limit", ["watches", "instances"])
def test_the_systems_watches_are_used_up(tmp_path, tally, limit):
    """In a user namespace whose limit is 0: said once, with the sysctl that helps, and the sweep does the work."""

    async def run():
        async with World(tmp_path, settings=SETTINGS) as world:
            program = tmp_path / "limited"
            program.write_text(
                f'#!/bin/sh\nexec unshare -U -r sh -c \'echo 0 > /proc/sys/user/max_inotify_{limit}; exec "$0" "$@"\''
                f' "{PROGRAM}" "$@"\n'
            )
            program.chmod(0o755)
            async with world.daemon(program=program) as daemon:
                await said(daemon, "inotify limit is used up")
                tally.faults += 1
                short_outage(world)
                await world.settled()
                complaints = [line for line in daemon.lines if "inotify limit" in line]
                assert 1 <= len(complaints) <= 2, daemon.log  # one per watched folder
                assert f"fs.inotify.max_user_{limit}" in complaints[0]
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    asyncio.run(run())


def test_the_event_queue_overflows(tmp_path, tally, rounds):
    """The daemon stands still while more happens than the kernel keeps; the gap was among what was thrown away."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, CameraSpec(name="gate"), settings=SETTINGS.replace("= 2\n", "= 20\n")) as world:
            async with world.daemon() as daemon:
                busy = world.recordings / "other"
                busy.mkdir()
                beside = world.database.parent / "beside"
                await said(daemon, "ready")
                os.kill(daemon.process.pid, signal.SIGSTOP)
                try:
                    for number in range(QUEUE // 2 + chance.randrange(500)):  # two or three events each
                        (busy / f"{number}").touch()
                        beside.touch()
                        beside.unlink()
                    short_outage(world)
                finally:
                    os.kill(daemon.process.pid, signal.SIGCONT)
                tally.faults += 1
                await world.settled()
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    for seed in rounds(short=1, share=0.02):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def test_the_watched_folders_are_taken_away_again_and_again(tmp_path, tally, rounds):
    """Recordings and the database's folder are renamed away, come back, are made anew, in any order."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        async with World(folder, settings=SETTINGS.replace("sweep_s = 2", "sweep_s = 30")) as world:
            async with world.daemon() as daemon:
                for _ in range(chance.randrange(2, 6) if rounds.long else 2):
                    away = folder / "away"
                    world.recordings.rename(away)
                    if chance.random() < 0.5:
                        world.recordings.mkdir()
                        await asyncio.sleep(chance.uniform(0, 3) if rounds.long else 0.2)
                        await until(lambda: _gone(world), "the new folder is taken away again")
                    away.rename(world.recordings)
                    tally.faults += 1
                short_outage(world)
                await world.settled()
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    for seed in rounds(short=1, share=0.03):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def _gone(world: World) -> bool:
    for path in (world.recordings / ".anr-watch" / "lock", world.recordings / ".anr-watch"):
        with contextlib.suppress(OSError):
            path.unlink() if path.name == "lock" else path.rmdir()
    with contextlib.suppress(OSError):
        world.recordings.rmdir()
    return not world.recordings.exists()
