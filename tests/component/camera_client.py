"""Clients for tests of the simulated camera: PyAV as the real one, and bare RTSP to see the wire."""

import asyncio
import contextlib
import re
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import av

from anr_watch.camera import barcode
from anr_watch.camera.auth import digest_response, parse_pairs
from anr_watch.clock import SystemClock

NOON = 1_781_352_000  # 2026-06-13T12:00:00Z
NOON_FRAME = NOON * 15
START, END = "20260613T120000Z", "20260613T120010Z"


class TestClock(SystemClock):
    """Real time that began at 13:00 on the day of the footage; sleeping can be skipped and is written down.

    With `still` no time passes at all, however long the machine has been up.
    """

    __test__ = False

    def __init__(self, *, skip_sleep=False, still=False):
        self._still = still
        self._began_s = self.monotonic()
        self._skip_sleep = skip_sleep
        self.slept_s = 0.0

    def monotonic(self):
        return 0.0 if self._still else super().monotonic()

    def now(self):
        return datetime.fromtimestamp(NOON + 3600, UTC) + timedelta(seconds=self.monotonic() - self._began_s)

    async def sleep(self, delay_s):
        self.slept_s += max(0.0, delay_s)
        await asyncio.sleep(0 if self._skip_sleep else delay_s)


@dataclass
class Played:
    """What a player got: frame numbers from decoded pictures, and of each packet its pts and UTC."""

    codecs: list = field(default_factory=list)
    numbers: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    pts: list = field(default_factory=list)
    utc_us: list = field(default_factory=list)
    sound: list = field(default_factory=list)
    video_bytes: int = 0
    error: Exception | None = None


def play(url, *, read_timeout_s=3.0, open_timeout_s=5.0, packets=None):
    """Play to the end (or a number of packets) and return what came; an error ends it, too."""
    options = {"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}
    played = Played()
    frames = []
    try:
        with av.open(url, options=options, timeout=(open_timeout_s, read_timeout_s)) as container:
            played.codecs = [stream.codec_context.name for stream in container.streams]
            video = container.streams.video[0]
            video.codec_context.thread_count = 1
            try:
                for packet in container.demux():
                    if packet.size == 0:
                        continue
                    if packet.stream.type == "audio":
                        played.sound.append((packet.pts, bytes(packet)))
                        continue
                    played.pts.append(packet.pts)
                    played.video_bytes += packet.size
                    side = bytes(packet.get_sidedata("prft")) if packet.has_sidedata("prft") else None
                    played.utc_us.append(struct.unpack_from("<q", side)[0] if side else None)
                    frames += video.codec_context.decode(packet)
                    if packets is not None and len(played.pts) >= packets:
                        break
            except av.FFmpegError as error:
                played.error = error
            frames += video.codec_context.decode(None)
    except av.FFmpegError as error:
        played.error = error
    played.marks = [barcode.read(frame) for frame in frames]
    played.numbers = [mark and mark.frame_number for mark in played.marks]
    return played


def count(first, number):
    return list(range(first, first + number))


class BareClient:
    """RTSP by hand over one connection."""

    def __init__(self, reader, writer, password="camera"):
        self._reader, self._writer, self._password = reader, writer, password
        self._sequence = 0
        self._challenge = None
        self.interleaved = []
        self.requests = []

    @classmethod
    async def connect(cls, port, **changes):
        return cls(*await asyncio.open_connection("127.0.0.1", port), **changes)

    async def close(self):
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the camera was first
            await self._writer.wait_closed()

    async def ask(self, method, url, headers=None):
        """Send a request, again with credentials after 401, and return (status, headers, body)."""
        status, answer, body = await self._ask_once(method, url, headers or {})
        if status == 401 and self._challenge is None:
            self._challenge = answer["www-authenticate"]
            status, answer, body = await self._ask_once(method, url, headers or {})
        return status, answer, body

    async def start(self, url):
        """SETUP and PLAY the video; return the answers."""
        transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        setup = await self.ask("SETUP", url + "/trackID=1", transport)
        if setup[0] != 200:
            return setup, None
        return setup, await self.ask("PLAY", url, {"Session": setup[1]["session"].split(";")[0]})

    async def rest(self):
        """Read interleaved data and the camera's own requests until the connection ends or says BYE."""
        while not any(b"\x81\xcb\x00\x01" in packet for channel, packet in self.interleaved if channel == 1):
            if not await self._message():
                return

    async def _ask_once(self, method, url, headers):
        self._sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self._challenge is not None:
            lines.append("Authorization: " + self._credentials(method, url))
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        while True:
            message = await self._message()
            if not message:
                raise ConnectionResetError
            if isinstance(message, tuple):
                return message

    def _credentials(self, method, url):
        scheme, _, value = self._challenge.partition(" ")
        pairs = parse_pairs(value)
        algorithm = "sha256" if pairs.get("algorithm") == "SHA-256" else "md5"
        pairs = {name: pairs[name] for name in ("realm", "nonce")} | {"username": "admin", "uri": url}
        if "qop" in value:
            pairs |= {"qop": "auth", "nc": "00000001", "cnonce": "c0ffee"}
        pairs["response"] = digest_response(
            algorithm=algorithm, username="admin", password=self._password, method=method, pairs=pairs
        )
        return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in pairs.items())

    async def _message(self):
        """Read one message: an answer as a tuple, something else as True, the end as False."""
        try:
            first = await self._reader.readexactly(1)
            if first == b"$":
                channel, size = struct.unpack(">BH", await self._reader.readexactly(3))
                self.interleaved.append((channel, await self._reader.readexactly(size)))
                return True
            head = (first + await self._reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        lines = head.strip().split("\r\n")
        if not lines[0].startswith("RTSP/"):
            self.requests.append(lines[0])
            return True
        headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body
