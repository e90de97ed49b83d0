"""A listening socket that can vanish and come back on the same port, and the connections it took; no protocol."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from enum import StrEnum

from anr_watch.camera.core import Core
from anr_watch.clock import Clock

_LINE_LIMIT_BYTES = 65536


class Drop(StrEnum):
    """How connections end when the camera goes offline."""

    CLOSE = "close"
    RST = "rst"
    SILENT = "silent"  # nothing is sent any more, as when the cable is pulled


class Connection:
    """One TCP connection: counts what it sends and can fall silent, close or be reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, number: int) -> None:
        self.reader = reader
        self.number = number
        self.sent_bytes = 0
        self.whole = asyncio.Lock()  # held while a message is written in pieces
        self._writer = writer
        self._silent = False

    @property
    def silent(self) -> bool:
        """Whether nothing is sent any more."""
        return self._silent

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the client does not take them; a silent connection drops them.

        Raises:
            ConnectionError: the client is gone.
        """
        if self._silent:
            return
        self._writer.write(data)
        self.sent_bytes += len(data)
        await self._writer.drain()

    async def drip(self, data: bytes, clock: Clock, bytes_s: float) -> None:
        """Send bytes one at a time at a rate; 0 sends them at once.

        Raises:
            ConnectionError: the client is gone.
        """
        if bytes_s <= 0:
            await self.write(data)
            return
        for byte in data:
            await self.write(bytes([byte]))
            await clock.sleep(1 / bytes_s)

    async def until_gone(self) -> None:
        """Ignore whatever the client sends until it closes."""
        while await self.reader.read(65536):
            pass

    def narrow(self, size_bytes: int) -> None:
        """Let the system take up little of what is written, so that a slow client is felt at once."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
        self._writer.transport.set_write_buffer_limits(high=0)

    def fall_silent(self) -> None:
        """Send nothing more, but keep the connection."""
        self._silent = True

    def close(self) -> None:
        """Close after what was written has gone out."""
        self._writer.close()

    def cut(self) -> None:
        """Close at once; what was not sent yet is lost."""
        self._writer.transport.abort()

    def abort(self) -> None:
        """Close at once with a TCP reset."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Listener:
    """Accepts connections for `serve`, each in a task of `group`.

    While closed, the port stays bound but not listening: connecting is refused, and no other process (nor a
    client's own outgoing connection) can take the port meanwhile.
    """

    def __init__(
        self, name: str, core: Core, group: asyncio.TaskGroup, serve: Callable[[Connection], Awaitable[None]]
    ) -> None:
        self._name = name
        self._core = core
        self._group = group
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._count = 0
        self.port = 0

    async def open(self, port: int = 0) -> None:
        """Listen, on the port it had before or on `port`. Does nothing when it already listens.

        Raises:
            OSError: the port is taken.
        """
        if self._server is not None:
            return
        if self._held is None:
            self._held = self._bound(port)
            self.port = self._held.getsockname()[1]
        sock, self._held = self._held, None
        self._server = await asyncio.start_server(
            self._accepted, sock=sock, backlog=64, limit=_LINE_LIMIT_BYTES, ssl=self._tls()
        )

    def close(self) -> None:
        """Stop listening; connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._held = self._bound(self.port)

    def drop(self, how: Drop) -> None:
        """End every connection."""
        for connection, task in self._connections.items():
            if how is Drop.SILENT:
                connection.fall_silent()
                continue
            if how is Drop.RST:
                connection.abort()
            else:
                connection.cut()
            task.cancel()

    def shut(self) -> None:
        """Close for good, the held port too."""
        self.close()
        self.drop(Drop.RST)
        if self._held is not None:
            self._held.close()
            self._held = None

    def _tls(self) -> ssl.SSLContext | None:
        """Return what makes this a TLS port: the camera's certificate and key; None for a plain one."""
        if self._core.spec.tls is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._core.spec.tls)
        return context

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._core.spec.host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        number = self._count
        connection = Connection(reader, writer, number=number)
        self._core.journal.add("accept", server=self._name, connection=number)
        if self._core.faults.refuse or self._server is None:
            connection.close()
            self._core.journal.add("closed", server=self._name, connection=number, bytes=0)
            return
        task = self._group.create_task(self._run(connection), name=f"{self._core.spec.name}-{self._name}-{number}")
        self._connections[connection] = task

    async def _run(self, connection: Connection) -> None:
        try:
            await self._serve(connection)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            connection.abort()  # the client went away or sends no protocol: nothing more to say to it
        finally:
            connection.close()
            del self._connections[connection]
            self._core.journal.add(
                "closed", server=self._name, connection=connection.number, bytes=connection.sent_bytes
            )
