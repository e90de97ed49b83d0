"""The film a simulated camera shows: any picture of any year, coded the same way each time; it stores nothing.

Frame n belongs to the instant n / fps seconds after 1970-01-01 UTC, exactly. Each group of pictures is
coded by an encoder of its own, on one thread, so the coded bytes depend on nothing but the description of
the film and the number of the group: live and replay send the same pictures, also after a restart.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from threading import Lock
from typing import Final

import av
from av.video.codeccontext import VideoCodecContext

from anr_watch.camera import barcode, digits
from anr_watch.camera.kinds import VideoCodec
from anr_watch.camera.nal import filler_nal, is_metadata, split_annexb

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPRITE_PX: Final = 16
_FILLER_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class FilmSpec:
    """Everything the pictures depend on.

    `bitrate_bps` fills every picture up to its share of that rate, `padding_bytes` adds to every picture;
    both with filler data that decoders skip, so that high rates cost no encoding. `quality` is the encoder's crf, 0
    for the usual; another one makes another encoding of the same pictures. With `drop_every` n every n-th picture
    is never taken, key frames apart, as by a camera in the dark: the others keep their numbers and times.
    """

    camera_number: int = 1
    codec: VideoCodec = VideoCodec.H264
    width: int = 320
    height: int = 180
    fps: int = 15
    gop_frames: int = 15
    b_frames: int = 0
    padding_bytes: int = 0
    bitrate_bps: int = 0
    quality: int = 0
    drop_every: int = 0

    def __post_init__(self) -> None:
        """Refuse a film that cannot be shown.

        Raises:
            ValueError: a size, rate or number out of range.
        """
        object.__setattr__(self, "codec", VideoCodec(self.codec))
        if not 0 <= self.camera_number <= 0xFFFF:
            raise ValueError(f"camera_number {self.camera_number} is not 0 to 65535")
        if not 1 <= self.fps <= 120:
            raise ValueError(f"fps {self.fps} is not 1 to 120")
        if not 1 <= self.gop_frames <= 1200:
            raise ValueError(f"gop_frames {self.gop_frames} is not 1 to 1200")
        if not 0 <= self.b_frames <= 4:
            raise ValueError(f"b_frames {self.b_frames} is not 0 to 4")
        if not 0 <= self.quality <= 51:
            raise ValueError(f"quality {self.quality} is not 0 to 51")
        if self.drop_every < 0 or self.drop_every == 1:
            raise ValueError(f"drop_every {self.drop_every} leaves no pictures (right: 0 or from 2 on)")
        if self.width < barcode.MIN_WIDTH or self.height < barcode.MIN_HEIGHT or self.width % 2 or self.height % 2:
            raise ValueError(f"{self.width}x{self.height} is not even and at least 128x96")

    def shows(self, number: int) -> bool:
        """Say whether frame `number` exists."""
        if self.drop_every == 0 or number % self.gop_frames == 0:
            return True
        return number % self.drop_every != self.drop_every - 1

    def first_frame_at(self, utc_us: int) -> int:
        """Return the number of the first frame at or after an instant."""
        return -(-utc_us * self.fps // 1_000_000)

    def frame_us(self, number: int) -> int:
        """Return the instant of a frame in microseconds, rounded down."""
        return number * 1_000_000 // self.fps

    def key_frame_before(self, number: int) -> int:
        """Return the number of the key frame at or before frame `number`."""
        return number - number % self.gop_frames


@dataclass(frozen=True, slots=True)
class Picture:
    """One coded picture: its number in presentation order and its NAL units without start codes."""

    number: int
    key: bool
    nals: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all NAL units together."""
        return sum(map(len, self.nals))

    def annexb(self) -> bytes:
        """Return the picture as an Annex B byte stream."""
        return b"".join(b"\0\0\0\1" + nal for nal in self.nals)


