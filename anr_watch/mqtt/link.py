"""One connection to the broker, used once; made by `connecting.connect` only. It judges no content.

What the library (aiomqtt 2, over paho) leaves open is closed here and in the two modules beside, each with a test:

- name resolution, TCP, TLS and its files run in a thread of our own that a stop can abandon (the library's runs in
  the loop's executor, which a process waits for when it ends);
- a connection that is lost before it was accepted ends the attempt at once, not after the time-out of 10 s;
- the broker's word on each publish (a PUBACK may say "not authorized") and its limits reach the caller;
- messages are acknowledged when they were handled, in the order they came (MQTT 5, 4.6), not when they arrived;
- a writer is never registered for a closed socket: its number may by then be another connection's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from socket import IPPROTO_TCP, TCP_QUICKACK, socket
from typing import NoReturn

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from anr_watch.config import MqttSettings
from anr_watch.errors import AnrWatchError
from anr_watch.log import one_line
from anr_watch.model import Message
from anr_watch.mqtt.topics import MAX_TOPIC_BYTES, can_publish

WINDOW = 20  # messages without a PUBACK: what mosquitto allows a client by default (max_inflight_messages)
INBOX_LIMIT = 10_000  # messages of QoS 0 waiting to be handled; more are dropped and counted
_MAX_PAYLOAD_BYTES = 268_435_455 - 2 * MAX_TOPIC_BYTES  # what MQTT's four length bytes leave
FAILURE = 0x80  # reason codes from here on say no (MQTT 5, 2.4)
SESSION_TAKEN_OVER = 0x8E
KEEPALIVE_TIMEOUT = 0x8D  # what paho makes of a PINGRESP that did not come (MQTT_ERR_KEEPALIVE)

_REFUSALS = {
    0x84: "the broker does not speak this MQTT version: set mqtt.version",
    0x85: "the broker does not take this client id: set mqtt.client_id",
    0x86: "the broker refuses the user name or password",
    0x87: "the broker refuses the user name or password, or their rights (not authorized)",
    0x8A: "the broker has banned this client",
}


class Loss(StrEnum):
    """How a connection failed or ended, as far as what to do next depends on it."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    CLOSED = "closed"  # by the broker or the network
    SILENT = "silent"  # no answer in time
    TAKEN_OVER = "taken_over"  # another client came with our id


class LinkLost(AnrWatchError):  # noqa: N818 - a state of the world, not a mistake
    """There is no connection, or no longer; the text is one line for a person."""

    def __init__(self, text: str, loss: Loss) -> None:
        self.loss = loss
        super().__init__(one_line(text, 300))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incoming:
    """One message from the broker. `expires_in_s`, `response_topic` and `correlation` come with MQTT 5 only."""

    topic: str
    payload: bytes
    retained: bool
    qos: int
    mid: int
    response_topic: str | None = None
    correlation: bytes | None = None
    expires_in_s: int | None = None


