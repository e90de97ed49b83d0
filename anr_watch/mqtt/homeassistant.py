"""Home Assistant's MQTT discovery: what makes the node and each camera a device with entities there. Pure.

Facts are from Home Assistant's own sources (components/mqtt, 2024.3.3 to 2026.2): ids are `[a-zA-Z0-9_-]`; a device
per camera below the node's (`via_device`); retained configurations, sent again after its birth message; an empty
retained message removes an entity. `object_id` is not sent (it is going away), names never are part of an id, `event`
entities ignore retained messages. Device discovery exists from 2024.11 on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import orjson

from anr_watch.model import Camera, Message
from anr_watch.mqtt.events import PREFIX
from anr_watch.mqtt.shapes import EVENTS
from anr_watch.mqtt.topics import Topics

Mode = Literal["off", "entities", "device"]
Entity = tuple[str, str, dict[str, Any]]  # platform, key, configuration
_ID = re.compile(r"[^a-zA-Z0-9_-]")
_HASHED = re.compile(r"-[0-9a-f]{8}\Z")  # what looks like a slug gets one of its own
# Before the first fill `none`: Home Assistant before 2024.9 shows an enum of `None` as that text.
_RESULTS = ("none", "completed", "partial", "failed")
_URL = "https://pypi.org/project/anr-watch/"


def slug(text: str) -> str:
    """Return an id Home Assistant accepts: the text itself, or its letters and digits and a hash of the whole."""
    if text and not _ID.search(text) and not _HASHED.search(text):
        return text
    return f"{_ID.sub('-', text)[:40]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


class HomeAssistant:
    """The discovery messages of one node.

    Args:
        topics: the node's topics.
        version: ours.
        mode: a message per entity, which every Home Assistant understands, or one per device (2024.11 and later).
        prefix: Home Assistant's discovery prefix.
    """

    def __init__(self, topics: Topics, version: str, mode: Mode, prefix: str = "homeassistant") -> None:
        self._topics, self._version, self._mode, self._prefix = topics, version, mode, prefix
        self._node_id = f"anr-watch-{slug(topics.base)}-{slug(topics.node)}".replace(
            "anr-watch-anr-watch-", "anr-watch-"
        )

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self._prefix}/status"

    def node(self) -> list[Message]:
        """Return what describes the node itself."""
        return list(self._published(self._node_id, self._node_device(), self._node_entities()))

    def camera(self, camera: Camera) -> list[Message]:
        """Return what describes one camera."""
        return list(
            self._published(self._camera_id(camera.id), self._camera_device(camera), self._camera_entities(camera.id))
        )

    def said(self, camera_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the topics on which the node and these cameras are described."""
        devices = [(self._node_id, self._node_entities())]
        devices += [(self._camera_id(camera_id), self._camera_entities(camera_id)) for camera_id in camera_ids]
        if self._mode == "device":
            return tuple(self._topic("device", own) for own, _ in devices)
        return tuple(
            self._topic(platform, f"{own}-{key}") for own, entities in devices for platform, key, _ in entities
        )

    def _camera_id(self, camera_id: str) -> str:
        return f"{self._node_id}-{slug(camera_id)}"

    def _topic(self, platform: str, own: str) -> str:
        # The level in the middle is for the broker's access list: whole levels are all it can compare.
        return f"{self._prefix}/{platform}/{self._node_id}/{own}/config"

    def _published(self, own: str, device: Mapping[str, Any], entities: Iterable[Entity]) -> Iterator[Message]:
        origin = {"name": "anr-watch", "sw_version": self._version, "support_url": _URL}
        if self._mode == "device":
            parts = {
                key: {"platform": platform, "unique_id": f"{own}-{key}", **config}
                for platform, key, config in entities
            }
            yield _message(
                self._topic("device", own), _json({"device": device, "origin": origin, "components": parts})
            )
            return
        for platform, key, config in entities:
            whole = {"unique_id": f"{own}-{key}", "device": device, "origin": origin, **config}
            yield _message(self._topic(platform, f"{own}-{key}"), _json(whole))

    def _node_device(self) -> dict[str, Any]:
        return {
            "identifiers": [self._node_id],
            "name": f"anr-watch {self._topics.node}",
            "manufacturer": "anr-watch",
            "model": "Gap refiller",
            "sw_version": self._version,
        }

    def _camera_device(self, camera: Camera) -> dict[str, Any]:
        return {
            "identifiers": [self._camera_id(camera.id)],
            "name": f"{camera.name or camera.id} footage",
            "manufacturer": camera.vendor.title() if camera.vendor != "generic" else "anr-watch",
            "model": "Camera with onboard storage",
            "via_device": self._node_id,
        }

    def _available(self) -> dict[str, Any]:
        return {"availability": [{"topic": self._topics.status}]}

    def _node_entities(self) -> list[Entity]:
        status, info = self._topics.status, self._topics.info
        return [
            (
                "binary_sensor",
                "connected",
                {
                    "name": "Connected",
                    "device_class": "connectivity",
                    "entity_category": "diagnostic",
                    "state_topic": status,
                    "payload_on": "online",
                    "payload_off": "offline",
                },
            ),
            (
                "switch",
                "paused",
                {
                    "name": "Pause all fills",
                    "icon": "mdi:pause-circle-outline",
                    "entity_category": "config",
                    "state_topic": info,
                    "value_template": "{{ 'ON' if value_json.paused else 'OFF' }}",
                    "command_topic": self._command("pause"),
                    "payload_on": '{"on": true}',
                    "payload_off": '{"on": false}',
                    "state_on": "ON",
                    "state_off": "OFF",
                    **self._available(),
                },
            ),
            (
                "button",
                "recheck",
                {
                    "name": "Recheck",
                    "icon": "mdi:magnify",
                    "entity_category": "config",
                    "command_topic": self._command("recheck"),
                    "payload_press": "{}",
                    **self._available(),
                },
            ),
        ]

    def _command(self, verb: str) -> str:
        return self._topics.commands.replace("+", verb)

    def _camera_entities(self, camera_id: str) -> list[Entity]:
        state = {"state_topic": self._topics.state(camera_id), **self._available()}
        wanted = orjson.dumps({"camera": camera_id}).decode()
        return [
            (
                "binary_sensor",
                "presence",
                {
                    "name": "Camera",
                    "device_class": "connectivity",
                    "value_template": "{{ {'online': 'ON', 'offline': 'OFF'}.get(value_json.presence, 'None') }}",
                    **state,
                },
            ),
            (
                "binary_sensor",
                "problem",
                {
                    "name": "Problem",
                    "device_class": "problem",
                    # Given up on, not asked any more, or nothing can be stored: what somebody has to look at.
                    "value_template": (
                        "{{ 'ON' if value_json.parked or value_json.held or"
                        " (value_json.last and value_json.last.result == 'failed' and value_json.pending_gaps)"
                        " else 'OFF' }}"
                    ),
                    "json_attributes_topic": state["state_topic"],
                    "json_attributes_template": (
                        "{{ {'parked': value_json.parked, 'held': value_json.held,"
                        " 'reason': value_json.last.reason if value_json.last else none} | tojson }}"
                    ),
                    **state,
                },
            ),
            (
                "sensor",
                "pending_gaps",
                {
                    "name": "Pending gaps",
                    "icon": "mdi:timeline-alert-outline",
                    "state_class": "measurement",
                    "value_template": "{{ value_json.pending_gaps }}",
                    **state,
                },
            ),
            (
                "sensor",
                "missing",
                {
                    "name": "Missing footage",
                    "device_class": "duration",
                    "unit_of_measurement": "s",
                    "state_class": "measurement",
                    "value_template": "{{ value_json.missing_s | round(0) }}",
                    **state,
                },
            ),
            (
                "sensor",
                "progress",
                {
                    "name": "Fill progress",
                    "icon": "mdi:progress-download",
                    "unit_of_measurement": "%",
                    "state_class": "measurement",
                    "value_template": (
                        "{{ (100 * value_json.current.got_s / value_json.current.wanted_s) | round(0)"
                        " if value_json.current and value_json.current.wanted_s else 'None' }}"
                    ),
                    **state,
                },
            ),
            (
                "sensor",
                "last_fill",
                {
                    "name": "Last fill",
                    "device_class": "timestamp",
                    "value_template": "{{ value_json.last.ended_at if value_json.last else 'None' }}",
                    "json_attributes_topic": state["state_topic"],
                    "json_attributes_template": "{{ (value_json.last or {}) | tojson }}",
                    **state,
                },
            ),
            (
                "sensor",
                "last_result",
                {
                    "name": "Last result",
                    "icon": "mdi:history",
                    "device_class": "enum",
                    "options": list(_RESULTS),
                    "value_template": "{{ value_json.last.result if value_json.last else 'none' }}",
                    **state,
                },
            ),
            (
                "event",
                "event",
                {
                    "name": "Event",
                    "icon": "mdi:filmstrip",
                    "state_topic": self._topics.event(camera_id),
                    "event_types": [PREFIX + kind for kind in EVENTS],
                    # CloudEvents names its attributes itself; Home Assistant wants `event_type` beside the data.
                    "value_template": (
                        "{{ dict(value_json.data, event_type=value_json.type, id=value_json.id,"
                        " time=value_json.time) | tojson }}"
                    ),
                    **self._available(),
                },
            ),
            (
                "button",
                "fill_now",
                {
                    "name": "Fill now",
                    "icon": "mdi:download",
                    "command_topic": self._command("retry"),
                    "payload_press": wanted,
                    **self._available(),
                },
            ),
            (
                "button",
                "recheck",
                {
                    "name": "Recheck",
                    "icon": "mdi:magnify",
                    "entity_category": "config",
                    "command_topic": self._command("recheck"),
                    "payload_press": wanted,
                    **self._available(),
                },
            ),
            (
                "switch",
                "paused",
                {
                    "name": "Pause fills",
                    "icon": "mdi:pause-circle-outline",
                    "entity_category": "config",
                    "value_template": "{{ 'ON' if value_json.paused else 'OFF' }}",
                    "command_topic": self._command("pause"),
                    "payload_on": orjson.dumps({"camera": camera_id, "on": True}).decode(),
                    "payload_off": orjson.dumps({"camera": camera_id, "on": False}).decode(),
                    "state_on": "ON",
                    "state_off": "OFF",
                    **state,
                },
            ),
        ]


def removal(topic: str) -> Message:
    """Return what removes what was described on a topic."""
    return _message(topic, b"")


def _json(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value)


def _message(topic: str, payload: bytes) -> Message:
    digest = hashlib.sha256(topic.encode() + b"\0" + payload).hexdigest()[:32]
    return Message(digest, topic, payload, retain=True)
