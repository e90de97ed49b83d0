"""Fingerprints of the pictures recorded on both sides of a missing piece. Reads files, decides nothing.

`head` are the last pictures before the piece, `tail` the first ones after it, each in the order in which they are
shown, over the border of files that follow each other. All calls block; the daemon makes them in threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from logging import getLogger
from pathlib import Path
from typing import Final

from anr_watch.coverage import CONTIGUOUS_S, NAME_STEP_S
from anr_watch.errors import ParseError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.samples import PictureFile, Sample, Shown
from anr_watch.joins.fingerprint import of_length_prefixed
from anr_watch.model import Camera, Segment, Window

_LOG = getLogger(__name__)
MOST_PICTURES: Final = 120  # 8 s at 15 per second, 5 s at 25: some groups of pictures
MOST_BYTES: Final = 4 << 20  # of pictures that are read; about 5 ms of hashing
FEWEST: Final = 12  # so many whatever they weigh
BORDER_S: Final = 5.0  # footage that ends or begins farther than this from a piece does not border it
# A recorder with ffmpeg opens its first file 2.1 to 2.9 s after its first picture (measured), at a slow camera 4 s.
RESUMING: Final = timedelta(seconds=4)
GROWS_S: Final = 60.0  # a file that nothing can be read of for so long is no live recording
_FILES: Final = 8  # a recorder with files of a second each
_TORN: Final = 5  # pictures at the end that a group of reordered ones can have left: four in a row and their anchor
_CODECS: Final = ("h264", "hevc")


@dataclass(frozen=True, slots=True)
class Side:
    """The pictures next to a piece. `at`: end of the last one before it, or start of the first one after it."""

    prints: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()  # bytes of these pictures, and of more where reading them would cost too much
    at: datetime | None = None
    path: Path | None = None  # of the file next to the piece
    coded: tuple[str | None, int | None, int | None] = (None, None, None)  # its codec, width, height as far as known


NOTHING: Final = Side()


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Both sides of a missing piece; a side without usable pictures has no fingerprints."""

    head: Side = NOTHING
    tail: Side = NOTHING

    @property
    def known(self) -> bool:
        """Whether there is anything a replay can be compared with."""
        return bool(self.head.prints or self.tail.prints)


def beside(
    recordings: Recordings, camera: Camera, piece: Window, segments: Iterable[Segment], now: datetime
) -> tuple[Neighbours, datetime]:
    """Return what borders a missing piece of a camera, and until when footage may be asked for."""
    if camera.options.margin_s <= 0:
        return Neighbours(), now
    folder, depth = recordings.camera_folder(camera.id), recordings.pattern.depth + 1
    paths = [(segment, folder.joinpath(*Path(segment.path).parts[-depth:])) for segment in segments]
    sides = look(piece, paths, reach_s=BORDER_S)
    if sides.tail.prints or not camera.records_always:
        return sides, now
    return sides, _open_end(recordings, camera, piece, now)


def _open_end(recordings: Recordings, camera: Camera, piece: Window, now: datetime) -> datetime:
    """Return until when live recording can not have resumed.

    Where it resumed can be seen some seconds later only: a recorder looks into the stream before it opens a file, and
    writes to it in steps. What it may already have is left to the next try, which finds its first pictures.
    """
    recent = max(piece.start, now - timedelta(seconds=GROWS_S))
    for start in recordings.starts(camera.id, Window(recent, now)) if recent < now else ():
        file = recordings.file_at(camera.id, start)
        if file is not None and recordings.segment_of(file, camera.id, "") is None:
            return start - RESUMING  # nothing can be read of it yet
    return now - RESUMING


def look(piece: Window, recorded: Iterable[tuple[Segment, Path]], *, reach_s: float) -> Neighbours:
    """Return what borders `piece`.

    Args:
        piece: what is missing.
        recorded: segments around it, with their files.
        reach_s: footage that ends or begins farther than this from the piece does not border it.
    """
    ordered = sorted(recorded, key=lambda pair: pair[0].window)
    reach = timedelta(seconds=reach_s)
    before = [pair for pair in ordered if pair[0].window.start < piece.start and _centre(pair[0]) < piece.end]
    # What a name says is up to a step too early: a file that seems to begin before a short piece begins behind it.
    begins = piece.start - timedelta(seconds=NAME_STEP_S)
    after = [pair for pair in ordered if pair not in before and pair[0].window.start > begins]
    before.sort(key=lambda pair: pair[0].window.end)
    head = NOTHING
    if before and before[-1][0].window.end >= piece.start - reach:
        head = _head(before[::-1])
    tail = NOTHING
    if after and after[0][0].window.start <= piece.end + reach:
        tail = _tail(after)
    return Neighbours(head, tail)


