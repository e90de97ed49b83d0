"""The outbox on a real mosquitto: nothing lost, order kept, the same ids again, and no row that blocks the others."""

import asyncio
import logging
from collections import defaultdict

import pytest
from broker import Broker, Observer, Seen, eventually
from mqtt_node import EVENTS, HurriedClock, MemoryOutbox, Node, Relay, message

from anr_watch.config import MqttSettings
from anr_watch.model import Message, Secret
from anr_watch.mqtt.connecting import Patience
from anr_watch.mqtt.publisher import DROP_AFTER

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def settings(port: int, **changes) -> MqttSettings:
    return MqttSettings(**{"host": "127.0.0.1", "port": port, "node": "nvr", **changes})


def ids(seen: list[Seen]) -> list[str]:
    return [one.payload.decode().strip() for one in seen]


def in_order_per_topic(seen: list[Seen]) -> bool:
    """Whether the first coming of each message is in the order of the numbers, topic by topic."""
    by_topic: dict[str, dict[int, None]] = defaultdict(dict)
    for one in seen:
        by_topic[one.topic].setdefault(int(one.payload.decode().strip().removeprefix("id-")))
    return all(list(numbers) == sorted(numbers) for numbers in by_topic.values())


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def no_complaint_of_the_loop(caplog):
    """A publish after the broker was killed once made the loop register a writer for a closed socket."""
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio"] == []


@VERSIONS
def test_everything_goes_out_once_in_order_and_is_removed(broker, version):
    async def main():
        outbox = MemoryOutbox([message(n, camera=f"c{n % 3}") for n in range(500)])
        async with Observer(broker.port, EVENTS) as seen:
            async with Node(settings(broker.port, version=version), outbox) as node:
                await node.emptied()
                await node.put(message(500))
                await seen.until(lambda m: len(m) == 501)
                await node.emptied()
            assert ids(seen.messages) == [f"id-{n}" for n in range(501)]
            assert outbox.removed == list(range(1, 502))
            assert not any(one.retain for one in seen.messages)

    asyncio.run(main())


def test_an_event_says_what_it_is_in_the_words_of_mqtt_5(broker):
    async def main():
        state = Message("s", "anr-watch/nvr/camera/cam/state", b"{}", retain=True)
        async with (
            Observer(broker.port, "anr-watch/nvr/camera/#") as seen,
            Node(settings(broker.port), MemoryOutbox([message(1), state])),
        ):
            await seen.until(lambda m: len(m) == 2)
        kinds = [one.properties.ContentType for one in seen.messages]
        assert kinds == ["application/cloudevents+json; charset=utf-8", "application/json"]
        async with Observer(broker.port, "anr-watch/nvr/camera/#") as late:
            await late.until(lambda m: [one.topic for one in m] == [state.topic] and m[0].retain)

    asyncio.run(main())


@VERSIONS
def test_the_events_of_an_outage_arrive_afterwards(broker, version):
    async def main():
        async with Relay(broker.port) as relay, Node(settings(relay.port, version=version)) as node:
            await node.connected()
            relay.refusing = True
            broker.stop()
            await eventually(lambda: node.disconnects == 1)
            await node.put(*(message(n) for n in range(300)))
            broker.start()
            async with Observer(broker.port, EVENTS) as seen:  # there before the node is
                relay.refusing = False
                await seen.until(lambda m: len(m) >= 300)
                await node.emptied()
                assert ids(seen.messages) == [f"id-{n}" for n in range(300)]

    asyncio.run(main())


@VERSIONS
def test_a_broker_killed_amid_publishes_gets_the_rest_from_its_successor(broker, version):
    async def main():
        outbox = MemoryOutbox([message(n, camera=f"c{n % 4}") for n in range(3000)])
        async with Relay(broker.port) as relay, Node(settings(relay.port, version=version), outbox) as node:
            await eventually(lambda: len(outbox.removed) > 300)
            broker.kill()
            relay.refusing = True
            await eventually(lambda: node.disconnects == 1)
            # What was acknowledged and not yet removed is not sent again either.
            left = [f"id-{row_id - 1}" for row_id in sorted(outbox.rows)]
            assert 0 < len(left) < 3000
            broker.start()
            async with Observer(broker.port, EVENTS) as seen:
                relay.refusing = False
                await node.emptied()
                await seen.until(lambda m: m and ids(m)[-1] == "id-2999")
                assert in_order_per_topic(seen.messages)
                assert set(ids(seen.messages)) <= set(left)
                assert len(seen.messages) == len(set(ids(seen.messages)))

    asyncio.run(main())


