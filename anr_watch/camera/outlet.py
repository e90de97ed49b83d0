"""Where a stream leaves the camera: keeps its pace, its rate and the faults of sending; it knows no format."""

from __future__ import annotations

import asyncio
from typing import Final

from anr_watch.camera.core import Core
from anr_watch.camera.faults import Faults
from anr_watch.camera.listener import Connection
from anr_watch.camera.strain import SOCKET_BYTES

_DRIP_S: Final = 0.05


class Outlet:
    """Writes one stream to one connection and journals its first and last byte.

    `position` counts pictures since 1970 in decoding order. `faults` are those that hit the stream, as they
    were when it began; only the rate cap is read anew for each write.
    """

    def __init__(self, core: Core, connection: Connection, faults: Faults, *, live: bool) -> None:
        self._core = core
        self._connection = connection
        self._faults = faults
        self._live = live
        self._fps = core.spec.film.fps
        self._first: int | None = None
        self._started_s = 0.0
        self._drip_due_s = 0.0
        self.pictures = 0
        self.payload_bytes = 0
        if not live:
            core.strain.begin()
            if core.strain.matters:
                connection.narrow(SOCKET_BYTES)

    def elapsed_s(self, position: int) -> float:
        """Return seconds of footage from the first picture to `position`."""
        if self._first is None:
            self._first = position
            self._started_s = self._core.clock.monotonic()
        return (position - self._first) / self._fps

    async def broken_at(self, position: int) -> str | None:
        """Do what the faults hold for this moment: stall for ever, or break off and return the reason."""
        faults, elapsed_s = self._faults, self.elapsed_s(position)
        if faults.stall_after_s is not None and elapsed_s >= faults.stall_after_s:
            self._core.journal.add("stall", connection=self._connection.number)
            await _cancelled()
        if faults.cut_after_s is not None and elapsed_s >= faults.cut_after_s:
            self._connection.close()
            return "cut"
        if faults.rst_after_s is not None and elapsed_s >= faults.rst_after_s:
            self._connection.abort()
            return "rst"
        return None

    async def until_due(self, position: int) -> None:
        """Wait until a picture may be sent: when it happens (live), or as the replay speed says."""
        clock, speed = self._core.clock, self._core.spec.replay_speed
        elapsed_s = self.elapsed_s(position)
        if self._live:
            wait_s = position / self._fps - self._core.storage.now_us() / 1e6
        elif speed > 0:
            wait_s = self._started_s + elapsed_s / speed - clock.monotonic()
        else:
            # Unthrottled: writing alone need not suspend, so others get their turn once per group.
            wait_s = 0.0 if position % self._core.spec.film.gop_frames == 0 else -1.0
        if wait_s >= 0:
            await clock.sleep(wait_s)

    async def write(self, data: bytes) -> None:
        """Write one picture's bytes whole, at no more than the rate that may be set at any time.

        On a connection that has fallen silent it waits to be cancelled.

        Raises:
            ConnectionError: the client is gone.
        """
        if self.payload_bytes == 0 and data:
            self._core.journal.add("first_byte", connection=self._connection.number, live=self._live)
        if self._connection.silent:
            await _cancelled()
        async with self._connection.whole:
            start = 0
            while start < len(data):
                start += await self._write_piece(data, start)
        self.pictures += 1

    async def _write_piece(self, data: bytes, start: int) -> int:
        faults = self._core.faults
        rate = faults.rate_bytes_s if faults.hits(live=self._live) else 0.0
        piece = data[start:] if start else data
        if rate > 0:
            now_s = self._core.clock.monotonic()
            piece = piece[: max(1, int(rate * _DRIP_S))]
            self._drip_due_s = max(self._drip_due_s, now_s) + len(piece) / rate
            await self._core.clock.sleep(self._drip_due_s - now_s)
        await self._connection.write(piece)
        self.payload_bytes += len(piece)
        if not self._live:
            self._core.strain.sent(len(piece))
        return len(piece)

    def over(self, reason: str) -> None:
        """Journal the end of the stream."""
        if not self._live:
            self._core.strain.end()
        self._core.journal.add(
            "last_byte",
            connection=self._connection.number,
            live=self._live,
            reason=reason,
            pictures=self.pictures,
            bytes=self.payload_bytes,
        )


async def _cancelled() -> None:
    """Wait until the client gives up, whereupon the task that sends to it is cancelled."""
    await asyncio.Event().wait()
