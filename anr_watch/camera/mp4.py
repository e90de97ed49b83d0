"""Fragmented mp4 made of a film's coded pictures, piece by piece in memory; nothing is coded again."""

from __future__ import annotations

import io
from fractions import Fraction

import av
from av.container import OutputContainer

from anr_watch.camera.audio import Tone
from anr_watch.camera.film import Film, Picture
from anr_watch.camera.kinds import AudioKind, VideoCodec

_VIDEO_BASE = 90_000


class _Pipe:
    """Collects what the muxer writes until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep a copy of `data`."""
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return everything written since the last call."""
        data, self._pieces = b"".join(self._pieces), []
        return data


class FragmentedMp4:
    """One mp4 stream that begins at time 0 with the first picture added; one fragment per group.

    Sound is muxed when it is AAC; mp4 has no place for G.711, and such a camera's files are silent.
    """

    def __init__(self, film: Film, tone: Tone) -> None:
        self._spec = film.spec
        self._tone = tone
        self._pipe = _Pipe()
        flags = "frag_keyframe+empty_moov+default_base_moof"
        self._output: OutputContainer = av.open(self._pipe, "w", format="mp4", options={"movflags": flags})
        demuxer = "h264" if film.spec.codec is VideoCodec.H264 else "hevc"
        with av.open(io.BytesIO(film.gop(0).pictures[0].annexb()), format=demuxer) as sample:
            self._video = self._output.add_stream_from_template(sample.streams.video[0])
        self._video.time_base = Fraction(1, _VIDEO_BASE)
        self._audio = (
            self._output.add_stream("aac", rate=tone.rate, layout="mono") if tone.kind is AudioKind.AAC else None
        )
        group = film.gop(0).pictures
        self._reorder = max(index - picture.number for index, picture in enumerate(group))
        self._start: Fraction | None = None
        self._next, self._skipped = 0, -1

    def add(self, position: int, picture: Picture, *, skipped: int = 0) -> bytes:
        """Mux a picture (and the sound during it) and return the bytes that are ready.

        `skipped` pictures of time are left out before it: a hole that the file does not show.
        """
        fps = self._spec.fps
        if self._start is None:
            self._start = Fraction(picture.number, fps)
        origin = self._start + Fraction(skipped, fps)
        packet = av.Packet(picture.annexb())
        packet.stream = self._video
        packet.time_base = Fraction(1, _VIDEO_BASE)
        packet.pts = int((Fraction(picture.number, fps) - origin) * _VIDEO_BASE)
        packet.dts = int((Fraction(position - self._reorder, fps) - origin) * _VIDEO_BASE)
        packet.duration = _VIDEO_BASE // fps
        packet.is_keyframe = picture.key
        self._output.mux(packet)
        if self._audio is not None:
            if skipped != self._skipped:
                self._next, self._skipped = position, skipped
            for block in self._tone.between(Fraction(self._next, fps), Fraction(position + 1, fps)):
                sound = av.Packet(block.data)
                sound.stream = self._audio
                sound.time_base = Fraction(1, self._tone.rate)
                sound.pts = sound.dts = round(block.ticks - origin * self._tone.rate)
                sound.duration = self._tone.block_samples
                self._output.mux(sound)
        self._next = position + 1
        return self._pipe.take()

    def close(self) -> bytes:
        """Finish the file and return the rest of it."""
        self._output.close()
        return self._pipe.take()
