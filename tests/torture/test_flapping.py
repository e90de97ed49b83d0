"""A camera that comes and goes, and one that says 453, for minutes: no attempt is burned and no storm is raised.

The camera counts: at most one connection per back-off step, whatever MQTT, the kernel's status and new gap rows say.
"""

import asyncio
import random
from dataclasses import replace

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from anr_watch.camera.listener import Drop
from anr_watch.flapping import HOLDS_S
from anr_watch.states import POLICY, Reason
from tests.broker import Broker, Observer
from tests.world import World, until

# 10 to 25 s each; the long form flaps for three minutes and then waits for the longest hold.
pytestmark = pytest.mark.timeout(480)


def settings(port: int) -> str:
    return (
        "[fills]\nsettle_s = 1.0\nstall_timeout_s = 2.0\n[replay]\nmargin_s = 2.0\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\n'
        '[[mqtt.presence]]\nname = "cameras"\ntopic = "cameras/{camera}/status"\n'
    )


def steps(within_s: float, reason: Reason) -> int:
    """How many back-off steps begin within so many seconds of the first failure."""
    count, at_s = 1, 0.0
    while (at_s := at_s + POLICY[reason].delay_s(count)) < within_s:
        count += 1
    return count


def connections(world: World) -> int:
    """What the camera took, and what it could not take because it was away."""
    taken = [entry for entry in world.cameras["gate"].journal.of_kind("accept") if entry.detail["server"] == "rtsp"]
    return len(taken) + sum(row["reason"] == "unreachable" for row in world.attempts())


async def say(world: World, seen: Observer, word: str) -> None:
    """MQTT and the kernel's status, as both do it."""
    await seen.publish("cameras/gate/status", word)
    world.kernel.set_status("gate", "recording" if word == "online" else "offline")


async def flap(world: World, seen: Observer, dice: random.Random, *, period_s: float, for_s: float, tally) -> None:
    """Let the camera come and go and everybody say so; the kernel notes a new gap each time."""
    camera, loop = world.cameras["gate"], asyncio.get_running_loop()
    end = loop.time() + for_s
    while loop.time() < end:
        await camera.go_offline(dice.choice([Drop.CLOSE, Drop.RST]))
        await asyncio.sleep(0.1)  # the replay breaks off before anybody has said anything
        await say(world, seen, "offline")
        tally.faults += 1
        world.kernel.add_gap("gate", world.at(world.elapsed_s() - 0.4), world.at(world.elapsed_s()))
        await asyncio.sleep(period_s / 2 - 0.1)
        await camera.go_online()
        await say(world, seen, "online")
        await asyncio.sleep(period_s / 2)


def test_a_camera_that_flaps(tmp_path, tally, rounds):
    """On and off once a second for 9 s (long: every 3 s for minutes), playing so slowly that no try gets anywhere."""

    async def run(folder, seed):
        dice = random.Random(seed)
        period_s, for_s = (3.0, 180.0) if rounds.long else (1.0, 9.0)
        spec = CameraSpec(name="gate", film=FilmSpec(), replay_speed=1.0)
        folder.mkdir()
        with Broker(folder) as broker:
            async with World(folder, spec, settings=settings(broker.port)) as world:
                world.outage(lost_s=(-64.3, -60.7))
                world.kernel.set_status("gate", "recording")
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon() as daemon:
                    await world.cameras["gate"].wait_for("first_byte", 20)
                    await flap(world, seen, dice, period_s=period_s, for_s=for_s, tally=tally)
                    # One step is ended early by the first word of each source, one by each word that held.
                    most = steps(for_s, Reason.UNREACHABLE) + 2
                    assert connections(world) <= most, (
                        connections(world),
                        most,
                        [(r["reason"], str(r["ended_at"])[14:22], r["got_s"]) for r in world.attempts()],
                        [e.utc.isoformat()[14:22] for e in world.cameras["gate"].journal.of_kind("accept")],
                    )
                    rows = [row for row in world.kernel.gaps("gate") if row["fill_state"] != "filled"]
                    burned = [row["id"] for row in rows if row["fill_attempts"]]
                    assert not burned, [row for row in world.attempts() if row["gap_id"] in burned] + [daemon.log]
                    assert "failed" not in world.states()
                    world.cameras["gate"].core.spec = replace(spec, replay_speed=0.0)
                    back_s = HOLDS_S[-1] + 20.0
                    lost = [row["id"] for row in world.kernel.gaps("gate")][:1]
                    await until(
                        lambda: {r["fill_state"] for r in world.kernel.gaps("gate") if r["id"] in lost} == {"filled"},
                        lambda: (world.kernel.gaps("gate")[:2], daemon.log),
                        deadline_s=back_s,
                    )
                proof = world.prove(start_s=-66.0, end_s=-58.0)
                tally.frames_missing += proof.missing_frames
                tally.frames_double += proof.double

    for seed in rounds(short=1, share=0.1):
        asyncio.run(run(tmp_path / str(seed), seed))


def test_a_camera_that_is_busy(tmp_path, tally, rounds):
    """453, while every source says again and again that the camera is back."""

    async def run():
        for_s = 100.0 if rounds.long else 4.0
        with Broker(tmp_path) as broker:
            async with World(tmp_path, CameraSpec(name="gate"), settings=settings(broker.port)) as world:
                world.outage()
                world.cameras["gate"].faults.describe_status = 453
                tally.faults += 1
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon() as daemon:
                    await until(lambda: connections(world) >= 1, "the first try")
                    end = asyncio.get_running_loop().time() + for_s
                    while asyncio.get_running_loop().time() < end:
                        for word in ("offline", "online"):
                            await say(world, seen, word)
                            await asyncio.sleep(0.1)
                    assert connections(world) <= steps(for_s, Reason.BUSY), daemon.log
                    assert all(row["fill_attempts"] == 0 for row in world.kernel.gaps("gate"))
                    world.cameras["gate"].faults.clear()
                    await seen.publish("anr-watch/test/cmd/retry", '{"camera": "gate"}')  # a person does not wait
                    await world.settled()
                proof = world.prove()
                tally.frames_missing += proof.missing_frames
                tally.frames_double += proof.double

    asyncio.run(run())