@VERSIONS
def test_a_connection_cut_again_and_again_loses_nothing(broker, version):
    async def main():
        outbox = MemoryOutbox([message(n, camera=f"c{n % 4}", size=400) for n in range(1000)])
        async with Observer(broker.port, EVENTS) as seen, Relay(broker.port) as relay:
            relay.cut_after = 50_000
            clock = HurriedClock(200)
            # The clock that hurries through the back-off must not hurry through the time-outs.
            patience = Patience(connect_s=10, answer_s=2000)
            async with Node(settings(relay.port, version=version), outbox, patience=patience, clock=clock) as node:
                for times in range(1, 6):
                    await eventually(lambda times=times: node.disconnects == times or not outbox.rows)
                    relay.cut_after = relay.bytes_up + 50_000
                await node.emptied()
                await seen.until(lambda m: len(set(ids(m))) == 1000)
            assert node.connects >= 6
            assert in_order_per_topic(seen.messages)
            # Sent twice is only what was under way when the wire was cut: at most a window each time.
            assert len(seen.messages) - 1000 <= 20 * node.connects

    asyncio.run(main())


@VERSIONS
def test_a_frozen_broker_gets_the_same_ids_again(broker, version):
    async def main():
        patience = Patience(connect_s=0.3, answer_s=0.3)
        async with (
            Observer(broker.port, EVENTS) as seen,
            Node(settings(broker.port, version=version), patience=patience) as node,
        ):
            await node.connected()
            await node.session.flushed()
            with broker.frozen():
                await node.put(*(message(n) for n in range(10)))
                await eventually(lambda: node.disconnects == 1)
            await node.emptied()
            await seen.until(lambda m: len(set(ids(m))) == 10)
            assert in_order_per_topic(seen.messages)

    asyncio.run(main())


@pytest.mark.parametrize("topic", ["a/+/b", "#", "", "a\x00b", "x" * 65_536, "\ud800"])
def test_a_row_that_cannot_be_published_is_dropped_and_told(broker, caplog, topic):
    async def main():
        outbox = MemoryOutbox([message(1), Message("bad", topic, b"x"), message(2)])
        async with Observer(broker.port, EVENTS) as seen, Node(settings(broker.port), outbox) as node:
            await seen.until(lambda m: ids(m) == ["id-1", "id-2"])
            await node.emptied()
            assert node.disconnects == 0

    asyncio.run(main())
    assert "message dropped: cannot be published" in caplog.text


def test_a_message_larger_than_the_broker_takes_is_dropped_and_told(tmp_path, caplog):
    async def main(broker: Broker):
        outbox = MemoryOutbox([message(1), message(2, size=5000), message(3)])
        async with Observer(broker.port, EVENTS) as seen, Node(settings(broker.port), outbox) as node:
            await seen.until(lambda m: ids(m) == ["id-1", "id-3"])
            await node.emptied()
            assert node.disconnects == 0

    with Broker(tmp_path, extra="max_packet_size 3000") as broker:
        asyncio.run(main(broker))
    assert "message dropped: 5000 bytes are more than the broker takes (3000)" in caplog.text


def test_a_message_the_broker_hangs_up_on_does_not_block_the_others_for_ever(tmp_path, caplog):
    # MQTT 3.1.1 has no way to say how much is too much: the broker just ends the connection.
    async def main(broker: Broker):
        outbox = MemoryOutbox([message(1), message(2, size=5000), *(message(n) for n in range(3, 40))])
        hurried = {"clock": HurriedClock(200), "patience": Patience(connect_s=10, answer_s=2000)}
        async with Observer(broker.port, EVENTS) as seen:
            async with Node(settings(broker.port, version="3.1.1"), outbox, **hurried) as node:
                await node.emptied()
                await seen.until(lambda m: set(ids(m)) == {f"id-{n}" for n in range(40)} - {"id-0", "id-2"})
            assert in_order_per_topic(seen.messages)
            # Not before its time; later if the row before it was suspected first (a PUBACK lost with the connection).
            assert node.disconnects >= DROP_AFTER

    with Broker(tmp_path, extra="max_packet_size 3000") as broker:
        asyncio.run(main(broker))
    assert "message dropped: the broker ends the connection each time it is sent" in caplog.text
    assert "another client" not in caplog.text


