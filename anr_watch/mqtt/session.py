"""Keeps one connection to the broker: birth and will, what is heard, what is published, and coming back.

It decides when to connect; what messages mean stands in `presence_rules`, `commands` and `events`, and what is done
about them is the handlers' business. What is heard over MQTT are hints: after every connect the owner is told to look
at everything again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from anr_watch.clock import Clock
from anr_watch.config import MqttSettings
from anr_watch.errors import AnrWatchError
from anr_watch.model import Message
from anr_watch.mqtt import commands, packets
from anr_watch.mqtt.comeback import Rivals, Trouble, back_off_s
from anr_watch.mqtt.connecting import Patience, connect
from anr_watch.mqtt.events import OFFLINE, ONLINE
from anr_watch.mqtt.link import FAILURE, Incoming, Link, LinkLost, Loss
from anr_watch.mqtt.publisher import Outbox, Publisher
from anr_watch.mqtt.topics import Topics
from anr_watch.presence import Evidence
from anr_watch.sources.heartbeats import Heartbeats
from anr_watch.sources.presence_rules import Rules
from anr_watch.states import Presence
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.mqtt")
STABLE_S = 10.0  # a connection that held this long ends the back-off
STATUS_S = 60.0  # the birth is sent again: a late will of an earlier connection may have overwritten it
COMMANDS_WAITING = 256  # a program that resumes each of a hundred cameras sends them all at once
COMMAND_S = 30.0  # longer than the store's busy time-out


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """What the session tells its owner, all in the loop's thread and in the order things happened.

    `on_evidence`, `on_connected` and `on_disconnected` must return at once. `on_connected` means: look at everything
    again; it also comes when messages were lost for other reasons. `birth` is published after `online` on each
    connect.
    """

    cameras: Callable[[], Collection[str]]
    on_evidence: Callable[[Evidence], None]
    on_command: Callable[[commands.Command], Awaitable[commands.Reply]]
    on_connected: Callable[[], None] = lambda: None
    on_disconnected: Callable[[], None] = lambda: None
    birth: Callable[[], Sequence[Message]] = tuple
    listens: tuple[str, ...] = ()  # further topics to hear, and who hears them: payload, retained
    on_heard: Callable[[bytes, bool], None] = lambda _payload, _retained: None


@dataclass(frozen=True, slots=True)
class _Asked:
    incoming: Incoming
    verb: str
    deadline_s: float | None  # monotonic: the sender's message expiry


class Session:
    """MQTT as the daemon sees it: `run` it as one task, set `wake` after rows were committed to the outbox."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        outbox: Outbox,
        wake: asyncio.Event,
        handlers: Handlers,
        clock: Clock,
        patience: Patience | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        Raises:
            ValueError: a presence rule's topic is no pattern; the text names it.
        """
        self.topics = Topics(settings.base, settings.node)
        self.rules = Rules(settings.presence)
        self._heartbeats = Heartbeats(self.rules.heartbeats)
        self.client_id = settings.client_id or f"anr-watch-{settings.node}"
        self._online = Message("", self.topics.status, ONLINE, retain=True)
        self.ignored: Counter[str] = Counter()  # why messages were no evidence
        self._settings, self._handlers, self._clock = settings, handlers, clock
        self._patience = patience or Patience()
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._version_5 = settings.version == "5"
        self._publisher = Publisher(outbox, wake, clock, answer_s=self._patience.answer_s, version_5=self._version_5)
        self._connected = asyncio.Event()
        self._trouble = Trouble(f"MQTT broker {settings.host}:{settings.port}")
        self._rivals = Rivals(self.client_id)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and knows our subscriptions."""
        return self._connected.is_set()

    async def until_connected(self) -> None:
        """Wait for the next connection, or return at once if there is one."""
        await self._connected.wait()

    async def flushed(self) -> None:
        """Wait until the outbox is empty; only useful with a time-out, as the broker may be away."""
        await self._publisher.flushed()

    async def run(self) -> NoReturn:
        """Connect, and again after every loss, until cancelled; then say `offline` and leave within 2 s."""
        if self._settings.tls and self._settings.tls_insecure:
            LOG.warning("mqtt.tls_insecure is set: the broker's certificate is not checked")
        async with BalancedGroup() as group:
            if (step_s := self._heartbeats.step_s) is not None:
                group.create_task(self._mind_silence(step_s), name="mqtt-heartbeats")
            await self._connections()

    async def _connections(self) -> NoReturn:
        failures = 0
        while True:
            lost, accepted_s = await self._one_connection()
            now_s = self._clock.monotonic()
            held_s = 0.0 if accepted_s is None else now_s - accepted_s
            poisoned = self._publisher.link_lost(lost)
            self._trouble.failed(lost, now_s)
            failures = 1 if held_s >= STABLE_S else failures + 1
            # MQTT 3.1.1 has no word for a take-over, and mosquitto 2.0 does not use that of MQTT 5: the connection
            # just closes soon after it was accepted, while the broker is there all the time.
            if lost.loss is Loss.UNREACHABLE:
                self._rivals.forget()
            brief = lost.loss is Loss.CLOSED and accepted_s is not None and held_s < STABLE_S
            surely = lost.loss is Loss.TAKEN_OVER
            rivals = (surely or (brief and not poisoned)) and self._rivals.taken_over(now_s, surely=surely)
            await self._clock.sleep(back_off_s(failures, self._chance.random(), slow=rivals))

    async def _one_connection(self) -> tuple[LinkLost, float | None]:
        """Return how the connection ended or why there was none, and when the broker accepted it."""
        accepted_s: float | None = None
        offline = Message("", self.topics.status, OFFLINE, retain=True)
        lost = LinkLost("the connection ended", Loss.CLOSED)
        try:
            async with connect(
                self._settings, client_id=self.client_id, will=offline, patience=self._patience
            ) as link:
                accepted_s = self._clock.monotonic()
                await self._subscribe(link)
                LOG.info("connected to the broker as %s (session_present=%s)", self.client_id, link.session_present)
                self._trouble.worked()
                self._connected.set()
                self._handlers.on_connected()
                try:
                    await self._serve(link)
                finally:
                    self._connected.clear()
                    self._handlers.on_disconnected()
        except* LinkLost as several:
            lost = _first(several)
        return lost, accepted_s

    async def _subscribe(self, link: Link) -> None:
        filters = [self.topics.commands, *self.rules.filters, *self._handlers.listens]
        for name in await link.subscribe(filters, timeout_s=self._patience.answer_s):
            LOG.error("the broker does not let us subscribe to %s: check its access list", name)

    async def _serve(self, link: Link) -> None:
        asked: asyncio.Queue[_Asked] = asyncio.Queue(COMMANDS_WAITING)
        async with BalancedGroup() as group:
            group.create_task(link.until_lost(), name="mqtt-until-lost")
            group.create_task(self._receive(link, asked), name="mqtt-receive")
            group.create_task(self._answer(link, asked), name="mqtt-commands")
            group.create_task(self._publish(link), name="mqtt-publish")
            group.create_task(self._repeat_status(link), name="mqtt-status")

    async def _publish(self, link: Link) -> None:
        for message in (self._online, *self._handlers.birth()):
            await self._say(link, message)
        await self._publisher.drain(link)

    async def _repeat_status(self, link: Link) -> NoReturn:
        while True:
            await self._clock.sleep(STATUS_S)
            await self._say(link, self._online)

    async def _say(self, link: Link, message: Message) -> None:
        code = await link.publish(message, timeout_s=self._patience.answer_s)
        if code >= FAILURE:
            # An access list without our topics makes us mute, not deaf: what we hear still counts.
            name = packets.reason_name(code)
            LOG.error("the broker does not take messages for %s: %s; check its access list", message.topic, name)

    async def _receive(self, link: Link, asked: asyncio.Queue[_Asked]) -> NoReturn:
        dropped = 0
        while True:
            incoming = await link.receive()
            verb = self.topics.verb(incoming.topic)
            if verb is None:
                self._hear(incoming)
                link.acknowledge(incoming)
            elif incoming.retained:  # somebody's mistake that would come back on every connect
                self.ignored["retained_command"] += 1
                LOG.warning("a retained message on %s is ignored", incoming.topic)
                link.acknowledge(incoming)
            else:
                self._accept(link, asked, incoming, verb)
            if link.dropped > dropped and link.backlog == 0:
                LOG.warning("%d messages came faster than they could be handled", link.dropped - dropped)
                dropped = link.dropped
                self._handlers.on_connected()

    def _hear(self, incoming: Incoming) -> None:
        if incoming.topic in self._handlers.listens:
            self._handlers.on_heard(incoming.payload, incoming.retained)
        found = self.rules.match(
            incoming.topic,
            incoming.payload,
            retained=incoming.retained,
            at=self._clock.now(),
            cameras=self._handlers.cameras(),
        )
        self.ignored.update(found.ignored)
        for evidence in found.evidence:
            self._heartbeats.heard(evidence.source, evidence.camera_id, self._clock.monotonic())
            self._handlers.on_evidence(evidence)
        for source in found.lost:
            LOG.warning("%s is gone: what it said of its cameras is not known any more", source)
            for camera_id in self._handlers.cameras():
                self._unknown(source, camera_id)

    async def _mind_silence(self, step_s: float) -> NoReturn:
        """Forget what a source said that repeats itself and has fallen silent; also while the broker is away."""
        while True:
            await self._clock.sleep(step_s)
            for source, camera_id in self._heartbeats.silent(self._clock.monotonic()):
                LOG.info("%s says nothing any more", source, extra={"camera": camera_id})
                self._unknown(source, camera_id)

    def _unknown(self, source: str, camera_id: str) -> None:
        at = self._clock.now()
        self._handlers.on_evidence(Evidence(camera_id, source, Presence.UNKNOWN, retained=False, at=at))

    def _accept(self, link: Link, asked: asyncio.Queue[_Asked], incoming: Incoming, verb: str) -> None:
        expires_s = incoming.expires_in_s
        deadline_s = None if expires_s is None else self._clock.monotonic() + expires_s
        try:
            asked.put_nowait(_Asked(incoming, verb, deadline_s))
        except asyncio.QueueFull:
            reply = commands.Reply(error=f"{COMMANDS_WAITING} commands are waiting already")
            self._reply(link, incoming, verb, reply, None)
            link.acknowledge(incoming)

    async def _answer(self, link: Link, asked: asyncio.Queue[_Asked]) -> NoReturn:
        while True:
            one = await asked.get()
            reply, transaction = await self._carried_out(one)
            self._reply(link, one.incoming, one.verb, reply, transaction)
            link.acknowledge(one.incoming)

    async def _carried_out(self, one: _Asked) -> tuple[commands.Reply, commands.Transaction]:
        transaction: commands.Transaction = None
        try:
            command = commands.parse(one.verb, one.incoming.payload)
            transaction = command.transaction
            if one.deadline_s is not None and self._clock.monotonic() >= one.deadline_s:
                return commands.Reply(error="the command has expired"), transaction
            async with asyncio.timeout(COMMAND_S):
                return await self._handlers.on_command(command), transaction
        except commands.CommandError as error:
            return commands.Reply(error=str(error)), error.transaction
        except AnrWatchError as error:
            return commands.Reply(error=str(error)), transaction
        except TimeoutError:
            return commands.Reply(error=f"not done within {COMMAND_S:g} s"), transaction
        except Exception:
            LOG.exception("command %s failed", one.verb)
            return commands.Reply(error="internal error; see the log"), transaction

    def _reply(
        self, link: Link, incoming: Incoming, verb: str, reply: commands.Reply, transaction: commands.Transaction
    ) -> None:
        topic = commands.reply_topic(self.topics, verb, incoming.response_topic, prefix=self._settings.reply_prefix)
        properties = None
        if self._version_5:
            properties = packets.of_publish(content_type="application/json", correlation=incoming.correlation)
        link.send(Message("", topic, commands.payload_of(reply, transaction)), properties=properties)


def _first(several: BaseExceptionGroup[LinkLost]) -> LinkLost:
    one = several.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
