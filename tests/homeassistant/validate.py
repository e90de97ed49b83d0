"""Judges discovery messages by Home Assistant's own schemas: run by its own Python.

stdin: a JSON list of [topic below the prefix, payload]; stdout: a JSON list with what is wrong with each, or "".
"""

import importlib
import json
import sys

import voluptuous as vol
from homeassistant.components.mqtt.discovery import MQTT_ORIGIN_INFO_SCHEMA, SUPPORTED_COMPONENTS, TOPIC_MATCHER


def judged(topic: str, payload: str) -> str:
    """Return what Home Assistant would hold against a message; a key that it drops counts as wrong."""
    match = TOPIC_MATCHER.fullmatch(topic)
    if match is None:
        return "illegal discovery topic"
    platform = match["component"]
    if platform not in SUPPORTED_COMPONENTS:
        return f"{platform} is not supported"
    schema = importlib.import_module(f"homeassistant.components.mqtt.{platform}").DISCOVERY_SCHEMA
    config = json.loads(payload)
    try:
        MQTT_ORIGIN_INFO_SCHEMA(config["origin"])
        taken = schema({**config, "platform": "mqtt"})
    except vol.Invalid as error:
        return str(error)
    dropped = config.keys() - {str(key) for key in taken}
    return f"dropped: {sorted(dropped)}" if dropped else ""


json.dump([judged(topic, payload) for topic, payload in json.load(sys.stdin)], sys.stdout)
