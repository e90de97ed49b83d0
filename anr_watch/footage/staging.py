"""The hidden folder `<recordings>/.anr-watch`: where fills write before anything gets a footage name, and the lock.

It lies inside the recordings so that a finished file can be moved into place by a link; it never touches what
stands outside that folder. While the lock is held it works in the very folder that was locked, and in no other that
comes to stand at its path: not in one that was made anew, and not below a mount point whose disk is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from anr_watch.errors import StorageError
from anr_watch.footage.faults import storage_error
from anr_watch.lockfile import LockFile

STAGING_NAME: Final = ".anr-watch"
_LOCK_NAME: Final = "lock"
_PROBE_NAME: Final = ".probe"  # no gap's folder can have this name
_PRIVATE: Final = 0o700
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)


class Staging:
    """The staging folder below one recordings root; nothing is created before it is needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._base = root / STAGING_NAME
        self._left: set[str] = set()  # gaps whose folders could not be removed
        self._lock: LockFile | None = None
        self._held: tuple[tuple[int, int] | None, tuple[int, int] | None] | None = None  # root and base, when locked

    def folder(self, gap_id: str) -> Path:
        """Return the folder for one gap's files, created with mode 0700.

        An id that would not make a safe folder name (they come from the database) is replaced by its digest.

        Raises:
            StorageError: the folder cannot be created.
        """
        folder = self._open_base() / _safe_name(gap_id)
        self._left.discard(gap_id)
        try:
            folder.mkdir(mode=_PRIVATE, exist_ok=True)
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise StorageError(f"{folder} must be a folder, not a link or a file")
        except OSError as error:
            raise storage_error("cannot create", folder, error) from error
        return folder

    def clear(self, gap_id: str) -> None:
        """Remove one gap's folder with all that is in it, and those that could not be removed before.

        Nothing happens where there is none. What cannot be removed now is removed with a later one.

        Raises:
            StorageError: something cannot be removed.
        """
        self._left.add(gap_id)
        for left in list(self._left):
            folder = self._base / _safe_name(left)
            try:
                if stat.S_ISDIR(self._base.lstat().st_mode):
                    shutil.rmtree(folder)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise storage_error("cannot remove", folder, error) from error
            self._left.discard(left)

    def try_a_file(self) -> None:
        """Write a file and remove it.

        Raises:
            StorageError: it cannot be written.
        """
        path = self._open_base() / _PROBE_NAME
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, bytes(4096))
                os.fsync(handle)
            finally:
                os.close(handle)
                path.unlink()
        except OSError as error:
            raise storage_error("cannot write", path, error) from error

    def empty(self) -> int:
        """Remove everything a former run left in staging; return how many entries went. The lock file stays.

        Raises:
            StorageError: something cannot be removed.
        """
        if not self._base.is_dir():
            return 0
        base = self._open_base()
        gone = 0
        try:
            with os.scandir(base) as entries:
                left = [entry for entry in entries if entry.name != _LOCK_NAME]
            for entry in left:
                # A link is removed itself, never what it points to.
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108 - a scandir entry, not a Path
                gone += 1
        except OSError as error:
            raise storage_error("cannot empty", base, error) from error
        return gone

    @property
    def is_there(self) -> bool:
        """Whether anr-watch has worked in this recordings folder before: its hidden folder is the sign."""
        return _identity(self._base) is not None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock that keeps a second anr-watch away from the same recordings.

        Raises:
            InUse: another process holds it.
            StorageError: the folder cannot be used.
        """
        self.take()
        try:
            yield
        finally:
            self.release()

    def take(self) -> None:
        """Take the lock, on the folder that stands at the path now.

        Raises:
            InUse: another process holds it.
            StorageError: the folder cannot be used.
        """
        lock = LockFile(self._open_base() / _LOCK_NAME, self._root)
        try:
            lock.take()
        except OSError as error:
            raise storage_error("cannot lock", lock.path, error) from error
        self._lock = lock
        self._held = _identity(self._root), _identity(self._base)

    def release(self) -> None:
        """Let the lock go; nothing happens if it is not held."""
        self._held = None
        if self._lock is not None:
            self._lock.release()

    def stands(self) -> bool:
        """Say whether the folder that was locked stands at the path, lock and all."""
        held = self._held is not None and self._held == (_identity(self._root), _identity(self._base))
        return held and self._lock is not None and self._lock.stands()

    def same_root(self) -> None:
        """Make sure that what is to be written goes into the recordings folder that was locked.

        Raises:
            StorageError: another folder, or none, stands at its path.
        """
        if self._held is not None and self._held[0] != _identity(self._root):
            raise StorageError(f"the recordings folder {self._root} is not the one it was (unmounted or replaced)")

    def _open_base(self) -> Path:
        """Create the staging folder if needed, but none while one is locked; refuse one that is a link or a file."""
        self.same_root()
        try:
            if not self._root.is_dir():
                raise StorageError(f"the recordings folder {self._root} is missing")
            if self._held is None:
                self._base.mkdir(mode=_PRIVATE, exist_ok=True)
            elif self._held[1] != _identity(self._base):
                raise StorageError(f"{self._base} was removed or replaced")
            if not stat.S_ISDIR(self._base.lstat().st_mode):
                raise StorageError(f"{self._base} must be a folder, not a link or a file")
            _keep_private(self._base)
        except OSError as error:
            raise storage_error("cannot create", self._base, error) from error
        return self._base


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of what stands at `path`; the root may be a link, and then is what it leads to."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _keep_private(folder: Path) -> None:
    """Take away what others may do with a staging folder that was there already, if it is ours to change."""
    found = folder.lstat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _PRIVATE:
        folder.chmod(_PRIVATE)


def _safe_name(gap_id: str) -> str:
    if _PLAIN_ID.fullmatch(gap_id) and gap_id != _LOCK_NAME:
        return gap_id
    return "id-" + hashlib.sha256(gap_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
