"""The recordings folder as it is on disk: which footage exists, where new footage goes. Knows no database.

Everything below the root was written by others and may be anything: names that only look like footage, folders
named like files, links that lead out of the root, ids that try to. All calls block; the daemon makes them in threads.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from logging import getLogger
from pathlib import Path
from threading import Lock
from typing import Final

from anr_watch.clock import Clock, SystemClock
from anr_watch.errors import ParseError, ReplayRefused, StorageError
from anr_watch.footage import placing
from anr_watch.footage.boxes import FileFacts, read_facts
from anr_watch.footage.faults import is_passing, storage_error
from anr_watch.footage.listing import Listings
from anr_watch.footage.mark import Mark, box_of
from anr_watch.footage.names import NamePattern
from anr_watch.footage.staging import Staging
from anr_watch.model import Segment, Window, merge, subtract

_LOG = getLogger(__name__)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_FACTS_KEPT: Final = 1024  # 16 for each of 64 cameras; 0.7 KB each
_NAMES_TRIED: Final = 1000  # names in a row without usable footage before a search back in time gives up
_FILES_TRIED: Final = 50  # the same for files that had to be opened
_NEXT_SECONDS: Final = 60  # how far a file's name may move when its own second is taken
_PICTURE_S: Final = 0.05  # less than one picture at 15 per second: nothing is missing
_AHEAD: Final = timedelta(seconds=60)  # names later than this are a wrong clock's, not footage


@dataclass(frozen=True, slots=True)
class FootageFile:
    """One file that has a footage name; what is inside has not been looked at."""

    path: Path
    start: datetime
    size_bytes: int
    mtime_s: float
    changed_s: float = 0.0  # ctime: also moved by renaming and linking


@dataclass(frozen=True, slots=True)
class Between:
    """The names of two neighbours, each as its time; None where there is none."""

    after: datetime | None
    before: datetime | None

    def names(self, wanted: datetime) -> list[datetime]:
        """Return seconds between the two, the nearest to `wanted` first: itself, later ones, then earlier ones."""
        low = wanted - _NEXT_SECONDS * _SECOND if self.after is None else _floor(self.after) + _SECOND
        high = wanted + _NEXT_SECONDS * _SECOND if self.before is None else _floor(self.before) - _SECOND
        first = max(low, min(wanted, high))
        later = [first + step * _SECOND for step in range(_NEXT_SECONDS) if first + step * _SECOND <= high]
        earlier = [first - step * _SECOND for step in range(1, _NEXT_SECONDS) if first - step * _SECOND >= low]
        return later + earlier


def _floor(instant: datetime) -> datetime:
    return _EPOCH + (instant - _EPOCH) // _SECOND * _SECOND


class Recordings:
    """The files of all cameras below one root, named by one pattern."""

    def __init__(self, root: Path, pattern: NamePattern, clock: Clock | None = None) -> None:
        self.root = root
        self.pattern = pattern
        self._clock = clock or SystemClock()
        self._listings = Listings(root, pattern, self._clock)
        self._staging = Staging(root)
        self._umask = placing.current_umask()
        self._facts: OrderedDict[tuple[str, int, float], FileFacts | None] = OrderedDict()
        self._facts_lock = Lock()

    def camera_folder(self, camera_id: str) -> Path:
        """Return the camera's folder (it may not exist).

        Raises:
            ReplayRefused: the id cannot be a folder name below the root.
        """
        unsafe = not camera_id or camera_id.startswith(".") or "/" in camera_id
        if unsafe or any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in camera_id):
            raise ReplayRefused(f"camera id {camera_id[:64]!r} cannot be a folder below the recordings")
        if len(os.fsencode(camera_id)) > 255:
            raise ReplayRefused(f"camera id {camera_id[:64]!r}... is too long for a folder name")
        return self.root / camera_id

    def files(self, camera_id: str, window: Window) -> list[FootageFile]:
        """Return the camera's files that start inside `window`, and the one that started last before it, by time.

        Raises:
            ReplayRefused: the id cannot be a folder name.
        """
        found: list[FootageFile] = []
        unusable = 0
        for start, folder in self._backwards(camera_id, window.end):
            file = self._file(self._path(folder, start), start)
            if file is not None:
                found.append(file)
            if start < window.start:
                unusable += 1
                if file is not None or unusable >= _NAMES_TRIED:
                    break
        return found[::-1]

    def starts(self, camera_id: str, window: Window) -> list[datetime]:
        """Return the starts that names tell inside `window`, by time, without touching the files.

        Raises:
            ReplayRefused: the id cannot be a folder name.
        """
        found = []
        for start, _ in self._backwards(camera_id, window.end):
            if start < window.start:
                break
            found.append(start)
        return found[::-1]

    def before(self, camera_id: str, instant: datetime, count: int) -> list[datetime]:
        """Return up to `count` starts that names tell before `instant`, latest first.

        Raises:
            ReplayRefused: the id cannot be a folder name.
        """
        return [start for start, _ in islice(self._backwards(camera_id, instant), count)]

    def file_at(self, camera_id: str, start: datetime) -> FootageFile | None:
        """Return the file whose name tells `start`, also an empty one; None if there is none."""
        return self._file(self.camera_folder(camera_id) / self.pattern.format(start), start, smallest=0)

    def start_of(self, path: Path, camera_id: str) -> datetime | None:
        """Return the start that the name of one of the camera's files tells; None if it is no footage name."""
        try:
            return self.pattern.parse(path.relative_to(self.camera_folder(camera_id)).as_posix())
        except ValueError:
            return None

    def newest(self, camera_id: str) -> FootageFile | None:
        """Return the newest file that holds footage, maybe one that is still growing.

        Raises:
            ReplayRefused: the id cannot be a folder name.
        """
        opened = 0
        names = self._backwards(camera_id, self._clock.now() + _AHEAD)
        for start, folder in islice(names, _NAMES_TRIED):
            file = self._file(self._path(folder, start), start)
            if file is None:
                continue
            facts = self.facts(file)
            if facts is not None and facts.duration_s > 0:
                return file
            opened += 1
            if opened >= _FILES_TRIED:
                break
        return None

    def facts(self, file: FootageFile) -> FileFacts | None:
        """Return what is inside `file`, or None if it is no usable mp4; read once per path, size and mtime.

        Raises:
            StorageError: this process can open no more files at the moment.
        """
        key = str(file.path), file.size_bytes, file.mtime_s
        with self._facts_lock:
            if key in self._facts:
                self._facts.move_to_end(key)
                return self._facts[key]
        facts: FileFacts | None
        try:
            facts = read_facts(file.path)
        except ParseError as error:
            _LOG.debug("%s holds no footage: %s", file.path, error)
            facts = None
        except OSError as error:  # gone, or not ours to read: maybe another time, so it is not kept
            if is_passing(error):
                raise storage_error("cannot read", file.path, error) from error
            _LOG.debug("%s cannot be read: %s", file.path, error.strerror)
            return None
        with self._facts_lock:
            self._facts[key] = facts
            while len(self._facts) > _FACTS_KEPT:
                self._facts.popitem(last=False)
        return facts

    def segment_of(self, file: FootageFile, camera_id: str, path_text: str) -> Segment | None:
        """Return the segment `file` is, under the path text the database uses; None if it holds no footage (yet).

        A file of ours says its exact time itself; of any other the name tells when it begins.
        """
        facts = self.facts(file)
        length = timedelta(seconds=facts.duration_s) if facts is not None else timedelta()
        if facts is None or length <= timedelta():
            return None
        ours = facts.mark if facts.mark is not None and facts.mark.fits(file.start, facts.duration_s) else None
        try:
            window = ours.window if ours is not None else Window(file.start, file.start + length)
        except OverflowError:
            return None
        return Segment(
            camera_id=camera_id,
            path=path_text,
            window=window,
            size_bytes=facts.size_bytes,
            codec=facts.codec,
            width=facts.width,
            height=facts.height,
            ours=ours is not None,
            listed=None if ours is None else ours.listed,
        )

    def check_folder(self, camera_id: str) -> None:
        """Look whether the camera's folder could take a file, before anything is fetched for it.

        Raises:
            StorageError: something else than a folder stands there, or a link that leaves the root.
            ReplayRefused: the id cannot be a folder name.
        """
        folder = self.camera_folder(camera_id)
        if not self._listings.inside(folder):
            raise StorageError(f"{folder} is a link that leaves the recordings folder")
        if os.path.lexists(folder) and not folder.is_dir():
            raise StorageError(f"{folder} is not a folder")

    def takes_files(self) -> bool:
        """Say whether the recordings take files at all; if so, a failure to store one is its own folder's."""
        try:
            self._staging.try_a_file()
        except StorageError:
            return False
        return True

    def staging(self, gap_id: str) -> Path:
        """Return the folder for one gap's unfinished files, created with mode 0700.

        Raises:
            StorageError: it cannot be created.
        """
        return self._staging.folder(gap_id)

    def clear_staging(self, gap_id: str) -> None:
        """Remove one gap's folder in staging.

        Raises:
            StorageError: something cannot be removed.
        """
        self._staging.clear(gap_id)

    def empty_staging(self) -> int:
        """Remove what a former run left in staging; return how many entries went.

        Raises:
            StorageError: something cannot be removed.
        """
        return self._staging.empty()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock against a second anr-watch on these recordings; see `holding` for one that lasts.

        Raises:
            InUse: on entering: another process holds it.
            StorageError: on entering: the folder cannot be used.
        """
        return self._staging.lock()

    @property
    def held(self) -> Staging:
        """The hidden folder, for whoever takes and keeps its lock."""
        return self._staging

    def place(
        self,
        staged: Path,
        camera_id: str,
        window: Window,
        *,
        listed: Window | None = None,
        between: Between | None = None,
    ) -> Path | None:
        """Give a finished, fsynced, checked file the name of its start; return its path when that is on disk.

        If files of those names cover the window already, `staged` is removed and None comes back: the work is
        done. If a name is taken by less than that, the next free second is used. Nothing is ever replaced.

        `window` and `listed`, what its row is to say, are noted in the file: see `mark`.

        With `between` the footage is known to be missing there, whatever names and clocks say: the file is placed in
        any case, if possible under a name between those of its neighbours, so that order by name is order in time.

        Raises:
            StorageError: it cannot be moved, or no name is free for a minute.
            ReplayRefused: the id cannot be a folder name.
        """
        folder = self.camera_folder(camera_id)
        placing.seal(staged, self._umask, box_of(Mark(window, listed or window)))
        second = _floor(window.start)
        if between is not None:
            for start in between.names(second):
                placed = self._try_name(staged, folder / self.pattern.format(start))
                if placed is not None:
                    return placed
        wanted = Window(second, second + (window.end - window.start))
        held: list[Window] = []
        for later in range(_NEXT_SECONDS + 1):
            start = second + later * _SECOND
            target = folder / self.pattern.format(start)
            placed = self._try_name(staged, target)
            if placed is not None:
                return placed
            held += self._held(target, start)
            # A name is a second coarse, and a file may stand a second late for the reason we are here.
            covered = all(left.seconds < _PICTURE_S for left in subtract(wanted, merge(held, join_s=1.0)))
            if covered and between is None:
                self._discard(staged)
                return None
        raise StorageError(f"{folder}: every name from {second:%Y-%m-%d %H:%M:%S} on is taken for a minute")

    def _try_name(self, staged: Path, target: Path) -> Path | None:
        """Move the file to this name; None if the name is taken."""
        self._staging.same_root()
        placing.make_folder(target.parent, self.root)
        if not self._listings.inside(target.parent):
            raise StorageError(f"{target.parent} is a link that leaves the recordings folder")
        try:
            placing.move(staged, target)
        except placing.NameTaken:
            return None
        return target

    def free_mb(self) -> float:
        """Return the free space of the recordings' disk for us, in 1 000 000 bytes.

        Raises:
            StorageError: the folder is missing or does not answer.
        """
        try:
            answer = os.statvfs(self.root)
        except OSError as error:
            raise storage_error("cannot look at", self.root, error) from error
        return answer.f_bavail * answer.f_frsize / 1e6

    def _held(self, path: Path, start: datetime) -> list[Window]:
        file = self._file(path, start)
        facts = self.facts(file) if file is not None else None
        if facts is None or facts.duration_s <= 0:
            return []
        return [Window(start, start + timedelta(seconds=facts.duration_s))]

    def _discard(self, staged: Path) -> None:
        try:
            staged.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error("cannot remove", staged, error) from error

    def _path(self, folder: Path, start: datetime) -> Path:
        return folder / self.pattern.format(start).rpartition("/")[2]

    def _file(self, path: Path, start: datetime, *, smallest: int = 1) -> FootageFile | None:
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                if not self._listings.inside(path):
                    return None
                status = path.stat()
        except OSError:  # gone between listing and look, or a dead link
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size < smallest:
            return None
        return FootageFile(path, start, status.st_size, status.st_mtime, status.st_ctime)

    def _backwards(self, camera_id: str, bound: datetime) -> Iterator[tuple[datetime, Path]]:
        """Walk the starts that names tell before `bound`, latest first, each with the folder of its file."""
        return self._descend(self.camera_folder(camera_id), "", 0, bound)

    def _descend(self, folder: Path, relative: str, level: int, bound: datetime) -> Iterator[tuple[datetime, Path]]:
        listing = self._listings.of(folder, relative, level)
        if level < self.pattern.depth:
            limit = self.pattern.key_at(bound, level)
            for key, name in reversed(listing.folders):
                if key <= limit:
                    below = f"{relative}/{name}" if relative else name
                    yield from self._descend(folder / name, below, level + 1, bound)
            return
        starts: array[int] = listing.starts
        for at in reversed(range(bisect_left(starts, -((_EPOCH - bound) // _SECOND)))):
            yield _EPOCH + starts[at] * _SECOND, folder
