"""Sends one stream, live or replayed, as RTP over an RTSP connection; it answers no requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from anr_watch.camera.core import Core
from anr_watch.camera.faults import End, Faults, Reports, Suffers
from anr_watch.camera.film import Picture
from anr_watch.camera.kinds import AudioKind, VideoCodec
from anr_watch.camera.listener import Connection
from anr_watch.camera.outlet import Outlet
from anr_watch.camera.rtp import RtpTrack
from anr_watch.camera.storage import Run

VIDEO_CLOCK: Final = 90_000
FOR_EVER: Final = 1 << 62
_TEARDOWN: Final = b"TEARDOWN * RTSP/1.0\r\nCSeq: 1\r\n\r\n"
_ANNOUNCE: Final = b'ANNOUNCE * RTSP/1.0\r\nCSeq: 1\r\nX-Notice: 2101 "End-of-Stream Reached"\r\n\r\n'


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
        self._suffering = False
        self._film = core.film_shown(faults, live=live)
        self._outlet = Outlet(core, connection, faults, live=live)
        self._report_due: int | None = None
        self._jumped = False
        self._next = runs[0].first if runs else 0

    async def run(self) -> None:
        """Send everything and end as the faults say; whatever happens, `last_byte` is journaled."""
        reason = "cancelled"
        try:
            reason = await self._send_all()
        except ConnectionError:
            reason = "client_gone"
        finally:
            self._outlet.over(reason)

    async def _send_all(self) -> str:
        for run in () if self._faults.empty_window else self._runs:
            self._next = run.first
            async for position, picture in self._film.pictures(run.first, run.end):
                reason = await self._outlet.broken_at(position)
                if reason is not None:
                    return reason
                self._jump_at(position)
                await self._outlet.until_due(position)
                if self._live and (lost := self._suffers(picture)) is not Suffers.NOT:
                    if lost is Suffers.DROP:
                        self._connection.cut()
                        return "suffers"
                    continue
                await self._outlet.write(self._packets(position, await self._shown(position, picture)))
                self._next = position + 1
        return await self._finish()

    def _suffers(self, picture: Picture) -> Suffers:
        """Return what a replay does to the live stream now; what faltered goes on with a key frame."""
        lost = self._core.strain.suffers()
        if (lost is not Suffers.NOT) is not self._suffering and (self._suffering is False or picture.key):
            self._suffering = not self._suffering
            self._core.journal.add("suffers" if self._suffering else "recovers", connection=self._connection.number)
        return Suffers.FALTER if self._suffering and lost is Suffers.NOT else lost

    async def _shown(self, position: int, picture: Picture) -> Picture:
        """Return the picture, or the other film's from the first group on that begins after the change."""
        change = self._faults.change_after_s
        if change is None or self._outlet.elapsed_s(picture.number) < change:
            return picture
        if picture.key:
            self._film = self._core.changed_film
        if self._film is not self._core.changed_film:
            return picture
        gop = await self._film.gop_soon(position // self._film.spec.gop_frames)
        return gop.pictures[position - gop.first]

    def _jump_at(self, position: int) -> None:
        """Let RTP time jump when the fault says so; a report at once keeps UTC true."""
        jump = self._faults.timestamp_jump
        if jump is not None and not self._jumped and self._outlet.elapsed_s(position) >= jump[0]:
            self._jumped = True
            self._report_due = position
            for track in self._tracks.all():
                track.shift(round(jump[1] * track.clock_rate))

    def _packets(self, position: int, picture: Picture) -> bytes:
        """Return the packets of a picture and of the sound up to its end, after a report if one is due."""
        spec = self._film.spec
        out = []
        if self._report_is_due(position, key=picture.key):
            out.append(self._reports(position, bye=False))
        video, audio = self._tracks.video, self._tracks.audio
        if video is not None:
            packets = video.h265 if spec.codec is VideoCodec.H265 else video.h264
            out.append(packets(picture.nals, self._timed(picture.number) * VIDEO_CLOCK // spec.fps))
        if audio is not None:
            packet = audio.aac if self._core.tone.kind is AudioKind.AAC else audio.samples
            blocks = self._core.tone.between(Fraction(self._next, spec.fps), Fraction(position + 1, spec.fps))
            out += [packet(block.data, block.ticks) for block in blocks]
        return b"".join(out)

    def _timed(self, number: int) -> int:
        """Return the number of the picture whose time a picture is sent with."""
        stuck = self._faults.stuck_after_s
        if stuck is None or self._outlet.elapsed_s(number) < stuck:
            return number
        return number - round((self._outlet.elapsed_s(number) - stuck) * self._film.spec.fps)

    def _report_is_due(self, position: int, *, key: bool) -> bool:
        faults, fps = self._faults, self._film.spec.fps
        if faults.reports is Reports.ABSENT:
            return False
        if self._report_due is None:
            late = faults.reports is Reports.LATE
            self._report_due = position + (round(faults.reports_late_s * fps) if late else 0)
        every = max(1, round(self._core.spec.report_every_s * fps))
        # With a key frame, whose time is exact wherever a second is; at any picture where groups are long
        # and after a jump.
        exact = key or position == self._report_due or position >= self._report_due + every
        if position < self._report_due or not exact:
            return False
        self._report_due = position + every
        return True

    def _reports(self, position: int, *, bye: bool) -> bytes:
        """Return a report for each track that ties RTP time at `position` to the camera's UTC."""
        spec, storage = self._film.spec, self._core.storage
        true_us = storage.now_us() if self._faults.reports is Reports.NOW else spec.frame_us(position)
        reports = [
            track.sender_report(true_us + storage.clock_offset_us, position * track.clock_rate // spec.fps, bye=bye)
            for track in self._tracks.all()
        ]
        return b"".join(reports)

    async def _finish(self) -> str:
        """End as a camera does (or should not) when the window is over."""
        end = self._faults.end
        if end is End.CLOSE:
            self._connection.close()
            return end.value
        last_words = {
            End.BYE: self._reports(self._next, bye=True),
            End.LONE_BYE: b"".join(track.lone_bye() for track in self._tracks.all()),
            End.TEARDOWN: _TEARDOWN,
            End.ANNOUNCE: _ANNOUNCE,
        }.get(end)
        if last_words is not None:
            async with self._connection.whole:
                await self._connection.write(last_words)
        return end.value
