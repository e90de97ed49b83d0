"""The published contract: what is committed is what the code makes, it is valid, and real messages fit it."""

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import orjson
import pytest

from anr_watch.live_first import Pace
from anr_watch.model import Attempt, CameraFacts, DeviceClock, Gap, Window
from anr_watch.mqtt import asyncapi, commands, events, schema, shapes
from anr_watch.states import Presence, Reason

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)
WINDOW = Window(T0, T0 + timedelta(seconds=90))
GAP = Gap("gap_1", "gate", WINDOW, "", "")
ATTEMPT = Attempt(id="att_1", gap_id="gap_1", camera_id="gate", number=1, window=WINDOW, started_at=T0, wanted_s=90.0)
ENDED = replace(ATTEMPT, ended_at=T0, reason=Reason.CUT_SHORT, got_s=60.0, speed=8.0, next_at=T0, join_head="exact")
CLOCK = DeviceClock("10.0.0.5:554", 3.2, 0.01, T0, 4, "join")
PACE = Pace("10.0.0.1:554", 250_000.0, 2_000_000.0, 1, T0, T0)


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        schema.documents()[name], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def test_what_is_committed_is_what_the_code_makes():
    written = asyncapi.written(ROOT)
    for path, text in written.items():
        assert path.read_text() == text, f"{path.name} is old: make contract"
    assert set((ROOT / "anr_watch" / "schemas").glob("*.json")) == {p for p in written if p.parent.name == "schemas"}


def test_the_asyncapi_document_is_valid():
    rules = json.loads(gzip.decompress((ROOT / "tests" / "asyncapi-3.0.0.json.gz").read_bytes()))
    jsonschema.Draft7Validator(rules).validate(asyncapi.document())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(rules).validate({**asyncapi.document(), "channels": []})


@pytest.mark.parametrize("name", schema.documents())
def test_every_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(schema.documents()[name])


def told():
    """One message of every kind, as the daemon makes them."""
    say = events.Announcer("box")
    yield from say.gap_detected(GAP, at=T0, origin="edge", reaction_ms=1.0)
    yield from say.fill_started(GAP, ATTEMPT, at=T0, reaction_ms=1.0)
    yield from say.fill_progress(GAP, ATTEMPT, at=T0, step=1)
    for filled, missing in (([WINDOW], []), ([WINDOW], [WINDOW]), ([], [WINDOW])):
        yield from say.fill_ended(GAP, ENDED, at=T0, filled=filled, missing=missing)
    yield from say.camera_online("gate", at=T0, source="mqtt:frigate")
    yield from say.camera_offline("gate", at=T0, source="database")
    yield from say.camera_parked("gate", at=T0, reason=Reason.UNAUTHORIZED, detail="401")
    yield from say.camera_unparked("gate", at=T0)
    yield from say.clock_corrected("gate", at=T0, clock=CLOCK, before_s=0.0)
    yield from say.camera_slowed("gate", at=T0, pace=PACE, why="live recording stood still for 6.1 s")


def test_every_event_fits_its_schema_and_every_type_is_described():
    kinds = set()
    for message in told():
        event = orjson.loads(message.payload)
        kind = event["type"].removeprefix(events.PREFIX)
        validator(f"event.{kind}").validate(event)
        kinds.add(kind)
        assert message.topic == "anr-watch/box/camera/gate/event"
        with pytest.raises(jsonschema.ValidationError):
            validator(f"event.{kind}").validate({**event, "time": "yesterday"})
    assert kinds == set(shapes.EVENTS) == set(shapes.SAYS)


def test_states_fit_their_schemas():
    say = events.Announcer("box")
    facts = CameraFacts("gate", pending_gaps=1, missing_s=90.0, last=ENDED)
    for message, name in (
        (
            *say.camera_state("gate", at=T0, presence=Presence.ONLINE, since=T0, facts=facts, clock=CLOCK),
            "camera.state",
        ),
        (
            *say.camera_state(
                "gate",
                at=T0,
                presence=Presence.UNKNOWN,
                since=None,
                facts=CameraFacts("gate", 0, 0.0, None),
                current=ATTEMPT,
            ),
            "camera.state",
        ),
        (*say.info(version="1", boot_id="b", started_at=T0, cameras=[("gate", "Gate")]), "node.info"),
    ):
        validator(name).validate(orjson.loads(message.payload))
    for reply in (commands.Reply(data={"gap": "g"}), commands.Reply(error="no")):
        validator("reply").validate(orjson.loads(commands.payload_of(reply, 7)))


@pytest.mark.parametrize(
    ("verb", "payload"),
    [
        ("fill", {"camera": "gate", "from": "2026-06-13T12:00:00Z", "to": "2026-06-13T12:05:00Z", "transaction": 1}),
        ("fill", {"camera": "gate"}),
        ("fill", {"camera": "gate", "from": "now", "to": "2026-06-13T12:05:00Z"}),
        ("retry", {"gap": "gap_1"}),
        ("retry", {"camera": "gate", "gap": "gap_1"}),
        ("cancel", {}),
        ("pause", {"camera": "gate"}),
        ("resume", {"kamera": "gate"}),
        ("recheck", {}),
    ],
)
def test_the_schema_of_a_command_says_what_the_parser_says(verb, payload):
    try:
        commands.parse(verb, orjson.dumps(payload))
        understood = True
    except commands.CommandError:
        understood = False
    assert validator(f"command.{verb}").is_valid(payload) is understood
