"""Commands over a real mosquitto: where answers go, what is ignored, and that a crash loses none."""

import asyncio
import logging

import aiomqtt
import orjson
import pytest
from broker import Broker, Observer, eventually
from mqtt_node import HurriedClock, Node
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from anr_watch.config import MqttSettings, PresenceRule
from anr_watch.errors import StoreUnavailable
from anr_watch.mqtt.commands import Reply, Verb
from anr_watch.mqtt.connecting import Patience
from anr_watch.mqtt.session import COMMANDS_WAITING

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
RETRY = "anr-watch/nvr/cmd/retry"
PAYLOAD = b'{"gap":"gap_1","transaction":"t-1"}'
ANSWER = {"status": "ok", "data": {"did": "retry"}, "error": None, "transaction": "t-1"}


def settings(port: int, **changes) -> MqttSettings:
    rule = PresenceRule(name="r", topic="cams/{camera}/status")
    return MqttSettings(**{"host": "127.0.0.1", "port": port, "node": "nvr", "presence": (rule,), **changes})


def asking(response_topic: str | None = None, correlation: bytes | None = None, expires_s: int | None = None) -> dict:
    properties = Properties(PacketTypes.PUBLISH)
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation is not None:
        properties.CorrelationData = correlation
    if expires_s is not None:
        properties.MessageExpiryInterval = expires_s
    return {"properties": properties}


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as running:
        yield running


@VERSIONS
def test_a_command_is_carried_out_and_answered(broker, version):
    async def main():
        async with (
            Node(settings(broker.port, version=version)) as node,
            Observer(broker.port, "anr-watch/nvr/reply/+") as seen,
        ):
            await node.connected()
            await seen.publish(RETRY, PAYLOAD)
            await seen.until(lambda m: len(m) == 1)
            assert (node.commands[0].verb, node.commands[0].gap_id) == (Verb.RETRY, "gap_1")
            assert seen.messages[0].topic == "anr-watch/nvr/reply/retry"
            assert orjson.loads(seen.messages[0].payload) == ANSWER
            assert not seen.messages[0].retain

    asyncio.run(main())


@pytest.mark.parametrize(
    ("response_topic", "prefix", "answered_at"),
    [
        ("anr-watch/nvr/reply/me/7", "", "anr-watch/nvr/reply/me/7"),
        ("mine/7", "mine", "mine/7"),
        ("homeassistant/light/set", "", "anr-watch/nvr/reply/retry"),
        ("anr-watch/nvr/cmd/pause", "", "anr-watch/nvr/reply/retry"),
    ],
)
def test_an_answer_goes_to_the_response_topic_only_where_it_may(broker, response_topic, prefix, answered_at):
    async def main():
        async with Node(settings(broker.port, reply_prefix=prefix)) as node, Observer(broker.port, "#") as seen:
            await node.connected()
            await seen.publish(RETRY, PAYLOAD, **asking(response_topic, b"\x00\xffcorrelation"))
            await seen.until(lambda m: any(b'"t-1"' in one.payload and one.topic != RETRY for one in m))
            answers = [one for one in seen.messages if b'"status"' in one.payload]
            assert [one.topic for one in answers] == [answered_at]
            assert orjson.loads(answers[0].payload) == ANSWER
            assert answers[0].properties.CorrelationData == b"\x00\xffcorrelation"
            assert len(node.commands) == 1

    asyncio.run(main())


@VERSIONS
def test_a_retained_command_is_ignored_on_every_connect(broker, version, caplog):
    async def main():
        async with Observer(broker.port, "anr-watch/nvr/#") as seen:
            await seen.publish(RETRY, PAYLOAD, retain=True)
            async with Node(settings(broker.port, version=version)) as node:
                await eventually(lambda: node.session.ignored["retained_command"] == 1)
                await seen.publish("anr-watch/nvr/cmd/recheck", b"")
                await seen.until(lambda m: any(one.topic.endswith("/reply/recheck") for one in m))
            assert [command.verb for command in node.commands] == [Verb.RECHECK]

    asyncio.run(main())
    assert f"a retained message on {RETRY} is ignored" in caplog.text


@pytest.mark.parametrize(
    ("verb", "payload", "error"),
    [
        ("reboot", b"{}", "no such command: 'reboot'"),
        ("fill", b"\xff\x00", "the payload is no JSON"),
        ("fill", b'{"camera":"c","form":"x"}', "fill has no field 'form'"),
        ("fill", b" " * 70_000, "the payload has 70000 bytes"),
    ],
)
def test_what_is_not_understood_is_answered_with_an_error(broker, verb, payload, error):
    async def main():
        async with Node(settings(broker.port)) as node, Observer(broker.port, "anr-watch/nvr/reply/+") as seen:
            await node.connected()
            await seen.publish(f"anr-watch/nvr/cmd/{verb}", payload)
            await seen.until(lambda m: len(m) == 1)
            answer = orjson.loads(seen.messages[0].payload)
            assert answer["status"] == "error"
            assert answer["error"].startswith(error)
            assert node.commands == []

    asyncio.run(main())


