"""Commands: what is understood, what is refused and how, and where answers may go."""

import contextlib
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.model import Window
from anr_watch.mqtt.commands import (
    MAX_COMMAND_BYTES,
    Command,
    CommandError,
    Reply,
    Verb,
    parse,
    payload_of,
    reply_topic,
)
from anr_watch.mqtt.topics import Topics

TOPICS = Topics("anr-watch", "nvr1")
FROM, TO = datetime(2026, 6, 13, 12, tzinfo=UTC), datetime(2026, 6, 13, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("verb", "payload", "command"),
    [
        (
            "fill",
            b'{"camera":"c","from":"2026-06-13T12:00:00Z","to":"2026-06-13T15:00:00+02:00","transaction":"t"}',
            Command(verb=Verb.FILL, camera_id="c", window=Window(FROM, TO), transaction="t"),
        ),
        ("retry", b'{"gap":"gap_1"}', Command(verb=Verb.RETRY, gap_id="gap_1")),
        ("retry", b'{"camera":"c","gap":null}', Command(verb=Verb.RETRY, camera_id="c")),
        ("cancel", b'{"camera":"c","transaction":7}', Command(verb=Verb.CANCEL, camera_id="c", transaction=7)),
        ("recheck", b"", Command(verb=Verb.RECHECK)),
        ("recheck", b" \n", Command(verb=Verb.RECHECK)),
        ("pause", b"{}", Command(verb=Verb.PAUSE)),
        ("resume", b'{"camera":"c"}', Command(verb=Verb.RESUME, camera_id="c")),
    ],
)
def test_what_is_understood(verb, payload, command):
    assert parse(verb, payload) == command


@pytest.mark.parametrize(
    ("verb", "payload", "text"),
    [
        ("reboot", b"{}", "no such command: 'reboot' (right: fill, retry, cancel, recheck, pause, resume)"),
        ("fill", b"", "fill needs camera"),
        ("fill", b'{"camera":"c"}', "fill needs from"),
        ("fill", b'{"camera":"c","from":"2026-06-13T12:00:00Z"}', "fill needs to"),
        ("fill", b'{"camera":"c","from":"yesterday","to":"x"}', "from: not a time: 'yesterday'"),
        ("fill", b'{"camera":"c","from":1,"to":2}', "from: not a time"),
        ("fill", b'{"camera":"c","from":"2026-06-13T12:00:00Z","to":"2026-06-13T12:00:00Z"}', "to must be later"),
        ("fill", b'{"camera":"c","from":"0001-01-01T00:00:00Z","to":"2026-06-13T12:00:00Z"}', "from must not be"),
        ("retry", b"{}", "retry needs either gap or camera"),
        ("retry", b'{"gap":"g","camera":"c"}', "retry needs either gap or camera"),
        ("retry", b'{"gap":7}', "gap must be a text"),
        ("retry", b'{"gap":""}', "gap must be a text"),
        ("pause", b'{"camera":"a\\nb"}', "camera must be a text"),
        ("pause", b'{"cam":"a"}', "pause has no field 'cam' (right: camera, on, transaction)"),
        ("pause", b'{"gap":"a"}', "pause has no field 'gap'"),
        ("pause", b"[1]", "the payload must be a JSON object"),
        ("pause", b'"x"', "the payload must be a JSON object"),
        ("pause", b"\xff", "the payload is no JSON"),
        ("pause", b"[" * 50_000, "the payload is no JSON"),
        ("pause", b'{"transaction":[1]}', "transaction must be"),
        ("pause", b'{"transaction":true}', "transaction must be"),
        ("pause", b'{"transaction":99999999999999999999999}', "transaction must be"),
        ("pause", b" " * (MAX_COMMAND_BYTES + 1), "the payload has 65537 bytes"),
    ],
)
def test_what_is_refused_and_how(verb, payload, text):
    with pytest.raises(CommandError) as caught:
        parse(verb, payload)
    assert str(caught.value).startswith(text)
    assert str(caught.value).isprintable()


def test_a_refusal_repeats_the_transaction():
    with pytest.raises(CommandError) as caught:
        parse("fill", b'{"transaction":"abc"}')
    assert caught.value.transaction == "abc"


@given(st.text(max_size=20) | st.sampled_from(list(Verb)), st.binary(max_size=100))
def test_no_payload_raises_anything_else(verb, payload):
    with contextlib.suppress(CommandError):
        assert parse(verb, payload).verb == verb


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.lists(st.none())


@given(
    st.sampled_from(list(Verb)),
    st.dictionaries(st.sampled_from(["camera", "gap", "from", "to", "transaction", "x"]), VALUES),
)
def test_no_object_raises_anything_else_and_what_is_understood_can_be_answered(verb, fields):
    try:
        command = parse(verb, orjson.dumps(fields))
    except CommandError as error:
        payload_of(Reply(error=str(error)), error.transaction)
    else:
        assert orjson.loads(payload_of(Reply(), command.transaction))["transaction"] == fields.get("transaction")


def test_the_answers():
    assert orjson.loads(payload_of(Reply(data={"gaps": 2}), 7)) == {
        "status": "ok",
        "data": {"gaps": 2},
        "error": None,
        "transaction": 7,
    }
    refused = orjson.loads(payload_of(Reply(error="no such camera:\n'x'"), None))
    assert refused == {"status": "error", "data": None, "error": "no such camera:\\x0a'x'", "transaction": None}


@pytest.mark.parametrize(
    ("response_topic", "prefix", "expected"),
    [
        (None, "", "anr-watch/nvr1/reply/fill"),
        ("anr-watch/nvr1/reply/me", "", "anr-watch/nvr1/reply/me"),
        ("anr-watch/reply/me/1", "", "anr-watch/reply/me/1"),
        ("mine/answers/1", "mine/answers", "mine/answers/1"),
        ("mine/answers/1", "mine/answers/", "mine/answers/1"),
        ("anr-watch/nvr1/reply/me", "mine/answers/", "anr-watch/nvr1/reply/me"),
        # Not allowed: the answer goes where it goes without a response topic.
        ("anr-watch/reply/me", "mine/answers/", "anr-watch/nvr1/reply/fill"),
        ("mine/answers-of-others/1", "mine/answers", "anr-watch/nvr1/reply/fill"),
        ("homeassistant/light/x/set", "", "anr-watch/nvr1/reply/fill"),
        ("anr-watch/nvr1/reply/#", "", "anr-watch/nvr1/reply/fill"),
        ("anr-watch/nvr1/reply/" + "x" * 1000, "", "anr-watch/nvr1/reply/fill"),
        ("anr-watch/nvr1/cmd/fill", "anr-watch/nvr1", "anr-watch/nvr1/reply/fill"),  # not to ourselves
        ("", "", "anr-watch/nvr1/reply/fill"),
    ],
)
def test_where_an_answer_goes(response_topic, prefix, expected):
    assert reply_topic(TOPICS, "fill", response_topic, prefix=prefix) == expected


def test_an_unknown_verb_is_answered_under_a_fixed_name():
    assert reply_topic(TOPICS, "\x1b[31m", None) == "anr-watch/nvr1/reply/unknown"
