"""Home Assistant's side of a running daemon: entities, its birth message, pauses that last, a camera that is gone."""

import asyncio
import json

from tests.broker import Broker, Observer
from tests.world import World, until

BASE = "anr-watch/test"
MQTT = (
    '[fills]\nsweep_s = 0.5\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\ndiscovery = "entities"\n'
    'discovery_prefix = "ha"\n'
)


def last(seen: Observer, topic: str) -> bytes | None:
    """The last payload of a topic."""
    return next((message.payload for message in reversed(seen.messages) if message.topic == topic), None)


def test_entities_come_stay_and_go(tmp_path):
    async def main():
        with Broker(tmp_path) as broker:
            async with (
                World(tmp_path, settings=MQTT.format(port=broker.port)) as world,
                Observer(broker.port, "#") as seen,
            ):
                switch = "ha/switch/anr-watch-test/anr-watch-test-gate-paused/config"
                state = f"{BASE}/camera/gate/state"
                async with world.daemon():
                    await seen.until(lambda _: last(seen, switch) and last(seen, state))
                    config = json.loads(last(seen, switch))
                    assert config["state_topic"] == state
                    # What its switch sends is understood, and told where the switch reads it.
                    await seen.publish(config["command_topic"], config["payload_on"])
                    await seen.until(lambda _: json.loads(last(seen, state))["paused"])
                    node = json.loads(last(seen, "ha/switch/anr-watch-test/anr-watch-test-paused/config"))
                    await seen.publish(node["command_topic"], node["payload_on"])
                    await seen.until(lambda _: json.loads(last(seen, f"{BASE}/info"))["paused"])
                    # It starts anew: everything is told again, soon.
                    seen.messages.clear()
                    await seen.publish("ha/status", "online")
                    await seen.until(lambda _: last(seen, switch) and last(seen, state))
                world.outage()
                world.kernel.add_camera("yard", anr_enabled=0)
                seen.messages.clear()
                async with world.daemon():
                    event = "ha/event/anr-watch-test/anr-watch-test-yard-event/config"
                    await seen.until(lambda _: last(seen, event) and last(seen, state))
                    assert json.loads(last(seen, f"{BASE}/info"))["paused"], "a pause outlives a restart"
                    assert json.loads(last(seen, state))["paused"]
                    assert not world.attempts()
                    await seen.publish(node["command_topic"], node["payload_off"])
                    await seen.publish(config["command_topic"], config["payload_off"])
                    await world.settled()
                    await seen.until(
                        lambda _: (found := json.loads(last(seen, state)))["last"] and not found["paused"]
                    )
                    assert _removed(seen) == set(), "nothing is taken back that nobody said"
                world.kernel.execute("DELETE FROM cameras WHERE id = 'yard'")  # while nothing runs
                async with world.daemon():
                    gone = "ha/event/anr-watch-test/anr-watch-test-yard-event/config"
                    await seen.until(lambda _: last(seen, gone) == b"")
                    await until(lambda: last(seen, f"{BASE}/camera/yard/state") == b"", "no state is left")
                    assert last(seen, switch), "the other camera stays"
                await _the_way_changes(world, seen, switch)

    asyncio.run(main())


def _removed(seen: Observer) -> set[str]:
    """The topics of discovery on which an empty message was sent."""
    return {message.topic for message in seen.messages if message.topic.startswith("ha/") and not message.payload}


async def _the_way_changes(world: World, seen: Observer, switch: str) -> None:
    """Devices in place of entities, once more the same, then none: each takes back what was said before it, once."""
    device = "ha/device/anr-watch-test/anr-watch-test-gate/config"
    settings = world.settings
    for mode, again in (("device", False), ("device", True), ("off", False), ("off", True)):
        world.settings = settings.replace('"entities"', f'"{mode}"')
        world.write_config()
        seen.messages.clear()
        async with world.daemon():
            await seen.until(lambda _: last(seen, f"{BASE}/camera/gate/state"))
            if mode == "device":
                await seen.until(lambda _: last(seen, device))
            if not again:
                await seen.until(lambda _: len(_removed(seen)) >= {"device": 14, "off": 2}[mode])  # noqa: B023 - at once
        removed = _removed(seen)  # what was under way when the daemon was stopped went out before it left
        if again:
            assert removed == set()
        elif mode == "device":
            assert switch in removed
            assert len(removed) == 11 + 3
        else:
            assert removed == {device, "ha/device/anr-watch-test/anr-watch-test/config"}
