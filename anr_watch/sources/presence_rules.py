"""MQTT messages to presence evidence by the configured rules. Pure: never raises, whatever a message holds.

A rule's topic names the camera with `{camera}`, which may be a whole level or a part of one
(`binary_sensor/{camera}_connected/state`); `+` stands for any level, `#` at the end for all that follows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson

from anr_watch.config import PresenceRule
from anr_watch.presence import Evidence
from anr_watch.states import Presence

# No status message of any system in the field reaches 10 KB; parsing 256 KiB of JSON costs about 1 ms.
MAX_PAYLOAD_BYTES = 256 * 1024
CAMERA = "{camera}"


class Ignored(StrEnum):
    """Why a message that a rule's topic matches is no evidence; the values are names of counters."""

    EMPTY = "empty"  # how a retained message is deleted
    TOO_LARGE = "too_large"
    NOT_TEXT = "not_text"  # no UTF-8
    NOT_JSON = "not_json"
    NO_VALUE = "no_value"  # the path leads nowhere, or to null, a list or an object
    LISTED = "listed"  # the rule says so: "disabled" and the like
    UNLISTED = "unlisted"
    RETAINED = "retained"
    UNKNOWN_CAMERA = "unknown_camera"


@dataclass(frozen=True, slots=True)
class Found:
    """What one message says: evidence in the order of the rules, and why other rules ignored it.

    `lost` are sources that are not there any more themselves: nothing is known of their cameras.
    """

    evidence: tuple[Evidence, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    source: str
    topic: re.Pattern[str]
    path: tuple[str, ...]  # empty: the payload is the text itself
    levels: Mapping[str, Presence | Ignored]
    seeds: bool  # whether retained messages set a level
    names: Mapping[str, str]
    service: str
    service_path: tuple[str, ...]
    service_levels: Mapping[str, Presence | Ignored]


class Rules:
    """The compiled rules; `filters` is what has to be subscribed to.

    Raises:
        ValueError: a topic is no pattern with exactly one `{camera}`; the text names the rule.
    """

    def __init__(self, rules: Iterable[PresenceRule]) -> None:
        kept = tuple(rules)
        self._rules = tuple(_compiled(rule) for rule in kept)
        self.filters = tuple(dict.fromkeys(name for rule in kept for name in _filters(rule)))
        self.sources = tuple(dict.fromkeys(rule.source for rule in self._rules))
        self.heartbeats = {
            compiled.source: rule.heartbeat_s
            for compiled, rule in zip(self._rules, kept, strict=True)
            if rule.heartbeat_s > 0
        }

    def match(self, topic: str, payload: bytes, *, retained: bool, at: datetime, cameras: Collection[str]) -> Found:
        """Return what a message says about `cameras`; nothing at all if no rule's topic matches.

        Costs at most one decoding or parsing of `MAX_PAYLOAD_BYTES` per rule that matches.
        """
        evidence: list[Evidence] = []
        ignored: list[Ignored] = []
        lost: list[str] = []
        for rule in self._rules:
            if rule.service == topic:
                said = _level(payload, rule.service_path, rule.service_levels)
                if said is Presence.OFFLINE:
                    lost.append(rule.source)
                elif isinstance(said, Ignored):
                    ignored.append(said)
                continue
            place = rule.topic.fullmatch(topic)
            if place is None:
                continue
            camera_id = rule.names.get(place["camera"], place["camera"])
            said = (
                Ignored.UNKNOWN_CAMERA
                if camera_id not in cameras
                else Ignored.RETAINED
                if retained and not rule.seeds
                else _level(payload, rule.path, rule.levels)
            )
            if isinstance(said, Presence):
                evidence.append(Evidence(camera_id, rule.source, said, retained, at))
            else:
                ignored.append(said)
        return Found(tuple(evidence), tuple(ignored), tuple(lost))


def _filters(rule: PresenceRule) -> Iterator[str]:
    """Yield what one rule subscribes to; names with a slash, as Zigbee2MQTT has them, need filters of their own."""
    yield subscription(rule.topic)
    for name in rule.names:
        if "/" in name:
            yield rule.topic.replace(CAMERA, name)
    if rule.service:
        yield rule.service


def subscription(topic: str) -> str:
    """Return the MQTT filter for a rule's topic: a level that holds `{camera}` becomes `+`.

    Raises:
        ValueError: the topic is no pattern with exactly one `{camera}`.
    """
    levels = topic.split("/")
    whole = topic.replace(CAMERA, "", 1)
    if topic.count(CAMERA) != 1:
        raise ValueError(f"{topic!r}: exactly one {CAMERA} must stand in the topic")
    if any(len(level) > 1 and set(level) & set("+#") for level in levels) or "#" in levels[:-1]:
        raise ValueError(f"{topic!r}: + and # stand for whole levels, # only for the last")
    if levels[0] == "$share":
        raise ValueError(f"{topic!r}: a shared subscription would hide messages from this node")
    if not whole.isprintable() or "{" in whole or "}" in whole or len(topic.encode()) > 1000:
        raise ValueError(f"{topic!r}: not a topic pattern")
    return "/".join("+" if CAMERA in level else level for level in levels)


def _compiled(rule: PresenceRule) -> _Rule:
    try:
        subscription(rule.topic)
    except ValueError as error:
        raise ValueError(f"presence rule {rule.name or rule.topic!r}: {error}") from None
    parts = []
    for level in rule.topic.split("/"):
        if level == "+":
            parts.append("[^/]*")
        elif level == "#":
            parts.append("#")
        else:
            before, named, after = level.partition(CAMERA)
            longer = "".join(f"|{re.escape(name)}" for name in rule.names if "/" in name)
            camera = f"(?P<camera>[^/]+{longer})" if named else ""
            parts.append(re.escape(before) + camera + re.escape(after))
    # `a/#` also matches `a` itself (MQTT 5, 4.7.1.2).
    pattern = "/".join(parts)
    pattern = pattern.removesuffix("/#") + "(?:/.*)?" if pattern.endswith("/#") else pattern
    return _Rule(
        source=f"mqtt:{rule.name or rule.topic}",
        topic=re.compile(pattern, re.DOTALL),
        path=tuple(rule.json.split(".")) if rule.json else (),
        levels=_levels(rule.online, rule.offline, rule.ignore),
        seeds=rule.retained == "level",
        names=dict(rule.names),
        service=rule.service,
        service_path=tuple(rule.service_json.split(".")) if rule.service_json else (),
        service_levels=_levels(rule.service_online, rule.service_offline, ()),
    )


def _levels(online: Iterable[str], offline: Iterable[str], ignore: Iterable[str]) -> dict[str, Presence | Ignored]:
    levels: dict[str, Presence | Ignored] = {text.strip(): Ignored.LISTED for text in ignore}
    levels |= {text.strip(): Presence.OFFLINE for text in offline}
    levels |= {text.strip(): Presence.ONLINE for text in online}
    return levels


def _level(payload: bytes, path: tuple[str, ...], levels: Mapping[str, Presence | Ignored]) -> Presence | Ignored:
    if not payload:
        return Ignored.EMPTY
    if len(payload) > MAX_PAYLOAD_BYTES:
        return Ignored.TOO_LARGE
    text = _value(payload, path) if path else _text(payload)
    return text if isinstance(text, Ignored) else levels.get(text, Ignored.UNLISTED)


def _text(payload: bytes) -> str | Ignored:
    try:
        return payload.decode().strip()
    except UnicodeDecodeError:
        return Ignored.NOT_TEXT


def _value(payload: bytes, path: tuple[str, ...]) -> str | Ignored:
    try:
        value = orjson.loads(payload)  # refuses nesting deeper than 1024 by itself
    except orjson.JSONDecodeError:
        return Ignored.NOT_JSON
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) <= 6:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return Ignored.NO_VALUE
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else Ignored.NO_VALUE
