"""Full, read-only and missing disks, for the recordings and for the database: fills wait, tell, and go on by themselves."""

import asyncio
import random

from anr_watch.camera.core import CameraSpec
from tests.torture.machine import (
    NO_BROKER,
    QUICK,
    disk,
    held,
    needs_mount,
    over,
    plain,
    said,
    short_outage,
    stopped,
)
from tests.world import World, until

SETTINGS = QUICK + NO_BROKER
SLOW = CameraSpec(name="gate", replay_speed=16)


async def tells(world: World, word: str | None) -> None:
    """Wait until the camera's state says why nothing is filled (None: nothing is in the way)."""
    done = (lambda: word in (held(world) or "")) if word else (lambda: held(world) is None)
    await until(done, lambda: (word, held(world)))


@needs_mount
def test_the_recordings_disk_is_full_then_read_only(tmp_path, tally, rounds):
    """Full before, full in the middle of staging, read-only in the middle; after each it goes on within seconds."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        with disk(folder / "recordings", "24m") as small:
            async with World(folder, SLOW, settings=SETTINGS) as world:
                short_outage(world)
                ballast = small.fill()
                async with world.daemon() as daemon:
                    await said(daemon, "reason=disk_full")
                    await tells(world, "disk_full")
                    assert world.kernel.gaps("gate")[0]["fill_attempts"] == 0
                    ballast.unlink()
                    await said(daemon, "fills go on", deadline_s=8)
                    await until(
                        lambda: any(a["bytes"] for a in world.attempts()) or world.states() == {"filled"}, "it"
                    )
                    tally.faults += 1

                    await asyncio.sleep(chance.uniform(0, 0.5) if rounds.long else 0)
                    marker = len(daemon.lines)
                    ballast = small.fill(leave=chance.choice([0, 4096, 70_000]))
                    await until(
                        lambda: (
                            any("disk_full" in line for line in daemon.lines[marker:]) or world.states() == {"filled"}
                        ),
                        lambda: daemon.log,
                    )
                    ballast.unlink()
                    await world.settled()
                    tally.faults += 1

                    world.record("gate", -30, -25)
                    world.record("gate", -10, -5)
                    marker = len(daemon.lines)
                    world.note_hole("gate")
                    await said(daemon, "fill started", since=marker)
                    small.read_only()
                    try:
                        await said(daemon, "reason=storage", since=marker)
                        await tells(world, "storage")
                    finally:
                        small.writable()
                    tally.faults += 1
                    await world.settled()
                    await tells(world, None)
                    tally.orphans += len(await stopped(daemon))
                over(world, tally, daemon.log)
                over(world, tally, kept=(-30, -5))

    for seed in rounds(short=1, share=0.06):
        asyncio.run(one_day(tmp_path / str(seed), seed))


@needs_mount
def test_the_databases_disk_is_full(tmp_path, tally, rounds):
    """A result that the database does not take is kept and written later; a start with a full disk waits."""

    async def one_day(folder):
        with disk(folder / "data", "8m") as small:
            async with World(
                folder, SLOW, settings=SETTINGS.replace("[fills]", "[fills]\nstop_grace_s = 1")
            ) as world:
                short_outage(world)
                async with world.daemon() as daemon:
                    await said(daemon, "fill started")
                    ballast = small.fill()
                    await said(daemon, "no room on the database's disk")
                    tally.faults += 1
                    ballast.unlink()
                    await world.settled()
                    world.record("gate", -30, -25)
                    world.record("gate", -10, -5)
                    ballast = small.fill()
                    family = await stopped(daemon)  # also with a full database the stop is in order
                    tally.orphans += len(family)
                async with world.daemon(ready=False) as again:
                    await until(
                        lambda: again.said_ready or "no room" in again.log or again.process.returncode is not None,
                        lambda: again.log,
                    )
                    assert again.process.returncode is None, again.log
                    ballast.unlink()
                    await again.ready()
                    world.note_hole("gate")
                    await world.settled()
                    tally.faults += 1
                    tally.orphans += len(await stopped(again))
                over(world, tally, daemon.log, again.log)
                over(world, tally, kept=(-30, -5))

    for seed in rounds(short=1, share=0.03):
        asyncio.run(one_day(tmp_path / str(seed)))


@needs_mount
def test_the_recordings_disk_comes_and_goes(tmp_path, tally, rounds):
    """Not there at the start, mounted, unplugged in a fill, plugged in, started unplugged: never on the other disk."""

    async def one_day(folder):
        mount_point = folder / "usb"
        async with World(folder, SLOW, settings=SETTINGS) as world:
            world.recordings.rmdir()
            world.recordings = mount_point / "recordings"
            world.write_config()
            async with world.daemon() as daemon:
                await said(daemon, f"the recordings folder {world.recordings} is missing")
                await tells(world, "is missing")
                assert not mount_point.exists()
                tally.faults += 1
                with disk(mount_point) as usb:
                    world.recordings.mkdir()
                    await said(daemon, "fills go on")
                    short_outage(world)
                    await said(daemon, "fill started")
                    await until(lambda: world.attempts() and world.attempts()[0]["files"] >= 1, lambda: daemon.log)
                    usb.unplug()
                    await tells(world, "is missing")
                    assert not list(mount_point.iterdir())
                    tally.faults += 1
                    usb.plug()
                    await world.settled()
                    await tells(world, None)
                    tally.orphans += len(await stopped(daemon))
                    over(world, tally, daemon.log)

                    # The mount point itself as recordings folder: it is there without its disk, and empty.
                    for path in [*world.recordings.iterdir()]:
                        path.rename(mount_point / path.name)
                    world.recordings.rmdir()
                    world.recordings = mount_point
                    world.kernel.execute("UPDATE segments SET path = replace(path, '/usb/recordings/', '/usb/')")
                    world.write_config()
                    async with world.daemon() as second:
                        tally.orphans += len(await stopped(second))
                    usb.unplug()
                    world.kernel.add_gap("gate", world.at(-65), world.at(-55))
                    async with world.daemon() as third:
                        await said(third, "is it not mounted?")
                        status, out, _ = await world.command("status")
                        assert (status, "is it not mounted?" in out) == (0, True), out
                        assert not list(mount_point.iterdir())
                        usb.plug()
                        await said(third, "fills go on")
                        await world.settled()
                        tally.faults += 1
                        tally.orphans += len(await stopped(third))
                    over(world, tally, second.log, third.log)

    for seed in rounds(short=1, share=0.04):
        asyncio.run(one_day(tmp_path / str(seed)))


def test_the_recordings_folder_is_removed_and_made_again(tmp_path, tally, rounds):
    """The lock and the watch follow the folder: fills go on in the new one, and a second daemon stays out."""

    async def one_day(folder):
        async with World(folder, settings=SETTINGS) as world:
            async with world.daemon() as daemon:
                away = folder / "away"
                world.recordings.rename(away)
                world.recordings.mkdir()
                short_outage(world)
                await world.settled()
                tally.faults += 1
                other = world.config.with_name("other.toml")
                other.write_text(world.config.read_text().replace("heldar.db", "other.db"))
                world.config, first = other, world.config
                status, _, err = await world.command("run")
                world.config = first
                assert (status, "is in use by another anr-watch" in err) == (1, True), err
                plain(err)
                tally.orphans += len(await stopped(daemon))
            over(world, tally, daemon.log)

    for seed in rounds(short=1, share=0.02):
        asyncio.run(one_day(tmp_path / str(seed)))
