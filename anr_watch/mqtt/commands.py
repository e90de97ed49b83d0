"""Commands from the broker to values, and answers back to payloads. Pure: carries nothing out.

A command is a JSON object on `<base>/<node>/cmd/<verb>`:

    fill     camera, from, to        fetch what is missing of a window
    retry    gap | camera            try again what failed, unpark the camera
    cancel   gap | camera            stop running fills
    recheck  [camera]                look at everything again
    pause    [camera] [on]           start no fills; "on": false is resume
    resume   [camera]                start them again

Every verb takes `transaction` (a text or an integer), which the answer repeats. Times are RFC 3339.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from anr_watch.errors import AnrWatchError, ParseError
from anr_watch.instants import parse_instant
from anr_watch.log import one_line
from anr_watch.model import Window
from anr_watch.mqtt.topics import Topics, can_publish

MAX_COMMAND_BYTES = 64 * 1024
_MAX_ID_CHARS = 200
_MAX_REPLY_TOPIC_CHARS = 1000
Transaction = str | int | None


class Verb(StrEnum):
    """What can be asked for; the values are the topic levels."""

    FILL = "fill"
    RETRY = "retry"
    CANCEL = "cancel"
    RECHECK = "recheck"
    PAUSE = "pause"
    RESUME = "resume"


FIELDS: Mapping[Verb, tuple[str, ...]] = {
    Verb.FILL: ("camera", "from", "to"),
    Verb.RETRY: ("gap", "camera"),
    Verb.CANCEL: ("gap", "camera"),
    Verb.RECHECK: ("camera",),
    Verb.PAUSE: ("camera", "on"),
    Verb.RESUME: ("camera",),
}
_ONE_OF = frozenset({Verb.RETRY, Verb.CANCEL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One well-formed command. Whether the camera or the gap exists is for whoever carries it out to say.

    `window` is set for `fill`; exactly one of `camera_id` and `gap_id` for `retry` and `cancel`.
    """

    verb: Verb
    camera_id: str | None = None
    gap_id: str | None = None
    window: Window | None = None
    on: bool = True  # of pause: false ends it
    transaction: Transaction = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a command: `data` when it was carried out, `error` (one line for a person) when not."""

    data: Mapping[str, object] | None = None
    error: str | None = None


class CommandError(AnrWatchError):
    """A command cannot be understood; the text says what is wrong and what would be right."""

    def __init__(self, text: str, transaction: Transaction = None) -> None:
        self.transaction = transaction
        super().__init__(one_line(text, 300))


def parse(verb: str, payload: bytes) -> Command:
    """Return the command that a payload on `cmd/<verb>` holds; an empty payload is an empty object.

    Raises:
        CommandError: unknown verb or field, missing field, wrong type, no JSON object, too large.
    """
    if len(payload) > MAX_COMMAND_BYTES:
        raise CommandError(f"the payload has {len(payload)} bytes; at most {MAX_COMMAND_BYTES} are read")
    fields = _object(payload)
    transaction = _transaction(fields.pop("transaction", None))
    try:
        return _command(verb, fields, transaction)
    except ParseError as error:
        raise CommandError(str(error), transaction) from None


def payload_of(reply: Reply, transaction: Transaction) -> bytes:
    """Return the JSON of an answer: `{status: ok|error, data, error, transaction}`."""
    answer = {
        "status": "ok" if reply.error is None else "error",
        "data": None if reply.data is None else dict(reply.data),
        "error": None if reply.error is None else one_line(reply.error, 1000),
        "transaction": transaction,
    }
    return orjson.dumps(answer)


def reply_topic(topics: Topics, verb: str, response_topic: str | None, *, prefix: str = "") -> str:
    """Return where an answer goes: the sender's response topic if that is allowed, else `reply/<verb>`.

    Allowed is what lies under `prefix`, or without one under `anr-watch/reply/`, and always what lies under our own
    `reply/`: otherwise anybody who may publish a command could make us write wherever the broker lets us.
    """
    known = verb if verb in tuple(Verb) else "unknown"
    if response_topic is None or len(response_topic) > _MAX_REPLY_TOPIC_CHARS or not can_publish(response_topic):
        return topics.reply(known)
    allowed = (f"{topics.root}/reply/", f"{(prefix or 'anr-watch/reply').rstrip('/')}/")
    to_ourselves = topics.verb(response_topic) is not None
    return response_topic if response_topic.startswith(allowed) and not to_ourselves else topics.reply(known)


def _object(payload: bytes) -> dict[str, object]:
    if not payload.strip():
        return {}
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise CommandError(f"the payload is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise CommandError('the payload must be a JSON object, like {"camera": "front"}')
    return fields


def _transaction(value: object) -> Transaction:
    # A bool is an int to isinstance; integers of more than 64 bits arrive as floats and are refused below.
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and len(value) <= _MAX_ID_CHARS:
        return value
    raise CommandError(f"transaction must be an integer or a text of at most {_MAX_ID_CHARS} characters")


def _command(verb_text: str, fields: Mapping[str, object], transaction: Transaction) -> Command:
    try:
        verb = Verb(verb_text)
    except ValueError:
        raise ParseError(f"no such command: {verb_text[:40]!r} (right: {', '.join(Verb)})") from None
    known = FIELDS[verb]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ParseError(f"{verb} has no field {unknown[0][:40]!r} (right: {', '.join(known)}, transaction)")
    camera_id, gap_id = _id(fields, "camera"), _id(fields, "gap")
    if verb in _ONE_OF and (camera_id is None) == (gap_id is None):
        raise ParseError(f"{verb} needs either gap or camera")
    if verb is not Verb.FILL:
        on = fields.get("on", True)
        if not isinstance(on, bool):
            raise ParseError("on must be true or false")
        return Command(verb=verb, camera_id=camera_id, gap_id=gap_id, on=on, transaction=transaction)
    if camera_id is None:
        raise ParseError("fill needs camera")
    return Command(verb=verb, camera_id=camera_id, window=_window(fields), transaction=transaction)


def _id(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID_CHARS or not value.isprintable():
        raise ParseError(f"{name} must be a text of 1 to {_MAX_ID_CHARS} printable characters")
    return value


def _window(fields: Mapping[str, object]) -> Window:
    times = []
    for name in ("from", "to"):
        if name not in fields:
            raise ParseError(f"fill needs {name}")
        try:
            times.append(parse_instant(fields[name]))
        except ParseError as error:
            raise ParseError(f"{name}: {error}") from None
    if times[1] <= times[0]:
        raise ParseError("to must be later than from")
    if times[0].year < 1970:  # unix times begin there
        raise ParseError("from must not be before 1970")
    return Window(times[0], times[1])
