"""One configured value at a time: from what a file or the environment gave to the type its key has. Pure.

Only form and range of a single value are judged here; what values mean together stands in `checking.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from anr_watch.model import Secret

# Least and greatest value per key; a key without a line takes any number from 0 up.
LIMITS: Mapping[str, tuple[float, float]] = {
    "database.busy_timeout_s": (0.1, 300),
    "recordings.min_free_mb": (0, 1e9),
    "fills.max_attempts": (1, 1000),
    "fills.max_gap_hours": (0.01, 87_600),  # ten years
    "fills.min_gap_s": (0, 86_400),
    "fills.parallel": (1, 64),
    "fills.settle_s": (0, 3600),
    "fills.sweep_s": (0, 86_400),
    "fills.max_request_s": (1, 86_400),
    "fills.connect_timeout_s": (0.1, 300),
    "fills.stall_timeout_s": (0.1, 300),
    "fills.live_silence_s": (0, 600),
    "fills.live_wait_s": (1, 3600),
    "fills.stop_grace_s": (0, 300),
    "watch.step_ms": (1, 1000),
    "watch.debounce_ms": (1, 10_000),
    "mqtt.port": (1, 65_535),
    "mqtt.keepalive_s": (1, 65_535),  # MQTT: two bytes
    "mqtt.session_expiry_s": (0, 4_294_967_295),  # MQTT 5: four bytes
    "mqtt.presence.heartbeat_s": (0, 86_400),
    "camera.rtsp_port": (1, 65_535),
    "camera.segment_s": (1, 3600),
    "replay.lead_s": (0, 600),
    "replay.trail_s": (0, 600),
    "replay.margin_s": (0, 600),
    "replay.max_mb_s": (0, 10_000),
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, where, and how to read it."""

    value: object
    name: str  # for messages: the dotted key, or the environment variable
    folder: Path  # what a relative path in it is relative to
    is_text: bool = False  # from the environment: numbers, truth values and lists are written as text


class WrongValueError(ValueError):
    """A value that its key cannot take; the text says what would be right."""


def converted(given: Given, kind: Any, limits: tuple[float, float] | None = None) -> Any:
    """Return the value as `kind`, one of the types that fields of the settings have.

    Raises:
        WrongValueError: wrong type or out of range.
    """
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return converted(given, next(choice for choice in choices if choice is not NoneType), limits)
    if origin is Literal:
        if given.value not in choices:
            raise WrongValueError("must be one of " + ", ".join(f'"{choice}"' for choice in choices))
        return given.value
    if origin is tuple:
        return _texts(given)
    if kind is bool:
        return _truth(given)
    if kind in (int, float):
        return _number(given, kind, limits)
    text = _text(given.value)
    if kind is Path:
        if not text:
            raise WrongValueError("must be a path")
        return path_in(given.folder, text)
    return Secret(text) if kind is Secret else text


def path_in(folder: Path, text: str) -> Path:
    """Return the path that `text` means: relative to `folder`, `~` for a home folder.

    Raises:
        WrongValueError: there is no such home folder.
    """
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:
        raise WrongValueError("must be a path; the home folder of this user is unknown") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValueError('must be text, in quotation marks: "..."')
    if any(not character.isprintable() for character in value):
        raise WrongValueError("must not hold line breaks or control characters")
    return value


def _truth(given: Given) -> bool:
    if isinstance(given.value, bool):
        return given.value
    word = str(given.value).strip().lower()
    if given.is_text and word in _TRUE + _FALSE:
        return word in _TRUE
    raise WrongValueError("must be true or false")


def _number(given: Given, kind: Any, limits: tuple[float, float] | None) -> int | float:
    least, most = limits or (0, math.inf)
    span = f"from {least:g} to {most:.12g}"
    value = given.value
    if given.is_text:
        try:
            value = kind(str(value).strip())
        except ValueError:
            value = None
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise WrongValueError(f"must be a {'whole ' if whole else ''}number {span}")
    if not least <= value <= most:  # false for nan as well
        raise WrongValueError(f"must be {span}")
    return value if whole else float(value)


def _texts(given: Given) -> tuple[str, ...]:
    value = given.value
    if given.is_text:
        value = listed(str(value))
    if not isinstance(value, list):
        raise WrongValueError('must be a list of texts: ["...", "..."]')
    return tuple(_text(item) for item in value)


def listed(text: str) -> object:
    """Return what an environment variable holds for a list or table: JSON, or texts with commas between.

    Raises:
        WrongValueError: it starts like JSON and is none.
    """
    if not text.strip().startswith(("[", "{")):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise WrongValueError("must be valid JSON, or texts with commas between them") from None