class Inbox(asyncio.Queue[aiomqtt.Message]):
    """The library's queue, which may not raise: it would log a line for each message it drops."""

    dropped = 0

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Take a message in, or count it as dropped."""
        # QoS 1 is bounded by the receive maximum; dropping it here would leave it unacknowledged for ever.
        if item.qos == 0 and self.qsize() >= INBOX_LIMIT:
            self.dropped += 1
        else:
            super().put_nowait(item)


class Link:
    """An accepted connection. All methods belong to the loop's thread; see `connecting.connect`."""

    def __init__(self, client: aiomqtt.Client, settings: MqttSettings) -> None:
        self.session_present = False
        self.max_packet_bytes: int | None = None  # what the broker takes, if it says so
        self.retains = True
        self._settings = settings
        self._client = client
        self._paho = client._client  # noqa: SLF001 - aiomqtt 2 has no way to acknowledge, or to read CONNACK and PUBACK
        self._window = WINDOW
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[LinkLost] = loop.create_future()
        self._waiting: deque[tuple[Message, Properties | None, Callable[[int], None]]] = deque()
        self._unacknowledged: dict[int, Callable[[int], None]] = {}
        self._receipts: deque[Incoming] = deque()
        self._handled: set[Incoming] = set()
        self._paho.manual_ack_set(True)  # noqa: FBT003 - paho's signature
        self._paho.max_inflight_messages_set(0)  # no limit there: paho cannot follow the broker's, `_window` does
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_publish = self._on_publish
        self._paho.on_message = self._on_message
        self._paho.on_socket_register_write = self._on_socket_register_write
        client._disconnected.add_done_callback(self._on_library_error)  # noqa: SLF001 - set when reading raised

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost.done()

    @property
    def dropped(self) -> int:
        """How many messages of QoS 0 were dropped because too many waited."""
        inbox = self._client._queue  # noqa: SLF001 - the queue is ours, the library holds it
        return inbox.dropped if isinstance(inbox, Inbox) else 0

    @property
    def backlog(self) -> int:
        """How many messages wait to be handled."""
        return len(self._client.messages)

    async def until_lost(self) -> NoReturn:
        """Wait for the end of the connection.

        Raises:
            LinkLost: always.
        """
        await asyncio.wait((self._lost,))
        raise self._lost.result()

    async def subscribe(self, filters: Sequence[str], *, timeout_s: float) -> list[str]:
        """Subscribe at QoS 1 and return the filters the broker refused.

        Raises:
            LinkLost: the connection ended, or no answer came in time.
        """
        # The library waits for the whole time-out even when the connection is gone.
        asking = asyncio.ensure_future(self._client.subscribe([(name, 1) for name in filters], timeout=timeout_s))
        try:
            await asyncio.wait((asking, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise self._lost.result()
            codes = asking.result()
        except aiomqtt.MqttError as error:
            raise self._failure(error, "no answer to SUBSCRIBE") from None
        finally:
            asking.cancel()
        numbers = [code.value if isinstance(code, ReasonCode) else code for code in codes]
        return [name for name, number in zip(filters, numbers, strict=False) if number >= FAILURE]

    def send(
        self, message: Message, done: Callable[[int], None] | None = None, *, properties: Properties | None = None
    ) -> None:
        """Send at QoS 1, at most the window at a time and in the order of the calls; `done` gets the PUBACK's code.

        Raises:
            ValueError: the message cannot be put into a packet (topic or size).
        """
        if not can_publish(message.topic) or len(message.payload) > _MAX_PAYLOAD_BYTES:
            raise ValueError(f"cannot be published: {message.topic[:100]!r} with {len(message.payload)} bytes")
        self._waiting.append((message, properties, done or _nothing))
        if len(self._waiting) == 1:
            self._pump()

    async def publish(self, message: Message, *, timeout_s: float, properties: Properties | None = None) -> int:
        """Send and return the code of the broker's PUBACK; from `FAILURE` on it says no.

        Raises:
            LinkLost: the connection ended, or no PUBACK came in time.
            ValueError: as `send`.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(code: int) -> None:
            if not answer.done():
                answer.set_result(code)

        self.send(message, done, properties=properties)
        await asyncio.wait((answer, self._lost), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self._failure(None, f"no PUBACK within {timeout_s:g} s")
        return answer.result()

    async def receive(self) -> Incoming:
        """Return the next message. `acknowledge` it when it is handled.

        Raises:
            LinkLost: the connection ended.
        """
        try:
            message = await anext(aiter(self._client.messages))
        except aiomqtt.MqttError as error:
            raise self._failure(error, "closed") from None
        told = message.properties
        incoming = Incoming(
            topic=str(message.topic),
            payload=message.payload,
            retained=message.retain,
            qos=message.qos,
            mid=message.mid,
            response_topic=getattr(told, "ResponseTopic", None),
            correlation=getattr(told, "CorrelationData", None),
            expires_in_s=getattr(told, "MessageExpiryInterval", None),
        )
        if incoming.qos:
            self._receipts.append(incoming)
        return incoming

    def acknowledge(self, incoming: Incoming) -> None:
        """Note that a message is handled; it and those before it are acknowledged as far as they all are."""
        if incoming.qos:
            self._handled.add(incoming)
        while self._receipts and self._receipts[0] in self._handled:
            first = self._receipts.popleft()
            self._handled.discard(first)
            if not self.is_lost:
                self._paho.ack(first.mid, first.qos)

    def open(self, sock: socket, properties: Properties | None) -> None:
        """Send CONNECT over a socket that is connected already; `properties` are for MQTT 5."""
        # paho connects inside `connect`; the socket is there already.
        self._paho._create_socket = lambda: sock  # type: ignore[method-assign]  # noqa: SLF001 - the socket comes from `dial`
        settings = self._settings
        if properties is None:
            self._paho.connect(settings.host, settings.port, settings.keepalive_s)
        else:
            self._paho.connect(
                settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
            )

    async def accepted(self) -> None:
        """Wait for CONNACK.

        Raises:
            LinkLost: the broker refuses, or the connection ended.
        """
        await asyncio.wait((self._accepted, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            raise self._lost.result()

    async def leave(self, farewell: Message, *, farewell_s: float, leave_s: float) -> None:
        """Publish `farewell` and send DISCONNECT, each within its time; a frozen broker finds both when it wakes."""
        if not self.is_lost:
            with contextlib.suppress(LinkLost):  # frozen or gone: the will says the same
                await self.publish(farewell, timeout_s=farewell_s)
        if not self.is_lost:
            self._paho.disconnect()
            await asyncio.wait((self._lost,), timeout=leave_s)

    async def close(self) -> None:
        """Let go of the socket and of everything the library has running."""
        self._lose("the connection was closed by us", Loss.CLOSED)
        self._paho._sock_close()  # noqa: SLF001 - paho has no public way to let go of a socket
        for future in (self._client._connected, self._client._disconnected):  # noqa: SLF001 - nobody waits for them now
            future.cancel()
        task = self._client._misc_task  # noqa: SLF001 - its cancellation was asked for by closing the socket
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    def _pump(self) -> None:
        while self._waiting and len(self._unacknowledged) < self._window and not self.is_lost:
            message, properties, done = self._waiting.popleft()
            retain = message.retain and self.retains
            info = self._paho.publish(message.topic, message.payload, 1, retain, properties)
            self._unacknowledged[info.mid] = done

    def _failure(self, error: object, what: str) -> LinkLost:
        if self._lost.done():
            return self._lost.result()
        return LinkLost(what if error is None else f"{what}: {error}", Loss.SILENT)

    def _lose(self, text: str, loss: Loss) -> None:
        if not self._lost.done():
            self._lost.set_result(LinkLost(text, loss))

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        told: Properties | None,
    ) -> None:
        if code.is_failure:
            self._lose(_REFUSALS.get(code.value, f"the broker refuses the connection: {code}"), Loss.REFUSED)
            return
        self.session_present = flags.session_present
        self._window = min(WINDOW, getattr(told, "ReceiveMaximum", WINDOW))
        self.max_packet_bytes = getattr(told, "MaximumPacketSize", None)
        self.retains = bool(getattr(told, "RetainAvailable", 1))
        self._client._on_connect(client, userdata, flags, code, told)  # noqa: SLF001 - it waits for this itself
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        told: Properties | None,
    ) -> None:
        if code.value == SESSION_TAKEN_OVER:
            self._lose("another client has connected with our client id", Loss.TAKEN_OVER)
        elif flags.is_disconnect_packet_from_server and code.is_failure:
            self._lose(f"the broker ended the connection: {code}", Loss.CLOSED)
        elif code.value == KEEPALIVE_TIMEOUT:
            self._lose("the broker does not answer any more", Loss.SILENT)
        elif not self._accepted.done():
            self._lose("the connection was closed before the broker accepted it", Loss.CLOSED)
        else:
            self._lose("the connection was closed", Loss.CLOSED)
        self._client._on_disconnect(client, userdata, flags, code, told)  # noqa: SLF001 - ends its message iterator

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, code: ReasonCode, told: Properties | None
    ) -> None:
        del client, userdata, told
        done = self._unacknowledged.pop(mid, None)
        if done is not None:
            done(code.value)
        self._pump()
        self._confirm()

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self._client._on_message(client, userdata, message)  # noqa: SLF001 - puts it into our queue
        self._confirm()  # handling it, and with that our acknowledgement, may take longer

    def _confirm(self) -> None:
        """Have the kernel confirm what has come, although we have nothing to send along.

        It would wait up to 40 ms for that, and a broker that uses Nagle's algorithm (mosquitto does, unless its
        `set_tcp_nodelay` is on) holds the next message back until then: it may say that a camera is online.
        """
        sock = self._paho.socket()
        if isinstance(sock, socket):
            with contextlib.suppress(OSError):  # the connection is gone, which others notice
                sock.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        # The connection is opened in the loop's thread, so there is no need to come back later, when the socket may
        # be closed and its number somebody else's.
        del userdata
        asyncio.get_running_loop().add_writer(sock.fileno(), client.loop_write)

    def _on_library_error(self, disconnected: asyncio.Future[None]) -> None:
        error = None if disconnected.cancelled() else disconnected.exception()
        self._lose(f"the connection was closed: {error or 'by us'}", Loss.CLOSED)


def _nothing(code: int) -> None:
    del code
