"""What the programs and cameras of the field say on MQTT about a camera being there: `preset = "..."`. Pure tables.

A preset is one or more presence rules with the source's usual topics and words; every key of the rule that the user
sets replaces the preset's. `prefix` is the source's own base topic. Where the facts come from stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Keys = Mapping[str, Any]  # keys of PresenceRule with their values; topics may hold {prefix}


@dataclass(frozen=True, slots=True)
class Preset:
    """One source: its default base topic (empty: it has none), its rules, and what only the user can know."""

    rules: tuple[Keys, ...]
    prefix: str = ""
    needs: tuple[str, ...] = ()


# A Frigate that stops says so by its will; one that hangs, or lost its broker, only falls silent. 0.17 repeats each
# level every second, 0.18 at least every ffmpeg.retry_interval (10 s).
_FRIGATE: Keys = {
    "service": "{prefix}/available",
    "service_offline": ("offline", "stopped"),  # stopped: 0.18, at a clean stop
    "ignore": ("disabled",),  # switched off by a person: neither back nor lost
    "heartbeat_s": 60.0,
}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # Frigate 0.17 and 0.18, docs/integrations/mqtt.md: frames come (detect), segments are written (record). The
        # first knows after 20 s that a camera is gone and at once that it is back, the second after 120 s; not
        # every camera has both.
        "frigate": Preset(
            rules=(
                {"topic": "{prefix}/{camera}/status/detect", **_FRIGATE},
                {"topic": "{prefix}/{camera}/status/record", **_FRIGATE},
            ),
            prefix="frigate",
        ),
        # Home Assistant's convention for availability topics.
        "availability": Preset(rules=({"offline": ("offline", "stopped")},), needs=("topic",)),
        # lib/extension/availability.ts: the plug that feeds a camera.
        "zigbee2mqtt": Preset(
            rules=(
                {
                    "topic": "{prefix}/{camera}/availability",
                    "json": "state",
                    "service": "{prefix}/bridge/state",
                    "service_json": "state",
                },
            ),
            prefix="zigbee2mqtt",
        ),
        "tasmota": Preset(
            rules=({"topic": "{prefix}/{camera}/LWT", "online": ("Online",), "offline": ("Offline",)},), prefix="tele"
        ),
        # <topic_prefix>/status; the prefix is the device's name.
        "esphome": Preset(rules=({"topic": "{camera}/status"},)),
        # Its will is not retained, so after a power cut a retained "online" is old.
        "thingino": Preset(rules=({"topic": "{prefix}/{camera}/status", "retained": "ignore"},), prefix="cameras"),
        "neolink": Preset(
            rules=(
                {
                    "topic": "{prefix}/{camera}/status",
                    "online": ("connected",),
                    "offline": ("disconnected", "offline"),
                    "service": "{prefix}/status",
                    "service_online": ("connected",),
                },
            ),
            prefix="neolink",
        ),
        "viseron": Preset(
            rules=(
                {
                    "topic": "{prefix}/binary_sensor/{camera}_connected/state",
                    "json": "state",
                    "online": ("on",),
                    "offline": ("off",),
                    "service": "{prefix}/lwt",
                    "service_online": ("alive",),
                    "service_offline": ("dead",),
                },
            ),
            prefix="viseron",
        ),
        # One process per camera, named by the device's serial number.
        "amcrest2mqtt": Preset(rules=({"topic": "{prefix}/{camera}/status"},), prefix="amcrest2mqtt"),
        "wyze-bridge": Preset(
            rules=(
                {
                    "topic": "{prefix}/{camera}/state",
                    "offline": ("offline", "stopped", "disconnected"),
                    "service": "{prefix}/state",
                },
            ),
            prefix="wyzebridge",
        ),
        # The property Online as text; what it sends on a reconnect is not retained.
        "scrypted": Preset(
            rules=({"topic": "{prefix}/{camera}/online", "online": ("true",), "offline": ("false",)},),
            prefix="scrypted",
        ),
        # docs/TOPICS.md: ring/<location>/camera/<device>/status.
        "ring-mqtt": Preset(rules=({"topic": "{prefix}/+/camera/{camera}/status"},), prefix="ring"),
        # An Axis camera's connection messages are free settings of the camera: nothing is guessed.
        "axis": Preset(rules=({},), needs=("topic", "json", "online", "offline")),
    }
)


def expanded(preset: Preset, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the keys of the rules that a preset and the user's own keys make together.

    A topic of the user's own replaces all rules of the preset by one. Sources must not share a name: the rules of a
    preset are told apart by what their topics end in.
    """
    prefix = given.get("prefix") or preset.prefix
    rules = preset.rules[:1] if "topic" in given else preset.rules
    found = []
    for rule in rules:
        keys = {**rule, **{key: value for key, value in given.items() if key not in ("preset", "prefix")}}
        for key in ("topic", "service"):
            keys[key] = keys.get(key, "").replace("{prefix}", prefix)
        own = given.get("name") or name
        keys["name"] = own if len(rules) == 1 else f"{own}-{keys['topic'].rpartition('/')[2]}"
        found.append(keys)
    return tuple(found)