def _centre(segment: Segment) -> datetime:
    return segment.window.start + (segment.window.end - segment.window.start) / 2


def _head(files: Sequence[tuple[Segment, Path]]) -> Side:
    """Collect backwards from the file that ends last."""
    side = NOTHING
    room = _Room()
    nearest: datetime | None = None
    for segment, path in files[:_FILES]:
        if nearest is not None and abs((nearest - segment.window.end).total_seconds()) > CONTIGUOUS_S:
            break
        found = _prints(path, room, last=True)
        if found is None:
            break
        shown, prints = found
        sizes = tuple(sample.size for sample in shown.samples)
        if nearest is None:
            final = shown.samples[-1]
            length = timedelta(seconds=shown.seconds(final.shown_at + final.units))
            side = Side(
                prints, sizes, segment.window.start + length, path, (segment.codec, segment.width, segment.height)
            )
        else:
            side = replace(side, prints=prints + side.prints, sizes=sizes + side.sizes)
        nearest = segment.window.start
        if room.full or len(prints) < len(shown.samples):
            break
    return side


def _tail(files: Sequence[tuple[Segment, Path]]) -> Side:
    """Collect forwards from the file that begins first."""
    side = NOTHING
    room = _Room()
    nearest: datetime | None = None
    for segment, path in files[:_FILES]:
        if nearest is not None and abs((segment.window.start - nearest).total_seconds()) > CONTIGUOUS_S:
            break
        found = _prints(path, room, last=False)
        if found is None:
            break
        shown, prints = found
        sizes = tuple(sample.size for sample in shown.samples)
        if nearest is None:
            side = Side(prints, sizes, segment.window.start, path, (segment.codec, segment.width, segment.height))
        else:
            side = replace(side, prints=side.prints + prints, sizes=side.sizes + sizes)
        nearest = segment.window.end
        if room.full or len(prints) < len(shown.samples):
            break
    return side


class _Room:
    """How much may still be read."""

    def __init__(self) -> None:
        self.pictures, self.bytes, self.taken = MOST_PICTURES, MOST_BYTES, 0

    @property
    def full(self) -> bool:
        return self.taken >= MOST_PICTURES or (self.bytes <= 0 and self.taken >= FEWEST)

    def take(self, sample: Sample) -> bool:
        if self.full:
            return False
        self.taken += 1
        self.bytes -= sample.size
        return True


def _untorn(shown: Shown) -> Shown:
    """Return the last pictures without those that are presented after one that is missing.

    A recorder that is cut off amid reordered pictures has a later one that earlier ones lean on. Nothing is missing
    when what comes back begins after the last picture before that hole; the later one is then presented twice.
    """
    samples = shown.samples
    coded = sorted(samples, key=lambda sample: sample.at)
    if coded == list(samples) or len(samples) <= _TORN:
        return shown
    steps = sorted(b.shown_at - a.shown_at for a, b in pairwise(samples[:-_TORN]))
    usual = steps[len(steps) // 2] if steps else 0
    for at in range(len(samples) - _TORN, len(samples)):
        if samples[at].shown_at - samples[at - 1].shown_at > usual * 3 // 2 and samples[at].at >= coded[-_TORN].at:
            return replace(shown, samples=samples[:at])
    return shown


def _prints(path: Path, room: _Room, *, last: bool) -> tuple[Shown, tuple[bytes, ...]] | None:
    """Return pictures of one file with their fingerprints, those nearest to the piece; None if there are none."""
    count = MOST_PICTURES - room.taken
    try:
        with PictureFile(path) as file:
            shown = _untorn(file.last(count)) if last else file.first(count)
            if not shown.samples or shown.codec not in _CODECS or not shown.length_size:
                return None
            found: list[bytes] = []
            for sample in reversed(shown.samples) if last else shown.samples:
                if not room.take(sample):
                    break
                found.append(of_length_prefixed(file.read(sample), shown.length_size, shown.codec))
    except (ParseError, OSError) as error:
        _LOG.debug("%s cannot be compared: %s", path, error)
        return None
    if not all(found):
        return None  # a picture without a slice: nothing to compare it by, and the run would break there
    return shown, tuple(reversed(found)) if last else tuple(found)
