"""JSON Schemas (2020-12) of everything that goes over the broker, made from `shapes`. Pure; reads and writes nothing.

The shapes are the source: a key's type, whether it may be missing, and the text that says what it means stand there.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from anr_watch.mqtt import shapes
from anr_watch.mqtt.commands import FIELDS, Verb
from anr_watch.mqtt.events import PREFIX
from anr_watch.states import Presence, Reason

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# By key, as keys mean the same wherever they stand.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "reason": tuple(reason.value for reason in Reason),
    "parked": tuple(reason.value for reason in Reason),
    "presence": tuple(presence.value for presence in Presence),
    "join_head": ("exact", "time", "none"),
    "join_tail": ("exact", "time", "none"),
    "result": ("completed", "partial", "failed"),
}
_TIMES = frozenset({"start", "end", "since", "time", "from", "to"})
_TYPES: Mapping[type, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}
_COMMANDS: Mapping[Verb, str] = {
    Verb.FILL: "Fetch what is missing of a camera's window.",
    Verb.RETRY: "Try again what failed, of a gap or of all gaps of a camera, and unpark the camera.",
    Verb.CANCEL: "Stop a running fill, or all of a camera; what it has is kept.",
    Verb.RECHECK: "Look at database, folder and gaps again.",
    Verb.PAUSE: "Start no fills, of one camera or of all; with `on` false start them again.",
    Verb.RESUME: "Start fills again.",
}


def of_shape(shape: type) -> Schema:
    """Return the schema of a TypedDict; keys may be added within a version, so others than these are allowed."""
    hints = get_type_hints(shape, include_extras=True)
    return {
        "type": "object",
        "description": inspect.getdoc(shape) or "",
        "properties": {key: _of(key, hint) for key, hint in hints.items()},
        # Not __required_keys__: it does not see NotRequired in annotations that are still texts.
        "required": sorted(key for key, hint in hints.items() if get_origin(hint) is not NotRequired),
    }


def _of(key: str, hint: Any) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (NotRequired, Required):
        return _of(key, inner[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(key, one) for one in inner]}
    if origin is dict:
        return {"type": "object"}
    if origin is list:
        return {"type": "array", "items": _of("", inner[0])}
    if origin is Literal:
        return {"enum": list(inner)}
    if is_typeddict(hint):
        return of_shape(hint)
    schema = dict(_TYPES[hint])
    if hint is str and key in _WORDS:
        schema["enum"] = list(_WORDS[key])
    elif hint is str and (key in _TIMES or key.endswith("_at")):
        schema["format"] = "date-time"
    return schema


def of_event(kind: str, data: type) -> Schema:
    """Return the schema of an event: a CloudEvents 1.0 object around its data, to which the camera's id is added."""
    body = of_shape(data)
    body["properties"] = {"camera": {"type": "string"}, **body["properties"]}
    body["required"] = sorted(["camera", *body["required"]])
    described = (inspect.getdoc(data) or "").split("\n")[0]
    return {
        "type": "object",
        "description": f"CloudEvents 1.0, `{PREFIX}{kind}`. {described}",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "The same for the same fact: drop repeats by `source` and `id`."},
            "type": {"const": PREFIX + kind},
            "source": {"type": "string", "description": "`<base>/<node>`, percent-encoded as a URI reference."},
            "subject": {"type": "string", "description": "The camera's id."},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "data": body,
        },
        "required": ["data", "datacontenttype", "id", "source", "specversion", "subject", "time", "type"],
    }


def of_command(verb: Verb) -> Schema:
    """Return the schema of what a command's payload holds; unknown keys are refused."""
    keys: Schema = {
        key: {"type": "string", "format": "date-time"}
        if key in ("from", "to")
        else {"type": "boolean", "default": True}
        if key == "on"
        else {"type": "string", "minLength": 1, "maxLength": 200}
        for key in FIELDS[verb]
    }
    keys["transaction"] = {
        "anyOf": [{"type": "string", "maxLength": 200}, {"type": "integer"}, {"type": "null"}],
        "description": "Repeated in the reply.",
    }
    schema: Schema = {
        "type": "object",
        "description": _COMMANDS[verb],
        "properties": keys,
        "additionalProperties": False,
    }
    if verb is Verb.FILL:
        schema["required"] = ["camera", "from", "to"]
    elif verb in (Verb.RETRY, Verb.CANCEL):
        schema["oneOf"] = [{"required": ["gap"]}, {"required": ["camera"]}]
    return schema


def events() -> dict[str, Schema]:
    """Return the schema of each event by its type without the prefix: `fill.completed.v1`."""
    return {kind: of_event(kind, data) for kind, data in shapes.EVENTS.items()}


def documents() -> dict[str, Schema]:
    """Return every schema as a document of its own, by name: what stands in `anr_watch/schemas`."""
    found = {
        **{f"event.{kind}": schema for kind, schema in events().items()},
        "camera.state": of_shape(shapes.CameraState),
        "node.info": of_shape(shapes.NodeInfo),
        "reply": of_shape(shapes.ReplyData),
        **{f"command.{verb}": of_command(verb) for verb in Verb},
    }
    return {
        name: {"$schema": DIALECT, "$id": f"anr-watch:{name}", "title": name, **schema}
        for name, schema in found.items()
    }
