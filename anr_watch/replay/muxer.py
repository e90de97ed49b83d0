"""Writes one segment as fragmented mp4 into staging and gives it its finished name once it is whole and synced.

Worker process only. A fragment is written at each key frame, so a SIGKILL costs at most the open group of
pictures; until `close()` the file is called `*.part`.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from anr_watch.replay.nalunits import as_annexb
from anr_watch.replay.rtptime import TICKS

TIME_BASE: Final = Fraction(1, TICKS)
# frag_discont, and no shifting of negative times (there are none): both are needed to keep the place of sound that
# starts after the first picture; otherwise its first packet is moved to zero.
_FLAGS: Final = "frag_keyframe+empty_moov+default_base_moof+frag_discont"
_TAGS: Final = {"h264": "avc1", "hevc": "hvc1"}  # Apple's players do not take hev1
_BUFFER_BYTES: Final = 1 << 20
_WAIT_US: Final = "1000000"  # interleaving waits for silent sound no longer than this


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """How the pictures of a segment are coded; `stream` is the template its header is made from."""

    codec: str
    width: int
    height: int
    stream: VideoStream
    container: Any = None  # keeps the template alive


@dataclass(frozen=True, slots=True)
class Written:
    """What a segment holds; times in ticks since 1970. `file` is its finished name, `zero` its own time 0."""

    file: str
    start: int
    end: int
    bytes: int
    frames: int
    format: VideoFormat
    last: int  # when the last picture begins
    zero: int


def format_of_sets(codec: str, sets: dict[int, tuple[bytes, ...]], key_frame: bytes) -> VideoFormat:
    """Return the format that parameter sets describe.

    Raises:
        av.FFmpegError, ValueError: they describe nothing libav can read.
    """
    source = av.open(io.BytesIO(as_annexb(sets) + key_frame), format=codec)
    stream = next(iter(source.streams.video), None)
    if stream is None or stream.width <= 0 or stream.height <= 0:
        raise ValueError("a key frame without picture size")
    return VideoFormat(codec, stream.width, stream.height, stream, source)


class _Sink:
    """The file libav writes to. Its own errors (a full disk) rise from here, and it can be synced.

    libav goes on writing after an error, behind a hole: `torn` says that the file is worth nothing.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.bytes = 0
        self.torn = False

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while view:
                count = os.write(self._fd, view)
                view = view[count:]
        except OSError:
            self.torn = True
            raise
        self.bytes += len(data)
        return len(data)

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class SegmentWriter:
    """One segment file, from its first key frame to `close()`.

    Raises (from every method):
        OSError: the file cannot be written.
        av.FFmpegError: libav cannot put this into mp4.
    """

    def __init__(self, staging: Path, number: int, video: VideoFormat, audio: Any, start: int) -> None:
        self._part, self._final = staging / f"{number:04}.part", staging / f"{number:04}.mp4"
        self._format, self._start = video, start
        self._zero: int | None = None  # what is time 0 in the file: where decoding of the first picture begins
        self._lead = 0  # from there to its presentation
        self._end = self._last = start
        self._frames = 0
        self._last_dts: dict[bool, int] = {}
        self._sink = _Sink(self._part)
        self._output: OutputContainer = av.open(
            self._sink,
            "w",
            format="mp4",
            buffer_size=_BUFFER_BYTES,
            container_options={"movflags": _FLAGS, "avoid_negative_ts": "disabled", "max_interleave_delta": _WAIT_US},
        )
        self._video = self._output.add_stream_from_template(video.stream)
        self._video.time_base = TIME_BASE
        self._video.codec_context.codec_tag = _TAGS[video.codec]
        self._audio = None if audio is None else self._output.add_stream_from_template(audio)

    def write(self, packet: Any, *, video: bool, pts: int, dts: int, duration: int) -> None:
        """Add a picture or a block of sound; times in ticks since 1970.

        Cameras send several pictures with one time stamp; decoding times must grow, so a tick is added.
        """
        stream = self._video if video else self._audio
        if stream is None:
            return
        if self._zero is None:
            self._zero, self._lead = dts, pts - dts
        # frag_discont makes each track's first decoding time its presentation time, so pictures that are reordered
        # would come late by their lead, and sound would not.
        zero = self._zero + (self._lead if video else 0)
        dts -= zero
        last = self._last_dts.get(video)
        if last is not None and dts <= last:
            dts = last + 1
        self._last_dts[video] = dts
        packet.stream = stream
        packet.time_base = TIME_BASE
        packet.dts, packet.pts = dts, max(pts - zero, dts)
        packet.duration = duration
        self._output.mux_one(packet)
        if video:
            self._frames += 1
            self._last, self._end = max(self._last, pts), max(self._end, pts + duration)

    @property
    def torn(self) -> bool:
        """Whether a write failed: what is in the file cannot be told from what is not."""
        return self._sink.torn

    def discard(self) -> None:
        """Give the file up."""
        try:
            with contextlib.suppress(OSError, av.FFmpegError):  # it has failed before; nothing of it is wanted
                self._output.close()
        finally:
            self._sink.close()
            self._part.unlink(missing_ok=True)

    def close(self) -> Written:
        """Finish the file: everything on disk, then the finished name."""
        written = self.stage(sync=True)
        self._part.rename(self._final)
        return written

    def stage(self, *, sync: bool = False) -> Written:
        """Finish the file and leave it under its unfinished name; not on disk yet unless `sync`."""
        try:
            self._output.close()
            if sync:
                self._sink.sync()
        finally:
            self._sink.close()
        return Written(
            self._final.name,
            self._start,
            self._end,
            self._sink.bytes,
            self._frames,
            self._format,
            self._last,
            self._start if self._zero is None else self._zero,
        )
