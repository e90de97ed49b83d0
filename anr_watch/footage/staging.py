"""The hidden folder `<recordings>/.anr-watch`: where fills write before anything gets a footage name, and the lock.

It lies inside the recordings so that a finished file can be moved into place by a link; it never touches what
stands outside that folder.
"""

from __future__ import annotations

import fcntl
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

STAGING_NAME: Final = ".anr-watch"
_LOCK_NAME: Final = "lock"
_PROBE_NAME: Final = ".probe"  # no gap's folder can have this name
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)


class Staging:
    """The staging folder below one recordings root; nothing is created before it is needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._base = root / STAGING_NAME

    def folder(self, gap_id: str) -> Path:
        """Return the folder for one gap's files, created with mode 0700.

        An id that would not make a safe folder name (they come from the database) is replaced by its digest.

        Raises:
            StorageError: the folder cannot be created.
        """
        folder = self._open_base() / _safe_name(gap_id)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise storage_error("cannot create", folder, error) from error
        return folder

    def clear(self, gap_id: str) -> None:
        """Remove one gap's folder with all that is in it; nothing happens if there is none.

        Raises:
            StorageError: something cannot be removed.
        """
        folder = self._base / _safe_name(gap_id)
        try:
            if stat.S_ISDIR(self._base.lstat().st_mode):
                shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error("cannot remove", folder, error) from error

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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock that keeps a second anr-watch away from the same recordings.

        The kernel releases it when the process ends, however it ends; the file itself stays.

        Raises:
            StorageError: another process holds it (its pid is named), or the folder cannot be used.
        """
        path = self._open_base() / _LOCK_NAME
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error("cannot open", path, error) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
                text = (
                    f"{self._root} is in use by another anr-watch (pid {holder if holder.isdigit() else 'unknown'})"
                )
                raise StorageError(text) from None
            except OSError as error:
                raise storage_error("cannot lock", path, error) from error
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            except OSError as error:
                raise storage_error("cannot write", path, error) from error
            yield
        finally:
            os.close(handle)

    def _open_base(self) -> Path:
        """Create the staging folder if needed; refuse one that is a link or a file."""
        try:
            if not self._root.is_dir():
                raise StorageError(f"the recordings folder {self._root} is missing")
            self._base.mkdir(mode=0o700, exist_ok=True)
            if not stat.S_ISDIR(self._base.lstat().st_mode):
                raise StorageError(f"{self._base} must be a folder, not a link or a file")
        except OSError as error:
            raise storage_error("cannot create", self._base, error) from error
        return self._base


def _safe_name(gap_id: str) -> str:
    if _PLAIN_ID.fullmatch(gap_id) and gap_id != _LOCK_NAME:
        return gap_id
    return "id-" + hashlib.sha256(gap_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
