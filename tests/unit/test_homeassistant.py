"""Home Assistant's discovery: stable ids that it accepts, one message per entity or per device, everything removable."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Camera
from anr_watch.mqtt.announced import Announced, noted, read, taken_back
from anr_watch.mqtt.homeassistant import HomeAssistant, slug
from anr_watch.mqtt.topics import Topics

TOPICS = Topics("anr-watch", "box")
CONFIG = re.compile(r"homeassistant/(\w+)/anr-watch-box/([a-zA-Z0-9_-]+)/config")  # as Home Assistant reads topics
CAMERA = Camera(id="cam_yard", name="Yard", vendor="hikvision")
PLATFORMS = {"binary_sensor", "sensor", "event", "button", "switch"}


@given(st.text(max_size=80), st.text(max_size=80))
def test_ids_are_accepted_and_told_apart(one, other):
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", slug(one))
    assert (slug(one) == slug(other)) is (one == other)


@pytest.mark.parametrize("camera_id", ["cam_yard", "Küche/1", "a b", "x" * 200])
def test_entities_have_what_home_assistant_demands(camera_id):
    home = HomeAssistant(TOPICS, "1.0", "entities")
    messages = [*home.node(), *home.camera(Camera(id=camera_id, name="Yard"))]
    seen = set()
    for message in messages:
        platform, own = CONFIG.fullmatch(message.topic).groups()
        config = json.loads(message.payload)
        assert message.retain
        assert platform in PLATFORMS
        assert config["unique_id"] == own
        assert config["origin"]["name"] == "anr-watch"
        assert config["device"]["identifiers"]
        assert config["name"] != config["device"]["name"]
        assert "object_id" not in config
        if platform != "event" and own != "anr-watch-box-connected":
            assert config["availability"] == [{"topic": "anr-watch/box/status"}]
        seen.add(own)
    assert len(seen) == len(messages) == 3 + 11
    devices = {json.dumps(json.loads(message.payload)["device"], sort_keys=True) for message in messages}
    assert len(devices) == 2
    assert json.loads(messages[-1].payload)["device"]["via_device"] == "anr-watch-box"


def test_a_device_says_the_same_in_one_message():
    by_entity = HomeAssistant(TOPICS, "1.0", "entities").camera(CAMERA)
    (whole,) = HomeAssistant(TOPICS, "1.0", "device").camera(CAMERA)
    assert whole.topic == "homeassistant/device/anr-watch-box/anr-watch-box-cam_yard/config"
    device = json.loads(whole.payload)
    assert {part["unique_id"] for part in device["components"].values()} == {
        json.loads(message.payload)["unique_id"] for message in by_entity
    }
    assert all(part["platform"] in PLATFORMS for part in device["components"].values())


def test_every_message_stands_on_a_topic_that_is_known_to_be_ours():
    for mode in ("entities", "device"):
        home = HomeAssistant(TOPICS, "1.0", mode, "ha")
        assert home.said([CAMERA.id]) == tuple(message.topic for message in [*home.node(), *home.camera(CAMERA)])


def told(mode="entities", cameras=("gate", "yard"), prefix="ha", node="box"):
    return Announced(mode, prefix, "anr-watch", node, frozenset(cameras))


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ([], told(), ()),
        ([told()], told(), ()),
        ([told()], told(cameras=["gate", "shed"]), set(told().topics) - set(told(cameras=["gate"]).topics)),
        ([told()], told("device"), told().topics),
        ([told("device")], told(), told("device").topics),
        ([told("device"), told()], told(), told("device").topics),
        ([told()], told("off"), told().topics),
        ([told("off")], told(), ()),
        ([told()], told(prefix="other"), told().topics),
        ([told()], told(node="hut"), told().topics),
    ],
)
def test_what_was_said_and_is_so_no_more_is_taken_back(before, now, taken):
    messages = taken_back(before, now)
    assert {message.topic for message in messages} == set(taken)
    assert len(messages) == len(taken)
    assert all(message.retain and not message.payload for message in messages)
    assert read(noted(before)) == before


@pytest.mark.parametrize("text", [None, "", "x", "1", "{}", "[1]", '[{"cameras": []}]', noted([told()])[:-3]])
def test_a_note_that_cannot_be_read_is_none(text):
    assert read(text) == []


def test_ids_do_not_depend_on_names():
    renamed = Camera(id="cam_yard", name="Garden", vendor="hikvision")
    home = HomeAssistant(TOPICS, "1.0", "entities")
    before, after = ([json.loads(m.payload) for m in home.camera(camera)] for camera in (CAMERA, renamed))
    for old, new in zip(before, after, strict=True):
        assert old["unique_id"] == new["unique_id"]
        assert old["device"]["identifiers"] == new["device"]["identifiers"]
        assert old["device"]["name"] != new["device"]["name"]
