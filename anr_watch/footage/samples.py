"""Where the coded pictures of an mp4 file lie and when they are shown: the last or the first ones. Decodes nothing.

Also of a file that is being written (whole fragments only). Edit lists are honoured as players do: in a plain file
they hide pictures, in a fragmented one they only move time. Box layouts: ISO/IEC 14496-12, codec boxes 14496-15.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

from anr_watch.errors import ParseError
from anr_watch.footage.tables import BoxFile, Track, read_base, read_fragment_head, read_scale, read_trak

_REORDER: Final = 32  # pictures by which decoding order may run ahead of what is shown; 16 in both codecs
_LONGEST_PICTURE_BYTES: Final = 16 << 20
_MAX_SAMPLES: Final = 1 << 20  # of a file: 12 hours of 24 pictures per second; 1.5 s of work
_MAX_FRAGMENT_SAMPLES: Final = 1 << 16  # 40 minutes of 25 pictures per second; a run names them in 20 bytes
_MAX_LENGTH_S: Final = 7 * 86400  # as for `read_facts`
# tfhd and trun flags
_BASE_OFFSET, _DEFAULT_SIZE = 0x1, 0x10
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET = 0x100, 0x200, 0x400, 0x800
_ENTRY_BYTES: Final = 86  # a VisualSampleEntry with its header; boxes follow


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One coded picture: when it is shown and for how long (units of the track), and where it lies."""

    shown_at: int
    units: int
    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Shown:
    """Pictures in the order in which they are shown; times in seconds since the first one of the file is shown."""

    codec: str  # h264, hevc, ...
    length_size: int
    timescale: int
    start: int  # units at which the first picture of the file is shown
    samples: tuple[Sample, ...]

    def seconds(self, units: int) -> float:
        """Return a time of the track as seconds since the file's first picture."""
        return (units - self.start) / self.timescale


class PictureFile:
    """One open mp4 file. Use as `with`; raises what `read_facts` does."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._index = _index_of(self._handle)
        except (struct.error, IndexError):
            os.close(self._handle)
            raise ParseError("a damaged index") from None
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._handle)

    def last(self, count: int) -> Shown:
        """Return the last `count` pictures that are shown."""
        return self._shown(last=True, count=count)

    def first(self, count: int) -> Shown:
        """Return the first `count` pictures that are shown."""
        return self._shown(last=False, count=count)

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of one picture.

        Raises:
            ParseError: they lie outside the file, or no picture is so large.
        """
        if sample.size > _LONGEST_PICTURE_BYTES:
            raise ParseError(f"a picture of {sample.size} bytes")
        if not 0 <= sample.at <= self._index.size_bytes - sample.size:
            raise ParseError("a picture outside the file")
        data = os.pread(self._handle, sample.size, sample.at)
        if len(data) < sample.size:
            raise ParseError("the file ends inside a picture")
        return data

    def _shown(self, *, last: bool, count: int) -> Shown:
        index = self._index
        try:
            samples = index.samples()
            head = list(islice(samples, count + _REORDER))
            start = min((sample.shown_at for sample in head), default=0)
            hidden_before, hidden_from = index.hidden()
            kept: deque[Sample] | list[Sample]
            if last:
                kept = deque(head, maxlen=count + _REORDER)
                kept.extend(samples)
            else:
                while head and hidden_before is not None and len(head) < (1 << 16):
                    more = [s for s in islice(samples, count) if s.shown_at >= hidden_before]
                    head = [s for s in head if s.shown_at >= hidden_before]
                    if len(head) >= count + _REORDER or not more:
                        break
                    head += more
                kept = head
        except (struct.error, IndexError):
            raise ParseError("a damaged sample table") from None
        if hidden_before is not None:
            start = hidden_before
        shown = sorted(
            sample
            for sample in kept
            if (hidden_before is None or sample.shown_at >= hidden_before)
            and (hidden_from is None or sample.shown_at < hidden_from)
        )
        shown = shown[-count:] if last else shown[:count]
        week = _MAX_LENGTH_S * index.video.timescale
        if shown and not start <= shown[0].shown_at <= shown[-1].shown_at + shown[-1].units <= start + week:
            raise ParseError("times that make no sense")
        return Shown(index.video.codec, index.length_size, index.video.timescale, start, tuple(shown))


def _index_of(handle: int) -> _Index:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise ParseError("not a file")
    return _Index(BoxFile(handle, status.st_size))


