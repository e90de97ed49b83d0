"""Every discovery message against the schemas of the real Home Assistant 2024.3.3.

Device messages, which it does not know, are held against the rules of 2024.11, and their parts against its schemas.
"""

import json
import subprocess
from pathlib import Path

import pytest
from house import python

from anr_watch.model import Camera
from anr_watch.mqtt.homeassistant import HomeAssistant
from anr_watch.mqtt.topics import Topics

TOPICS = Topics("anr-watch", "box")
CAMERAS = [
    Camera(id="cam_yard", name="Yard", vendor="hikvision"),
    Camera(id="Küche/1", name="Küche ☕"),
    Camera(id="x" * 200, name=""),
]


def judged(messages: list[tuple[str, str]]) -> list[str]:
    """What Home Assistant says of each message; the topic is below the discovery prefix."""
    script = Path(__file__).with_name("validate.py")
    done = subprocess.run(
        [python(), script], input=json.dumps(messages), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# A sensor's `options` came with 2024.9; before that they are left out of account.
LATER = "dropped: ['options']"


def is_fine(topic: str, text: str) -> bool:
    return text == (LATER if "last_result" in topic else "")


def said(mode: str) -> list[tuple[str, dict]]:
    home = HomeAssistant(TOPICS, "1.0", mode)
    messages = [*home.node(), *(message for camera in CAMERAS for message in home.camera(camera))]
    return [(message.topic.removeprefix("homeassistant/"), json.loads(message.payload)) for message in messages]


def test_every_entity_is_accepted_with_every_key():
    messages = said("entities")
    assert len(messages) == 3 + 3 * 11
    found = judged([(topic, json.dumps(config)) for topic, config in messages])
    assert [(topic, text) for (topic, _), text in zip(messages, found, strict=True) if not is_fine(topic, text)] == []


def test_the_judge_would_notice():
    topic, config = next((topic, config) for topic, config in said("entities") if topic.startswith("sensor/"))
    wrong = [
        (topic.replace("config", "configuration"), config),
        (topic.replace("sensor/", "sensors/"), config),
        (topic.replace("/config", " x/config"), config),
        (topic, {**config, "state_topic": "a/#/b"}),
        (topic, {**config, "device_class": "gap"}),
        (topic, {**config, "value_template": "{{ value_json. }}"}),
        (topic, {**config, "device": {}}),
        (topic, {**config, "origin": {"sw_version": "1"}}),
        (topic, {**config, "availabilty": []}),
    ]
    found = judged([(topic, json.dumps(config)) for topic, config in [*wrong, (topic, config)]])
    assert [bool(text) for text in found] == [True] * len(wrong) + [False]


@pytest.mark.parametrize("number", range(1 + len(CAMERAS)))
def test_a_device_message_keeps_the_rules_and_its_parts_are_accepted(number):
    topic, whole = said("device")[number]
    assert topic.startswith("device/")
    # At the root: device with an identity, origin with a name, the components; each a platform and a unique id.
    assert set(whole) == {"device", "origin", "components"}
    assert whole["device"]["identifiers"]
    assert whole["origin"]["name"]
    parts = whole["components"]
    assert len({part["unique_id"] for part in parts.values()}) == len(parts) == (11 if number else 3)
    alone = []
    for key, part in parts.items():
        config = {name: value for name, value in part.items() if name != "platform"}
        text = json.dumps({**config, "device": whole["device"], "origin": whole["origin"]})
        alone.append((f"{part['platform']}/node/{key}/config", text))
    assert [one for one in zip(parts, judged(alone), strict=True) if not is_fine(*one)] == []
