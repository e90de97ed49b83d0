"""The small server over real sockets: what it answers, and what it costs to be rude to it."""

import asyncio
import contextlib
import random
from http import HTTPStatus

import pytest

from anr_watch.metrics import http
from anr_watch.metrics.http import CONNECTIONS, HEAD_BYTES, Answer, serving

LARGE = b"x" * 20_000_000


async def ok():
    return Answer(HTTPStatus.OK, b"fine\n")


async def large():
    return Answer(HTTPStatus.OK, LARGE)


async def broken():
    raise ZeroDivisionError


async def stuck():
    await asyncio.Event().wait()


PAGES = {"/metrics": ok, "/large": large, "/broken": broken, "/stuck": stuck}


async def ask(port: int, request: bytes, *, end: bool = False) -> bytes:
    """Send a request and return all that comes back until the other side closes; nothing where it is cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def served(test):
    async def main():
        async with serving("127.0.0.1", 0, PAGES) as (_, port):
            await test(port)
            assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"fine\n"), "it goes on"
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /metrics?name[]=up HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /%6detrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"m" * 2000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /metr\xffics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * (2 * HEAD_BYTES), 431),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_answers(request_bytes, status):
    async def test(port):
        answer = await ask(port, request_bytes)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in head
        if request_bytes.startswith(b"HEAD"):
            assert body == b""
        else:
            assert f"Content-Length: {len(body)}".encode() in head
        assert b"ZeroDivision" not in answer

    served(test)


def test_silence_and_stuck_pages_end(monkeypatch):
    monkeypatch.setattr(http, "REQUEST_S", 0.2)
    monkeypatch.setattr(http, "ANSWER_S", 0.5)

    async def test(port):
        said = await asyncio.gather(
            ask(port, b""),
            ask(port, b"GET /metrics HTTP/1.1\r\n"),
            ask(port, b"GET /metr", end=True),
            ask(port, b"GET /stuck HTTP/1.1\r\n\r\n"),
        )
        assert [answer[9:12] for answer in said] == [b"408", b"408", b"", b"503"]

    served(test)


def test_who_does_not_read_is_cut(monkeypatch):
    monkeypatch.setattr(http, "ANSWER_S", 0.5)

    async def test(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /large HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while [
                task for task in asyncio.all_tasks() if task.get_name() == "metrics:connection"
            ] or not reader._buffer:
                await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read(-1)) < len(LARGE)
        writer.transport.abort()

    served(test)


def test_no_more_than_some_at_once():
    async def test(port):
        holding = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        names = lambda: [t for t in asyncio.all_tasks() if t.get_name() == "metrics:connection"]  # noqa: E731
        async with asyncio.timeout(20):
            while len(names()) < CONNECTIONS:
                await asyncio.sleep(0.005)
            assert await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
            for _, writer in holding:
                writer.transport.abort()
            while names():
                await asyncio.sleep(0.005)

    served(test)


def test_nonsense_of_every_kind():
    async def test(port):
        chance = random.Random(7)
        pieces = [
            b"GET ",
            b"/metrics",
            b" HTTP/1.1",
            b"\r\n",
            b"\r\n\r\n",
            b"\0",
            b"\xff" * 9,
            b"A" * 9000,
            b": ",
            b"%00",
        ]
        for _ in range(60):
            request = b"".join(chance.choices(pieces, k=chance.randint(0, 6)))
            answer = await ask(port, request, end=True)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")

    served(test)


def test_an_end_with_connections_open():
    async def main():
        async with serving("127.0.0.1", 0, PAGES) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stuck HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(20):
                while not [t for t in asyncio.all_tasks() if t.get_name() == "metrics:connection"]:
                    await asyncio.sleep(0.005)
        with contextlib.suppress(ConnectionError):
            assert await reader.read(-1) == b""
        writer.transport.abort()

    asyncio.run(main())


def test_a_taken_address_is_an_error():
    async def main():
        async with serving("127.0.0.1", 0, PAGES) as (_, port):
            with pytest.raises(OSError, match="in use"):
                async with serving("127.0.0.1", port, PAGES):
                    pass

    asyncio.run(main())
