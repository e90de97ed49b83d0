"""Presence rules: what the systems in the field say, and what hostile messages do (nothing)."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.config import PresenceRule
from anr_watch.presence import Evidence
from anr_watch.sources.presence_rules import MAX_PAYLOAD_BYTES, Found, Ignored, Rules, subscription
from anr_watch.states import Presence

NOW = datetime(2026, 6, 13, 12, tzinfo=UTC)
ON, OFF = Presence.ONLINE, Presence.OFFLINE
FRIGATE = PresenceRule(
    name="frigate", topic="frigate/{camera}/status/record", ignore=("disabled",), names={"front": "cam_1"}
)
Z2M = PresenceRule(name="plug", topic="zigbee2mqtt/{camera}/availability", json="state")


def match(
    rule: PresenceRule, topic: str, payload: bytes, *, retained: bool = False, cameras=("cam_1", "plug", "b")
) -> Found:
    return Rules([rule]).match(topic, payload, retained=retained, at=NOW, cameras=cameras)


def level(found: Found) -> Presence | Ignored:
    return found.evidence[0].level if found.evidence else found.ignored[0]


def test_frigate():
    found = match(FRIGATE, "frigate/front/status/record", b"online")
    assert found == Found((Evidence("cam_1", "mqtt:frigate", ON, False, NOW),))
    assert level(match(FRIGATE, "frigate/front/status/record", b"offline")) is OFF
    # Switched off by a person: neither back nor lost.
    assert level(match(FRIGATE, "frigate/front/status/record", b"disabled")) is Ignored.LISTED
    assert match(FRIGATE, "frigate/front/status/detect", b"online") == Found()
    assert match(FRIGATE, "frigate/a/b/status/record", b"online") == Found()
    assert Rules([FRIGATE]).filters == ("frigate/+/status/record",)


@pytest.mark.parametrize(
    ("rule", "topic", "payload", "expected"),
    [
        (Z2M, "zigbee2mqtt/plug/availability", b'{"state":"online"}', ON),
        (Z2M, "zigbee2mqtt/plug/availability", b'{"state":" offline\\n"}', OFF),
        (Z2M, "zigbee2mqtt/plug/availability", b"", Ignored.EMPTY),  # how it renames a device
        (PresenceRule(topic="tele/{camera}/LWT", online=("Online",)), "tele/b/LWT", b"Online\n", ON),
        (PresenceRule(topic="tele/{camera}/LWT", online=("Online",)), "tele/b/LWT", b"online", Ignored.UNLISTED),
        (PresenceRule(topic="neolink/{camera}/status", online=("connected",)), "neolink/b/status", b"connected", ON),
        (
            PresenceRule(topic="v/binary_sensor/{camera}_connected/state", json="state", online=("on",)),
            "v/binary_sensor/b_connected/state",
            b'{"state":"on","attributes":{}}',
            ON,
        ),
        (PresenceRule(topic="s/{camera}/online", online=("true",), offline=("false",)), "s/b/online", b"false", OFF),
        (PresenceRule(topic="x/{camera}", json="up", online=("true",)), "x/b", b'{"up":true}', ON),
        (PresenceRule(topic="x/{camera}", json="up", offline=("0",)), "x/b", b'{"up":0}', OFF),
        (PresenceRule(topic="x/{camera}", json="up", online=("1.5",)), "x/b", b'{"up":1.50}', ON),
        (PresenceRule(topic="x/{camera}", json="a.1.b", online=("y",)), "x/b", b'{"a":[0,{"b":"y"}]}', ON),
        (PresenceRule(topic="x/{camera}", json="a.9.b"), "x/b", b'{"a":[0]}', Ignored.NO_VALUE),
        (PresenceRule(topic="x/{camera}", json="a"), "x/b", b'{"a":null}', Ignored.NO_VALUE),
        (PresenceRule(topic="x/{camera}", json="a"), "x/b", b'{"a":{"b":1}}', Ignored.NO_VALUE),
        (PresenceRule(topic="x/{camera}", json="a.b"), "x/b", b'{"a":"online"}', Ignored.NO_VALUE),
        (PresenceRule(topic="+/{camera}/#"), "any/b/more/levels", b"online", ON),
        (PresenceRule(topic="+/{camera}/#"), "any/b", b"online", ON),  # `#` also stands for nothing
        (PresenceRule(topic="x/{camera}"), "x/unheard-of", b"online", Ignored.UNKNOWN_CAMERA),
    ],
)
def test_what_systems_say(rule, topic, payload, expected):
    assert level(match(rule, topic, payload)) is expected


def test_a_retained_message_is_marked_or_ignored_as_the_rule_says():
    assert match(FRIGATE, "frigate/front/status/record", b"online", retained=True).evidence[0].retained
    # Thingino: after a power cut the retained value on the broker is still `online`.
    thingino = PresenceRule(topic="cameras/{camera}/status", retained="ignore")
    assert level(match(thingino, "cameras/b/status", b"online", retained=True)) is Ignored.RETAINED
    assert level(match(thingino, "cameras/b/status", b"online")) is ON


def test_several_rules_may_hear_one_message():
    rules = Rules([PresenceRule(name="a", topic="x/{camera}"), PresenceRule(name="b", topic="+/{camera}")])
    found = rules.match("x/cam", b"online", retained=False, at=NOW, cameras={"cam"})
    assert [e.source for e in found.evidence] == ["mqtt:a", "mqtt:b"]
    assert rules.filters == ("x/+", "+/+")
    assert rules.sources == ("mqtt:a", "mqtt:b")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe\x00", Ignored.NOT_JSON),
        (b"[" * 200_000, Ignored.NOT_JSON),
        (b'{"state":' * 20_000 + b"1" + b"}" * 20_000, Ignored.NOT_JSON),
        (b'{"state":' + b"9" * 100_000 + b"}", Ignored.NOT_JSON),
        (b'{"state":9999999999999999999999999}', Ignored.UNLISTED),
        (b'{"state":1e999999}', Ignored.NOT_JSON),
        (b'"' + b"x" * 1024 * 1024 + b'"', Ignored.TOO_LARGE),
        (b'{"state":"\\ud800"}', Ignored.NOT_JSON),
        (b"null", Ignored.NO_VALUE),
        (b"online", Ignored.NOT_JSON),
    ],
)
def test_hostile_json_is_ignored_with_a_reason(payload, reason):
    assert level(match(Z2M, "zigbee2mqtt/plug/availability", payload)) is reason


def test_hostile_text_is_ignored_with_a_reason():
    assert level(match(FRIGATE, "frigate/front/status/record", b"\xff\xfe")) is Ignored.NOT_TEXT
    assert level(match(FRIGATE, "frigate/front/status/record", b"o" * (MAX_PAYLOAD_BYTES + 1))) is Ignored.TOO_LARGE
    assert level(match(FRIGATE, "frigate/front/status/record", b"online\x00")) is Ignored.UNLISTED


@given(st.text(max_size=30), st.binary(max_size=200), st.booleans())
def test_no_message_raises(topic, payload, retained):
    rules = Rules([FRIGATE, Z2M, PresenceRule(topic="+/{camera}/#", json="a.0.b")])
    rules.match(topic, payload, retained=retained, at=NOW, cameras={"cam_1"})
    rules.match(f"a/cam_1/{topic}", payload, retained=retained, at=NOW, cameras={"cam_1"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "0", "b"]), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["a", "a.0", "a.b.0", "0.0.0", ".", "a..b", "a.-1", "a.99999999999999999999"]))
def test_no_json_raises(value, path):
    found = match(PresenceRule(topic="x/{camera}", json=path), "x/b", orjson.dumps(value))
    assert len(found.evidence) + len(found.ignored) == 1


@pytest.mark.parametrize(
    "topic",
    [
        "frigate/front/status",
        "a/{camera}/{camera}",
        "a/#/{camera}",
        "a+/{camera}",
        "{camera}/a#",
        "$share/g/a/{camera}",
        "a/{camera}/\x00",
        "a/{other}/{camera}",
        "",
    ],
)
def test_a_topic_that_is_no_pattern_is_refused_by_name(topic):
    with pytest.raises(ValueError, match="presence rule 'mine'"):
        Rules([PresenceRule(name="mine", topic=topic)])


def test_the_filter_follows_from_the_topic():
    assert subscription("a/{camera}_x/+/#") == "a/+/+/#"
