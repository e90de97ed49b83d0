"""A camera that means harm: a bare server whose every answer is written by the test, and what its victim did."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anr_watch.camera.audio import AudioKind, Tone
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.camera.query import Target
from anr_watch.camera.rtp import RtpTrack
from anr_watch.camera.sdp import describe

FILM = FilmSpec(gop_frames=15)


@dataclass
class Attack:
    """What the server does; each answer may be replaced. `stream` runs after PLAY, or instead of an HTTP body."""

    name: str
    sdp: bytes | None = None
    describe: bytes | Callable[["Visit"], Awaitable[None]] | None = None
    stream: Callable[["Visit"], Awaitable[None]] | None = None
    http: Callable[["Visit"], Awaitable[None]] | None = None
    patience_s: float = 1.0  # of the worker: more where a busy machine must not look like a silent camera


class Visit:
    """One connection."""

    def __init__(self, film: Film, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self.film, self.reader, self.writer, self.port = film, reader, writer, port
        self.track = RtpTrack(
            channel=0, payload_type=96, clock_rate=90_000, ssrc=7, timestamp_offset=0, mtu_bytes=1400
        )

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def frame(self, payload: bytes, channel: int = 0) -> bytes:
        return struct.pack(">cBH", b"$", channel, len(payload)) + payload

    def rtp(self, payload: bytes, ticks: int, *, marker: bool = True) -> bytes:
        out: list[bytes] = []
        self.track._packet(out, payload, ticks & 0xFFFFFFFF, marker=marker)
        return b"".join(out)

    def pictures(self, gops: int = 1 << 30):
        """The film's pictures for ever, from a fixed place: NAL units and whether it is a key frame."""
        for index in range(gops):
            yield from self.film.gop(index % 2).pictures

    async def play(
        self, steps: Callable[[int], int], change: Callable = lambda number, nals: nals, count: int = 1 << 30
    ):
        """Send pictures whose times are `steps(number)` ticks."""
        for number, picture in zip(range(count), self.pictures(), strict=False):
            await self.send(self.track.h264(change(number, list(picture.nals)), steps(number)))


@asynccontextmanager
async def hostile(attack: Attack, film: Film) -> AsyncIterator[int]:
    """Serve an attack on loopback; gives the port."""
    connections: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task] = set()

    async def serve(reader, writer):
        connections.add(writer)
        tasks.add(asyncio.current_task())
        visit = Visit(film, reader, writer, server.sockets[0].getsockname()[1])
        try:
            await _converse(attack, visit)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 2)


async def _converse(attack: Attack, visit: Visit) -> None:
    if attack.http is not None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await attack.http(visit)
        return
    while True:
        head = (await visit.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if head.startswith("$"):
            continue
        method = head.split(" ", 1)[0]
        cseq = next(
            (line.split(":")[1].strip() for line in head.split("\r\n") if line.lower().startswith("cseq")), "0"
        )
        if method == "DESCRIBE" and callable(attack.describe):
            await attack.describe(visit)
            await visit.reader.read()
            return
        if method == "DESCRIBE" and attack.describe is not None:
            await visit.send(attack.describe.replace(b"CSEQ", cseq.encode()))
            continue
        body, more = b"", ""
        if method == "DESCRIBE":
            body = attack.sdp if attack.sdp is not None else sdp_of(visit.film)
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n"
        elif method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        await visit.send(f"RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{more}\r\n".encode() + body)
        if method == "PLAY" and attack.stream is not None:
            await attack.stream(visit)
            return
        if method == "TEARDOWN":
            return


def sdp_of(film: Film) -> bytes:
    return describe(film, Tone(AudioKind.NONE), Target(live=True)).encode()


@asynccontextmanager
async def canary(host: str = "127.0.0.2") -> AsyncIterator[tuple[int, list]]:
    """Another machine that nobody may be led to; gives its port and who came."""
    came: list = []

    async def serve(reader, writer):
        came.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        await server.wait_closed()
