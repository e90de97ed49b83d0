"""The AsyncAPI 3 document of everything on the broker, and its table for the documentation. Pure.

Both are made from the same shapes as the messages. `make contract` writes what is committed: `docs/asyncapi.json`
and the schemas in the package; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anr_watch.mqtt import schema, shapes
from anr_watch.mqtt.commands import Verb

SPEC = "3.0.0"
_BEGIN, _END = "<!-- contract: made by `make contract` -->", "<!-- end of contract -->"
CONTRACT_VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic: its name in the document, who sends, whether it is retained, its messages by name."""

    name: str
    topic: str
    says: str
    messages: tuple[str, ...]
    ours: bool = True  # we publish; else we subscribe
    retained: bool = False


_TEXT = {"status.text": {"type": "string", "enum": ["online", "offline"]}}


def channels() -> Iterator[Channel]:
    """Yield every topic of a node, in the order of the documentation."""
    root = "{base}/{node}"
    camera = f"{root}/camera/{{camera}}"
    kinds = tuple(f"event.{kind}" for kind in shapes.EVENTS)
    yield Channel(
        "status", f"{root}/status", "The node is there, or gone; also its will.", ("status.text",), retained=True
    )
    yield Channel("info", f"{root}/info", "What the node is.", ("node.info",), retained=True)
    yield Channel("state", f"{camera}/state", "A camera as it is now.", ("camera.state",), retained=True)
    yield Channel("event", f"{camera}/event", "What happened, one CloudEvents object each.", kinds)
    for verb in Verb:
        says = schema.of_command(verb)["description"]
        yield Channel(f"cmd_{verb}", f"{root}/cmd/{verb}", says, (f"command.{verb}",), ours=False)
    yield Channel("reply", f"{root}/reply/{{verb}}", "Answers without a response topic.", ("reply",))


def document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    messages = {**_TEXT, **schema.documents()}
    return {
        "asyncapi": SPEC,
        "info": {
            "title": "anr-watch",
            "version": CONTRACT_VERSION,
            "description": (
                "Gaps of camera recordings, filled from the cameras' own storage. Everything lies below"
                " <base>/<node>. Events are delivered at least once; the same fact has the same id. Keys may be added"
                " within a version; a change of meaning gets a new event type (v2), and both are sent for one minor"
                " release."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            channel.name: {
                "address": channel.topic,
                "description": channel.says,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
                "parameters": {
                    name: {"description": said}
                    for name, said in _PARAMETERS.items()
                    if f"{{{name}}}" in channel.topic
                },
            }
            for channel in channels()
        },
        "operations": {
            channel.name: {
                "action": "send" if channel.ours else "receive",
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "bindings": {"mqtt": {"qos": 1, "retain": channel.retained, "bindingVersion": "0.2.0"}},
            }
            for channel in channels()
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "contentType": _content_type(name),
                    "payload": {key: value for key, value in shape.items() if not key.startswith("$")},
                }
                for name, shape in messages.items()
            }
        },
    }


_PARAMETERS = {
    "base": "`[mqtt] base`, default anr-watch.",
    "node": "`[mqtt] node`, default the host's name.",
    "camera": "The camera's id; where that cannot be a topic level, a slug of it (see the node's info).",
    "verb": "The verb that was answered.",
}


def _content_type(name: str) -> str:
    if name in _TEXT:
        return "text/plain"
    return "application/cloudevents+json" if name.startswith("event.") else "application/json"


def table() -> str:
    """Return the Markdown table of all topics and event types for the documentation."""
    lines = ["| topic | who | retained | content |", "| --- | --- | --- | --- |"]
    for channel in channels():
        topic = channel.topic.replace("{", "<").replace("}", ">")
        who = "anr-watch" if channel.ours else "you"
        lines.append(f"| `{topic}` | {who} | {'yes' if channel.retained else 'no'} | {channel.says} |")
    lines += ["", "| event type | says |", "| --- | --- |"]
    for kind, data in schema.events().items():
        said = shapes.SAYS[kind]
        keys = ", ".join(f"`{key}`" for key in data["properties"]["data"]["properties"] if key != "camera")
        lines.append(f"| `io.anr-watch.{kind}` | {said} Data: {keys} |")
    return "\n".join(lines) + "\n"


def written(root: Path) -> dict[Path, str]:
    """Return the committed files and their content, below the repository's root."""
    folder = root / "anr_watch" / "schemas"
    found = {folder / f"{name}.json": as_text(shape) for name, shape in schema.documents().items()}
    guide = root / "docs" / "mqtt.md"
    before, begin, rest = guide.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    filled_in = f"{before}{begin}\n\n{table()}\n{end}{after}"
    return {**found, root / "docs" / "asyncapi.json": as_text(document()), guide: filled_in}


def as_text(value: object) -> str:
    """Return JSON as it is committed: indented by two, a line end at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