def test_what_the_access_list_forbids_is_dropped_and_told(tmp_path, caplog):
    async def main(broker: Broker):
        outbox = MemoryOutbox([message(1), message(2, camera="secret"), message(3)])
        who = {"username": "nvr", "password": Secret("p")}
        async with Node(settings(broker.port, **who), outbox) as node:
            await node.emptied()
            assert node.disconnects == 0

    acl = "user nvr\ntopic readwrite anr-watch/nvr/status\ntopic write anr-watch/nvr/camera/cam/event"
    with Broker(tmp_path, users={"nvr": "p"}, acl=acl) as broker:
        asyncio.run(main(broker))
    told = "message dropped: the broker refuses anr-watch/nvr/camera/secret/event: Not authorized"
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [told]


def test_a_store_that_is_away_for_a_while_delays_and_repeats_nothing(broker, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        outbox = MemoryOutbox([message(n) for n in range(50)])
        outbox.unavailable = 2
        hurried = {"clock": HurriedClock(20), "patience": Patience(connect_s=10, answer_s=200)}
        async with Observer(broker.port, EVENTS) as seen, Node(settings(broker.port), outbox, **hurried) as node:
            await seen.until(lambda m: m)
            outbox.unavailable = 3
            await node.emptied()
            await node.put(message(50))
            await seen.until(lambda m: len(m) == 51)
            assert ids(seen.messages) == [f"id-{n}" for n in range(51)]

    asyncio.run(main())
    assert "outbox: database is locked" in caplog.text
    assert "outbox: works again" in caplog.text


def test_what_was_acknowledged_but_not_removed_is_not_sent_again_on_the_next_connection(broker):
    async def main():
        outbox = MemoryOutbox()
        async with (
            Observer(broker.port, EVENTS) as seen,
            Relay(broker.port) as relay,
            Node(settings(relay.port), outbox) as node,
        ):
            await node.connected()
            await node.session.flushed()
            removing = outbox.outbox_done
            held = asyncio.Event()

            async def away(row_ids):
                if not held.is_set():
                    outbox.unavailable = 1
                await removing(row_ids)

            outbox.outbox_done = away
            await node.put(message(1))
            await seen.until(lambda m: len(m) == 1)
            await eventually(lambda: node.session._publisher._acknowledged == {1})
            relay.cut()
            await node.connected(2)
            await node.put(message(2))
            await seen.until(lambda m: len(m) == 2)
            held.set()
            outbox.unavailable = 0
            await node.emptied()
            assert ids(seen.messages) == ["id-1", "id-2"]

    asyncio.run(main())


def test_rows_numbered_from_one_again_are_seen(broker):
    async def main():
        async with Observer(broker.port, EVENTS) as seen, Node(settings(broker.port)) as node:
            await node.connected()
            for n in range(5):
                node.outbox.next_id = 1  # as SQLite does in an empty table
                await node.put(message(n))
                await node.emptied()
            await seen.until(lambda m: ids(m) == [f"id-{n}" for n in range(5)])

    asyncio.run(main())


def test_two_sessions_are_never_two_publishers(broker):
    """What one connection acknowledged late and the next one sends again would otherwise overtake each other."""

    async def main():
        outbox = MemoryOutbox([message(n) for n in range(400)])
        drains, most = 0, 0
        async with Relay(broker.port) as relay, Node(settings(relay.port), outbox) as node:
            real = node.session._publisher.drain

            async def counted(link):
                nonlocal drains, most
                drains += 1
                most = max(most, drains)
                try:
                    await real(link)
                finally:
                    drains -= 1

            node.session._publisher.drain = counted
            await node.connected()
            relay.cut()
            await node.connected(2)
            await node.emptied()
        assert (drains, most) == (0, 1)

    asyncio.run(main())


def test_nothing_is_asked_of_the_store_while_nothing_happens(broker):
    async def main():
        async with Node(settings(broker.port)) as node:
            await node.connected()
            await node.put(message(1))
            await node.session.flushed()
            asked = 0
            real = node.outbox.outbox

            async def counted(after_id, limit):
                nonlocal asked
                asked += 1
                return await real(after_id, limit)

            node.outbox.outbox = counted
            async with Observer(broker.port) as other:  # something else goes on meanwhile
                for _ in range(50):
                    await other.publish("cams/x/status", "online")
            assert asked == 0

    asyncio.run(main())
