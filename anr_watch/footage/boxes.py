"""What an mp4 file holds, read from its boxes: length, codecs, picture size. Decodes nothing, never reads `mdat`.

Made for files that somebody else writes, also at this moment: a fragmented file counts as far as its fragments
are whole. Works in constant memory, and its time is bounded by the caps in `tables`, whatever the bytes say.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anr_watch.errors import ParseError
from anr_watch.footage.mark import SIZE_BYTES, Mark, mark_of
from anr_watch.footage.tables import BoxFile, Track, read_base, read_fragment_head, read_run, read_scale, read_trak

_MAX_TRACKS: Final = 32
_MAX_LENGTH_S: Final = 7 * 86400.0  # nobody records a week into one file: the numbers are wrong
_FIRST: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pnot"})


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one file holds. `duration_s` is the video track's presented length: its edit list is honoured.

    `complete` is False when the file ends inside a box: it is being written, or its tail was lost; a file that
    is being written and happens to end between two fragments cannot be told from a finished one. `mark` is what a
    file of ours says of itself.
    """

    duration_s: float
    codec: str
    width: int
    height: int
    audio_codec: str | None
    fragments: int
    complete: bool
    first_is_key: bool
    size_bytes: int
    mark: Mark | None = None


def read_facts(path: Path) -> FileFacts:
    """Return what the mp4 file at `path` holds; 0.3 ms for a fragmented minute, less for others.

    Raises:
        ParseError: no mp4 file, one without a video track, or a plain one whose media is cut off.
        OSError: the file cannot be read.
    """
    # O_NONBLOCK: a pipe with a footage name must not hold us.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ParseError("not a file")
        movie = _Movie(BoxFile(handle, status.st_size))
        movie.read()
        return movie.facts()
    finally:
        os.close(handle)


class _Movie:
    def __init__(self, source: BoxFile) -> None:
        self._source = source
        self._timescale = 0
        self._tracks: list[Track] = []
        self._defaults: dict[int, tuple[int, int]] = {}  # trex: track id -> sample duration, sample flags
        self._video: Track | None = None
        self._fragments = 0
        self._complete = True
        self._media_cut = False
        self._start_units: int | None = None  # of the fragments' footage
        self._end_units = 0

    def read(self) -> None:
        """Walk the top level; stops at the first thing that is not whole."""
        source, at = self._source, 0
        pending: bytes | None = None  # head of a fragment whose media has not been seen
        while at + 8 <= source.size:
            try:
                kind, body, end = source.header(at, source.size)
            except ParseError:
                if self._video is None:
                    raise
                break  # a lost tail: often zeros after a power cut
            if at == 0 and kind not in _FIRST:
                raise ParseError("not an mp4 file")
            if end > source.size:
                self._media_cut |= kind == b"mdat" and pending is None
                break
            if kind == b"moov" and self._video is None:
                self._read_moov(body, end)
            elif kind == b"moof":
                pending = source.read(body, end - body) if self._video is not None else None
            elif kind == b"mdat" and pending is not None:
                if not self._take_fragment(pending):
                    break
                pending = None
            at = end
        self._complete = at == source.size and pending is None

    def facts(self) -> FileFacts:
        video = self._video
        if video is None:
            raise ParseError("no index in the file (yet)")
        if self._media_cut and video.samples:
            raise ParseError("the media is cut off")
        audio = next((track.codec for track in self._tracks if track.handler == b"soun"), None)
        return FileFacts(
            duration_s=self._length_s(video),
            codec=video.codec,
            width=video.width,
            height=video.height,
            audio_codec=audio,
            fragments=self._fragments,
            complete=self._complete,
            first_is_key=video.first_is_key,
            size_bytes=self._source.size,
            mark=self._mark(),
        )

    def _mark(self) -> Mark | None:
        at = self._source.size - SIZE_BYTES
        return mark_of(self._source.read(at, SIZE_BYTES)) if at > 0 else None

    def _length_s(self, video: Track) -> float:
        start, end = 0, min(video.table_units, video.media_units) if video.media_units else video.table_units
        if self._start_units is not None:
            start = 0 if video.samples else self._start_units
            end = max(end, self._end_units)
        length_s = _presented(video, (end - start) / video.timescale, start, self._timescale, cut=not self._fragments)
        if length_s > _MAX_LENGTH_S:
            raise ParseError(f"a length of {length_s:.0f} s makes no sense")
        return max(0.0, length_s)

    def _read_moov(self, at: int, end: int) -> None:
        source = self._source
        for kind, body, box_end in source.children(at, end):
            if kind == b"mvhd":
                self._timescale = read_scale(source, body)[0]
            elif kind == b"trak" and len(self._tracks) < _MAX_TRACKS:
                track = Track()
                read_trak(source, body, box_end, track)
                self._tracks.append(track)
            elif kind == b"mvex":
                for inner, inner_body, _ in source.children(body, box_end):
                    if inner == b"trex":
                        track_id, _, duration, _, flags = struct.unpack(">5I", source.read(inner_body + 4, 20))
                        self._defaults[track_id] = duration, flags
        video = next((track for track in self._tracks if track.handler == b"vide"), None)
        if video is None:
            raise ParseError("no video track")
        if video.timescale == 0 or self._timescale == 0:
            raise ParseError("a time scale of zero")
        video.default_duration, video.default_flags = self._defaults.get(video.track_id, (0, 0))
        self._video = video

    def _take_fragment(self, moof: bytes) -> bool:
        """Count a whole fragment in; False if its head is damaged."""
        assert self._video is not None  # noqa: S101 - `read` keeps no head before it knows the track
        try:
            for kind, at, end in self._source.inside(moof, 0, len(moof)):
                if kind == b"traf":
                    self._take_run(moof, at, end, self._video)
        except (ParseError, struct.error, IndexError):
            return False
        self._fragments += 1
        return True

    def _take_run(self, moof: bytes, at: int, end: int, video: Track) -> None:
        duration, sample_flags = video.default_duration, video.default_flags
        base: int | None = None
        for kind, body, box_end in self._source.inside(moof, at, end):
            if kind == b"tfhd":
                track_id, duration, sample_flags = read_fragment_head(moof, body, duration, sample_flags)
                if track_id != video.track_id:
                    return
            elif kind == b"tfdt":
                base = read_base(moof, body)
            elif kind == b"trun":
                run = read_run(moof, body, box_end, duration, sample_flags)
                begin = self._end_units if base is None else base
                if self._start_units is None:
                    self._start_units = begin
                    if not video.samples:
                        video.first_is_key = run.first_is_key
                        video.first_offset = run.first_offset
                self._end_units = max(self._end_units, begin + run.units)
                base = begin + run.units


def _presented(track: Track, length_s: float, start_units: int, movie_scale: int, *, cut: bool) -> float:
    """Return what an edit list leaves of `length_s`; `cut`: its lengths count too, not only where it begins.

    In a fragmented file the list was written before the footage was known, so its lengths say nothing.
    """
    shown = [edit for edit in track.edits if edit[1] >= 0]
    if not shown:
        return length_s
    left_s = length_s - max(0, shown[0][1] - start_units - track.first_offset) / track.timescale
    listed_s = sum(units for units, _ in shown) / movie_scale
    return min(left_s, listed_s) if cut and listed_s else left_s
