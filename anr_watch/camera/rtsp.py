"""RTSP 1.0 over TCP for one connection (RFC 2326): answers requests and starts the sender; no UDP."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from anr_watch.camera.core import Core
from anr_watch.camera.faults import Faults, Suffers
from anr_watch.camera.listener import Connection
from anr_watch.camera.query import Target, Window, read_range, read_url
from anr_watch.camera.rtp import RtpTrack
from anr_watch.camera.sdp import AUDIO_PAYLOAD, AUDIO_TRACK, VIDEO_PAYLOAD, VIDEO_TRACK, describe
from anr_watch.camera.sender import FOR_EVER, VIDEO_CLOCK, Sender, Tracks
from anr_watch.camera.storage import Run
from anr_watch.log import redact

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    457: "Invalid Range",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_METHODS: Final = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
_INTERLEAVED: Final = re.compile(r"interleaved=(\d{1,9})-\d+")
_LAST_CHANNEL: Final = 254  # one byte, and RTCP takes the next


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RtspConnection:
    """Serves one connection until the client leaves."""

    def __init__(self, core: Core, connection: Connection) -> None:
        self._core = core
        self._connection = connection
        self._auth = core.authenticator()
        self._session = ""
        self._target: Target | None = None
        self._base = ""
        self._tracks = Tracks()
        self._sender: Sender | None = None
        self._sending: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Answer requests in order; whatever ends the connection also ends its stream and session.

        Raises:
            ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError: the client is gone, or
                does not speak RTSP.
        """
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._requests(group)
                finally:
                    self._stop_sending()
        except* (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._connection.abort()
        finally:
            self._core.close_replay(self._session, torn_down=False)

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    async def _requests(self, group: asyncio.TaskGroup) -> None:
        while (request := await self._read()) is not None:
            reply = await self._answer(request)
            if reply is None:
                continue
            await self._send(request, reply)
            if self._sender is not None and self._sending is None:
                self._sending = group.create_task(self._sender.run(), name=f"send-{self._connection.number}")
            if request.method == "TEARDOWN" and reply.status == 200:
                return

    async def _read(self) -> Request | None:
        """Return the next request, skipping interleaved data and the client's own replies; None at the end."""
        reader = self._connection.reader
        while True:
            first = await reader.read(1)
            if not first:
                return None
            if first == b"$":  # receiver reports
                header = await reader.readexactly(3)
                await reader.readexactly(int.from_bytes(header[1:], "big"))
                continue
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "replace")
            lines = head.strip().split("\r\n")
            headers = {}
            for line in lines[1:]:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length):
                await reader.readexactly(min(int(length), 65536))
            if lines[0].startswith("RTSP/"):
                continue
            words = lines[0].split()
            if len(words) != 3:
                return None
            return Request(words[0].upper(), words[1], headers)

    async def _send(self, request: Request, reply: Reply) -> None:
        faults = self._core.faults
        phrase = (faults.phrase if reply.status >= 400 else "") or _REASONS.get(reply.status, "Error")
        head = f"RTSP/1.0 {reply.status} {phrase}\r\n"
        head += f"CSeq: {request.headers.get('cseq', '0')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        if reply.body:
            head += f"Content-Length: {len(reply.body)}\r\n"
        if reply.status >= 400:
            self._journal("status", method=request.method, status=reply.status)
        async with self._connection.whole:
            await self._connection.drip(head.encode() + b"\r\n" + reply.body, self._core.clock, faults.answer_bytes_s)

    def _journal(self, kind: str, **detail: object) -> None:
        self._core.journal.add(kind, connection=self._connection.number, **detail)

    async def _answer(self, request: Request) -> Reply | None:
        """Return the answer, None for none at all."""
        method = request.method
        self._journal(method.lower(), url=redact(request.url))
        try:
            target = self._target or self._read_target(request.url)
        except ValueError:
            return Reply(400)
        faults = self._faults_for(target)
        if faults.vanish.value == method.lower():
            raise ConnectionResetError
        if faults.hang.value == method.lower():
            return None
        if method == "OPTIONS":
            return Reply(headers={"Public": _METHODS})
        if self._core.faults.unauthorized or not self._auth.accepts(method, request.headers.get("authorization")):
            return Reply(401, {"WWW-Authenticate": self._auth.challenge()})
        if method in {"GET_PARAMETER", "TEARDOWN"}:
            if method == "TEARDOWN":
                self._tear_down()
            return Reply(headers={"Session": self._session} if self._session else {})
        if target is None:
            return Reply(404)
        return await self._answer_stream(request, target, faults)

    async def _answer_stream(self, request: Request, target: Target, faults: Faults) -> Reply:
        forced = self._forced_status(request.method, faults)
        if forced:
            return Reply(forced)
        if request.method == "DESCRIBE":
            return await self._describe(request, target, faults)
        if request.method == "SETUP":
            return self._setup(request, target, faults)
        if request.method == "PLAY":
            return self._play(request, target, faults)
        return Reply(405, {"Allow": _METHODS})

    def _tear_down(self) -> None:
        self._stop_sending()
        self._core.close_replay(self._session, torn_down=True)

    def _read_target(self, url: str) -> Target | None:
        return read_url(url, device_zone=self._core.zone, utc_read_as=self._core.utc_read_as)

    def _faults_for(self, target: Target | None) -> Faults:
        """Return the faults that hit this stream, or none at all."""
        hit = target is not None and self._core.faults.hits(live=target.live)
        return self._core.faults.copy() if hit else Faults()

    def _forced_status(self, method: str, faults: Faults) -> int:
        """Return the status a fault demands, counting it down, or 0."""
        status = {
            "DESCRIBE": faults.describe_status,
            "SETUP": faults.setup_status,
            "PLAY": faults.play_status,
        }.get(method, 0)
        current = self._core.faults
        if status and current.status_count > 0:
            current.status_count -= 1
            if current.status_count == 0:
                current.describe_status = current.setup_status = current.play_status = 0
        return status

    async def _describe(self, request: Request, target: Target, faults: Faults) -> Reply:
        if not target.live:
            if not self._session and self._core.replay_busy():
                return Reply(453)
            if target.window and not faults.empty_window and not self._core.storage.runs(target.window, faults):
                return Reply(404)
        if target.live and self._core.strain.suffers() is Suffers.DROP:
            return Reply(503)
        film = self._core.film_shown(faults, live=target.live)
        await film.gop_soon(0)
        await asyncio.to_thread(self._core.tone.prepare)
        body = describe(film, self._core.tone, target, extra=faults.sdp_line).encode()
        base = request.url.rstrip("/") + "/"
        return Reply(headers={"Content-Base": base, "Content-Type": "application/sdp"}, body=body)

    def _setup(self, request: Request, target: Target, faults: Faults) -> Reply:
        wanted = self._read_target(request.url)
        track = wanted.track if wanted is not None else None
        transport = request.headers.get("transport", "")
        first_free = 0 if self._tracks.video is None and self._tracks.audio is None else 2
        if not self._session and not target.live and self._core.replay_busy():
            return Reply(453)
        channels = _INTERLEAVED.search(transport)
        channel = int(channels[1]) if channels else first_free
        if "RTP/AVP/TCP" not in transport or channel > _LAST_CHANNEL:
            return Reply(461)
        if track == AUDIO_TRACK and self._core.tone.kind in AUDIO_PAYLOAD:
            self._tracks.audio = self._track(
                channel, AUDIO_PAYLOAD[self._core.tone.kind], self._core.tone.rate, faults
            )
        elif track in {None, VIDEO_TRACK}:
            self._tracks.video = self._track(channel, VIDEO_PAYLOAD, VIDEO_CLOCK, faults)
        else:
            return Reply(404)
        if not self._session:
            self._session = secrets.token_hex(4)
            self._target = target
            self._base = re.sub(r"/trackID=\d+$", "", request.url).rstrip("/")
            if not target.live:
                self._core.open_replay(self._session)
        ssrc = self._tracks.all()[-1].ssrc
        value = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1};ssrc={ssrc:08X}"
        return Reply(headers={"Session": f"{self._session};timeout=60", "Transport": value})

    def _track(self, channel: int, payload_type: int, clock_rate: int, faults: Faults) -> RtpTrack:
        return RtpTrack(
            channel=channel,
            payload_type=payload_type,
            clock_rate=clock_rate,
            ssrc=secrets.randbits(32),
            timestamp_offset=secrets.randbits(32),
            mtu_bytes=self._core.spec.mtu_bytes,
            corrupt=faults.corrupt,
            lose=faults.lose,
            corrupt_seed=faults.corrupt_seed,
        )

    def _play(self, request: Request, target: Target, faults: Faults) -> Reply:
        if not self._session or not self._tracks.all():
            return Reply(454)
        if self._sender is not None:
            return Reply(455)
        film, storage = self._core.spec.film, self._core.storage
        window: Window | None = None
        if target.live:
            next_key = film.key_frame_before(film.first_frame_at(storage.now_us()) + film.gop_frames - 1)
            runs, range_text = [Run(next_key, FOR_EVER)], "npt=now-"
        else:
            try:
                window = read_range(request.headers.get("range"), self._core.utc_read_as) or target.window
            except ValueError:
                return Reply(457)
            runs = storage.runs(window, faults) if window is not None else []
            if window is None or not (runs or faults.empty_window):
                return Reply(457)
            start_us = film.frame_us(runs[0].first) + storage.clock_offset_us if runs else window.start_us
            range_text = f"clock={Window(start_us, window.end_us)}"
        self._sender = Sender(self._core, self._connection, self._tracks, runs, faults, live=target.live)
        self._journal(
            "playing", live=target.live, window=str(window or ""), runs=[(run.first, run.end) for run in runs]
        )
        info = self._rtp_info(runs[0].first if runs else 0)
        return Reply(headers={"Session": self._session, "Range": range_text, "RTP-Info": info})

    def _rtp_info(self, first: int) -> str:
        infos = []
        for number, track in ((VIDEO_TRACK, self._tracks.video), (AUDIO_TRACK, self._tracks.audio)):
            if track is not None:
                at = track.timestamp(first * track.clock_rate // self._core.spec.film.fps)
                infos.append(f"url={self._base}/trackID={number};seq={track.sequence};rtptime={at}")
        return ",".join(infos)
