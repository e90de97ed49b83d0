"""Sends one stream, live or replayed, over an RTSP connection, with the faults asked for; it answers no requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.core import Core
from anr_watch.camera.faults import End, Faults, Reports
from anr_watch.camera.film import Picture, VideoCodec
from anr_watch.camera.listener import Connection
from anr_watch.camera.rtp import RtpTrack
from anr_watch.camera.storage import Run

VIDEO_CLOCK: Final = 90_000
FOR_EVER: Final = 1 << 62
_DRIP_S: Final = 0.05


@dataclass(slots=True)
class Tracks:
    """What the client set up."""

    video: RtpTrack | None = None
    audio: RtpTrack | None = None

    def all(self) -> list[RtpTrack]:
        """Return the tracks there are."""
        return [track for track in (self.video, self.audio) if track is not None]


class Sender:
    """One PLAY. `faults` are those that hit this stream, as they were when it began."""

    def __init__(
        self, core: Core, connection: Connection, tracks: Tracks, runs: Sequence[Run], faults: Faults, *, live: bool
    ) -> None:
        self._core = core
        self._connection = connection
        self._tracks = tracks
        self._runs = runs
        self._faults = faults
        self._live = live
        self._film = core.film_shown(faults)
        self._first: int | None = None
        self._started_s = 0.0
        self._drip_due_s = 0.0
        self._report_due: int | None = None
        self._jumped = False
        self._last: tuple[int, int] | None = None
        self.pictures = 0
        self.payload_bytes = 0

    async def run(self) -> None:
        """Send everything and end as the faults say; journals `first_byte` and `last_byte`."""
        reason = "cancelled"
        try:
            reason = await self._send_all()
        except ConnectionError:
            reason = "client_gone"
        finally:
            self._core.journal.add(
                "last_byte",
                connection=self._connection.number,
                live=self._live,
                reason=reason,
                pictures=self.pictures,
                bytes=self.payload_bytes,
            )

    async def _send_all(self) -> str:
        fps = self._film.spec.fps
        for run in () if self._faults.empty_window else self._runs:
            async for position, picture in self._film.pictures(run.first, run.end):
                if self._first is None:
                    self._first = position
                    self._started_s = self._core.clock.monotonic()
                reason = await self._strike((position - self._first) / fps)
                if reason is not None:
                    return reason
                await self._wait_until_due(position)
                await self._send(position, picture)
        return await self._finish()

    async def _strike(self, elapsed_s: float) -> str | None:
        """Do what the faults hold for this moment; return a reason when the stream is over."""
        faults = self._faults
        if faults.stall_after_s is not None and elapsed_s >= faults.stall_after_s:
            self._core.journal.add("stall", connection=self._connection.number)
            await asyncio.Event().wait()  # silent until the client gives up
        if faults.cut_after_s is not None and elapsed_s >= faults.cut_after_s:
            self._connection.close()
            return "cut"
        if faults.rst_after_s is not None and elapsed_s >= faults.rst_after_s:
            self._connection.abort()
            return "rst"
        if faults.timestamp_jump is not None and not self._jumped and elapsed_s >= faults.timestamp_jump[0]:
            self._jumped = True
            self._report_due = 0  # a true report at once
            for track in self._tracks.all():
                track.shift(round(faults.timestamp_jump[1] * track.clock_rate))
        return None

    async def _wait_until_due(self, position: int) -> None:
        clock, fps = self._core.clock, self._film.spec.fps
        if self._live:
            wait_s = position / fps - self._core.storage.now_us() / 1e6
        elif self._core.spec.replay_speed > 0:
            ahead_s = (position - (self._first or 0)) / fps / self._core.spec.replay_speed
            wait_s = self._started_s + ahead_s - clock.monotonic()
        else:
            wait_s = 0.0 if position % self._film.spec.gop_frames == 0 else -1.0  # let others run once per group
        if wait_s >= 0:
            await clock.sleep(wait_s)

    async def _send(self, position: int, picture: Picture) -> None:
        spec = self._film.spec
        out = []
        if self._report_is_due(position, key=picture.key):
            out.append(self._reports(position, bye=False))
        video, audio = self._tracks.video, self._tracks.audio
        if video is not None:
            ticks = picture.number * VIDEO_CLOCK // spec.fps
            packets = video.h265 if spec.codec is VideoCodec.H265 else video.h264
            out.append(packets(picture.nals, ticks))
        if audio is not None:
            send = audio.aac if self._core.tone.kind is AudioKind.AAC else audio.samples
            blocks = self._core.tone.between(Fraction(position, spec.fps), Fraction(position + 1, spec.fps))
            out += [send(block.data, block.ticks) for block in blocks]
        await self._write(b"".join(out))
        if self.pictures == 0:
            self._core.journal.add("first_byte", connection=self._connection.number, live=self._live)
        self.pictures += 1
        self._last = (position, spec.frame_us(picture.number))

    async def _write(self, data: bytes) -> None:
        """Write whole packets, at no more than the rate of the fault that may be set at any time."""
        async with self._connection.whole:
            await self._drip(data)

    async def _drip(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            rate = self._core.faults.rate_bytes_s if self._core.faults.hits(live=self._live) else 0.0
            if rate <= 0:
                await self._connection.write(data[start:] if start else data)
                self.payload_bytes += len(data) - start
                return
            now_s = self._core.clock.monotonic()
            self._drip_due_s = max(self._drip_due_s, now_s)
            piece = data[start : start + max(1, int(rate * _DRIP_S))]
            self._drip_due_s += len(piece) / rate
            await self._core.clock.sleep(self._drip_due_s - now_s)
            await self._connection.write(piece)
            self.payload_bytes += len(piece)
            start += len(piece)

    def _report_is_due(self, position: int, *, key: bool) -> bool:
        faults, fps = self._faults, self._film.spec.fps
        if faults.reports is Reports.ABSENT:
            return False
        every = max(1, round(self._core.spec.report_every_s * fps))
        if self._report_due is None:
            late = faults.reports is Reports.LATE
            self._report_due = position + (round(faults.reports_late_s * fps) if late else 0)
        # At key frames, whose time is exact wherever a second is; at any picture when groups are long.
        if position < self._report_due or not (key or position >= self._report_due + every):
            return False
        self._report_due = position + every
        return True

    def _reports(self, position: int, *, bye: bool) -> bytes:
        spec = self._film.spec
        if self._faults.reports is Reports.NOW:
            utc_us = self._core.storage.now_us()
        else:
            utc_us = spec.frame_us(position)
        utc_us += self._core.storage.clock_offset_us
        out = [
            track.sender_report(utc_us, position * track.clock_rate // spec.fps, bye=bye)
            for track in self._tracks.all()
        ]
        return b"".join(out)

    async def _finish(self) -> str:
        """End as a camera does (or should not) when the window is over."""
        end, connection = self._faults.end, self._connection
        position = self._last[0] + 1 if self._last else (self._runs[0].first if self._runs else 0)
        if end is End.BYE:
            await connection.write(self._reports(position, bye=True))
        elif end is End.LONE_BYE:
            await connection.write(b"".join(track.lone_bye() for track in self._tracks.all()))
        elif end is End.CLOSE:
            connection.close()
        elif end is End.TEARDOWN:
            await connection.write(b"TEARDOWN * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        elif end is End.ANNOUNCE:
            await connection.write(
                b'ANNOUNCE * RTSP/1.0\r\nCSeq: 1\r\nX-Notice: 2101 "End-of-Stream Reached"\r\n\r\n'
            )
        return end.value
