"""The program under a conductor: forks one daemon per line of stdin, and each stops at named places until let go.

    python tests/torture/stepped.py ABSTRACT_SOCKET
    stdin   {"argv": ["--config", ..., "run"]}         one daemon each
    stdout  {"pid": 7}   {"pid": 7, "exit": -9}        started, ended (negative: a signal)

At a place a daemon sends its name over a connection of its own to the abstract socket and waits for one byte, with
its event loop standing still. Killed there, it has done everything before the place and nothing behind it. Starting
a daemon by a fork of a process that has loaded everything takes a third of the time of a new interpreter.
"""

import functools
import json
import os
import select
import signal
import socket
import sys
import threading

import anr_watch.commands.run  # noqa: F401 - loaded here once, for every daemon
import anr_watch.daemon as composition
from anr_watch import cli
from anr_watch.footage.holding import Holding
from anr_watch.footage.indexer import Indexer
from anr_watch.mqtt.publisher import Publisher
from anr_watch.replay.process import Workers
from anr_watch.store import opening, schema
from anr_watch.store.connection import Session
from anr_watch.store.store import Store

# Every outgoing event is noted by the transaction that writes it, so a test can say which ones must be delivered.
LEDGER = (
    "CREATE TABLE IF NOT EXISTS torture_ledger (event_id TEXT, topic TEXT, payload BLOB, retain INTEGER)",
    """
    CREATE TRIGGER IF NOT EXISTS torture_noted AFTER INSERT ON anr_outbox BEGIN
        INSERT INTO torture_ledger VALUES (NEW.event_id, NEW.topic, NEW.payload, NEW.retain);
    END
    """,
)


class Places:
    """One daemon's line to the conductor."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(f"\0{name}")
        self._turn = threading.Lock()  # some places are in threads
        self._socket.sendall(f"{os.getpid()}\n".encode())

    def at(self, place: str) -> None:
        """Stand still until the conductor says go; without a conductor there is nothing to go on for."""
        with self._turn:
            self._socket.sendall(f"{place}\n".encode())
            if not self._socket.recv(1):
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, method: str, *, before: str = "", after: str = "") -> None:
        """Make calls of a coroutine method places."""
        plain = getattr(owner, method)

        @functools.wraps(plain)
        async def placed(*arguments: object, **named: object) -> object:
            if before:
                self.at(before)
            result = await plain(*arguments, **named)
            if after:
                self.at(after)
            return result

        setattr(owner, method, placed)

    def around_call(self, owner: type, method: str, *, before: str = "", after: str = "") -> None:
        """Make calls of a plain method places."""
        plain = getattr(owner, method)

        @functools.wraps(plain)
        def placed(*arguments: object, **named: object) -> object:
            if before:
                self.at(before)
            result = plain(*arguments, **named)
            if after:
                self.at(after)
            return result

        setattr(owner, method, placed)


class WatchedSession(Session):
    """The session of a migration: a place before each statement."""

    def __init__(self, inner: Session, places: Places) -> None:
        super().__init__(inner._connection)
        self._places, self._number = places, 0

    async def all(self, sql, parameters=()):
        if sql.lstrip().startswith(("CREATE", "ALTER", "INSERT")):
            self._number += 1
            self._places.at(f"migration:{self._number}")
        return await super().all(sql, parameters)


def install(places: Places) -> None:
    """Put the places into this process; the program itself knows nothing of them."""
    composition.Tools = functools.partial(composition.Tools, at_step=lambda step: places.at(f"fill:{step}"))
    places.around(Indexer, "_add", before="indexer:rows", after="indexer:rows_written")
    places.around(Indexer, "_register", before="indexer:hole", after="indexer:hole_written")
    places.around(Store, "interrupt_open_attempts", before="start:open", after="start:interrupted")
    places.around(Workers, "start", after="start:workers")
    places.around(Store, "register_hole", after="gap:registered")
    places.around_call(Holding, "look", after="start:emptied")
    places.around_call(Publisher, "_answered", before="publisher:acknowledged")
    places.around(Publisher, "_remove_now", before="publisher:removing", after="publisher:removed")
    places.around(Publisher, "_send_one", after="publisher:sent")
    migrate = schema.migrate

    async def migrated(session: Session, *arguments: object, **named: object) -> None:
        before = await schema.own_version(session)
        await migrate(
            WatchedSession(session, places) if before < len(schema.OWN_MIGRATIONS) else session, *arguments, **named
        )
        for statement in LEDGER:
            await session.all(statement)
        if before < len(schema.OWN_MIGRATIONS):
            places.at("migration:end")

    opening.schema.migrate = migrated


def fork(line: bytes, name: str, ours: tuple[int, ...]) -> int:
    """Start one daemon."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in ours:
            os.close(fd)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.setsid()
        install(Places(name))
        sys.argv = ["anr-watch", *json.loads(line)["argv"]]
        status = cli.main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        os._exit(status or 0)


def main(name: str) -> None:
    """Fork daemons until stdin ends; those that still run are killed then."""
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: set[int] = set()
    rest = b""
    while True:
        ready, _, _ = select.select([0, wake_r], [], [])
        if wake_r in ready:
            os.read(wake_r, 512)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    running.discard(pid)
                    tell(pid=pid, exit=os.waitstatus_to_exitcode(status))
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                pid = fork(line, name, (wake_r, wake_w))
                running.add(pid)
                tell(pid=pid)


def tell(**facts: int) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
