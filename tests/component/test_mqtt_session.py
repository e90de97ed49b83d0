"""The session on a real mosquitto: birth and will, coming back, what is heard, and what a person reads when it fails."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
import threading
from datetime import UTC, datetime, timedelta

import aiomqtt
import pytest
from broker import Broker, Observer, eventually
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mqtt_node import HurriedClock, MemoryOutbox, Node, Relay, message

from anr_watch.config import MqttSettings, PresenceRule
from anr_watch.model import Message, Secret
from anr_watch.mqtt.connecting import Patience
from anr_watch.mqtt.publisher import LAST_REMOVAL_S
from anr_watch.states import Presence

STATUS = "anr-watch/nvr/status"
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
RULE = PresenceRule(name="r", topic="cams/{camera}/status")


def settings(port: int, **changes) -> MqttSettings:
    return MqttSettings(**{"host": "127.0.0.1", "port": port, "node": "nvr", "presence": (RULE,), **changes})


def payloads(seen: Observer) -> list[bytes]:
    return [one.payload for one in seen.messages]


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def no_complaint_of_the_loop(caplog):
    """The loop logs what nobody caught: callbacks on closed sockets, exceptions never retrieved, slow callbacks."""
    yield
    assert [
        r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio" and r.levelno >= logging.WARNING
    ] == []


@VERSIONS
def test_birth_will_and_farewell_are_retained_and_in_order(broker, version):
    async def main():
        async with Observer(broker.port, STATUS) as seen, Relay(broker.port) as relay:
            async with Node(settings(relay.port, version=version)) as node:
                await seen.until(lambda m: payloads(seen) == [b"online"])
                relay.cut()
                await seen.until(lambda m: payloads(seen) == [b"online", b"offline", b"online"])
                assert node.disconnects == 1
            await seen.until(lambda m: payloads(seen) == [b"online", b"offline", b"online", b"offline"])
        async with Observer(broker.port, STATUS) as late:
            await late.until(lambda m: m and m[0].retain and m[0].payload == b"offline")

    asyncio.run(main())


@VERSIONS
def test_a_half_open_connection_ends_online_not_with_its_late_will(broker, version):
    async def main():
        async with Observer(broker.port, STATUS) as seen, Relay(broker.port) as relay:
            patience = Patience(connect_s=5, answer_s=0.5)
            async with Node(settings(relay.port, version=version), patience=patience) as node:
                await seen.until(lambda m: payloads(seen) == [b"online"])
                relay.hang()  # the broker still believes in this connection, we get no answer on it
                await node.put(message(1))
                await node.connected(2)
                await node.emptied()
                # A take-over ends the old connection, will and all, before the new one is accepted.
                await seen.until(lambda m: payloads(seen).count(b"online") == 2)
                assert payloads(seen)[-1] == b"online"
                async with Observer(broker.port, STATUS) as late:
                    await late.until(lambda m: m and m[0].payload == b"online")

    asyncio.run(main())


@VERSIONS
def test_presence_messages_live_and_retained(broker, version):
    async def main():
        async with Observer(broker.port) as other:
            await other.publish("cams/other/status", "online", retain=True)
            async with Node(settings(broker.port, version=version)) as node:
                await eventually(lambda: len(node.evidence) == 1)
                for payload in ("offline", "online", "online", "nonsense"):
                    await other.publish("cams/cam/status", payload)
                await other.publish("cams/stranger/status", "online")
                # A retained message is told as live to those who were there when it came.
                await other.publish("cams/other/status", "offline", retain=True)
                await eventually(lambda: len(node.evidence) == 5)
            told = [(e.camera_id, e.level, e.retained) for e in node.evidence]
            assert told == [
                ("other", Presence.ONLINE, True),
                ("cam", Presence.OFFLINE, False),
                ("cam", Presence.ONLINE, False),
                ("cam", Presence.ONLINE, False),
                ("other", Presence.OFFLINE, False),
            ]
            assert node.evidence[0].source == "mqtt:r"
            assert node.session.ignored == {"unlisted": 1, "unknown_camera": 1}

    asyncio.run(main())


def test_a_source_that_dies_or_falls_silent_knows_nothing_of_its_cameras_any_more(broker):
    rule = PresenceRule(
        name="nvr", topic="nvr/{camera}/status", service="nvr/available", heartbeat_s=60, online=("online",)
    )

    async def main():
        mqtt = dataclasses.replace(settings(broker.port), presence=(rule,))
        async with Observer(broker.port) as other, Node(mqtt, clock=HurriedClock(600)) as node:
            await node.session.until_connected()
            await other.publish("nvr/cam/status", "online")
            await eventually(lambda: len(node.evidence) == 2)
            online, silent = node.evidence
            assert (online.camera_id, online.level) == ("cam", Presence.ONLINE)
            assert (silent.camera_id, silent.level, silent.source) == ("cam", Presence.UNKNOWN, "mqtt:nvr")
            await other.publish("nvr/available", "offline", retain=True)
            await eventually(lambda: len(node.evidence) == 4)
            assert {(e.camera_id, e.level) for e in node.evidence[2:]} == {
                ("cam", Presence.UNKNOWN),
                ("other", Presence.UNKNOWN),
            }

    asyncio.run(main())


@VERSIONS
def test_subscriptions_come_back_with_a_broker_that_forgot_everything(broker, version):
    async def main():
        async with Node(settings(broker.port, version=version)) as node:
            await node.connected()
            broker.kill()
            await eventually(lambda: node.disconnects == 1)
            broker.start()
            await node.connected(2)
            async with Observer(broker.port) as other:
                await other.publish("cams/cam/status", "online")
                await eventually(lambda: node.evidence)

    asyncio.run(main())


@VERSIONS
def test_what_was_said_while_we_were_away_is_heard_later(broker, version):
    async def main():
        async with Observer(broker.port) as other:
            async with Node(settings(broker.port, version=version)) as node:
                await node.connected()
            await other.publish("cams/cam/status", "online")
            async with Node(settings(broker.port, version=version)) as node:
                await eventually(lambda: [(e.level, e.retained) for e in node.evidence] == [(Presence.ONLINE, False)])

    asyncio.run(main())


def test_a_flood_is_heard_completely_and_in_order(broker):
    async def main():
        async with Node(settings(broker.port)) as node, Observer(broker.port) as other:
            await node.connected()
            await asyncio.gather(
                *(other.publish("cams/cam/status", ("online", "offline")[n % 2], qos=0) for n in range(3000))
            )
            await eventually(lambda: len(node.evidence) == 3000)
            assert [e.level for e in node.evidence] == [Presence.ONLINE, Presence.OFFLINE] * 1500

    asyncio.run(main())


def test_birth_messages_follow_the_status_on_each_connect(broker):
    async def main():
        info = Message("i", "anr-watch/nvr/info", b"{}", retain=True)
        async with Observer(broker.port, "anr-watch/#") as seen, Relay(broker.port) as relay:
            async with Node(settings(relay.port), birth=(info,)):
                await seen.until(lambda m: len(m) == 2)
                relay.cut()
                await seen.until(lambda m: [one.topic for one in m].count("anr-watch/nvr/info") == 2)
            assert [one.topic for one in seen.messages[:2]] == [STATUS, "anr-watch/nvr/info"]

    asyncio.run(main())


@VERSIONS
def test_a_wrong_password_is_one_clear_line_and_stands_nowhere(tmp_path, caplog, version):
    caplog.set_level(logging.DEBUG)

    async def main(broker: Broker):
        wrong = settings(broker.port, version=version, username="nvr", password=Secret("hunter2-wrong"))
        async with Node(wrong) as node:
            await eventually(lambda: any("refuses the user name" in r.getMessage() for r in caplog.records))
            assert not node.session.connected
        right = dataclasses.replace(wrong, password=Secret("hunter2-right"))
        async with Node(right) as node:
            await node.connected()
        assert "hunter2" not in repr(right)

    with Broker(tmp_path, users={"nvr": "hunter2-right"}) as broker:
        asyncio.run(main(broker))
    lines = [r.getMessage() for r in caplog.records if "refuses" in r.getMessage()]
    assert len(lines) == 1
    assert f"MQTT broker 127.0.0.1:{broker.port}: the broker refuses the user name or password" in lines[0]
    everything = "\n".join(f"{r.getMessage()} {r.exc_text} {vars(r)}" for r in caplog.records)
    assert "hunter2" not in everything


def test_no_broker_is_one_line_per_half_minute(caplog):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        async with Node(settings(port)):
            await eventually(lambda: caplog.records)
            assert caplog.records[0].getMessage() == f"MQTT broker 127.0.0.1:{port}: Connection refused"

    asyncio.run(main())


def test_a_name_that_does_not_resolve_is_told_as_such(caplog):
    async def main():
        async with Node(dataclasses.replace(settings(1), host="no-such-host.invalid")):
            await eventually(lambda: "cannot be resolved" in caplog.text)

    asyncio.run(main())


@VERSIONS
def test_a_connection_lost_before_the_subscription_is_answered_is_noticed_at_once(caplog, version):
    async def main():
        async def serve(reader, writer):
            await reader.read(1000)
            writer.write(b"\x20\x03\x00\x00\x00" if version == "5" else b"\x20\x02\x00\x00")
            await reader.read(1000)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            patience = Patience(connect_s=3600, answer_s=3600)
            async with Node(settings(port, version=version), patience=patience) as node:
                await eventually(lambda: "the connection was closed" in caplog.text)
                assert node.connects == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x00\xf0\xff\xff\xff\xff\xff", b"\x20\x00"]
)
@VERSIONS
def test_a_server_that_is_no_broker_is_told_at_once(caplog, version, answer):
    async def main():
        async def serve(reader, writer):
            await reader.read(1000)
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            # Nothing here may wait for the time-out of the connection.
            async with Node(settings(port, version=version), patience=Patience(connect_s=3600, answer_s=3600)):
                await eventually(lambda: f"MQTT broker 127.0.0.1:{port}: " in caplog.text)

    asyncio.run(main())


def test_a_slow_name_lookup_stops_neither_the_loop_nor_the_end(monkeypatch):
    waiting, release = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow(*args, **kwargs):
        waiting.set()
        release.wait(30)
        return real(*args, **kwargs)

    async def main():
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        async with Node(settings(1)) as node:
            await eventually(waiting.is_set)  # the loop turns while the thread waits
            await node.stop()
        assert not release.is_set()

    try:
        asyncio.run(main())  # and its end does not wait for the thread either
        assert not release.is_set()
    finally:
        release.set()


@VERSIONS
def test_a_frozen_broker_is_noticed_and_left(broker, version, caplog):
    async def main():
        patience = Patience(connect_s=0.3, answer_s=0.3)
        async with Node(settings(broker.port, version=version), patience=patience) as node:
            await node.connected()
            with broker.frozen():
                await node.put(message(1))
                await eventually(lambda: node.disconnects == 1)
                await eventually(lambda: "no answer within 0.3 s" in caplog.text)  # the next attempt, too
            await node.connected(2)
            await node.emptied()

    asyncio.run(main())
    assert "no PUBACK within 0.3 s" in caplog.text


@VERSIONS
def test_a_stop_does_not_wait_for_a_frozen_broker_which_learns_of_it_when_it_wakes(broker, version):
    async def main():
        async with Node(settings(broker.port, version=version), patience=Patience()) as node:
            await node.connected()
            await node.session.flushed()
            with broker.frozen():
                async with asyncio.timeout(10):
                    await node.stop()
        async with Observer(broker.port, STATUS) as seen:
            await seen.until(lambda m: m and m[-1].payload == b"offline")

    asyncio.run(main())


def test_a_stop_is_bounded_to_two_seconds_by_its_parts():
    patience = Patience()
    assert patience.farewell_s + patience.leave_s + LAST_REMOVAL_S < 2


@VERSIONS
def test_two_nodes_with_one_id_are_told_so_and_slow_down(broker, version, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        one, clock = settings(broker.port, version=version), HurriedClock(10)
        async with Node(one, clock=clock), Node(one, clock=clock):
            await eventually(lambda: any(r.levelno == logging.ERROR for r in caplog.records))

    asyncio.run(main())
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert all("client connects as 'anr-watch-nvr'" in text for text in told)
    assert len(told) <= 2  # one for each


def test_what_may_not_be_subscribed_or_published_is_told(tmp_path, caplog):
    async def main(broker: Broker):
        async with Node(settings(broker.port, username="nvr", password=Secret("p"))) as node:
            await eventually(lambda: caplog.text.count("check its access list") == 1)
            await node.session.flushed()

    # mosquitto 2.0 grants a SUBSCRIBE whatever its access list says, but tells a publisher.
    with Broker(tmp_path, users={"nvr": "p"}, acl="user nvr\ntopic read cams/#") as broker:
        asyncio.run(main(broker))
    assert f"the broker does not take messages for {STATUS}: Not authorized" in caplog.text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate authority, and a certificate of `localhost` signed by it."""
    folder = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)

    def made(name: str, issuer: str, key, signer, extension) -> bytes:
        def named(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        certificate = builder.add_extension(extension, critical=True).sign(signer, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made("root", "root", root, root, x509.BasicConstraints(ca=True, path_length=None)))
    paths[1].write_bytes(
        made("localhost", "root", leaf, root, x509.SubjectAlternativeName([x509.DNSName("localhost")]))
    )
    paths[2].write_bytes(
        leaf.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@VERSIONS
def test_tls_with_the_right_authority(tmp_path, certificates, version):
    async def main(broker: Broker):
        secure = settings(broker.port, host="localhost", tls=True, ca_file=certificates[0], version=version)
        outbox = MemoryOutbox([message(n, size=5000) for n in range(200)])
        async with Node(secure, outbox) as node:
            await node.emptied()

    with Broker(tmp_path, tls=certificates) as broker:
        asyncio.run(main(broker))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "TLS: the broker's certificate is not accepted: "),
        ({"host": "127.0.0.1", "ca_file": 0}, "TLS: the broker's certificate is not accepted: IP address mismatch"),
        ({"ca_file": "missing.pem"}, "TLS: mqtt.ca_file cannot be used: No such file or directory"),
        ({"ca_file": 0, "cert_file": 2}, "TLS: mqtt.cert_file or mqtt.key_file cannot be used: "),
        ({"tls": False}, "the connection was closed before the broker accepted it"),
    ],
)
def test_tls_troubles_are_told_in_words(tmp_path, certificates, caplog, changes, text):
    changes = {
        name: certificates[value] if isinstance(value, int) and name.endswith("file") else value
        for name, value in changes.items()
    }

    async def main(broker: Broker):
        async with Node(settings(broker.port, **{"host": "localhost", "tls": True, **changes})):
            await eventually(lambda: text in caplog.text)

    with Broker(tmp_path, tls=certificates) as broker:
        asyncio.run(main(broker))


def test_tls_without_checks_works_and_is_told(tmp_path, certificates, caplog):
    async def main(broker: Broker):
        async with Node(settings(broker.port, tls=True, tls_insecure=True)) as node:
            await node.connected()

    with Broker(tmp_path, tls=certificates) as broker:
        asyncio.run(main(broker))
    assert "mqtt.tls_insecure is set" in caplog.text


def test_the_private_names_we_build_on_are_there():
    async def main():
        client = aiomqtt.Client("127.0.0.1")
        for name in (
            "_client",
            "_connected",
            "_disconnected",
            "_queue",
            "_misc_task",
            "_on_connect",
            "_on_disconnect",
        ):
            assert hasattr(client, name), name
        for name in ("_create_socket", "_sock_close", "manual_ack_set", "ack", "max_inflight_messages_set"):
            assert callable(getattr(client._client, name, None)), name

    asyncio.run(main())


def test_a_rule_that_is_no_pattern_is_refused_before_anything_is_connected():
    async def main():
        with contextlib.ExitStack() as stack:
            stack.enter_context(pytest.raises(ValueError, match="presence rule 'bad'"))
            async with Node(settings(1, presence=(PresenceRule(name="bad", topic="no-camera"),))):
                pass

    asyncio.run(main())
