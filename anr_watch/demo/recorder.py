"""Records one camera's live RTSP stream into segment files as Heldar's recorder does; it knows no database.

Heldar runs one ffmpeg per camera: RTSP over TCP, `-c copy`, segment muxer, fragmented mp4, files named by the UTC
second at which they were opened. Here FFmpeg's libraries do the same through PyAV, in a thread per camera. What a
file looks like on disk is FFmpeg's own doing: 28 bytes at first, then steps of 256 KiB, the rest when it is closed.

    python -m anr_watch.demo.recorder --url-file FILE --camera ID --recordings DIR [--segment-s 60] [--audio]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from anr_watch.clock import Clock, SystemClock
from anr_watch.instants import format_instant
from anr_watch.log import one_line, redact
from anr_watch.model import Secret

FIRST_RETRY_S = 1.0  # Heldar waits 1 to 30 s between two runs of ffmpeg
NAME_FORMAT = "%Y%m%d_%H%M%S.mp4"
_MOVFLAGS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_MP4_AUDIO = ("aac", "mp3", "ac3", "opus")  # G.711 cannot be copied into mp4


Media = VideoStream | AudioStream


class RecorderState(StrEnum):
    """What a recorder is doing."""

    CONNECTING = "connecting"  # a session was started; nothing came yet
    RECORDING = "recording"  # media flows into a file
    OFFLINE = "offline"  # the session ended; the next try waits
    STOPPED = "stopped"  # asked to end, files closed


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state; `detail` says why (never with credentials)."""

    camera_id: str
    state: RecorderState
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FileOpened:
    """The recorder opened a new segment file."""

    camera_id: str
    path: Path
    at: datetime


@dataclass(frozen=True, slots=True)
class RecorderJob:
    """What to record and where. `io_timeout_s` is how long silence may last before the session is given up."""

    camera_id: str
    url: Secret
    recordings: Path
    segment_s: float = 60.0
    audio: bool = False
    io_timeout_s: float = 2.5
    last_retry_s: float = 5.0


class Recorder:
    """Keeps one camera recorded in a thread of its own until it is stopped."""

    def __init__(
        self, job: RecorderJob, on_news: Callable[[StateChange | FileOpened], None], *, clock: Clock | None = None
    ) -> None:
        self._job = job
        self._on_news = on_news
        self._clock: Clock = clock or SystemClock()
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"recorder {job.camera_id}", daemon=True)

    def start(self) -> None:
        """Begin to record; news come from the recorder's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the recorder to close its file and end; returns at once."""
        self._stop.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the recorder has ended; False if it still runs. A silent camera costs two I/O timeouts."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _tell(self, state: RecorderState, detail: str = "") -> None:
        clean = one_line(redact(detail, [self._job.url.reveal()]), 200)
        self._on_news(StateChange(self._job.camera_id, state, self._clock.now(), clean))

    def _tell_file(self, path: Path) -> None:
        self._on_news(FileOpened(self._job.camera_id, path, self._clock.now()))

    def _run(self) -> None:
        wait_s = FIRST_RETRY_S
        while not self._stop.is_set():
            self._tell(RecorderState.CONNECTING)
            pictures, detail = self._session()
            if self._stop.is_set():
                break
            self._tell(RecorderState.OFFLINE, detail)
            if pictures:
                wait_s = FIRST_RETRY_S
            self._stop.wait(wait_s)
            wait_s = min(wait_s * 2, self._job.last_retry_s)
        self._tell(RecorderState.STOPPED)

    def _session(self) -> tuple[int, str]:
        """Record until the stream ends or stop is asked; return the packets written and why it ended."""
        job = self._job
        options = {"rtsp_transport": "tcp"}
        if not job.audio:
            options["allowed_media_types"] = "video"
        written = 0
        try:
            # The limit holds for each wait: connect, every answer, every packet.
            limits = (job.io_timeout_s, job.io_timeout_s)
            with av.open(job.url.reveal(), options=options, timeout=limits) as source:
                streams = wanted_streams(source, audio=job.audio)
                folder = job.recordings / job.camera_id
                segments = Segments(folder, job.segment_s, streams, self._clock, self._tell_file)
                with closing(segments):
                    for packet in timed(packet for packet in source.demux(streams) if packet.size):
                        if segments.write(packet):
                            written += 1
                        if written == 1:
                            self._tell(RecorderState.RECORDING)
                        if self._stop.is_set():
                            break
        except (av.FFmpegError, OSError, ValueError) as error:
            # What camera or muxer did not like ends this session; the next one starts afresh, as ffmpeg would.
            return written, f"{type(error).__name__}: {error}"
        return written, "end of stream"


def wanted_streams(source: InputContainer, *, audio: bool) -> list[Media]:
    """Return the first video stream and, if wanted and storable in mp4, the first audio stream.

    Raises:
        ValueError: the camera offers no video.
    """
    if not source.streams.video:
        raise ValueError("the camera offers no video")
    sound = [stream for stream in source.streams.audio[:1] if audio and stream.codec_context.name in _MP4_AUDIO]
    return [source.streams.video[0], *sound]


