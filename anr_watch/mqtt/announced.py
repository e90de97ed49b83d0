"""What Home Assistant has been told, as a note that outlives a restart, and what takes back what is so no more. Pure.

An empty message goes only where something was said that is not said any more: on a shared broker everybody hears it,
and Home Assistant logs a warning for each device it is asked to remove and does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import orjson

from anr_watch.model import Message
from anr_watch.mqtt.homeassistant import HomeAssistant, Mode, removal
from anr_watch.mqtt.topics import Topics

_MODES: tuple[Mode, ...] = ("off", "entities", "device")


@dataclass(frozen=True, slots=True)
class Announced:
    """How discovery was configured when these cameras were told of; with mode `off` nothing was said."""

    mode: Mode
    prefix: str
    base: str
    node: str
    cameras: frozenset[str] = frozenset()

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic on which a configuration was said."""
        if self.mode == "off":
            return ()
        return HomeAssistant(Topics(self.base, self.node), "", self.mode, self.prefix).said(sorted(self.cameras))

    def of(self, camera_ids: Iterable[str]) -> Announced:
        """Return the same for other cameras."""
        return replace(self, cameras=frozenset(camera_ids))


def taken_back(before: Sequence[Announced], now: Announced) -> list[Message]:
    """Return what removes everything that was said before and is not said now."""
    stays = set(now.topics)
    gone = dict.fromkeys(topic for one in before for topic in one.topics if topic not in stays)
    return [removal(topic) for topic in gone]


def noted(told: Sequence[Announced]) -> str:
    """Return it as it stands in the database."""
    return orjson.dumps([{**asdict(one), "cameras": sorted(one.cameras)} for one in told]).decode()


def read(text: str | None) -> list[Announced]:
    """Return what was noted; what cannot be read is nothing."""
    try:
        found = orjson.loads(text or "[]")
    except orjson.JSONDecodeError:
        return []
    return [one for entry in found if (one := _read(entry)) is not None] if isinstance(found, list) else []


def _read(entry: object) -> Announced | None:
    if not isinstance(entry, dict):
        return None
    mode = next((mode for mode in _MODES if mode == entry.get("mode")), None)
    prefix, base, node, cameras = (entry.get(name) for name in ("prefix", "base", "node", "cameras"))
    if mode is None or not isinstance(cameras, list):
        return None
    if not (isinstance(prefix, str) and isinstance(base, str) and isinstance(node, str)):
        return None
    return Announced(mode, prefix, base, node, frozenset(str(camera) for camera in cameras))