def test_an_expired_command_is_not_carried_out(broker):
    first, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Node):
        async def on_command(self, command):
            self.commands.append(command)
            first.set()
            await go_on.wait()
            return Reply()

    async def main():
        clock = HurriedClock(50)
        async with (
            Slow(settings(broker.port), clock=clock, patience=Patience(answer_s=500)) as node,
            Observer(broker.port, "anr-watch/nvr/reply/+") as seen,
        ):
            await node.connected()
            await seen.publish(RETRY, PAYLOAD)
            await first.wait()
            await seen.publish("anr-watch/nvr/cmd/pause", b'{"transaction":"late"}', **asking(expires_s=5))
            await seen.publish("cams/cam/status", "online")
            await eventually(lambda: node.evidence)  # so the command before it has arrived
            arrived_s = clock.monotonic()
            await eventually(lambda: clock.monotonic() > arrived_s + 5)
            go_on.set()
            await seen.until(lambda m: len(m) == 2)
            answer = orjson.loads(seen.messages[1].payload)
            assert (answer["error"], answer["transaction"]) == ("the command has expired", "late")
            assert [command.verb for command in node.commands] == [Verb.RETRY]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (StoreUnavailable("database is locked"), "database is locked"),
        (RuntimeError("a bug with a secret in its text"), "internal error; see the log"),
    ],
)
def test_a_command_that_fails_is_answered_and_ends_nothing(broker, raised, error):
    class Failing(Node):
        async def on_command(self, command):
            if command.verb is Verb.RETRY:
                raise raised
            return Reply()

    async def main():
        async with Failing(settings(broker.port)) as node, Observer(broker.port, "anr-watch/nvr/reply/+") as seen:
            await node.connected()
            await seen.publish(RETRY, PAYLOAD)
            await seen.publish("anr-watch/nvr/cmd/recheck", b"")
            await seen.until(lambda m: len(m) == 2)
            answers = [orjson.loads(one.payload) for one in seen.messages]
            assert [answer["status"] for answer in answers] == ["error", "ok"]
            assert answers[0]["error"] == error
            assert answers[0]["transaction"] == "t-1"
            assert node.disconnects == 0

    asyncio.run(main())


@VERSIONS
def test_a_command_under_way_at_a_crash_comes_back_and_presence_did_not_wait_for_it(broker, version):
    class Stuck(Node):
        async def on_command(self, command):
            self.commands.append(command)
            await asyncio.Event().wait()

    async def main():
        async with Observer(broker.port, "anr-watch/nvr/reply/+") as seen:
            async with Stuck(settings(broker.port, version=version)) as node:
                await node.connected()
                await seen.publish(RETRY, PAYLOAD)
                await eventually(lambda: node.commands)
                await seen.publish("cams/cam/status", "online")
                await eventually(lambda: node.evidence)
            # It ends before the command is done, and nobody was answered.
            async with Node(settings(broker.port, version=version)) as node:
                await seen.until(lambda m: len(m) == 1)
                assert [command.transaction for command in node.commands] == ["t-1"]
            # Now it was acknowledged: a third one has nothing to do.
            async with Node(settings(broker.port, version=version)) as node:
                await node.connected()
                await seen.publish("anr-watch/nvr/cmd/recheck", b"")
                await seen.until(lambda m: len(m) == 2)
                assert [command.verb for command in node.commands] == [Verb.RECHECK]

    asyncio.run(main())


def test_more_commands_than_may_wait_are_refused(broker):
    release = asyncio.Event()

    class Slow(Node):
        async def on_command(self, command):
            self.commands.append(command)
            await release.wait()
            return Reply()

    async def main():
        async with Slow(settings(broker.port)) as node, Observer(broker.port, "anr-watch/nvr/reply/+") as seen:
            await node.connected()
            await seen.publish(RETRY, PAYLOAD)
            await eventually(lambda: node.commands)
            # QoS 0: at QoS 1 the broker holds back after 20 that are not acknowledged, and the queue never fills.
            for _ in range(COMMANDS_WAITING + 1):
                await seen.publish("anr-watch/nvr/cmd/recheck", b"", qos=0)
            await seen.until(lambda m: len(m) == 1)
            assert (
                orjson.loads(seen.messages[0].payload)["error"] == f"{COMMANDS_WAITING} commands are waiting already"
            )
            release.set()
            await seen.until(lambda m: len(m) == 2 + COMMANDS_WAITING)

    asyncio.run(main())


def test_commands_in_a_burst_are_answered_in_order(broker, caplog):
    caplog.set_level(logging.WARNING)

    async def main():
        async with Node(settings(broker.port)) as node, Observer(broker.port, "anr-watch/nvr/reply/+") as seen:
            await node.connected()
            async with aiomqtt.Client("127.0.0.1", broker.port) as other:
                for n in range(100):
                    await other.publish("anr-watch/nvr/cmd/recheck", b'{"transaction":%d}' % n, qos=1)
            await seen.until(lambda m: len(m) == 100)
            assert [orjson.loads(one.payload)["transaction"] for one in seen.messages] == list(range(100))

    asyncio.run(main())
    assert caplog.records == []
