"""What names stand in the recordings' folders, read once per change. Looks into no file.

A flat folder may hold 500 000 names, so a listing keeps 8 bytes per name and is used until the folder's
modification time moves.
"""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging import getLogger
from pathlib import Path
from threading import Lock
from typing import Final

from anr_watch.clock import Clock
from anr_watch.footage.faults import is_passing, storage_error
from anr_watch.footage.names import Key, NamePattern

_LOG = getLogger(__name__)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT: Final = 4096  # folders
# A folder changed twice within one tick of its file system's clock has one modification time: a listing taken
# that soon after the change may lack the second one. Ticks are 10 ms at most, or 1 to 2 s where times have no
# fraction (FAT, old file systems).
_FINE_TICK_S: Final = 0.05
_COARSE_TICK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Listing:
    """The footage names (as starts in epoch seconds, sorted) or the sub-folders (sorted by time) of one folder."""

    starts: array[int] = field(default_factory=lambda: array("q"))
    folders: tuple[tuple[Key, str], ...] = ()


@dataclass(slots=True)
class _Kept:
    identity: tuple[int, int, int]  # device, inode, mtime in ns
    seen_s: float  # when this mtime was first met
    listed_s: float
    aged: bool  # the change was long past when the names were read
    listing: Listing


class Listings:
    """The listings of all folders below one root; may be asked from several threads."""

    def __init__(self, root: Path, pattern: NamePattern, clock: Clock) -> None:
        self._root, self._pattern, self._clock = root, pattern, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = Lock()
        self._complained: set[str] = set()

    def of(self, folder: Path, relative: str, level: int) -> Listing:
        """Return the listing of `folder`; empty if it is missing, unreadable or outside the root.

        `relative` is its path below the camera's folder, `level` its depth there.

        Raises:
            StorageError: this process can open no more files at the moment.
        """
        name = str(folder)
        try:
            status = folder.stat()
            identity = status.st_dev, status.st_ino, status.st_mtime_ns
            with self._lock:
                kept = self._kept.get(name)
                if kept is not None and kept.identity == identity and self._settled(kept):
                    self._kept.move_to_end(name)
                    return kept.listing
            if not self.inside(folder):
                self._complain(name, "leads out of the recordings folder, ignored")
                return Listing()
            listed_s = self._clock.monotonic()
            names = os.listdir(folder)  # noqa: PTH208 - iterdir makes a Path of each of 500 000 names
            listing = self._read(names, relative, level)
        except (FileNotFoundError, NotADirectoryError):
            return Listing()
        except OSError as error:
            if is_passing(error):
                raise storage_error("cannot look into", folder, error) from error
            self._complain(name, error.strerror or "cannot be read")
            return Listing()
        age_s = (self._clock.now() - _EPOCH).total_seconds() - status.st_mtime_ns / 1e9
        with self._lock:
            seen_s = kept.seen_s if kept is not None and kept.identity == identity else listed_s
            self._kept[name] = _Kept(identity, seen_s, listed_s, age_s >= _COARSE_TICK_S, listing)
            self._kept.move_to_end(name)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            self._complained.discard(name)
        return listing

    def inside(self, path: Path) -> bool:
        """Say whether `path`, all links followed, lies below the root."""
        root = os.path.realpath(self._root)
        return os.path.realpath(path).startswith(root.rstrip("/") + "/")

    def _read(self, names: list[str], relative: str, level: int) -> Listing:
        if level == self._pattern.depth:
            return Listing(starts=self._pattern.starts(relative, names))
        prefix = f"{relative}/" if relative else ""
        keys = ((self._pattern.folder_key(prefix + name), name) for name in names)
        return Listing(folders=tuple(sorted((key, name) for key, name in keys if key is not None)))

    @staticmethod
    def _settled(kept: _Kept) -> bool:
        """Say whether no change can hide behind the same modification time."""
        tick_s = _FINE_TICK_S if kept.identity[2] % 1_000_000_000 else _COARSE_TICK_S
        return kept.aged or kept.listed_s - kept.seen_s >= tick_s

    def _complain(self, name: str, what: str) -> None:
        with self._lock:
            if name in self._complained:
                return
            self._complained.add(name)
        _LOG.warning("folder %s: %s", name, what)
