"""Moves a finished staged file to its footage name. Replaces and deletes nothing that is not ours.

The recorder takes any `.mp4` with a later sibling as finished, so the name appears in one step, on a file that is
already whole and on disk; and no step may hit a file that the recorder opened under the same name meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from anr_watch.errors import StorageError
from anr_watch.footage.faults import storage_error

_FILE_MODE: Final = 0o644  # as the recorder's ffmpeg creates its files, before the umask
FOLDER_MODE: Final = 0o755  # the same for folders: whatever the umask, nobody else may write into them
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
# File systems without hard links (FAT, exFAT, some network and FUSE ones) answer with one of these.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


class NameTaken(Exception):  # noqa: N818 - names what was found, and the caller goes on
    """A file of that name exists."""


def current_umask() -> int:
    """Return the process's umask without changing it, not even for a moment (other threads create files)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def seal(staged: Path, umask: int, note: bytes) -> None:
    """Give the staged file its note at the end and the recorder's mode, on disk.

    Raises:
        StorageError: it cannot be changed.
    """
    try:
        handle = os.open(staged, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.write(handle, note) < len(note):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fchmod(handle, _FILE_MODE & ~umask)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise storage_error("cannot finish", staged, error) from error


def move(staged: Path, target: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Give `staged` the name `target`, never replacing anything; the folder is fsynced.

    `link` is there for tests of file systems without hard links.

    Raises:
        NameTaken: something of that name exists.
        StorageError: the file cannot be moved.
    """
    try:
        try:
            link(staged, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _rename_no_replace(staged, target)
        else:
            staged.unlink(missing_ok=True)
        sync_folder(target.parent)
    except FileExistsError:
        raise NameTaken from None
    except OSError as error:
        raise storage_error("cannot place", target, error) from error


def make_folder(folder: Path, root: Path) -> None:
    """Create `folder` and what is missing above it, below `root`, each on disk when this returns.

    Raises:
        StorageError: it cannot be created; also when the root itself is missing (an unmounted disk).
    """
    if not root.is_dir():
        raise StorageError(f"the recordings folder {root} is missing")
    missing = []
    at = folder
    while at != root and not at.is_dir():
        missing.append(at)
        at = at.parent
    try:
        for part in reversed(missing):
            part.mkdir(FOLDER_MODE, exist_ok=True)
            sync_folder(part.parent)
    except OSError as error:
        raise storage_error("cannot create", folder, error) from error


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk; file systems that cannot do it for folders are let be."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _rename_no_replace(staged: Path, target: Path) -> None:
    """Rename in one step that fails if the name exists (renameat2, Linux 3.15); a plain rename would replace."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, "the file system has no hard links and the system no renameat2")
    source, goal = os.fsencode(staged), os.fsencode(target)
    if rename(_AT_FDCWD, source, _AT_FDCWD, goal, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            raise OSError(number, "the file system can neither link nor rename without replacing")
        raise OSError(number, os.strerror(number))
