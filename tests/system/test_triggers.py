"""Each kind of event starts a fill, alone and all together, without double work."""

import asyncio
import json

import pytest

from anr_watch.camera.core import CameraSpec
from tests.broker import Broker, Observer
from tests.world import World, until

ONLY_DATABASE = "[fills]\nsweep_s = 0\n[watch]\nrecordings = false"
ONLY_RECORDINGS = "[fills]\nsweep_s = 0\n[watch]\ndatabase = false"
ONLY_SWEEP = "[fills]\nsweep_s = 0.5\n[watch]\ndatabase = false\nrecordings = false"
ONLY_WATCHES = "[fills]\nsweep_s = 0"


def mqtt_only(port: int) -> str:
    return f"[fills]\nsweep_s = 0\n[watch]\ndatabase = false\nrecordings = false\n{mqtt(port)}"


def mqtt(port: int) -> str:
    return (
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\n'
        '[[mqtt.presence]]\nname = "cameras"\ntopic = "cameras/{camera}/status"\n'
    )


def plays(world: World, name: str = "gate") -> int:
    return sum(entry.kind == "play" for entry in world.cameras[name].journal.entries)


def complete(world: World, **window: float) -> None:
    proof = world.prove(**window)
    assert proof.complete, proof


@pytest.mark.parametrize("settings", [ONLY_DATABASE, ONLY_SWEEP], ids=["wal", "sweep"])
def test_a_gap_row_committed_by_another_process(tmp_path, settings):
    async def run():
        async with World(tmp_path, settings=settings) as world:
            world.outage(gap=False)
            async with world.daemon():
                start, end = world.at(-90.3), world.at(-60.7)
                world.kernel.add_gap("gate", start, end)
                await world.settled()
            complete(world)
            assert plays(world) == 1

    asyncio.run(run())


def test_anr_switched_on(tmp_path):
    async def run():
        async with World(tmp_path, settings=ONLY_DATABASE) as world:
            world.kernel.execute("UPDATE cameras SET anr_enabled = 0")
            world.outage()
            async with world.daemon():
                world.kernel.execute("UPDATE cameras SET anr_enabled = 1")
                await world.settled()
            complete(world)

    asyncio.run(run())


def test_a_failed_gap_reset_to_pending(tmp_path):
    async def run():
        async with World(tmp_path, settings=ONLY_DATABASE) as world:
            world.outage()
            world.kernel.execute("UPDATE recording_gaps SET fill_state = 'failed', fill_attempts = 3")
            async with world.daemon():
                assert world.states() == {"failed"}
                world.kernel.execute(
                    "UPDATE recording_gaps SET fill_state = 'pending', fill_attempts = 0, last_attempt_at = NULL"
                )
                await world.settled()
            complete(world)

    asyncio.run(run())


@pytest.mark.parametrize("settings", [ONLY_DATABASE, ONLY_SWEEP], ids=["wal", "sweep"])
def test_a_status_that_turns_to_recording_registers_the_hole(tmp_path, settings):
    """No gap row exists: the kernel writes one only when the first file after the outage is closed."""

    async def run():
        async with World(tmp_path, settings=settings) as world:
            world.record("gate", -60, -25)
            world.kernel.set_status("gate", "offline")
            async with world.daemon():
                world.kernel.set_status("gate", "recording")
                await until(lambda: world.kernel.gaps("gate"), "a gap row")
                await world.settled()
            complete(world, start_s=-59, end_s=-1)

    asyncio.run(run())


def test_the_first_file_of_a_silent_camera(tmp_path):
    async def run():
        async with World(tmp_path, settings=ONLY_RECORDINGS) as world:
            world.record("gate", -100, -60.4)
            async with world.daemon():
                world.record("gate", -20.4, -5, rows=False)
                await until(lambda: world.kernel.gaps("gate"), "a gap row")
                await world.settled()
            complete(world)
            assert plays(world) == 1

    asyncio.run(run())


def test_an_mqtt_message_that_the_camera_is_online(tmp_path):
    async def run():
        with Broker(tmp_path) as broker:
            async with World(tmp_path, settings=mqtt_only(broker.port)) as world:
                world.record("gate", -60, -25)
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon():
                    await seen.until(lambda all_: any(m.topic.endswith("/info") for m in all_))
                    await seen.publish("cameras/gate/status", "online")
                    await world.settled()
                    kinds = await seen.until(lambda all_: "fill.completed" in str([m.payload for m in all_]))
                complete(world, start_s=-59, end_s=-1)
                events = [json.loads(m.payload) for m in kinds if m.topic == "anr-watch/test/camera/gate/event"]
                names = [event["type"].removeprefix("io.anr-watch.").removesuffix(".v1") for event in events]
                assert names[:3] == ["camera.online", "gap.detected", "fill.started"]
                assert names[-1] == "fill.completed"
                assert len({event["id"] for event in events}) == len(events)
                states = [m for m in kinds if m.topic == "anr-watch/test/camera/gate/state"]
                assert json.loads(states[-1].payload)["pending_gaps"] == 0

    asyncio.run(run())


