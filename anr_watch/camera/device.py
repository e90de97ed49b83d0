"""The simulated camera as one object for tests, demo and benchmarks: starts and stops its servers; no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import quote

from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.core import CameraSpec, Core
from anr_watch.camera.faults import Faults
from anr_watch.camera.film import Film
from anr_watch.camera.journal import Entry, Journal
from anr_watch.camera.listener import Connection, Drop, Listener
from anr_watch.camera.rtsp import RtspConnection
from anr_watch.camera.storage import Storage
from anr_watch.clock import Clock, SystemClock

__all__ = ["CameraSpec", "Drop", "SimulatedCamera"]


class SimulatedCamera:
    """A camera with onboard storage on 127.0.0.1; `async with` runs it.

    Faults, storage and journal are open to the test that drives it, also while clients are connected.
    """

    def __init__(self, spec: CameraSpec | None = None, clock: Clock | None = None) -> None:
        self.spec = spec or CameraSpec()
        self.core = Core(self.spec, clock or SystemClock())
        self._group = asyncio.TaskGroup()
        self._rtsp = Listener("rtsp", self.core, self._group, self._serve_rtsp)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        await self._rtsp.open(self.spec.rtsp_port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rtsp.shut()
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:  # the body's own error goes on as it is, not inside a group
            await self._group.__aexit__(None, None, None)

    @property
    def rtsp_port(self) -> int:
        """Port of the RTSP server; the same for the camera's whole life."""
        return self._rtsp.port

    @property
    def faults(self) -> Faults:
        """What is wrong with the camera now."""
        return self.core.faults

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
        """Replay sessions open now."""
        return self.core.active_replays

    @property
    def peak_replays(self) -> int:
        """The most replay sessions that were ever open at once."""
        return self.core.peak_replays

    def url_live(self, *, password: str | None = None) -> str:
        """Return the live URL with credentials (a wrong password on request)."""
        return f"{self._rtsp_root(password)}/Streaming/Channels/101"

    def url_replay(self, start: str, end: str, *, password: str | None = None) -> str:
        """Return the replay URL of a window given as `20260613T120500Z` digits."""
        return f"{self._rtsp_root(password)}/Streaming/tracks/101?starttime={start}&endtime={end}"

    async def go_offline(self, drop: Drop = Drop.CLOSE) -> None:
        """Close the listening sockets and end all connections."""
        self.journal.add("offline")
        self._rtsp.close()
        self._rtsp.drop(drop)
        await asyncio.sleep(0)

    async def go_online(self) -> None:
        """Listen again, on the same ports."""
        await self._rtsp.open()
        self.journal.add("online")

    async def wait_for(self, wanted: str | Callable[[Entry], bool], timeout_s: float, *, since: int = 0) -> Entry:
        """Return the first journal entry of a kind, or that fulfils a predicate, from index `since` on.

        Raises:
            TimeoutError: nothing of that kind within `timeout_s`.
        """
        return await self.journal.wait_for(wanted, timeout_s, since=since)

    def _rtsp_root(self, password: str | None) -> str:
        return f"rtsp://{self._credentials(password)}{self.spec.host}:{self.rtsp_port}"

    def _credentials(self, password: str | None) -> str:
        if self.spec.auth is AuthScheme.NONE:
            return ""
        return f"{quote(self.spec.username, safe='')}:{quote(password or self.spec.password, safe='')}@"

    async def _serve_rtsp(self, connection: Connection) -> None:
        await RtspConnection(self.core, connection).serve()
