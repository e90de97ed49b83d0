"""The real Home Assistant beside the real daemon on a real broker: what people see there, and what they can do."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from house import NEW, OLD, ROOT, House, is_installed

from tests.broker import Broker, Observer
from tests.world import World

MQTT = '[fills]\nsweep_s = 0.5\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "box"\ndiscovery = "{mode}"\n'
GONE = "unavailable"


DASHBOARD = ROOT / "deploy" / "homeassistant" / "dashboard.yaml"
DOCUMENTED = ROOT / "docs" / "home-assistant.md"
# The newest one where there is a Python for it; devices as a whole are understood from 2024.11 on.
HOUSES = [(OLD, "entities"), *([(NEW, "entities"), (NEW, "device")] if is_installed(NEW) else [])]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("which", "mode"), HOUSES)
def test_what_people_see_and_do(tmp_path, which, mode):
    async def main():
        with Broker(tmp_path) as broker:
            async with (
                World(tmp_path, settings=MQTT.format(port=broker.port, mode=mode)) as world,
                Observer(broker.port, "anr-watch/#") as seen,
                House(tmp_path, broker.port, which) as house,
            ):
                await _a_fill(world, house)
                async with world.daemon():
                    await house.shows("sensor.gate_footage_pending_gaps", "0")
                    await _pauses(world, house)
                    await _buttons(house, seen)
                    await _a_camera_goes(world, house)
                    # It is gone: nothing pretends to be there.
                await house.shows("binary_sensor.anr_watch_box_connected", "off")
                await house.shows("sensor.gate_footage_pending_gaps", GONE)
                assert house.complaints == []

    asyncio.run(main())


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("which", "mode"), HOUSES[2:])
def test_the_way_of_telling_can_be_changed(tmp_path, which, mode):
    """From a message per entity to one per device and back: the same entities, and nothing in its log."""

    async def main():
        with Broker(tmp_path) as broker:
            async with (
                World(tmp_path, settings=MQTT.format(port=broker.port, mode="entities")) as world,
                House(tmp_path, broker.port, which) as house,
            ):
                for way in ("entities", mode, "entities"):
                    world.settings = MQTT.format(port=broker.port, mode=way)
                    world.write_config()
                    async with world.daemon():
                        await house.shows("binary_sensor.anr_watch_box_connected", "on")
                        await house.shows("sensor.gate_footage_pending_gaps", "0")
                        await house.shows("sensor.gate_footage_last_result", "none")
                    await house.shows("sensor.gate_footage_pending_gaps", GONE)
                ours = [entity for entity in await house.states() if "gate_footage" in entity or "_box" in entity]
                assert len(ours) == 11 + 3
                assert house.complaints == []

    asyncio.run(main())


async def _a_fill(world: World, house: House) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    async with world.daemon():
        await house.shows("binary_sensor.anr_watch_box_connected", "on")
        await house.shows("sensor.gate_footage_last_result", "none")
        world.outage()
        await world.settled()
        await house.shows("sensor.gate_footage_last_result", "completed")
        await house.shows("sensor.gate_footage_pending_gaps", "0")
        await house.shows("sensor.gate_footage_missing_footage", "0")
        states = await house.states()
    last = states["sensor.gate_footage_last_fill"]
    assert began <= datetime.fromisoformat(last["state"]) <= datetime.now(UTC)
    assert last["attributes"]["reason"] == "filled"
    event = states["event.gate_footage_event"]
    assert began <= datetime.fromisoformat(event["state"]) <= datetime.now(UTC)
    assert event["attributes"]["event_type"].startswith("io.anr-watch.")
    assert "io.anr-watch.fill.completed.v1" in event["attributes"]["event_types"]
    assert states["binary_sensor.gate_footage_problem"]["state"] == "off"
    assert states["sensor.gate_footage_fill_progress"]["state"] == "unknown", "nothing runs"
    ours = [entity for entity in states if "gate_footage" in entity or "anr_watch_box" in entity]
    assert len(ours) == 11 + 3


async def _pauses(world: World, house: House) -> None:
    for entity in ("switch.gate_footage_pause_fills", "switch.anr_watch_box_pause_all_fills"):
        await house.shows(entity, "off")
        await house.call("switch", "turn_on", entity)
        await house.shows(entity, "on")
        await house.call("switch", "turn_off", entity)
        await house.shows(entity, "off")


async def _buttons(house: House, seen: Observer) -> None:
    for entity in (
        "button.gate_footage_fill_now",
        "button.gate_footage_recheck",
        "button.anr_watch_box_recheck",
    ):
        seen.messages.clear()
        await house.call("button", "press", entity)
        await seen.until(lambda messages: any("/cmd/" in message.topic for message in messages))
        command = next(message for message in seen.messages if "/cmd/" in message.topic)
        assert json.loads(command.payload) == ({} if "anr_watch" in entity else {"camera": "gate"})
        assert not command.retain


async def _a_camera_goes(world: World, house: House) -> None:
    world.kernel.add_camera("yard", anr_enabled=0)
    await house.shows("sensor.yard_footage_pending_gaps", "0")
    states = await house.states()
    for file, count in ((DASHBOARD, 14), (DOCUMENTED, 14)):
        named = set(re.findall(r"\b[a-z_]+\.(?:anr_watch_box|gate|yard)_\w+", file.read_text()))
        assert len(named) == count, file
        assert named - states.keys() == set(), f"{file} names entities that are not there"
    world.kernel.execute("DELETE FROM cameras WHERE id = 'yard'")

    async def is_gone() -> bool:
        return not [entity for entity in await house.states() if "yard_footage" in entity]

    await house.until(is_gone, "the entities of a deleted camera stay")