def timed(packets: Iterable[av.Packet[Stream]]) -> Iterator[av.Packet[Stream]]:
    """Yield the same packets, every one with pts and dts.

    FFmpeg's RTSP demuxer gives the first frame of a session no time; the second one stands at one frame length.
    A packet without time is held until the next of its stream that has one, and placed before it. If the stream
    ends or breaks first, held packets are placed from zero on: nothing that came is lost.

    Raises:
        av.FFmpegError: what `packets` raised, after everything that was held back.
    """
    held: dict[int, list[av.Packet[Stream]]] = {}
    settled: set[int] = set()
    broken: av.FFmpegError | None = None
    try:
        for packet in packets:
            index = packet.stream_index
            if packet.pts is None and index not in settled:
                held.setdefault(index, []).append(packet)
                continue
            settled.add(index)
            waiting = held.pop(index, [])
            at = packet.pts if packet.pts is not None else 0
            for earlier in reversed(waiting):
                at -= earlier.duration or packet.duration or 0
                earlier.pts = earlier.dts = at
            yield from waiting
            if packet.pts is None:
                packet.pts = packet.dts
            yield packet
    except av.FFmpegError as error:
        broken = error
    for waiting in held.values():
        at = 0
        for packet in waiting:
            packet.pts = packet.dts = at
            at += packet.duration or 0
            yield packet
    if broken is not None:
        raise broken


class Segments:
    """Writes packets into one fragmented mp4 after the other, cut at the first key frame after each `segment_s`.

    As in ffmpeg's segment muxer the cuts count from the start of the session, so they do not drift, and every file
    begins at time zero.
    """

    def __init__(
        self,
        folder: Path,
        segment_s: float,
        streams: Sequence[Media],
        clock: Clock,
        on_open: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._on_open = on_open
        self._folder, self._segment_s, self._sources, self._clock = folder, segment_s, streams, clock
        self._output: OutputContainer | None = None
        self._streams: dict[int, Media] = {}
        self._start_s: float | None = None
        self._base_s = 0.0
        self._cuts = 0
        self._last_dts: dict[int, int] = {}

    def write(self, packet: av.Packet[Stream]) -> bool:
        """Write one packet, into a new file where one is due; False before the first key frame (nothing to show).

        Raises:
            av.FFmpegError, OSError, ValueError: the file cannot be written or the muxer refuses the packet.
        """
        index = packet.stream_index
        pts = packet.pts or 0
        if packet.is_keyframe and index == self._sources[0].index:
            at_s = float(pts * packet.time_base)
            if self._start_s is None:
                self._start_s = at_s
                self._open(at_s)
            elif at_s >= self._start_s + self._segment_s * (self._cuts + 1):
                self._cuts += 1
                self._open(at_s)
        if self._output is None:
            return False
        shift = round(self._base_s / packet.time_base)
        dts = (packet.dts if packet.dts is not None else pts) - shift
        last = self._last_dts.get(index)
        if last is not None and dts <= last:
            dts = last + 1  # as ffmpeg mends time stamps that stand still
        self._last_dts[index] = dts
        packet.pts, packet.dts = max(pts - shift, dts), dts
        packet.stream = self._streams[index]
        self._output.mux(packet)
        return True

    def close(self) -> None:
        """Write the open fragment and close the file."""
        output, self._output = self._output, None
        if output is not None:
            output.close()

    def _open(self, at_s: float) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._clock.now():{NAME_FORMAT}}"
        self._output = av.open(str(path), "w", format="mp4", options=_MOVFLAGS)
        self._streams = {source.index: self._output.add_stream_from_template(source) for source in self._sources}
        self._base_s = at_s
        self._last_dts.clear()
        self._on_open(path)


def _print_news(change: StateChange | FileOpened) -> None:
    if isinstance(change, FileOpened):
        return
    line = {"event": "state", "camera": change.camera_id, "state": change.state, "at": format_instant(change.at)}
    sys.stdout.write(json.dumps(line | ({"detail": change.detail} if change.detail else {})) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Record one camera until SIGTERM or Ctrl-C; prints its state changes as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m anr_watch.demo.recorder", description="Record one camera.")
    parser.add_argument("--url-file", type=Path, required=True, help="file whose first line is the RTSP URL")
    parser.add_argument("--camera", required=True, help="folder below the recordings")
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--segment-s", type=float, default=60.0)
    parser.add_argument("--audio", action="store_true")
    chosen = parser.parse_args(argv)
    url = Secret(chosen.url_file.read_text().strip())
    job = RecorderJob(chosen.camera, url, chosen.recordings, segment_s=chosen.segment_s, audio=chosen.audio)
    recorder = Recorder(job, _print_news)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: recorder.stop())
    recorder.start()
    recorder.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
