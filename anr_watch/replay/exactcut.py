"""Cuts a staged segment to the picture without coding anything again; it knows no replay and no fingerprints.

The coded pictures from the key frame on that the first presented one needs are copied, as they are, into a plain mp4
with its index in front, and an edit list hides what comes before that picture and after the last. (A fragmented
file cannot hide anything: players show it.) Sound is cut at the same two instants, to the sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from anr_watch.replay.fragments import BadFragments, Sample, Track, read_tracks
from anr_watch.replay.plainmp4 import Copied, index
from anr_watch.replay.rtptime import TICKS

_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """What is presented of the file: ticks from the begin of the staged file, and how many pictures."""

    start: int
    end: int
    frames: int
    bytes: int


def cut_file(staged: Path, target: Path, *, start: int | None, end: int | None, hide: bool) -> Cut | None:
    """Write what is presented from `start` to before `end` (ticks from the begin of the file) and sync it.

    With `hide` the first picture presented is the first at or after `start`; without, it is the key frame of the
    picture that is shown at `start`. None (and no file) if no picture is left.

    Raises:
        BadFragments: `staged` is not what the muxer writes.
        OSError: reading or writing fails.
    """
    source = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tracks = read_tracks(source)
        video = next((track for track in tracks if track.video), None)
        if video is None or video.timescale != TICKS:
            raise BadFragments("no pictures")
        chosen = _pictures(video.samples, start, end, hide=hide)
        if chosen is None:
            return None
        pictures, shown_from, shown_to = chosen
        zero = pictures[0].dts
        copied = [Copied(video, pictures, shown_from - zero, shown_to - shown_from, 0)]
        for track in tracks:
            if not track.video:
                sound = _sound(track, shown_from, shown_to)
                if sound is not None:
                    copied.append(sound)
        size = _write(source, target, copied)
    finally:
        os.close(source)
    frames = sum(shown_from <= sample.pts < shown_to for sample in pictures)
    return Cut(shown_from, shown_to, frames, size)


def _pictures(
    samples: Sequence[Sample], start: int | None, end: int | None, *, hide: bool
) -> tuple[list[Sample], int, int] | None:
    """Return the pictures to copy, and the first and the last instant that is presented."""
    low = min(sample.pts for sample in samples) if start is None else start
    shown = [
        sample.pts
        for sample in samples
        if (sample.pts >= low if hide else sample.pts + sample.duration > low) and (end is None or sample.pts < end)
    ]
    if not shown:
        return None
    first, last = min(shown), max(shown)
    begin = max((at for at, sample in enumerate(samples) if sample.key and sample.pts <= first), default=0)
    key = samples[begin]
    stop = max(at for at, sample in enumerate(samples) if sample.pts <= last) + 1
    # Pictures of an open group that are shown before its key frame lean on the group before, which is not copied.
    pictures = [key, *(sample for sample in samples[begin + 1 : stop] if sample.pts > key.pts)]
    shown_from = first if hide else min(first, key.pts)
    following = [sample.pts for sample in samples if sample.pts > last]
    shown_to = min(following) if following else max(sample.pts + sample.duration for sample in pictures)
    return pictures, shown_from, shown_to


def _sound(track: Track, shown_from: int, shown_to: int) -> Copied | None:
    """Return the sound between two instants, with one block more in front: a decoder needs it to come in."""
    rate = track.timescale
    first, last = (at * rate // TICKS for at in (shown_from, shown_to))
    inside = [at for at, it in enumerate(track.samples) if it.dts + it.duration > first and it.dts < last]
    if not inside:
        return None
    blocks = track.samples[max(0, inside[0] - 1) : inside[-1] + 1]
    zero, until = blocks[0].dts, blocks[-1].dts + blocks[-1].duration
    silent = max(0, track.samples[inside[0]].dts - first)
    length = (min(last, until) - first - silent) * TICKS // rate
    return Copied(track, blocks, first + silent - zero, length, silent * TICKS // rate)


def _write(source: int, target: Path, copied: Sequence[Copied]) -> int:
    """Write head and media; return the file's size."""
    ranges, placed = _layout(copied)
    head = index(placed, 0, sum(end - begin for begin, end in ranges))
    head = index(placed, len(head), sum(end - begin for begin, end in ranges))
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(handle, head)
        for begin, end in ranges:
            at = begin
            while at < end:
                data = os.pread(source, min(_COPY_BYTES, end - at), at)
                if not data:
                    raise BadFragments("media that is not there")
                _write_all(handle, data)
                at += len(data)
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _layout(copied: Sequence[Copied]) -> tuple[list[tuple[int, int]], list[Copied]]:
    """Return the byte ranges to copy, in order, and the tracks with places counted from the begin of the media."""
    order = sorted(
        (
            (sample.at, sample.size, number, at)
            for number, it in enumerate(copied)
            for at, sample in enumerate(it.samples)
        ),
    )
    moved = [list(it.samples) for it in copied]
    ranges: list[tuple[int, int]] = []
    place = 0
    for at, size, number, which in order:
        if ranges and ranges[-1][1] == at:
            ranges[-1] = ranges[-1][0], at + size
        else:
            ranges.append((at, at + size))
        moved[number][which] = replace(moved[number][which], at=place)
        place += size
    return ranges, [replace(it, samples=samples) for it, samples in zip(copied, moved, strict=True)]


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