def test_a_retained_online_message_starts_nothing(tmp_path):
    async def run():
        with Broker(tmp_path) as broker:
            async with World(tmp_path, settings=mqtt_only(broker.port)) as world:
                world.record("gate", -60, -25)
                async with Observer(broker.port, "anr-watch/test/#") as seen:
                    await seen.publish("cameras/gate/status", "online", retain=True)
                    async with world.daemon():
                        states = await seen.until(
                            lambda all_: [
                                m for m in all_ if m.topic.endswith("gate/state") and b'"online"' in m.payload
                            ]
                        )
                        assert states
                        # A real edge afterwards is served: the retained one was read, and started nothing.
                        await seen.publish("cameras/gate/status", "offline")
                        await seen.publish("cameras/gate/status", "online")
                        await world.settled()
                events = [json.loads(m.payload) for m in seen.messages if m.topic.endswith("/event")]
                assert next(e["type"] for e in events) == "io.anr-watch.camera.offline.v1"

    asyncio.run(run())


def test_all_events_together_do_the_work_once(tmp_path):
    async def run():
        with Broker(tmp_path) as broker:
            settings = "[fills]\nsweep_s = 0.3\n" + mqtt(broker.port)
            async with World(tmp_path, settings=settings) as world:
                world.record("gate", -100, -60.4)
                world.kernel.set_status("gate", "offline")
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon():
                    await seen.until(lambda all_: any(m.topic.endswith("/info") for m in all_))
                    after = world.record("gate", -20.4, world.elapsed_s())
                    await seen.publish("cameras/gate/status", "online")
                    world.kernel.set_status("gate", "recording")
                    _start, end = world.gap_between(world.files("gate")[0], after[0], frames=0)
                    world.kernel.add_gap("gate", world.kernel.segments("gate")[3]["end_time"], end)
                    await world.settled()
                    await until(lambda: plays(world) >= 1, "a replay")
                complete(world)
                asked = [a for a in world.attempts() if a["got_s"] > 3]
                assert len(asked) == 1, world.attempts()

    asyncio.run(run())


def test_with_the_broker_down_everything_else_works(tmp_path):
    async def run():
        with Broker(tmp_path) as broker:
            port = broker.port
        async with World(tmp_path, settings=mqtt(port)) as world:
            world.outage()
            async with world.daemon() as daemon:
                await world.settled()
                await until(lambda: "MQTT broker" in daemon.log, "a word about the broker")
            complete(world)

    asyncio.run(run())


def test_the_end_of_a_registered_gap_follows_the_resumed_recording(tmp_path):
    async def run():
        with Broker(tmp_path) as broker:
            settings = "[fills]\nsweep_s = 0\n" + mqtt(broker.port)
            async with World(tmp_path, settings=settings) as world:
                world.record("gate", -60, -25)
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon():
                    await seen.until(lambda all_: any(m.topic.endswith("/info") for m in all_))
                    await seen.publish("cameras/gate/status", "online")
                    await world.settled()
                    edge = max(row["gap_end"] for row in world.kernel.gaps("gate"))
                    # The recorder needs some more seconds to connect; the camera goes on recording on its card.
                    await until(lambda: (world.at(0), world.frame("gate", 0))[1], "frames")
                    resumed_s = await _seconds_from_now(world, 4.0)
                    world.record("gate", resumed_s, resumed_s + 8, rows=False)
                    await until(lambda: max(row["gap_end"] for row in world.kernel.gaps("gate")) > edge, "gap's end")
                    await world.settled()
                complete(world, start_s=-59, end_s=resumed_s + 8)

    asyncio.run(run())


async def _seconds_from_now(world: World, seconds: float) -> float:
    """Let so many seconds of the camera's own recording pass, and return where the world's clock is then."""
    target = world.elapsed_s() + seconds
    await until(lambda: world.elapsed_s() > target + 2, "the camera to record on")
    return target


def test_cameras_are_filled_in_parallel_and_a_device_one_at_a_time(tmp_path):
    async def run():
        specs = [CameraSpec(name=name, replay_speed=10) for name in ("a", "b")]
        async with World(tmp_path, *specs) as world:
            for name in ("a", "b"):
                world.outage(name, lost_s=(-150.3, -121))
                world.outage(name, lost_s=(-61, -30.7))
            async with world.daemon():
                for name in ("a", "b"):
                    await world.settled(name)
            for name in ("a", "b"):
                complete_of = world.prove(name)
                assert complete_of.complete, complete_of
                assert world.cameras[name].peak_replays == 1
            starts = {n: [e.monotonic_s for e in world.cameras[n].journal.entries if e.kind == "play"] for n in "ab"}
            ends = {n: [e.monotonic_s for e in world.cameras[n].journal.entries if e.kind == "closed"] for n in "ab"}
            assert starts["b"][0] < ends["a"][0]
            assert starts["a"][0] < ends["b"][0]

    asyncio.run(run())


def test_an_online_message_while_the_database_is_locked_is_served_afterwards(tmp_path):
    """Heard once, and the pass then failed: the edge must not be gone with it."""

    async def run():
        with Broker(tmp_path) as broker:
            async with World(tmp_path, settings=mqtt_only(broker.port)) as world:
                text = world.config.read_text()
                world.config.write_text(text.replace("[recordings]", "busy_timeout_s = 0.5\n[recordings]", 1))
                world.record("gate", -60, -25)
                async with Observer(broker.port, "anr-watch/test/#") as seen, world.daemon() as daemon:
                    await seen.until(lambda all_: any(m.topic.endswith("/info") for m in all_))
                    world.kernel.execute("BEGIN IMMEDIATE")
                    await seen.publish("cameras/gate/status", "online")
                    await until(lambda: "database cannot be used" in daemon.log, lambda: daemon.log)
                    world.kernel.execute("COMMIT")
                    await world.settled()
                complete(world, start_s=-59, end_s=-6)

    asyncio.run(run())
