"""Reads the index of a fragmented mp4 this process wrote itself: where each coded picture and block of sound lies.

Only for files of `muxer`, so it trusts them; what others write is read by `footage.boxes`. It never reads `mdat`.
Box layouts: ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_NON_SYNC: Final = 0x10000  # sample_is_non_sync_sample
_TFHD_FIELDS: Final = ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4))  # flag, bytes; in their order
_MOST_ALIKE: Final = 1 << 16  # samples that a run names without a line for each
_TRUN_COLUMNS: Final = (0x100, 0x200, 0x400, 0x800)  # duration, size, flags, composition offset


class BadFragments(ValueError):  # noqa: N818 - names what was found
    """The file is not what the muxer writes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded unit; times in units of its track, from the begin of the file."""

    at: int  # byte in the file
    size: int
    dts: int
    duration: int
    offset: int  # presentation minus decoding time
    key: bool

    @property
    def pts(self) -> int:
        """When it is presented."""
        return self.dts + self.offset


@dataclass(slots=True)
class Track:
    """One track: the boxes that describe it, as they are, and its samples in decoding order."""

    track_id: int
    timescale: int
    video: bool
    boxes: dict[bytes, bytes]
    samples: list[Sample] = field(default_factory=list)
    defaults: tuple[int, int, int] = (0, 0, 0)  # duration, size, flags


def read_tracks(handle: int) -> list[Track]:
    """Return the tracks of an open file.

    Raises:
        BadFragments: there is no index, or it is damaged.
        OSError: the file cannot be read.
    """
    tracks: dict[int, Track] = {}
    size, at = os.fstat(handle).st_size, 0
    try:
        while at + 8 <= size:
            length, kind = struct.unpack(">I4s", os.pread(handle, 8, at))
            if length == 1:
                length = struct.unpack(">Q", os.pread(handle, 8, at + 8))[0]
            if length < 8 or at + length > size:
                raise BadFragments("a box that does not end")
            if kind == b"moov":
                _read_moov(os.pread(handle, length, at), tracks)
            elif kind == b"moof":
                _read_moof(os.pread(handle, length, at), at, tracks)
            at += length
    except (struct.error, KeyError, IndexError) as error:
        raise BadFragments("a damaged index") from error
    if not tracks:
        raise BadFragments("no index")
    return list(tracks.values())


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Walk boxes: kind, begin of the body, end."""
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        if length < 8:
            raise BadFragments("a box without length")
        yield kind, at + 8, at + length
        at += length


def _read_moov(data: bytes, tracks: dict[int, Track]) -> None:
    for kind, body, end in _boxes(data, 8, len(data)):
        if kind == b"trak":
            track = _read_trak(data, body, end)
            tracks[track.track_id] = track
        elif kind == b"mvex":
            for inner, at, _ in _boxes(data, body, end):
                if inner == b"trex":
                    track_id, _, duration, size, flags = struct.unpack_from(">5I", data, at + 4)
                    tracks[track_id].defaults = duration, size, flags


def _read_trak(data: bytes, at: int, end: int) -> Track:
    found: dict[bytes, bytes] = {}
    containers = {b"mdia", b"minf", b"stbl"}

    def walk(at: int, end: int) -> None:
        for kind, body, box_end in _boxes(data, at, end):
            if kind in containers:
                walk(body, box_end)
            else:
                found[kind] = data[body - 8 : box_end]

    walk(at, end)
    tkhd, mdhd = found[b"tkhd"], found[b"mdhd"]
    track_id = struct.unpack_from(">I", tkhd, 8 + (20 if tkhd[8] else 12))[0]
    timescale = struct.unpack_from(">I", mdhd, 8 + (20 if mdhd[8] else 12))[0]
    return Track(track_id, timescale, found[b"hdlr"][16:20] == b"vide", found)


def _read_moof(data: bytes, moof_at: int, tracks: dict[int, Track]) -> None:
    for kind, body, end in _boxes(data, 8, len(data)):
        if kind == b"traf":
            _read_traf(data, body, end, moof_at, tracks)


def _read_traf(data: bytes, at: int, end: int, moof_at: int, tracks: dict[int, Track]) -> None:
    track: Track | None = None
    values: dict[int, int] = {}
    base, dts = moof_at, 0
    for kind, body, box_end in _boxes(data, at, end):
        if kind == b"tfhd":
            flags, track_id = struct.unpack_from(">II", data, body)
            track, at = tracks[track_id], body + 8
            values = dict(zip((0x8, 0x10, 0x20), track.defaults, strict=True))
            for flag, length in _TFHD_FIELDS:
                if flags & flag:
                    values[flag] = int.from_bytes(data[at : at + length], "big")
                    at += length
            base = values.get(0x1, moof_at)
        elif kind == b"tfdt":
            dts = struct.unpack_from(">Q" if data[body] else ">I", data, body + 4)[0]
        elif kind == b"trun" and track is not None:
            dts = _read_trun(data[body:box_end], base, dts, (values[0x8], values[0x10], values[0x20]), track.samples)


def _read_trun(data: bytes, base: int, dts: int, defaults: tuple[int, int, int], out: list[Sample]) -> int:
    flags, count = struct.unpack_from(">II", data)
    at, place = 8, base
    if flags & 0x1:
        place += struct.unpack_from(">i", data, at)[0]
        at += 4
    duration, size, sample_flags = defaults
    first_flags: int | None = None
    if flags & 0x4:
        first_flags = struct.unpack_from(">I", data, at)[0]
        at += 4
    columns = [flag for flag in _TRUN_COLUMNS if flags & flag]
    if not columns and count > _MOST_ALIKE:
        raise BadFragments("a fragment with more samples than it holds")
    form = struct.Struct(">" + "".join("i" if flag == 0x800 else "I" for flag in columns))
    for index in range(count):
        row = dict(zip(columns, form.unpack_from(data, at), strict=True)) if columns else {}
        at += form.size
        its_flags = row.get(0x400, sample_flags)
        if index == 0 and first_flags is not None:
            its_flags = first_flags
        length, its_size = row.get(0x100, duration), row.get(0x200, size)
        out.append(Sample(place, its_size, dts, length, row.get(0x800, 0), not its_flags & _NON_SYNC))
        place += its_size
        dts += length
    return dts
