"""MQTT messages to presence evidence by the configured rules. Pure: never raises, whatever a message holds.

A rule's topic names the camera with `{camera}`, which may be a whole level or a part of one
(`binary_sensor/{camera}_connected/state`); `+` stands for any level, `#` at the end for all that follows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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
    """What one message says: evidence in the order of the rules, and why other rules ignored it."""

    evidence: tuple[Evidence, ...] = ()
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    source: str
    topic: re.Pattern[str]
    path: tuple[str, ...]  # empty: the payload is the text itself
    levels: Mapping[str, Presence | Ignored]
    seeds: bool  # whether retained messages set a level
    names: Mapping[str, str]


class Rules:
    """The compiled rules; `filters` is what has to be subscribed to.

    Raises:
        ValueError: a topic is no pattern with exactly one `{camera}`; the text names the rule.
    """

    def __init__(self, rules: Iterable[PresenceRule]) -> None:
        kept = tuple(rules)
        self._rules = tuple(_compiled(rule) for rule in kept)
        self.filters = tuple(dict.fromkeys(subscription(rule.topic) for rule in kept))
        self.sources = tuple(dict.fromkeys(rule.source for rule in self._rules))

    def match(self, topic: str, payload: bytes, *, retained: bool, at: datetime, cameras: Collection[str]) -> Found:
        """Return what a message says about `cameras`; nothing at all if no rule's topic matches.

        Costs at most one decoding or parsing of `MAX_PAYLOAD_BYTES` per rule that matches.
        """
        evidence: list[Evidence] = []
        ignored: list[Ignored] = []
        for rule in self._rules:
            place = rule.topic.fullmatch(topic)
            if place is None:
                continue
            camera_id = rule.names.get(place["camera"], place["camera"])
            said = Ignored.UNKNOWN_CAMERA if camera_id not in cameras else _said(rule, payload, retained=retained)
            if isinstance(said, Presence):
                evidence.append(Evidence(camera_id, rule.source, said, retained, at))
            else:
                ignored.append(said)
        return Found(tuple(evidence), tuple(ignored))


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
            camera = "(?P<camera>[^/]+)" if named else ""
            parts.append(re.escape(before) + camera + re.escape(after))
    # `a/#` also matches `a` itself (MQTT 5, 4.7.1.2).
    pattern = "/".join(parts)
    pattern = pattern.removesuffix("/#") + "(?:/.*)?" if pattern.endswith("/#") else pattern
    levels: dict[str, Presence | Ignored] = {text.strip(): Ignored.LISTED for text in rule.ignore}
    levels |= {text.strip(): Presence.OFFLINE for text in rule.offline}
    levels |= {text.strip(): Presence.ONLINE for text in rule.online}
    return _Rule(
        source=f"mqtt:{rule.name or rule.topic}",
        topic=re.compile(pattern, re.DOTALL),
        path=tuple(rule.json.split(".")) if rule.json else (),
        levels=levels,
        seeds=rule.retained == "level",
        names=dict(rule.names),
    )


def _said(rule: _Rule, payload: bytes, *, retained: bool) -> Presence | Ignored:
    if retained and not rule.seeds:
        return Ignored.RETAINED
    if not payload:
        return Ignored.EMPTY
    if len(payload) > MAX_PAYLOAD_BYTES:
        return Ignored.TOO_LARGE
    text = _value(payload, rule.path) if rule.path else _text(payload)
    return text if isinstance(text, Ignored) else rule.levels.get(text, Ignored.UNLISTED)


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
