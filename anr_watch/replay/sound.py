"""Makes sound fit for mp4: AAC passes through, everything else (G.711 first of all) becomes AAC. Worker process only.

One encoder runs through all segments, so nothing is lost at a cut. Its first packet holds only the encoder's own
delay (1024 samples; 128 ms at 8 kHz) and is left out: with it a fragmented file would begin before its pictures
and show all of them that much late.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from anr_watch.replay.rtptime import TICKS
from anr_watch.replay.stamps import Unit
from anr_watch.replay.timeline import Placed

_RATES: Final = {7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_FRAME: Final = 1024
_APART: Final = TICKS // 10  # a hole in the sound longer than this is not played over


class PassThrough:
    """AAC as it comes."""

    def __init__(self, stream: AudioStream) -> None:
        self.template = stream

    def push(self, item: Placed) -> list[Placed]:
        """Return the block unchanged."""
        return [item]

    def finish(self) -> list[Placed]:
        """Return nothing: nothing is held back."""
        return []


class ToAac:
    """Decodes blocks of any codec libav knows and encodes them again."""

    def __init__(self, stream: AudioStream) -> None:
        decoder = stream.codec_context
        self._stream = stream
        self._rate = decoder.sample_rate if decoder.sample_rate in _RATES else 48_000
        self._layout = "mono" if decoder.layout.nb_channels <= 1 else "stereo"
        self._scratch = av.open(io.BytesIO(), "w", format="mp4")
        self.template = self._encoder()
        self._scratch.start_encoding()  # gives the template its AudioSpecificConfig
        self._resampler = self._fresh_resampler()
        self._encode = self.template
        self._origin: int | None = None  # ticks of sample 0
        self._samples = 0
        self._next = 0

    def push(self, item: Placed) -> list[Placed]:
        """Return the AAC packets that are ready; a block that cannot be decoded is left out."""
        out: list[Placed] = []
        if self._origin is not None and abs(item.pts - self._next) > _APART:
            out += self._restart()
        if self._origin is None:
            self._origin, self._samples = item.pts, 0
        self._next = item.end
        packet = item.unit.payload
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            return out
        for frame in frames:
            frame.pts = None
            for part in self._resampler.resample(frame):
                out += self._packets(part)
        return out

    def finish(self) -> list[Placed]:
        """Return what is still in the encoder."""
        out: list[Placed] = []
        for part in self._resampler.resample(None):
            out += self._packets(part)
        return out + self._packets(None)

    def _packets(self, frame: av.AudioFrame | None) -> list[Placed]:
        if frame is not None:
            frame.pts, frame.time_base = self._samples, Fraction(1, self._rate)
            self._samples += frame.samples
        out = []
        for packet in self._encode.encode(frame):
            if self._origin is None or packet.pts is None or packet.pts < 0:
                continue  # the encoder's own delay
            at = self._origin + packet.pts * TICKS // self._rate
            unit = Unit(
                video=False, pts=at, dts=at, duration=_FRAME * TICKS // self._rate, key=True, size=packet.size
            )
            unit.payload = packet
            out.append(Placed(at, at, unit))
        return out

    def _restart(self) -> list[Placed]:
        """Drain the encoder and take a new one: sound goes on at another time."""
        out = self.finish()
        self._scratch = av.open(io.BytesIO(), "w", format="mp4")
        self._encode = self._encoder()
        self._scratch.start_encoding()
        self._resampler = self._fresh_resampler()
        self._origin = None
        return out

    def _encoder(self) -> AudioStream:
        options: dict[str, Any] = {"layout": self._layout}
        stream: AudioStream = self._scratch.add_stream("aac", rate=self._rate, **options)
        stream.codec_context.bit_rate = 32_000 if self._rate <= 16_000 else 64_000
        return stream

    def _fresh_resampler(self) -> AudioResampler:
        return AudioResampler(format="fltp", layout=self._layout, rate=self._rate, frame_size=_FRAME)


Sound = PassThrough | ToAac


def sound_for(stream: AudioStream) -> Sound:
    """Return what makes this stream fit for mp4.

    Raises:
        av.FFmpegError, ValueError: libav cannot decode it.
    """
    context = stream.codec_context
    if context.name.startswith("aac") and context.extradata:
        return PassThrough(stream)
    return ToAac(stream)
