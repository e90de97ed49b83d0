"""A real mosquitto on 127.0.0.1 for one test, and an observer of what goes over it.

with Broker(tmp_path) as broker:          # running, anonymous, nothing persisted
    broker.stop(); broker.start()         # clean restart on the same port
    broker.kill()                         # SIGKILL
    with broker.frozen(): ...             # SIGSTOP .. SIGCONT
    async with Observer(broker.port, "anr-watch/#") as seen:
        await seen.until(lambda messages: len(messages) == 3)
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiomqtt

DEADLINE_S = 15.0


def program(name: str) -> str:
    """Return the path of one of mosquitto's programs."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is needed for these tests: install mosquitto")
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Broker:
    """One mosquitto process with its own folder and port.

    Args:
        folder: where its configuration, log and data go; usually `tmp_path`.
        persistence: keep sessions and retained messages over a clean restart.
        users: user names and passwords; given, nobody else may connect.
        acl: lines of an access list.
        tls: `(ca file, certificate, key)`.
        extra: further configuration lines.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        folder: Path,
        *,
        persistence: bool = False,
        users: Mapping[str, str] | None = None,
        acl: str = "",
        tls: tuple[Path, Path, Path] | None = None,
        extra: str = "",
    ) -> None:
        self.folder = folder / f"broker-{next(self._numbers)}"
        self.folder.mkdir()
        self.port = 0
        self.log = self.folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        lines = ["log_dest stderr", "log_type all", "allow_zero_length_clientid true"]
        # By default it silently drops what a slow subscriber (an observer in a busy loop) has waiting beyond 1000;
        # with 0 (no limit) version 2.0.11 hangs up on a forbidden PUBLISH instead of answering it.
        lines.append("max_queued_messages 100000")
        if os.getuid() == 0:
            lines.append("user root")  # otherwise it drops to an account that cannot write the folder
        lines.append(f"allow_anonymous {'false' if users else 'true'}")
        if users:
            passwords = self.folder / "passwords"
            passwords.touch(0o600)
            for user, password in users.items():
                subprocess.run(
                    [program("mosquitto_passwd"), "-b", str(passwords), user, password],
                    check=True,
                    capture_output=True,
                )
            lines.append(f"password_file {passwords}")
        if acl:
            (self.folder / "acl").write_text(acl + "\n")
            (self.folder / "acl").chmod(0o600)
            lines.append(f"acl_file {self.folder / 'acl'}")
        if tls:
            lines += [f"cafile {tls[0]}", f"certfile {tls[1]}", f"keyfile {tls[2]}"]
        if persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        self._lines = [*lines, *extra.splitlines()]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and return when it takes connections; the first start picks the port, later ones keep it."""
        assert self._process is None, "already running"
        deadline = time.monotonic() + DEADLINE_S
        chosen = self.port
        while True:
            self.port = chosen or free_port()
            config = self.folder / "mosquitto.conf"
            # The listener must come before the options that belong to it (TLS).
            config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *self._lines]) + "\n")
            with self.log.open("ab") as log:
                process = subprocess.Popen([program("mosquitto"), "-c", str(config)], stdout=log, stderr=log)
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                except OSError:
                    if time.monotonic() > deadline:
                        process.kill()
                        process.wait()
                        raise
                    time.sleep(0.005)
                else:
                    self._process = process
                    return
            # It ended at once: the port was taken meanwhile, or is still being given back.
            if time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in order (SIGTERM): it saves what it persists."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it in order and start it on the same port."""
        self.stop()
        self.start()

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process without ending it: connections stay open, nobody answers."""
        assert self._process is not None
        process = self._process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Seen:
    """One message an observer got."""

    topic: str
    payload: bytes
    retain: bool
    properties: object


class Observer:
    """A client of its own that collects messages on `filters`, with the wait conditions tests need."""

    def __init__(self, port: int, *filters: str, qos: int = 1, **client_options: object) -> None:
        self.messages: list[Seen] = []
        self._port, self._filters, self._qos = port, filters, qos
        self._options = client_options
        self._new = asyncio.Event()

    async def __aenter__(self) -> Self:
        options = {"protocol": aiomqtt.ProtocolVersion.V5, **self._options}
        self.client = aiomqtt.Client("127.0.0.1", self._port, **options)
        await self.client.__aenter__()
        for name in self._filters:
            await self.client.subscribe(name, qos=self._qos)
        self._task = asyncio.ensure_future(self._collect())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await self._task
        with contextlib.suppress(aiomqtt.MqttError):
            await self.client.__aexit__(None, None, None)

    async def _collect(self) -> None:
        async for message in self.client.messages:
            self.messages.append(
                Seen(str(message.topic), bytes(message.payload), bool(message.retain), message.properties)
            )
            self._new.set()

    async def until(self, done: Callable[[list[Seen]], object], *, deadline_s: float = DEADLINE_S) -> list[Seen]:
        """Wait until `done(messages)` is true; what it returned last stands in the error otherwise."""
        async with asyncio.timeout(deadline_s):
            while not done(self.messages):
                self._new.clear()
                await self._new.wait()
        return self.messages

    async def publish(self, topic: str, payload: bytes | str, **options: object) -> None:
        """Publish at QoS 1 and wait for the broker's word."""
        await self.client.publish(topic, payload, **{"qos": 1, **options})


async def eventually(done: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `done()` is true."""
    async with asyncio.timeout(deadline_s):
        while not done():
            await asyncio.sleep(0.005)
