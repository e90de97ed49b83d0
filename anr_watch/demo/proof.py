"""Decodes recorded files and counts the pictures of a simulated camera; it judges nothing and changes nothing.

Every picture of `anr_watch.camera` carries its camera and frame number (camera/barcode.py), so completeness is
counted, not estimated from lengths: what a viewer would be shown is decoded and its number read. Pictures that
an edit list hides are not presented and therefore not counted.

    python -m anr_watch.demo.proof [--first N] [--last N] [--camera-number N] FILE...
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import av

from anr_watch.camera.barcode import FrameMark, read

# Two audio packets of one stream that are this close touch: time bases of 1/8000 s and 1/90000 s both round.
_AUDIO_JOIN_US = 2_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What a set of files shows of frames `first` to `last` (both included) of one camera.

    `double` counts pictures beyond the first showing of their number, `out_of_order` pictures shown once but after
    a later one, `outside` pictures of the camera before `first` or after `last`; `unreadable` pictures carry no
    mark that can be trusted and `broken` names files that could not be opened or decoded to their end.
    """

    camera_number: int | None
    fps: int | None
    first: int | None
    last: int | None
    expected: int
    present: int
    missing: tuple[tuple[int, int], ...]  # first and last number of each hole
    double: int
    out_of_order: int
    outside: int
    other_camera: int
    unreadable: int
    broken: tuple[str, ...]
    files: int
    audio_seconds: float
    audio_largest_hole_s: float

    @property
    def missing_frames(self) -> int:
        """How many frames are in no file."""
        return self.expected - self.present

    @property
    def complete(self) -> bool:
        """Whether every expected frame is there and nothing was found that cannot be explained."""
        return self.expected > 0 and not (self.missing or self.other_camera or self.unreadable or self.broken)


