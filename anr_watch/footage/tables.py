"""The boxes of an mp4 file one by one: a bounded reader, the tables of a track, the runs of a fragment.

Judges nothing and decodes nothing: `boxes` puts together what this module reads. Box layouts: ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from anr_watch.errors import ParseError
from anr_watch.footage.codecs import codec_name

_CHUNK_BYTES: Final = 4096  # one read takes a fragment's head and the header of the box after it
_MAX_BOXES: Final = 1_000_000  # a day of 1 s fragments with sound; about 1 s of work
_MAX_BOX_BYTES: Final = 8 << 20  # a fragment's head holds at most 16 bytes per sample
_MAX_TABLE_BYTES: Final = 32 << 20  # of one file, small boxes apart

_HEADER: Final = struct.Struct(">I4s")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")

# tfhd and trun flags
_BASE_OFFSET, _DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20  # tfhd
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4  # trun, once
_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET = 0x100, 0x200, 0x400, 0x800  # trun, per sample
_NON_SYNC: Final = 0x10000  # sample_is_non_sync_sample


class BoxFile:
    """Bounded reads from one file of known size, through a small window."""

    def __init__(self, handle: int, size: int) -> None:
        self._handle, self.size = handle, size
        self._at, self._held, self._spent = 0, b"", 0
        self._boxes = 0

    def read(self, at: int, count: int) -> bytes:
        """Return exactly `count` bytes at `at`.

        Raises:
            ParseError: the file ends before that, or no honest file would need so much.
        """
        skip = at - self._at
        if skip < 0 or skip + count > len(self._held):
            if count > _MAX_BOX_BYTES:
                raise ParseError(f"a box of {count} bytes where at most {_MAX_BOX_BYTES} make sense")
            self._at, self._held, skip = at, os.pread(self._handle, max(count, _CHUNK_BYTES), at), 0
            self._spent += count if count > _CHUNK_BYTES else 0
            if self._spent > _MAX_TABLE_BYTES:
                raise ParseError("tables too large to be true")
        found = self._held[skip : skip + count]
        if len(found) < count:
            raise ParseError("the file ends inside a box")
        return found

    def header(self, at: int, end: int) -> tuple[bytes, int, int]:
        """Return kind, start of the body and end of the box at `at`; the end may lie beyond `end`."""
        self.count_box()
        size, kind = _HEADER.unpack(self.read(at, 8))
        body = at + 8
        if size == 1:
            size = _U64.unpack(self.read(body, 8))[0]
            body += 8
        elif size == 0:
            size = end - at
        if size < body - at:
            raise ParseError(f"a box of {size} bytes")
        return kind, body, at + size

    def count_box(self) -> None:
        """Note one more box, so that no nesting can keep us busy."""
        self._boxes += 1
        if self._boxes > _MAX_BOXES:
            raise ParseError(f"more than {_MAX_BOXES} boxes")

    def inside(self, data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Walk the boxes inside bytes that are already in memory."""
        while at + 8 <= end:
            self.count_box()
            size, kind = _HEADER.unpack_from(data, at)
            if size < 8 or at + size > end:
                raise ParseError("a damaged fragment")
            yield kind, at + 8, at + size
            at += size

    def children(self, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Walk the boxes between `at` and `end`, all of which must lie inside."""
        while at + 8 <= end:
            kind, body, box_end = self.header(at, end)
            if box_end > end:
                raise ParseError("a box that is larger than the one around it")
            yield kind, body, box_end
            at = box_end  # at least 8 bytes on


@dataclass(slots=True)
class Track:
    """What the index says about one track; lengths in the track's own units."""

    track_id: int = 0
    handler: bytes = b""
    timescale: int = 0
    media_units: int = 0  # mdhd
    table_units: int = 0  # stts
    samples: int = 0
    first_offset: int = 0  # ctts: presentation minus decoding time of the first sample
    first_is_key: bool = True
    codec: str = ""
    width: int = 0
    height: int = 0
    edits: list[tuple[int, int]] = field(default_factory=list)  # (length in movie units, media time; -1: empty)
    default_duration: int = 0
    default_flags: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """The footage of one `trun`: its length, and what stands at its first sample."""

    units: int
    first_is_key: bool
    first_offset: int


def read_fragment_head(moof: bytes, at: int, duration: int, sample_flags: int) -> tuple[int, int, int]:
    """Return track, sample duration and sample flags of a `tfhd`, given the track's own defaults."""
    flags, track_id = struct.unpack_from(">II", moof, at)
    at += 8 + (8 if flags & _BASE_OFFSET else 0) + (4 if flags & _DESCRIPTION else 0)
    if flags & _DURATION:
        duration = _U32.unpack_from(moof, at)[0]
        at += 4
    at += 4 if flags & _SIZE else 0
    if flags & _FLAGS:
        sample_flags = _U32.unpack_from(moof, at)[0]
    return track_id, duration, sample_flags


def read_base(moof: bytes, at: int) -> int:
    """Return the decoding time of a `tfdt`."""
    base: int = (_U64 if moof[at] else _U32).unpack_from(moof, at + 4)[0]
    return base


def read_run(moof: bytes, at: int, end: int, duration: int, sample_flags: int) -> Run:
    """Read the `trun` at `at`; `duration` and `sample_flags` hold where it names none."""
    flags, count = struct.unpack_from(">II", moof, at)
    at += 8 + (4 if flags & _DATA_OFFSET else 0)
    if flags & _FIRST_FLAGS:
        sample_flags = _U32.unpack_from(moof, at)[0]
        at += 4
    columns = [bit for bit in (_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET) if flags & bit]
    if not columns or not count:
        return Run(count * duration, not sample_flags & _NON_SYNC, 0)
    if at + count * len(columns) * 4 > end:
        raise ParseError("a fragment with more samples than it holds")
    table = array("I")
    table.frombytes(moof[at : at + count * len(columns) * 4])
    if struct.pack("=I", 1) != struct.pack(">I", 1):
        table.byteswap()
    width = len(columns)
    units = sum(table[columns.index(_EACH_DURATION) :: width]) if flags & _EACH_DURATION else count * duration
    if flags & _EACH_FLAGS and not flags & _FIRST_FLAGS:
        sample_flags = table[columns.index(_EACH_FLAGS)]
    offset = table[columns.index(_EACH_OFFSET)] if flags & _EACH_OFFSET else 0
    return Run(units, not sample_flags & _NON_SYNC, offset - (1 << 32) if offset >= 1 << 31 else offset)


def read_scale(source: BoxFile, body: int) -> tuple[int, int]:
    """Return time scale and length of an `mvhd` or `mdhd`."""
    head = source.read(body, 32)
    scale, units = struct.unpack_from(">IQ", head, 20) if head[0] == 1 else struct.unpack_from(">II", head, 12)
    unknown = (1 << 64) - 1 if head[0] == 1 else (1 << 32) - 1
    return scale, 0 if units == unknown else units


def read_trak(source: BoxFile, at: int, end: int, track: Track) -> None:
    """Fill `track` from the boxes of a `trak`."""
    for kind, body, box_end in source.children(at, end):
        if kind == b"tkhd":
            head = source.read(body, 24)
            track.track_id = _U32.unpack_from(head, 20 if head[0] == 1 else 12)[0]
        elif kind == b"edts":
            for inner, inner_body, inner_end in source.children(body, box_end):
                if inner == b"elst":
                    track.edits = _edits(source, inner_body, inner_end)
        elif kind == b"mdia":
            _read_mdia(source, body, box_end, track)


def _read_mdia(source: BoxFile, at: int, end: int, track: Track) -> None:
    for kind, body, box_end in source.children(at, end):
        if kind == b"mdhd":
            track.timescale, track.media_units = read_scale(source, body)
        elif kind == b"hdlr":
            track.handler = source.read(body + 8, 4)
        elif kind == b"minf":
            for inner, inner_body, inner_end in source.children(body, box_end):
                if inner == b"stbl":
                    _read_stbl(source, inner_body, inner_end, track)


def _edits(source: BoxFile, body: int, end: int) -> list[tuple[int, int]]:
    version, count = struct.unpack(">B3xI", source.read(body, 8))
    form = struct.Struct(">QqI" if version == 1 else ">IiI")
    count = min(count, (end - body - 8) // form.size, 1000)
    data = source.read(body + 8, count * form.size) if count else b""
    return [(units, media) for units, media, _ in form.iter_unpack(data)]


def _read_stbl(source: BoxFile, at: int, end: int, track: Track) -> None:
    for kind, body, box_end in source.children(at, end):
        if kind == b"stsd" and box_end - body >= 16:
            entry = source.read(body + 8, min(box_end - body - 8, 2048))
            track.codec = codec_name(entry)
            if len(entry) >= 36:  # means something for a picture track only
                track.width, track.height = struct.unpack_from(">HH", entry, 32)
        elif kind == b"stts":
            _sum_stts(source, body, box_end, track)
        elif kind == b"ctts" and box_end - body >= 16:
            track.first_offset = struct.unpack(">i", source.read(body + 12, 4))[0]
        elif kind == b"stss" and box_end - body >= 8:
            count = _U32.unpack(source.read(body + 4, 4))[0]
            first = _U32.unpack(source.read(body + 8, 4))[0] if count and box_end - body >= 12 else 0
            track.first_is_key = first == 1


def _sum_stts(source: BoxFile, body: int, end: int, track: Track) -> None:
    count = _U32.unpack(source.read(body + 4, 4))[0]
    at, last = body + 8, body + 8 + min(count, (end - body - 8) // 8) * 8
    while at < last:
        step = min(last - at, 1 << 16)
        for samples, units in struct.iter_unpack(">II", source.read(at, step)):
            track.samples += samples
            track.table_units += samples * units
        at += step