class _Index:
    """The index of the video track: its `moov`, and the fragments behind it."""

    def __init__(self, source: BoxFile) -> None:
        self._source = source
        self.size_bytes = source.size
        self._movie_scale = 0
        self._stbl: tuple[int, int] | None = None
        self._fragmented = False
        self._trex = (0, 0)  # sample duration, sample size
        self._after = 0  # where the boxes behind `moov` begin
        self.length_size = 0
        self.video = self._read()

    def _read(self) -> Track:
        source, at = self._source, 0
        while at + 8 <= source.size:
            kind, body, end = source.header(at, source.size)
            if kind == b"moov":
                if end > source.size:
                    break
                self._after = end
                return self._moov(body, end)
            at = end
        raise ParseError("no index in the file (yet)")

    def _moov(self, at: int, end: int) -> Track:
        source = self._source
        video: Track | None = None
        extends: tuple[int, int] | None = None
        for kind, body, box_end in source.children(at, end):
            if kind == b"mvhd":
                self._movie_scale = read_scale(source, body)[0]
            elif kind == b"trak" and video is None:
                track = Track()
                read_trak(source, body, box_end, track)
                if track.handler == b"vide":
                    video = track
                    self._stbl = self._find(body, box_end, (b"mdia", b"minf", b"stbl"))
            elif kind == b"mvex":
                extends, self._fragmented = (body, box_end), True
        if video is None or self._stbl is None:
            raise ParseError("no video track")
        if video.timescale == 0 or self._movie_scale == 0:
            raise ParseError("a time scale of zero")
        if extends is not None:
            self._read_defaults(*extends, video.track_id)
        self.length_size = self._length_size()
        return video

    def _read_defaults(self, at: int, end: int, video_id: int) -> None:
        for kind, body, _ in self._source.children(at, end):
            if kind == b"trex":
                track_id, _, duration, size = struct.unpack(">4I", self._source.read(body + 4, 16))
                if track_id == video_id:
                    self._trex = duration, size

    def _find(self, at: int, end: int, path: tuple[bytes, ...]) -> tuple[int, int] | None:
        for kind, body, box_end in self._source.children(at, end):
            if kind == path[0]:
                return (body, box_end) if len(path) == 1 else self._find(body, box_end, path[1:])
        return None

    def _table(self, name: bytes) -> tuple[int, int] | None:
        assert self._stbl is not None  # noqa: S101 - `_moov` found it
        return self._find(*self._stbl, (name,))

    def _length_size(self) -> int:
        """Return how many bytes a NAL unit's length has: a field of avcC or hvcC (14496-15)."""
        found = self._table(b"stsd")
        if found is None:
            return 0
        body, end = found
        entry = self._source.read(body + 8, min(end - body - 8, 4096))
        at = _ENTRY_BYTES
        while at + 8 <= len(entry):
            size, kind = struct.unpack_from(">I4s", entry, at)
            if kind == b"avcC":
                return (entry[at + 12] & 3) + 1
            if kind == b"hvcC":
                return (entry[at + 29] & 3) + 1
            if size < 8:
                break
            at += size
        return 0

    def hidden(self) -> tuple[int | None, int | None]:
        """Return the units before which, and from which on, pictures of a plain file are not shown."""
        edits = [edit for edit in self.video.edits if edit[1] >= 0]
        if self._fragmented or len(edits) != 1:
            return None, None
        units, media = edits[0]
        end = media + -(-units * self.video.timescale // self._movie_scale) if units else None
        return media, end

    def samples(self) -> Iterator[Sample]:
        """Yield all pictures in decoding order; stops at the first thing that is not whole.

        Raises:
            ParseError: there are more than any file of a recorder holds.
        """
        if self.video.samples:
            yield from self._plain()
        if self._fragmented:
            yield from self._fragments()

    # Plain files.

    def _plain(self) -> Iterator[Sample]:
        sizes = self._sizes()
        times = self._runs(b"stts", signed=False)
        offsets = self._runs(b"ctts", signed=True)
        at = 0
        for place, size in zip(self._places(sizes), sizes, strict=False):
            duration = next(times, 0)
            yield Sample(at + next(offsets, 0), duration, place, size)
            at += duration

    def _words(self, name: bytes, skip: int, form: str, width: int) -> array[int]:
        """Return a table of big-endian numbers behind `skip` bytes of which the last four count its entries."""
        found = self._table(name)
        table: array[int] = array(form)
        if found is None:
            return table
        body, end = found
        count = struct.unpack(">I", self._source.read(body + skip - 4, 4))[0]
        length = min(count * width * table.itemsize, end - body - skip)
        table.frombytes(self._source.read(body + skip, length - length % table.itemsize) if length > 0 else b"")
        if struct.pack("=I", 1) != struct.pack(">I", 1):
            table.byteswap()
        return table

    def _runs(self, name: bytes, *, signed: bool) -> Iterator[int]:
        table = self._words(name, 8, "I", 2)
        for at in range(0, len(table) - 1, 2):
            value = table[at + 1]
            for _ in range(min(table[at], self.video.samples)):
                yield value - (1 << 32) if signed and value >= 1 << 31 else value

    def _sizes(self) -> array[int]:
        found = self._table(b"stsz")
        if found is None:
            raise ParseError("no sample sizes")
        one = struct.unpack(">I", self._source.read(found[0] + 4, 4))[0]
        return array("I", [one]) * min(self.video.samples, 1 << 20) if one else self._words(b"stsz", 12, "I", 1)

    def _places(self, sizes: array[int]) -> Iterator[int]:
        chunks = self._words(b"stco", 8, "I", 1) or self._words(b"co64", 8, "Q", 1)
        rules = self._words(b"stsc", 8, "I", 3)
        number, rule = 0, 0
        for chunk, place in enumerate(chunks, 1):
            while rule + 3 < len(rules) and rules[rule + 3] <= chunk:
                rule += 3
            at = place
            for _ in range(rules[rule + 1] if rule + 1 < len(rules) else 0):
                if number >= len(sizes):
                    return
                yield at
                at += sizes[number]
                number += 1

    # Fragments.

    def _fragments(self) -> Iterator[Sample]:
        source, at = self._source, self._after
        pending: list[Sample] = []
        clock = named = 0
        while at + 8 <= source.size:
            try:
                kind, body, end = source.header(at, source.size)
            except ParseError:
                return  # a lost tail
            if end > source.size:
                return
            if kind == b"moof":
                try:
                    pending, clock = self._moof(source.read(body, end - body), at, clock)
                except (ParseError, struct.error, IndexError):
                    return
                named += len(pending)
                if named > _MAX_SAMPLES:
                    raise ParseError(f"more than {_MAX_SAMPLES} pictures")
            elif kind == b"mdat":
                yield from (sample for sample in pending if body <= sample.at and sample.at + sample.size <= end)
                pending = []
            at = end

    def _moof(self, moof: bytes, moof_at: int, clock: int) -> tuple[list[Sample], int]:
        found: list[Sample] = []
        for kind, at, end in self._source.inside(moof, 0, len(moof)):
            if kind == b"traf":
                clock = self._traf(moof, (at, end, moof_at), clock, found)
        return found, clock

    def _traf(self, moof: bytes, where: tuple[int, int, int], clock: int, found: list[Sample]) -> int:
        """Add the pictures of a `traf` to `found`; return the decoding time behind them."""
        at, end, origin = where
        duration, size = self._trex
        base, place = clock, origin
        for kind, body, box_end in self._source.inside(moof, at, end):
            if kind == b"tfhd":
                track_id, duration, _ = read_fragment_head(moof, body, duration, 0)
                if track_id != self.video.track_id:
                    return clock
                flags = struct.unpack_from(">I", moof, body)[0] & 0xFFFFFF
                if flags & _BASE_OFFSET:
                    origin = struct.unpack_from(">Q", moof, body + 8)[0]
                if flags & _DEFAULT_SIZE:
                    skip = (
                        8 + (8 if flags & _BASE_OFFSET else 0) + (4 if flags & 0x2 else 0) + (4 if flags & 0x8 else 0)
                    )
                    size = struct.unpack_from(">I", moof, body + skip)[0]
                place = origin
            elif kind == b"tfdt":
                base = read_base(moof, body)
            elif kind == b"trun":
                base, place = _run(moof, body, box_end, (base, place, origin, duration, size), found)
        return base


def _run(
    moof: bytes, at: int, end: int, state: tuple[int, int, int, int, int], found: list[Sample]
) -> tuple[int, int]:
    base, place, origin, default_duration, default_size = state
    flags, count = struct.unpack_from(">II", moof, at)
    at += 8
    if flags & _DATA_OFFSET:
        place = origin + struct.unpack_from(">i", moof, at)[0]
        at += 4
    at += 4 if flags & _FIRST_FLAGS else 0
    columns = [bit for bit in (_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET) if flags & bit]
    if at + count * 4 * len(columns) > end or len(found) + count > _MAX_FRAGMENT_SAMPLES:
        raise ParseError("a fragment with more samples than it holds")
    for _ in range(count):
        duration, size, offset = default_duration, default_size, 0
        for bit in columns:
            value = struct.unpack_from(">I", moof, at)[0]
            at += 4
            if bit == _EACH_DURATION:
                duration = value
            elif bit == _EACH_SIZE:
                size = value
            elif bit == _EACH_OFFSET:
                offset = value - (1 << 32) if value >= 1 << 31 else value
        found.append(Sample(base + offset, duration, place, size))
        base += duration
        place += size
    return base, place