class Numbers:
    """A set of whole numbers kept as ranges: constant memory for frames that come in order, whatever their count."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, number: int) -> bool:
        """Add `number`; return False if it was there already."""
        return self.add_range(number, number)

    def add_range(self, first: int, last: int, *, join: int = 1) -> bool:
        """Add `first` to `last`; ranges at most `join` apart become one. Return False if all of it was there."""
        at = bisect_right(self._firsts, first)
        if at and self._lasts[at - 1] >= last:
            return False
        low = at - 1 if at and self._lasts[at - 1] + join >= first else at
        high = at
        while high < len(self._firsts) and self._firsts[high] <= last + join:
            high += 1
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high], self._lasts[low:high] = [first], [last]
        return True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges in order, ends included."""
        return zip(self._firsts, self._lasts, strict=True)

    def count(self, first: int, last: int) -> int:
        """Return how many numbers from `first` to `last` are in the set."""
        return sum(max(0, min(high, last) - max(low, first) + 1) for low, high in self)

    def holes(self, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """Return the ranges from `first` to `last` that are not in the set."""
        holes: list[tuple[int, int]] = []
        at = first
        for low, high in self:
            if high < at:
                continue
            if low > last:
                break
            if low > at:
                holes.append((at, low - 1))
            at = max(at, high + 1)
        if at <= last:
            holes.append((at, last))
        return tuple(holes)


class _Tally:
    """Counts pictures as they are shown, one after the other."""

    def __init__(self, first: int | None, last: int | None, camera_number: int | None) -> None:
        self.first, self.last, self.camera_number = first, last, camera_number
        self.fps: int | None = None
        self.shown = Numbers()
        self.double = self.out_of_order = self.outside = self.other_camera = self.unreadable = 0
        self._highest = -1

    def count(self, mark: FrameMark | None) -> None:
        if mark is None:
            self.unreadable += 1
            return
        if self.camera_number is None:
            self.camera_number = mark.camera_number
        if mark.camera_number != self.camera_number:
            self.other_camera += 1
            return
        self.fps = self.fps or mark.fps
        number = mark.frame_number
        if (self.first is not None and number < self.first) or (self.last is not None and number > self.last):
            self.outside += 1
            return
        if not self.shown.add(number):
            self.double += 1
        elif number < self._highest:
            self.out_of_order += 1
        self._highest = max(self._highest, number)


def _show(path: Path, tally: _Tally, audio: Numbers) -> None:
    """Decode one file: count its pictures, and add its sound to `audio` (UTC microseconds).

    Raises:
        av.FFmpegError: the file cannot be opened or decoded to its end; what came before is counted.
    """
    sound = Numbers()
    offset_us: int | None = None  # UTC minus file time, from the first picture that says both
    with av.open(str(path)) as container:
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        if not container.streams.video:
            raise av.InvalidDataError(1, "no video in the file", str(path))
        video = container.streams.video[0]
        video.thread_type = "SLICE"  # frame threads keep one picture per thread back and gain nothing on small ones
        try:
            for packet in container.demux(streams):
                if packet.stream is video:
                    for frame in video.decode(packet):
                        mark = read(frame)
                        tally.count(mark)
                        if offset_us is None and mark is not None and frame.pts is not None:
                            offset_us = mark.utc_us - round(frame.pts * video.time_base * 1_000_000)  # type: ignore[operator]
                elif packet.pts is not None and packet.duration and not packet.is_discard:
                    base = packet.time_base
                    start_us = round(packet.pts * base * 1_000_000)
                    end_us = round((packet.pts + packet.duration) * base * 1_000_000)
                    sound.add_range(start_us, end_us, join=_AUDIO_JOIN_US)
        finally:
            for start_us, end_us in sound:
                if offset_us is not None:
                    audio.add_range(start_us + offset_us, end_us + offset_us, join=_AUDIO_JOIN_US)


def count_frames(
    files_in_name_order: Iterable[Path],
    *,
    first: int | None = None,
    last: int | None = None,
    camera_number: int | None = None,
) -> Proof:
    """Decode every picture of the files and count frames `first` to `last` of one camera.

    A limit that is None becomes the lowest or highest number found; without `camera_number` the first readable
    picture decides which camera is meant. Memory does not grow with the number of frames. Sound is placed in UTC
    by the pictures beside it, so `audio_largest_hole_s` also sees holes between files.
    """
    tally, audio = _Tally(first, last, camera_number), Numbers()
    broken: list[str] = []
    files = 0
    for path in files_in_name_order:
        files += 1
        try:
            _show(path, tally, audio)
        except (av.FFmpegError, OSError):
            broken.append(path.name)
    ranges = tuple(tally.shown)
    if ranges:
        first = ranges[0][0] if first is None else first
        last = ranges[-1][1] if last is None else last
    expected = 0 if first is None or last is None else max(0, last - first + 1)
    known = expected and first is not None and last is not None
    sound = tuple(audio)
    holes_us = [after[0] - before[1] for before, after in pairwise(sound)]
    return Proof(
        camera_number=tally.camera_number,
        fps=tally.fps,
        first=first,
        last=last,
        expected=expected,
        present=tally.shown.count(first, last) if known else 0,  # type: ignore[arg-type]
        missing=tally.shown.holes(first, last) if known else (),  # type: ignore[arg-type]
        double=tally.double,
        out_of_order=tally.out_of_order,
        outside=tally.outside,
        other_camera=tally.other_camera,
        unreadable=tally.unreadable,
        broken=tuple(broken),
        files=files,
        audio_seconds=sum(end - start for start, end in sound) / 1e6,
        audio_largest_hole_s=max(holes_us, default=0) / 1e6,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the proof of the named files as one JSON object; exit status 0 only if nothing is missing."""
    parser = argparse.ArgumentParser(prog="python -m anr_watch.demo.proof", description="Count recorded frames.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--first", type=int, help="number of the first frame that must be there")
    parser.add_argument("--last", type=int, help="number of the last frame that must be there")
    parser.add_argument("--camera-number", type=int, help="the camera whose frames count")
    chosen = parser.parse_args(argv)
    files = sorted(chosen.files, key=lambda path: path.name)
    proof = count_frames(files, first=chosen.first, last=chosen.last, camera_number=chosen.camera_number)
    answer = asdict(proof) | {"missing_frames": proof.missing_frames, "complete": proof.complete}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if proof.complete else 1


if __name__ == "__main__":
    sys.exit(main())