@dataclass(frozen=True, slots=True)
class Gop:
    """A closed group of pictures in decoding order; `first` is the number of its key frame."""

    first: int
    pictures: tuple[Picture, ...]


class Film:
    """Codes groups of pictures on demand and keeps the last `cached_gops` of them."""

    def __init__(self, spec: FilmSpec, *, cached_gops: int = 256) -> None:
        self.spec = spec
        self._cached_gops = cached_gops
        self._cache: OrderedDict[int, Gop] = OrderedDict()
        self._lock = Lock()
        self._canvas = _Canvas(spec)
        self._filler: dict[int, bytes] = {}

    def gop(self, index: int) -> Gop:
        """Return group `index`, the pictures from `index * gop_frames` on. Safe to call from any thread.

        Raises:
            ValueError: a group before 1970.
        """
        if index < 0:
            raise ValueError(f"group {index} lies before 1970")
        with self._lock:
            known = self._cache.get(index)
            if known is not None:
                self._cache.move_to_end(index)
                return known
            gop = self._encode(index)
            self._cache[index] = gop
            if len(self._cache) > self._cached_gops:
                self._cache.popitem(last=False)
            return gop

    async def gop_soon(self, index: int) -> Gop:
        """Return group `index` without holding up the event loop while it is coded."""
        known = self._cache.get(index)
        return known if known is not None else await asyncio.to_thread(self.gop, index)

    async def pictures(self, first: int, end: int) -> AsyncIterator[tuple[int, Picture]]:
        """Give (position, picture) in decoding order from key frame `first` to the last one before frame `end`.

        `position` is the frame in whose turn a picture is decoded; without B-frames its own number. With
        B-frames a picture at or after `end` is given, too, where one before `end` refers to it.
        """
        while first < end:
            gop = await self.gop_soon(first // self.spec.gop_frames)
            wanted = max((index for index, picture in enumerate(gop.pictures) if picture.number < end), default=-1)
            turns = sorted(picture.number for picture in gop.pictures)
            for index in range(wanted + 1):
                yield turns[index], gop.pictures[index]
            first = gop.first + self.spec.gop_frames

    def parameter_sets(self) -> tuple[bytes, ...]:
        """Return SPS and PPS (H.264) or VPS, SPS and PPS (H.265); the same in every group."""
        count = 2 if self.spec.codec is VideoCodec.H264 else 3
        return self.gop(0).pictures[0].nals[:count]

    def _encode(self, index: int) -> Gop:
        spec = self.spec
        first = index * spec.gop_frames
        encoder = _encoder(spec)
        packets: list[tuple[int, bytes]] = []
        numbers = [number for number in range(first, first + spec.gop_frames) if spec.shows(number)]
        for number in numbers:
            frame = self._canvas.paint(number)
            frame.pts = number - first
            packets += [(packet.pts or 0, bytes(packet)) for packet in encoder.encode(frame)]
        packets += [(packet.pts or 0, bytes(packet)) for packet in encoder.encode(None)]
        if len(packets) != len(numbers):
            raise RuntimeError(f"the encoder gave {len(packets)} of {len(numbers)} pictures")
        pictures = tuple(
            self._picture(first + pts, position == 0, data) for position, (pts, data) in enumerate(packets)
        )
        return Gop(first=first, pictures=pictures)

    def _picture(self, number: int, key: bool, data: bytes) -> Picture:  # noqa: FBT001 - called in one place above
        spec = self.spec
        h265 = spec.codec is VideoCodec.H265
        nals = tuple(nal for nal in split_annexb(data) if not is_metadata(nal, h265=h265))
        missing = spec.bitrate_bps // (8 * spec.fps) - sum(map(len, nals))
        # In steps, so that pictures share a few fillers instead of keeping one each.
        filler_bytes = spec.padding_bytes + max(0, -(-missing // _FILLER_STEP) * _FILLER_STEP)
        if filler_bytes:
            filler = self._filler.get(filler_bytes)
            if filler is None:
                filler = self._filler.setdefault(filler_bytes, filler_nal(filler_bytes, h265=h265))
            nals = (*nals, filler)
        return Picture(number=number, key=key, nals=nals)


def _encoder(spec: FilmSpec) -> VideoCodecContext:
    h264 = spec.codec is VideoCodec.H264
    encoder = av.CodecContext.create("libx264" if h264 else "libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = spec.width, spec.height, "yuv420p"
    encoder.time_base = Fraction(1, spec.fps)
    encoder.framerate = Fraction(spec.fps)
    encoder.gop_size = spec.gop_frames
    encoder.max_b_frames = spec.b_frames
    encoder.thread_count = 1
    common = f"keyint={spec.gop_frames}:min-keyint={spec.gop_frames}:scenecut=0:bframes={spec.b_frames}:b-adapt=0"
    if h264:
        # cpu-independent: the same bytes on another machine, too
        parameters = f"{common}:open-gop=0:cpu-independent=1:threads=1:lookahead-threads=1"
        encoder.options = {"preset": "ultrafast", "crf": str(spec.quality or 26), "x264-params": parameters}
    else:
        parameters = f"{common}:open-gop=0:pools=none:frame-threads=1:wpp=0:lookahead-slices=0:info=0:log-level=none"
        encoder.options = {"preset": "ultrafast", "crf": str(spec.quality or 28), "x265-params": parameters}
    return encoder


class _Canvas:
    """One picture, repainted for every frame where it changes."""

    def __init__(self, spec: FilmSpec) -> None:
        self._spec = spec
        self._frame = av.VideoFrame(spec.width, spec.height, "yuv420p")
        luma = self._frame.planes[0]
        self._line_size = luma.line_size
        self._text_scale = max(1, spec.width // 180)
        shade = spec.camera_number * 37 % 64
        line = bytes(60 + (x * 96 // spec.width + shade) % 128 for x in range(self._line_size))
        self._background = line
        self._luma = memoryview(luma).cast("B")
        self._luma[:] = line * spec.height
        for index, turn in ((1, 53), (2, 91)):
            plane = self._frame.planes[index]
            value = 96 + (spec.camera_number * turn) % 64
            memoryview(plane).cast("B")[:] = bytes([value]) * (plane.line_size * plane.height)
        self._text_top = barcode.mark_height_px(spec.width) + 4
        self._sprite_top = self._text_top + digits.CELL_HEIGHT * self._text_scale + 4
        self._sprite_shown = self._sprite_top + _SPRITE_PX <= spec.height

    def paint(self, number: int) -> av.VideoFrame:
        """Return the one frame object of this canvas, now showing frame `number`."""
        spec = self._spec
        mark = barcode.FrameMark(camera_number=spec.camera_number, frame_number=number, fps=spec.fps)
        barcode.paint(self._luma, self._line_size, spec.width, mark)
        self._paint_text(number)
        if self._sprite_shown:
            left = number * 4 % (spec.width - _SPRITE_PX)
            line = self._background
            line = line[:left] + b"\xeb" * _SPRITE_PX + line[left + _SPRITE_PX :]
            start = self._sprite_top * self._line_size
            self._luma[start : start + _SPRITE_PX * self._line_size] = line * _SPRITE_PX
        return self._frame

    def _paint_text(self, number: int) -> None:
        spec = self._spec
        at = _EPOCH + timedelta(microseconds=spec.frame_us(number))
        text = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z #{spec.camera_number}"
        scale = self._text_scale
        shown = spec.width // (digits.CELL_WIDTH * scale)
        top = self._text_top
        for row, pixels in enumerate(digits.text_lines(text[:shown], scale)):
            line = pixels + self._background[len(pixels) :]
            start = (top + row * scale) * self._line_size
            if start + scale * self._line_size <= len(self._luma):
                self._luma[start : start + scale * self._line_size] = line * scale
