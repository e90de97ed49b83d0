"""Presets: one line of configuration understands what each system of the field says, as it says it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from anr_watch.config import load
from anr_watch.config.presets import PRESETS
from anr_watch.errors import ConfigError
from anr_watch.presence import PresenceBook
from anr_watch.sources.heartbeats import Heartbeats
from anr_watch.sources.presence_rules import Ignored, Rules
from anr_watch.states import Presence

NOW = datetime(2026, 6, 13, 12, tzinfo=UTC)
ON, OFF = Presence.ONLINE, Presence.OFFLINE
CAMERAS = ("front", "yard", "cam_plug")


@pytest.fixture
def rules(tmp_path: Path):
    """Return the compiled rules of a presence table given as TOML lines."""

    def of(*tables: str) -> Rules:
        file = tmp_path / "config.toml"
        file.write_text("[mqtt]\nhost = 'h'\n" + "".join(f"[[mqtt.presence]]\n{table}\n" for table in tables))
        return Rules(load(file, {}).mqtt.presence)

    return of


def says(rules: Rules, topic: str, payload: str, *, retained: bool = False):
    """Return what a message comes to: levels, why it was ignored, or the sources that are lost."""
    found = rules.match(topic, payload.encode(), retained=retained, at=NOW, cameras=CAMERAS)
    return [word.level for word in found.evidence] or list(found.ignored) or list(found.lost)


# (preset and what it needs, online, offline, neither): topic and payload as the source sends them, and whether retained.
SHAPES = {
    "frigate": (
        "",
        ("frigate/front/status/detect", "online", False),
        ("frigate/front/status/record", "offline", False),
        ("frigate/front/status/detect", "disabled", False),
    ),
    "availability": (
        "topic = 'cams/{camera}/available'",
        ("cams/front/available", "online", True),
        ("cams/front/available", "stopped", True),
        ("cams/front/available", "", True),
    ),
    "zigbee2mqtt": (
        "names = { 'Garden/Plug yard' = 'cam_plug' }",
        ("zigbee2mqtt/Garden/Plug yard/availability", '{"state":"online"}', True),
        ("zigbee2mqtt/Garden/Plug yard/availability", '{"state":"offline"}', True),
        ("zigbee2mqtt/Garden/Plug yard/availability", "", True),  # what renaming leaves behind
    ),
    "tasmota": (
        "names = { tasmota_4F21 = 'front' }",
        ("tele/tasmota_4F21/LWT", "Online", True),
        ("tele/tasmota_4F21/LWT", "Offline", True),
        ("tele/tasmota_4F21/LWT", "online", True),
    ),
    "esphome": (
        "",
        ("front/status", "online", True),
        ("front/status", "offline", True),
        ("front/status", "rebooting", True),
    ),
    "thingino": (
        "",
        ("cameras/front/status", "online", False),
        ("cameras/front/status", "offline", False),
        ("cameras/front/status", "online", True),  # old since the power cut: its will is not retained
    ),
    "neolink": (
        "",
        ("neolink/front/status", "connected", True),
        ("neolink/front/status", "disconnected", True),
        ("neolink/front/status", "", True),
    ),
    "viseron": (
        "",
        ("viseron/binary_sensor/front_connected/state", '{"state": "on", "attributes": {}}', True),
        ("viseron/binary_sensor/front_connected/state", '{"state": "off", "attributes": {}}', True),
        ("viseron/binary_sensor/front_connected/state", '{"state": null}', True),
    ),
    "amcrest2mqtt": (
        "names = { AMC0001 = 'front' }",
        ("amcrest2mqtt/AMC0001/status", "online", True),
        ("amcrest2mqtt/AMC0001/status", "offline", True),
        ("amcrest2mqtt/AMC0002/status", "online", True),
    ),
    "wyze-bridge": (
        "",
        ("wyzebridge/front/state", "online", True),
        ("wyzebridge/front/state", "stopped", True),
        ("wyzebridge/front/state", "connecting", True),
    ),
    "scrypted": (
        "",
        ("scrypted/front/online", "true", True),
        ("scrypted/front/online", "false", True),
        ("scrypted/front/online", "{}", True),
    ),
    "ring-mqtt": (
        "names = { 3ce0ab = 'front' }",
        ("ring/8f2-77/camera/3ce0ab/status", "online", False),
        ("ring/8f2-77/camera/3ce0ab/status", "offline", False),
        ("ring/8f2-77/alarm/3ce0ab/status", "online", False),
    ),
    "axis": (
        """topic = 'axis/{camera}/event/connection'
