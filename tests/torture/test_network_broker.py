"""The broker's bad days: not there, killed amid publishes, forgetful, frozen, refusing, and taken over by a rival.

The daemon reaches its broker through a door that is open only while an observer listens, so that whatever the broker
took has a witness. What had to be told stands in the database: a trigger copies every row that enters the outbox.
"""

import asyncio
import contextlib
import itertools
import json
import random

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from tests.broker import Broker, Observer, free_port
from tests.world import World, until

FILM = FilmSpec(width=160, height=96)
BASE = "anr-watch/test"
COPY = (
    "CREATE TABLE told (event_id TEXT, topic TEXT, payload BLOB, retain INTEGER)",
    """CREATE TRIGGER witness AFTER INSERT ON anr_outbox
       BEGIN INSERT INTO told VALUES (NEW.event_id, NEW.topic, NEW.payload, NEW.retain); END""",
)


class Door:
    """A port that leads to the broker while it is open; closed, connecting is refused, as with a broker that is down."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()
        self.passed = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        self._tasks.add(asyncio.current_task())
        ends = [writer]
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(up_writer)
            pumps = {asyncio.ensure_future(_pump(reader, up_writer)), asyncio.ensure_future(_pump(up_reader, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # a handler that ends cancelled is complained of by asyncio.streams
        finally:
            for end in ends:
                end.transport.abort()
            self._tasks.discard(asyncio.current_task())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


class Witness:
    """What observers saw of all brokers of one round, by topic and event id."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], bytes] = {}
        self.retained: dict[str, bytes] = {}

    def take(self, observer: Observer) -> None:
        for message in observer.messages:
            if message.topic.endswith("/event"):
                event = json.loads(message.payload)
                key = (message.topic, event["id"])
                assert self.seen.setdefault(key, message.payload) == message.payload, "one id, two contents"
            else:
                self.retained[message.topic] = message.payload


def events_told(world: World) -> set[tuple[str, str]]:
    rows = world.kernel.execute("SELECT topic, event_id FROM told WHERE retain = 0")
    return {(topic, event_id) for topic, event_id in rows}


def waiting(world: World, retain: int) -> list[str]:
    return [topic for (topic,) in world.kernel.execute("SELECT topic FROM anr_outbox WHERE retain = ?", [retain])]


async def toggling(world: World, name: str, *, every_s: float) -> None:
    """Let a camera's status change for ever: each change is an event and a state."""
    for state in itertools.cycle(("offline", "recording")):
        world.kernel.set_status(name, state)
        await asyncio.sleep(every_s)


def settings(port: int) -> str:
    return (
        "[fills]\nregister_gaps = false\nkernel_events = false\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\nusername = "anr"\npassword = "Rg3tNb7yMs0z"\n'
    )


async def filled(world: World, number: int) -> None:
    """Note the next hole, as the kernel would, and wait until it is filled: whatever the broker does."""
    start = -194.3 + 30 * number
    world.kernel.add_gap("gate", world.at(start), world.at(start + 24.3))
    await until(lambda: len(world.kernel.gaps("gate")) == number + 1, "the row")
    await world.settled()


