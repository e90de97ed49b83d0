"""The simulated camera as one object for tests, demo and benchmarks: starts and stops its servers; no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.core import CameraSpec, Core
from anr_watch.camera.faults import Faults
from anr_watch.camera.film import Film
from anr_watch.camera.http import HttpConnection
from anr_watch.camera.journal import Entry, Journal
from anr_watch.camera.listener import Connection, Drop, Listener
from anr_watch.camera.rtsp import RtspConnection
from anr_watch.camera.storage import Storage
from anr_watch.clock import Clock, SystemClock

__all__ = ["CameraSpec", "Drop", "Replay", "SimulatedCamera"]


class Replay(StrEnum):
    """The ways in which this camera can be asked for a window."""

    HIKVISION = "hikvision"
    DAHUA = "dahua"
    UNIX = "unix"
    MEDIAMTX = "mediamtx"
    FRIGATE = "frigate"


_TEMPLATES: Final = {
    Replay.HIKVISION: "/Streaming/tracks/101?starttime={start}&endtime={end}",
    Replay.DAHUA: "/cam/playback?channel=1&starttime={start:%Y_%m_%d_%H_%M_%S}&endtime={end:%Y_%m_%d_%H_%M_%S}",
    Replay.UNIX: "/playback?start_unix={start_unix}&end_unix={end_unix}",
    Replay.MEDIAMTX: "/get?path=cam&start={start_rfc3339}&duration={duration_s}",
    Replay.FRIGATE: "/clip/cam/start/{start_unix}/end/{end_unix}/clip.mp4",
}


class SimulatedCamera:
    """A camera with onboard storage on 127.0.0.1; `async with` runs it.

    Faults, storage and journal are open to whoever drives it, also while clients are connected.
    """

    def __init__(self, spec: CameraSpec | None = None, clock: Clock | None = None) -> None:
        self.spec = spec or CameraSpec()
        self.core = Core(self.spec, clock or SystemClock())
        self._http_auth = self.core.authenticator()
        self._group = asyncio.TaskGroup()
        self._rtsp = Listener("rtsp", self.core, self._group, self._serve_rtsp)
        self._http = Listener("http", self.core, self._group, self._serve_http)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        try:
            await self._rtsp.open(self.spec.rtsp_port)
            await self._http.open(self.spec.http_port)
        except OSError:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._shut()
            await self._group.__aexit__(kind, error, trace)
        else:
            await self._stop()  # the body's own error goes on as it is, not inside a group

    async def _stop(self) -> None:
        self._shut()
        await self._group.__aexit__(None, None, None)

    def _shut(self) -> None:
        self._rtsp.shut()
        self._http.shut()

    @property
    def rtsp_port(self) -> int:
        """Port of the RTSP server; the same for the camera's whole life."""
        return self._rtsp.port

    @property
    def http_port(self) -> int:
        """Port of the HTTP server; the same for the camera's whole life."""
        return self._http.port

    @property
    def faults(self) -> Faults:
        """What is wrong with the camera now."""
        return self.core.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.core.faults = faults

    @property
    def film(self) -> Film:
        """What the camera sees."""
        return self.core.film

    @property
    def storage(self) -> Storage:
        """What its card holds."""
        return self.core.storage

    @property
    def journal(self) -> Journal:
        """What has happened at the camera."""
        return self.core.journal

    @property
    def active_replays(self) -> int:
        """RTSP replay sessions open now."""
        return self.core.active_replays

    @property
    def peak_replays(self) -> int:
        """The most RTSP replay sessions that were ever open at once."""
        return self.core.peak_replays

    def url_live(self, *, password: str | None = None) -> str:
        """Return the live URL with credentials; `password` replaces the right one."""
        return f"{self._root(Replay.HIKVISION, password)}/Streaming/Channels/101"

    def url_replay_template(self, way: Replay = Replay.HIKVISION, *, password: str | None = None) -> str:
        """Return a URL template with anr-watch's tokens and the camera's credentials."""
        return self._root(way, password) + _TEMPLATES[way]

    def url_replay(self, start: str, end: str, *, password: str | None = None) -> str:
        """Return the URL of one window, its ends given as `20260613T120500Z`."""
        template = self.url_replay_template(password=password)
        return template.replace("{start}", start).replace("{end}", end)

    async def go_offline(self, drop: Drop = Drop.CLOSE) -> None:
        """Close the listening sockets and end all connections; the camera goes on recording."""
        self.journal.add("offline", drop=drop.value)
        for listener in (self._rtsp, self._http):
            listener.close()
            listener.drop(drop)

    async def go_online(self) -> None:
        """Listen again, on the same ports."""
        await self._rtsp.open()
        await self._http.open()
        self.journal.add("online")

    async def wait_for(self, wanted: str | Callable[[Entry], bool], timeout_s: float, *, since: int = 0) -> Entry:
        """Return the first journal entry of a kind, or that fulfils a predicate, from index `since` on.

        Raises:
            TimeoutError: nothing of that kind within `timeout_s`.
        """
        return await self.journal.wait_for(wanted, timeout_s, since=since)

    def _root(self, way: Replay, password: str | None) -> str:
        over_http = way in {Replay.MEDIAMTX, Replay.FRIGATE}
        scheme, port = ("http", self.http_port) if over_http else ("rtsp", self.rtsp_port)
        scheme += "s" if self.spec.tls else ""
        credentials = ""
        if self.spec.auth is not AuthScheme.NONE:
            secret = self.spec.password if password is None else password
            credentials = f"{quote(self.spec.username, safe='')}:{quote(secret, safe='')}@"
        return f"{scheme}://{credentials}{self.spec.host}:{port}"

    async def _serve_rtsp(self, connection: Connection) -> None:
        await RtspConnection(self.core, connection).serve()

    async def _serve_http(self, connection: Connection) -> None:
        await HttpConnection(self.core, connection, self._http_auth).serve()
