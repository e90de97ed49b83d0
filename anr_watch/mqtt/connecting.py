"""Makes one accepted link to the broker and takes it down again, both in bounded time. It never tries twice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiomqtt

from anr_watch.config import MqttSettings
from anr_watch.model import Message
from anr_watch.mqtt import packets
from anr_watch.mqtt.dial import DialError, dial
from anr_watch.mqtt.link import Inbox, Link, LinkLost, Loss

# Lost connections and refusals are reported by us, once; the library would log each of its reads and writes.
_WIRE = logging.getLogger("anr_watch.mqtt.wire")
_WIRE.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for the broker, in seconds."""

    connect_s: float = 10.0  # name, TCP, TLS and CONNACK together
    answer_s: float = 10.0  # SUBACK, PUBACK
    farewell_s: float = 1.0  # PUBACK of the last message
    leave_s: float = 0.3  # for DISCONNECT to be written


@contextlib.asynccontextmanager
async def connect(
    settings: MqttSettings, *, client_id: str, will: Message, patience: Patience
) -> AsyncIterator[Link]:
    """Connect, and let go at the end.

    A block that is cancelled (or just ends) leaves in order: the will's message is published, then DISCONNECT. After
    an error the socket is only closed, so that the broker publishes the will.

    Raises:
        LinkLost: no connection; or whatever the block raised.
    """
    try:
        async with asyncio.timeout(patience.connect_s):
            link = await _linked(settings, client_id, will, patience)
    except DialError as error:
        raise LinkLost(str(error), Loss.UNREACHABLE) from None
    except TimeoutError:
        raise LinkLost(f"no answer within {patience.connect_s:g} s", Loss.SILENT) from None
    in_order = True
    try:
        yield link
    except asyncio.CancelledError:
        raise
    except BaseException:
        in_order = False
        raise
    finally:
        try:
            if in_order:
                await link.leave(will, farewell_s=patience.farewell_s, leave_s=patience.leave_s)
        finally:
            await link.close()


async def _linked(settings: MqttSettings, client_id: str, will: Message, patience: Patience) -> Link:
    sock = await dial(settings, timeout_s=patience.connect_s)
    try:
        link = Link(_client(settings, client_id, will), settings)
        link.open(sock, packets.of_connect(settings.session_expiry_s) if settings.version == "5" else None)
    except BaseException:
        sock.close()
        raise
    try:
        await link.accepted()
    except BaseException:
        await link.close()
        raise
    return link


def _client(settings: MqttSettings, client_id: str, will: Message) -> aiomqtt.Client:
    version_5 = settings.version == "5"
    return aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username or None,
        password=settings.password.reveal() if settings.password else None,
        logger=_WIRE,
        identifier=client_id,
        queue_type=Inbox,
        protocol=aiomqtt.ProtocolVersion.V5 if version_5 else aiomqtt.ProtocolVersion.V311,
        will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
        clean_session=None if version_5 else settings.session_expiry_s == 0,
        keepalive=settings.keepalive_s,
    )
