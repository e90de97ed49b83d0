"""Holds the recordings folder for one process: its lock, and whether it is the right folder. Never makes the folder.

A recordings folder comes and goes: a disk is mounted later than we start, goes away while we run, or the folder is
made anew. Writing into what then stands at the path would fill the system's disk, and a lock on a folder that is
gone keeps nobody away. So the folder is looked at from time to time, and what is wrong with it is said in one line.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from anr_watch.errors import InUse, StorageError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.staging import STAGING_NAME

LOOK_S: Final = 2.0  # how long a folder may be gone or back before that is noticed: two stats per look


def home_of(folder: Path) -> Path:
    """Return the topmost folder of the file system that `folder` lies on: the mount point of its disk.

    By device numbers, not by the table of mounts: a service with `ReadWritePaths` sees its folders as mounts of
    their own, whether the disk behind them is there or not.

    Raises:
        OSError: the folder is missing.
    """
    at = Path(os.path.realpath(folder))
    device = at.stat().st_dev
    while at.parent != at and at.parent.stat().st_dev == device:
        at = at.parent
    return at


def not_mounted(root: Path, home: Path | None) -> str:
    """Say in one line that the disk is not there on which anr-watch worked before; empty if it is, or none is known.

    The sign of having worked somewhere is our hidden folder. Where it is missing and the folder lies on a disk
    further up than it did, its own disk is not mounted. Another disk at the same mount point is a new disk, and a
    folder made anew on the same disk is an empty one: both are right.
    """
    if home is None or (root / STAGING_NAME).is_dir():
        return ""
    try:
        now = home_of(root)
    except OSError:
        return ""
    if now not in home.parents:
        return ""
    return (
        f"{root} lies on the disk of {now} and used to lie on that of {home}: is it not mounted?"
        f" (if this is right: mkdir {root / STAGING_NAME})"
    )


class Holding:
    """The lock on the recordings folder, kept on what stands at its path. Its methods block.

    Attributes:
        trouble: why nothing may be written there now, in one line; empty while the folder is held.
        times: how often the lock was taken: once more for each folder that came to stand at the path.
    """

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self.trouble = f"{recordings.root} was not looked at yet"
        self.times = 0

    @property
    def was_used(self) -> bool:
        """Whether anr-watch has worked in this folder before."""
        return self._recordings.held.is_there

    def look(self, home: Path | None, *, starting: bool = False) -> int:
        """Take the lock or see whether it still holds; return how many leftovers of an earlier run were removed.

        Args:
            home: the mount point of the disk on which anr-watch worked before, if that is known.
            starting: a folder that forbids writing is a mistake to be told at once, not a trouble that passes.

        Raises:
            InUse: another anr-watch works in this folder.
            StorageError: `starting`, and this process may not write there, or what is there is no folder.
        """
        held = self._recordings.held
        if held.stands():
            self.trouble = ""
            return 0
        held.release()
        try:
            self.trouble = self._folder_trouble(home)
            if self.trouble:
                return 0
            held.take()
            self.times += 1
            removed = held.empty()
        except InUse:
            raise
        except StorageError as error:
            if starting and (error.__cause__ is None or isinstance(error.__cause__, PermissionError)):
                raise
            held.release()
            self.trouble = str(error)
            return 0
        return removed

    def _folder_trouble(self, home: Path | None) -> str:
        root = self._recordings.root
        try:
            found = root.stat()
        except FileNotFoundError:
            return f"the recordings folder {root} is missing (a disk that is not mounted?)"
        except (NotADirectoryError, PermissionError) as error:
            raise StorageError(f"the recordings folder {root} cannot be used: {error.strerror}") from None
        except OSError as error:  # the file system does not answer
            return f"the recordings folder {root} cannot be reached: {error.strerror}"
        if not stat.S_ISDIR(found.st_mode):
            raise StorageError(f"the recordings folder {root} is not a folder")
        return not_mounted(root, home)

    def release(self) -> None:
        """Let the lock go."""
        self._recordings.held.release()
