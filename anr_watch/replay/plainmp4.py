"""Builds the head of a plain mp4: index in front, edit lists, no fragments. Pure: bytes out, no file.

Box layouts: ISO/IEC 14496-12. What describes the coding (stsd and its like) is taken over from the staged file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from anr_watch.replay.fragments import Sample, Track
from anr_watch.replay.rtptime import TICKS

_BRANDS: Final = b"isom" + struct.pack(">I", 512) + b"isomiso2mp41"
_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_U32: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Copied:
    """One track of the new file: its samples, and what of them is presented.

    `skip` is the media time in the track's units, from its first sample's decoding on, at which presenting begins;
    `length` and `silent` (nothing is presented before) are ticks.
    """

    track: Track
    samples: Sequence[Sample]
    skip: int
    length: int
    silent: int


def index(tracks: Sequence[Copied], head_bytes: int, media_bytes: int) -> bytes:
    """Return everything before the media, `mdat` header included; `head_bytes` is its own length.

    Sample places count from the begin of the media. The length does not depend on `head_bytes`.
    """
    length = max(it.silent + it.length for it in tracks)
    moov = _box(b"moov", _mvhd(length, tracks), *(_trak(it, head_bytes) for it in tracks))
    return _box(b"ftyp", _BRANDS) + moov + struct.pack(">I4sQ", 1, b"mdat", media_bytes + 16)


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _mvhd(length: int, tracks: Sequence[Copied]) -> bytes:
    times = struct.pack(">QQIQ", 0, 0, TICKS, length)
    following = max(it.track.track_id for it in tracks) + 1
    rest = struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24) + struct.pack(">I", following)
    return _full(b"mvhd", times, rest, version=1)


def _trak(it: Copied, head_bytes: int) -> bytes:
    boxes = it.track.boxes
    units = it.samples[-1].dts + it.samples[-1].duration - it.samples[0].dts
    media_header = b"vmhd" if it.track.video else b"smhd"
    stbl = _box(
        b"stbl",
        boxes[b"stsd"],
        _stts(it.samples),
        *_ctts(it.samples),
        *_stss(it),
        *_chunks(it.samples, head_bytes),
    )
    minf = _box(b"minf", boxes[media_header], boxes[b"dinf"], stbl)
    mdia = _box(b"mdia", _with_length(boxes[b"mdhd"], units, 16, 24), boxes[b"hdlr"], minf)
    tkhd = _with_length(boxes[b"tkhd"], it.silent + it.length, 20, 28)
    return _box(b"trak", tkhd, _box(b"edts", _elst(it)), mdia)


def _with_length(box: bytes, length: int, short_at: int, long_at: int) -> bytes:
    """Return a tkhd or mdhd with another duration, which stands at one of two places in its body."""
    if box[8]:
        return box[: 8 + long_at] + struct.pack(">Q", length) + box[16 + long_at :]
    return box[: 8 + short_at] + struct.pack(">I", min(length, _U32)) + box[12 + short_at :]


def _elst(it: Copied) -> bytes:
    edits = [(it.silent, -1)] if it.silent else []
    edits.append((it.length, it.skip))
    rows = (struct.pack(">QqHH", length, media, 1, 0) for length, media in edits)
    return _full(b"elst", struct.pack(">I", len(edits)), *rows, version=1)


def _stts(samples: Sequence[Sample]) -> bytes:
    steps = [after.dts - before.dts for before, after in pairwise(samples)] + [samples[-1].duration]
    return _full(b"stts", *_counted(_runs(steps)))


def _ctts(samples: Sequence[Sample]) -> list[bytes]:
    offsets = [sample.offset for sample in samples]
    if not any(offsets):
        return []
    # Decoding times never lie after presentation times here, so version 0 (unsigned) would do for all but a fault.
    version = 1 if min(offsets) < 0 else 0
    return [_full(b"ctts", *_counted(_runs([offset & _U32 for offset in offsets])), version=version)]


def _stss(it: Copied) -> list[bytes]:
    keys = [number for number, sample in enumerate(it.samples, 1) if sample.key]
    if not it.track.video or len(keys) == len(it.samples):
        return []
    return [_full(b"stss", *_counted((key,) for key in keys))]


def _chunks(samples: Sequence[Sample], head_bytes: int) -> tuple[bytes, bytes, bytes]:
    """Return stsc, stsz and co64: samples that lie behind one another are one chunk."""
    places, counts = [samples[0].at], [1]
    for before, after in pairwise(samples):
        if after.at == before.at + before.size:
            counts[-1] += 1
        else:
            places.append(after.at)
            counts.append(1)
    rows: list[tuple[int, ...]] = []
    for number, count in enumerate(counts, 1):
        if not rows or rows[-1][1] != count:
            rows.append((number, count, 1))
    sizes = struct.pack(f">II{len(samples)}I", 0, len(samples), *(sample.size for sample in samples))
    offsets = struct.pack(f">I{len(places)}Q", len(places), *(head_bytes + place for place in places))
    return _full(b"stsc", *_counted(rows)), _full(b"stsz", sizes), _full(b"co64", offsets)


def _runs(values: Iterable[int]) -> list[tuple[int, int]]:
    return [(len(list(same)), value) for value, same in groupby(values)]


def _counted(rows: Iterable[tuple[int, ...]]) -> list[bytes]:
    packed = [struct.pack(f">{len(row)}I", *row) for row in rows]
    return [struct.pack(">I", len(packed)), *packed]