json = 'connected'
online = ['true']
offline = ['false']
names = { ACCC8E000001 = 'front' }""",
        ("axis/ACCC8E000001/event/connection", '{"connected": true, "description": "Connected"}', True),
        ("axis/ACCC8E000001/event/connection", '{"connected": false, "description": "Disconnected"}', True),
        ("axis/ACCC8E000001/event/connection", "Connected", True),
    ),
}


def test_every_preset_has_its_shapes():
    assert set(SHAPES) == set(PRESETS)


@pytest.mark.parametrize("preset", SHAPES)
def test_what_the_source_says(rules, preset):
    needs, online, offline, neither = SHAPES[preset]
    compiled = rules(f"preset = '{preset}'\n{needs}")
    for (topic, payload, retained), level in ((online, ON), (offline, OFF)):
        assert says(compiled, topic, payload, retained=retained) == [level]
    topic, payload, retained = neither
    assert not any(isinstance(word, Presence) for word in says(compiled, topic, payload, retained=retained))
    # Repeated every second, and then out of order: two edges, those from offline to online.
    book = PresenceBook(CAMERAS)
    words = [online] * 20 + [offline] * 3 + [online] * 20 + [offline, online]
    edges = 0
    for topic, payload, _ in words:
        for word in compiled.match(topic, payload.encode(), retained=False, at=NOW, cameras=CAMERAS).evidence:
            change = book.hear(word)
            edges += change is not None and change.edge
    assert edges == (3 if len(compiled.sources) == 1 else 1)


@pytest.mark.parametrize(
    ("preset", "topic", "alive", "gone"),
    [
        ("frigate", "frigate/available", "online", "stopped"),
        ("frigate", "frigate/available", "online", "offline"),
        ("zigbee2mqtt", "zigbee2mqtt/bridge/state", '{"state":"online"}', '{"state":"offline"}'),
        ("neolink", "neolink/status", "connected", "offline"),
        ("viseron", "viseron/lwt", "alive", "dead"),
        ("wyze-bridge", "wyzebridge/state", "online", "offline"),
    ],
)
def test_a_service_that_dies_is_lost_with_its_cameras(rules, preset, topic, alive, gone):
    compiled = rules(f"preset = '{preset}'")
    assert topic in compiled.filters
    assert says(compiled, topic, alive, retained=True) == []
    assert says(compiled, topic, gone, retained=True) == list(compiled.sources)


def test_prefixes_names_and_own_keys(rules):
    compiled = rules("preset = 'frigate'\nprefix = 'nvr/frigate'\nnames = { Front = 'front' }\nheartbeat_s = 5")
    assert compiled.filters == (
        "nvr/frigate/+/status/detect",
        "nvr/frigate/available",
        "nvr/frigate/+/status/record",
    )
    assert says(compiled, "nvr/frigate/Front/status/detect", "online") == [ON]
    assert compiled.heartbeats == {"mqtt:frigate-detect": 5, "mqtt:frigate-record": 5}
    one = rules("preset = 'frigate'\ntopic = 'f/{camera}/up'\nonline = ['1']\noffline = ['0']")
    assert one.sources == ("mqtt:frigate",)
    assert says(one, "f/front/up", "1") == [ON]
    two = rules("preset = 'frigate'", "preset = 'frigate'\nname = 'shed'\nprefix = 'shed'")
    assert len(two.sources) == 4
    assert says(two, "frigate/stranger/status/detect", "online") == [Ignored.UNKNOWN_CAMERA]


@pytest.mark.parametrize(
    ("table", "key", "says_what"),
    [
        ("preset = 'frigat'", "preset", "did you mean frigate?"),
        ("preset = 'dahua-xyz'", "preset", "there are frigate, availability"),
        ("preset = 'axis'\ntopic = 'axis/{camera}/c'", "json", "the preset axis cannot know it"),
        ("preset = 'availability'", "topic", "the preset availability cannot know it"),
        ("preset = 'esphome'\nprefix = 'x'", "prefix", "has no base topic"),
        ("topic = 'a/{camera}'\nprefix = 'x'", "prefix", "needs a preset"),
        ("topic = 'a/{camera}'\nservice = 'a/+/x'", "service", "must be one topic"),
        ("topic = 'a/{camera}'\nservice_offline = ['online']", "service_offline", "service_online as well"),
        ("topic = 'a/{camera}'\nheartbeat_s = -1", "heartbeat_s", "0"),
        ("", "topic", "must be set"),
    ],
)
def test_what_cannot_work_is_told_by_its_key(tmp_path, table, key, says_what):
    file = tmp_path / "config.toml"
    file.write_text(f"[mqtt]\nhost = 'h'\n[[mqtt.presence]]\npreset = 'frigate'\n[[mqtt.presence]]\n{table}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, {})
    told = {problem.key: str(problem) for problem in raised.value.problems}
    assert says_what in told[f"mqtt.presence[2].{key}"]


def test_who_falls_silent_is_told_once_and_may_come_back():
    heartbeats = Heartbeats({"mqtt:f": 60.0})
    assert heartbeats.step_s == 15
    heartbeats.heard("mqtt:f", "front", 0)
    heartbeats.heard("mqtt:f", "yard", 50)
    heartbeats.heard("mqtt:other", "yard", 0)
    assert heartbeats.silent(60) == []
    assert heartbeats.silent(61) == [("mqtt:f", "front")]
    assert heartbeats.silent(1000) == [("mqtt:f", "yard")]
    assert heartbeats.silent(2000) == []
    heartbeats.heard("mqtt:f", "front", 2000)
    assert heartbeats.silent(2061) == [("mqtt:f", "front")]
    assert Heartbeats({}).step_s is None