@pytest.mark.timeout(240)
def test_what_had_to_be_told_is_told_whatever_becomes_of_the_broker(tmp_path, tally, rounds):
    async def one(seed: int, folder) -> None:
        chance = random.Random(seed)
        specs = [
            CameraSpec(name="gate", film=FILM),
            CameraSpec(name="quiet", film=FILM),
            CameraSpec(name="busy", film=FILM),
        ]
        with contextlib.ExitStack() as stack:
            broker = Broker(folder)
            stack.callback(broker.kill)
            broker.start()  # it has a port from now on
            broker.kill()
            door = Door(broker.port)
            async with World(folder, *specs, settings=settings(door.port)) as world:
                for number in range(4):
                    world.record("gate", -200 + 30 * number, -194.3 + 30 * number)
                world.record("gate", -80, -75)
                witness = Witness()
                try:
                    await outages(world, broker, door, witness, chance, tally, long=rounds.long)
                    await refused(world, folder, broker, door)
                    await rival(world, broker, door, tally)
                finally:
                    await door.close()

    for seed in rounds(short=1, share=0.1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        asyncio.run(one(seed, folder))


async def outages(world, broker, door, witness, chance, tally, *, long: bool) -> None:
    async with world.daemon() as daemon:  # the broker is not there
        for statement in COPY:
            world.kernel.execute(statement)
        await filled(world, 0)
        world.kernel.set_status("busy", "offline")
        await until(lambda: waiting(world, 0), "events in the outbox")
        states = waiting(world, 1)
        assert len(states) == len(set(states)), "one state per topic is enough"
        tally.faults += 1
        broker.start()
        async with Observer(broker.port, f"{BASE}/#") as observer:
            await door.open()
            busy = asyncio.ensure_future(toggling(world, "busy", every_s=0.03))
            await until(
                lambda: f"{BASE}/camera/gate/event" in {m.topic for m in observer.messages}, lambda: daemon.log
            )
            await asyncio.sleep(chance.uniform(0.1, 0.6))  # amid publishes, wherever that is
            broker.kill()
            tally.kills += 1
            await door.close()
            await observer_done(observer, witness)
        broker.start()  # without anything it knew
        async with Observer(broker.port, f"{BASE}/#") as observer:
            await door.open()
            await until(
                lambda: f"{BASE}/camera/quiet/state" in {m.topic for m in observer.messages}, lambda: daemon.log
            )
            since = len(observer.messages)
            with broker.frozen():
                tally.faults += 1
                await filled(world, 1)
                await asyncio.sleep(25 if long else 0)
            busy.cancel()
            await asyncio.wait([busy])
            world.kernel.set_status("busy", "offline")
            world.kernel.set_status("busy", "recording")
            await until(
                lambda: any(b"fill.completed" in message.payload for message in observer.messages[since:]),
                lambda: daemon.log,
                deadline_s=60,
            )
            await until(
                lambda: not waiting(world, 0) and not waiting(world, 1), lambda: waiting(world, 0), deadline_s=60
            )
            await observer_done(observer, witness)
        lost = events_told(world) - witness.seen.keys()
        tally.events_lost += len(lost)
        assert len(witness.seen) > 10
        assert lost == set(), daemon.log[-3000:]
        async with Observer(broker.port, f"{BASE}/#") as fresh:
            wanted = {f"{BASE}/status", f"{BASE}/info", *(f"{BASE}/camera/{name}/state" for name in world.cameras)}
            await fresh.until(lambda seen: {m.topic for m in seen if m.retain} >= wanted)
            kept = {m.topic: m.payload for m in fresh.messages if m.retain}
        assert kept[f"{BASE}/status"] == b"online"
        rows = world.kernel.execute("SELECT topic, CAST(payload AS TEXT) FROM told WHERE retain = 1 ORDER BY rowid")
        newest = dict(rows)
        for name in world.cameras:
            topic = f"{BASE}/camera/{name}/state"
            assert json.loads(kept[topic]) == json.loads(newest[topic])
        assert "Traceback" not in daemon.log


async def observer_done(observer: Observer, witness: Witness) -> None:
    """Let what the broker has sent arrive: to the end of a dead connection, or a moment without news."""
    count = -1
    while count != len(observer.messages):
        count = len(observer.messages)
        await asyncio.sleep(0.2)
    witness.take(observer)


async def refused(world, folder, broker, door) -> None:
    """A broker that does not want us any more costs messages their time, and nothing else."""
    await door.close()
    broker.kill()
    strict = Broker(folder, users={"anr": "another password"})
    strict.port = broker.port
    with strict:
        await door.open()
        async with world.daemon() as daemon:
            says = "the broker refuses the user name or password"
            await until(lambda: says in daemon.log, lambda: daemon.log)
            await filled(world, 2)
            assert "Rg3tNb7yMs0z" not in daemon.log
            assert sum(says in line for line in daemon.lines) <= 2
    await door.close()


async def rival(world, broker, door, tally) -> None:
    """Another client comes with our id, again and again: we say so and come back slowly."""
    broker.start()
    await door.open()
    async with world.daemon() as daemon:
        before = door.passed
        tally.faults += 1

        async def steal() -> None:
            while True:
                with contextlib.suppress(Exception):
                    async with Observer(broker.port, identifier="anr-watch-test"):
                        await asyncio.sleep(0.05)

        thief = asyncio.ensure_future(steal())
        await until(lambda: "client connects as 'anr-watch-test'" in daemon.log, lambda: daemon.log)
        await filled(world, 3)
        assert door.passed - before <= 5, "a fight of reconnects"
        assert "give each node its own mqtt.node or mqtt.client_id" in daemon.log
        thief.cancel()
        await asyncio.wait([thief])
    await door.close()
