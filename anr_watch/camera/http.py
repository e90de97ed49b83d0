"""HTTP/1.1 replay of the card for one connection: MediaMTX's /get and Frigate's clip.mp4; GET only."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from anr_watch.camera.auth import Authenticator
from anr_watch.camera.core import Core
from anr_watch.camera.faults import Faults, Hang
from anr_watch.camera.listener import Connection
from anr_watch.camera.mp4 import FragmentedMp4
from anr_watch.camera.outlet import Outlet
from anr_watch.camera.query import Window, read_unix
from anr_watch.camera.storage import Run, micros
from anr_watch.errors import ParseError
from anr_watch.instants import parse_instant

_REASONS: Final = {
    200: "OK",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_CLIP: Final = re.compile(r"/(?:clip|api)/[^/]+/start/(\d+(?:\.\d+)?)/end/(\d+(?:\.\d+)?)/clip\.mp4")
_JOINED_S: Final = 1  # MediaMTX joins neighbours up to a hole of one second and stops at a longer one


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]


class HttpConnection:
    """Serves one connection. The authenticator is the camera's: clients answer a challenge on a new connection."""

    def __init__(self, core: Core, connection: Connection, auth: Authenticator) -> None:
        self._core = core
        self._connection = connection
        self._auth = auth

    async def serve(self) -> None:
        """Answer requests until the client leaves.

        Raises:
            ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError: the client is gone, or
                does not speak HTTP.
        """
        while (request := await self._read()) is not None:
            self._core.journal.add("get", connection=self._connection.number, url=request.target)
            if not await self._answer(request):
                return

    async def _read(self) -> _Request | None:
        reader = self._connection.reader
        first = await reader.read(1)
        if not first:
            return None
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.strip().split("\r\n")
        words = lines[0].split()
        if len(words) != 3:
            return None
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        return _Request(words[0], words[1], headers)

    async def _answer(self, request: _Request) -> bool:
        """Answer one request; return whether the connection can take another."""
        hit = self._core.faults.hits(live=False)
        faults = self._core.faults.copy() if hit else Faults()
        if faults.hang is Hang.GET:
            await self._connection.until_gone()
            return False
        if self._core.faults.unauthorized or not self._auth.accepts(
            request.method, request.headers.get("authorization")
        ):
            return await self._status(401, {"WWW-Authenticate": self._auth.challenge()})
        if request.method != "GET":
            return await self._status(405, {"Allow": "GET"})
        if faults.http_redirect:
            return await self._status(302, {"Location": faults.http_redirect})
        if faults.http_status:
            return await self._status(faults.http_status)
        clip = _CLIP.fullmatch(urlsplit(request.target).path)
        try:
            window = self._window(request.target, clip)
        except (KeyError, ValueError, OverflowError, ParseError):
            return await self._status(400)
        if window is None:
            return await self._status(404)
        runs = self._core.storage.runs(window, faults)
        if not runs and not faults.empty_window:
            return await self._status(404 if clip is None else 400)  # Frigate says 400 where it has nothing
        if self._core.http_busy():
            return await self._status(503)
        with self._core.download():
            await self._send_watched(runs if clip is not None else self._contiguous(runs), faults, window)
        return False

    def _window(self, target: str, clip: re.Match[str] | None) -> Window | None:
        """Return the window a URL asks for; None for a path this camera does not have."""
        if clip is not None:
            return Window(read_unix(clip[1]), read_unix(clip[2]))
        parts = urlsplit(target)
        if parts.path != "/get":
            return None
        query = dict(parse_qsl(parts.query))
        # An unescaped + of an offset arrives as a space.
        start: datetime = parse_instant(query["start"].replace(" ", "+"))
        end = start + timedelta(seconds=float(query["duration"].removesuffix("s")))
        return Window(micros(start), micros(end))

    def _contiguous(self, runs: list[Run]) -> list[Run]:
        fps = self._core.spec.film.fps
        for index in range(1, len(runs)):
            if runs[index].first - runs[index - 1].end > _JOINED_S * fps:
                return runs[:index]
        return runs

    async def _status(self, status: int, headers: dict[str, str] | None = None) -> bool:
        self._core.journal.add("status", connection=self._connection.number, method="GET", status=status)
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join([f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", *lines, "Content-Length: 0"])
        await self._connection.write(head.encode() + b"\r\n\r\n")
        return True

    async def _send_watched(self, runs: list[Run], faults: Faults, window: Window) -> None:
        """Send the file; when the client leaves first, stop."""
        try:
            async with asyncio.TaskGroup() as group:
                number = self._connection.number
                sending = group.create_task(self._send(runs, faults, window), name=f"send-{number}")
                watching = group.create_task(self._connection.until_gone(), name=f"watch-{number}")
                sending.add_done_callback(lambda _: watching.cancel())
                watching.add_done_callback(lambda _: sending.cancel())
        except* ConnectionError:
            self._connection.abort()

    async def _send(self, runs: list[Run], faults: Faults, window: Window) -> None:
        """Send the mp4 in chunks; a stream that breaks off leaves the last chunk out."""
        self._core.journal.add(
            "playing",
            connection=self._connection.number,
            live=False,
            window=str(window),
            runs=[(run.first, run.end) for run in runs],
        )
        await self._connection.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nAccept-Ranges: none\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        outlet = Outlet(self._core, self._connection, faults, live=False)
        reason = "cancelled"
        try:
            reason = await self._send_file(outlet, () if faults.empty_window else tuple(runs), faults)
        except ConnectionError:
            reason = "client_gone"
            raise
        finally:
            outlet.over(reason)

    async def _send_file(self, outlet: Outlet, runs: tuple[Run, ...], faults: Faults) -> str:
        film = self._core.film_shown(faults, live=False)
        await asyncio.to_thread(self._core.tone.prepare)
        mp4 = await asyncio.to_thread(FragmentedMp4, film, self._core.tone)
        skipped, end = 0, runs[0].first if runs else 0
        for run in runs:
            skipped += run.first - end
            end = run.end
            async for position, picture in film.pictures(run.first, run.end):
                reason = await outlet.broken_at(position)
                if reason is not None:
                    return reason
                await outlet.until_due(position)
                await self._chunk(outlet, mp4.add(position, picture, skipped=skipped))
        await self._chunk(outlet, mp4.close())
        await self._connection.write(b"0\r\n\r\n")
        return "complete"

    async def _chunk(self, outlet: Outlet, data: bytes) -> None:
        if data:
            await outlet.write(b"%x\r\n%b\r\n" % (len(data), data))
