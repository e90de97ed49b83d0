"""A server for a handful of GET requests: one answer per connection, every input bounded. It knows no metric.

What it needs of HTTP/1.1 is a request line, headers it does not look at, and an answer with a length; the connection
is closed after it. Whoever sends nothing, too much or nonsense costs one of a few places for a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.metrics")

HEAD_BYTES: Final = 8192
REQUEST_S: Final = 5.0  # until the request is complete
ANSWER_S: Final = 10.0  # until it is made and sent: Prometheus itself gives up after 10 s
CONNECTIONS: Final = 16  # two scrapers and a person; the next one is closed at once
_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,1024}) HTTP/1\.[01]")
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


Page = Callable[[], Awaitable[Answer]]


@contextlib.asynccontextmanager
async def serving(host: str, port: int, pages: Mapping[str, Page]) -> AsyncIterator[tuple[str, int]]:
    """Answer GET and HEAD of `pages` (by path) for the length of the block; yields the address.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = _Server(pages)
    listening = await asyncio.start_server(server.accepted, host, port, limit=HEAD_BYTES, backlog=CONNECTIONS)
    try:
        async with BalancedGroup() as server.group:
            try:
                address = listening.sockets[0].getsockname()
                yield address[0], address[1]
            finally:
                listening.close()
                server.drop()
    finally:
        listening.close()


class _Server:
    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self.group: asyncio.TaskGroup | None = None
        self._open: set[asyncio.Task[None]] = set()

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.group is None or len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        task = self.group.create_task(self._serve(reader, writer), name="metrics:connection")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def drop(self) -> None:
        for task in self._open:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head_only, answer = await self._answer(reader)
            writer.write(_header(answer) + (b"" if head_only else answer.body))
            async with asyncio.timeout(ANSWER_S):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away, or does not read: nobody to tell
        finally:
            writer.transport.abort()  # nothing happens when it has closed

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[bool, Answer]:
        """Return whether only the header is wanted, and the answer.

        Raises:
            OSError, asyncio.IncompleteReadError: the client is gone.
        """
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return False, _plain(HTTPStatus.REQUEST_TIMEOUT)
        except asyncio.LimitOverrunError:
            return False, _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        line = _LINE.fullmatch(head.partition(b"\r\n")[0])
        if line is None:
            return False, _plain(HTTPStatus.BAD_REQUEST)
        method, path = line[1], line[2].decode("ascii").partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            return method == b"HEAD", _plain(HTTPStatus.NOT_FOUND)
        if method not in (b"GET", b"HEAD"):
            return False, _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            async with asyncio.timeout(ANSWER_S):
                return method == b"HEAD", await page()
        except TimeoutError:
            return method == b"HEAD", _plain(HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception:  # a defect in a number must not end the daemon that fills gaps
            LOG.exception("a page could not be made")
            return method == b"HEAD", _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def _plain(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())


def _header(answer: Answer) -> bytes:
    status = answer.status
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
