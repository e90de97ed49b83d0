"""A node under test on a real broker: a session with an outbox in memory, and a relay that can cut or hang its wire."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Self

from broker import eventually

from anr_watch.clock import SystemClock
from anr_watch.config import MqttSettings
from anr_watch.errors import StoreUnavailable
from anr_watch.model import Message
from anr_watch.mqtt.commands import Command, Reply
from anr_watch.mqtt.connecting import Patience
from anr_watch.mqtt.session import Handlers, Session
from anr_watch.presence import Evidence

EVENTS = "anr-watch/nvr/camera/+/event"


def message(number: int, *, camera: str = "cam", size: int = 100) -> Message:
    """Return an event whose id stands in the payload."""
    return Message(f"id-{number}", f"anr-watch/nvr/camera/{camera}/event", f"id-{number}".ljust(size).encode())


@dataclass(frozen=True)
class Row:
    row_id: int
    message: Message


class MemoryOutbox:
    """Rows in memory; `unavailable` makes the next so many calls fail."""

    def __init__(self, messages: list[Message] | None = None) -> None:
        self.rows: dict[int, Row] = {}
        self.next_id = 1
        self.unavailable = 0
        self.removed: list[int] = []
        self.put(*(messages or []))

    def put(self, *messages: Message) -> None:
        for one in messages:
            self.rows[self.next_id] = Row(self.next_id, one)
            self.next_id += 1

    async def outbox(self, after_id: int, limit: int) -> list[Row]:
        await self._turn()
        return [row for row_id, row in sorted(self.rows.items()) if row_id > after_id][:limit]

    async def outbox_done(self, row_ids: list[int]) -> None:
        await self._turn()
        self.removed.extend(row_ids)
        for row_id in row_ids:
            self.rows.pop(row_id, None)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("database is locked")


class HurriedClock(SystemClock):
    """The machine's clocks, `times` as fast: for what takes minutes by design."""

    def __init__(self, times: float) -> None:
        self.times = times

    def monotonic(self) -> float:
        return super().monotonic() * self.times

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self.times)


@dataclass
class Node:
    """Runs one session; everything its handlers were told stands in lists."""

    settings: MqttSettings
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    patience: Patience = field(default_factory=lambda: Patience(connect_s=5, answer_s=5))
    cameras: tuple[str, ...] = ("cam", "other")
    clock: SystemClock = field(default_factory=SystemClock)
    birth: tuple[Message, ...] = ()
    evidence: list[Evidence] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    connects: int = 0
    disconnects: int = 0

    async def on_command(self, command: Command) -> Reply:
        self.commands.append(command)
        return Reply(data={"did": command.verb.value})

    def _connected(self) -> None:
        self.connects += 1

    def _disconnected(self) -> None:
        self.disconnects += 1

    async def __aenter__(self) -> Self:
        self.wake = asyncio.Event()
        self.session = Session(
            self.settings,
            outbox=self.outbox,
            wake=self.wake,
            handlers=Handlers(
                cameras=lambda: self.cameras,
                on_evidence=self.evidence.append,
                on_command=self.on_command,
                on_connected=self._connected,
                on_disconnected=self._disconnected,
                birth=lambda: self.birth,
            ),
            clock=self.clock,
            patience=self.patience,
            chance=random.Random(1),
        )
        self.task = asyncio.ensure_future(self.session.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def connected(self, times: int = 1) -> None:
        await eventually(lambda: self.connects >= times and self.session.connected)

    async def put(self, *messages: Message) -> None:
        self.outbox.put(*messages)
        self.wake.set()

    async def emptied(self) -> None:
        await eventually(lambda: not self.outbox.rows)


class Relay:
    """Passes bytes between a node and the broker until told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._gates: list[asyncio.Event] = []
        self.refusing = False
        self.bytes_up = 0
        self.cut_after: int | None = None  # so many bytes from the node

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Drop all connections without a word."""
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    def hang(self) -> None:
        """Let present connections pass nothing any more; new ones are fine."""
        for gate in self._gates:
            gate.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self._tasks.add(asyncio.current_task())
        gate = asyncio.Event()
        gate.set()
        self._gates.append(gate)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        passing = [
            asyncio.ensure_future(self._pass(reader, up_writer, gate, up=True)),
            asyncio.ensure_future(self._pass(up_reader, writer, gate, up=False)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # asyncio.streams complains of handlers that end cancelled
        finally:
            writer.transport.abort()
            up_writer.transport.abort()
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            self._writers -= {writer, up_writer}

    async def _pass(self, reader, writer, gate: asyncio.Event, *, up: bool) -> None:
        while True:
            data = await reader.read(4096)
            await gate.wait()
            if not data:
                raise EOFError
            if up:
                self.bytes_up += len(data)
                if self.cut_after is not None and self.bytes_up > self.cut_after:
                    self.cut_after = None
                    raise EOFError
            writer.write(data)
            await writer.drain()
