"""A file by which one process keeps a second one away, and which says who holds it. Leaf; decides nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from anr_watch.errors import InUse

_PID_BYTES = 20


class LockFile:
    """An advisory lock (flock) on one file; the kernel releases it when the process ends, however it ends.

    Whoever comes by another path to the same file (a link, a second mount) meets the same lock. The file stays.

    Args:
        path: the file; its folder must exist.
        what: what is kept, as the refusal names it.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self.path, self._what = path, what
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            InUse: another process holds it; its pid is named.
            OSError: the file cannot be opened or locked.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, _PID_BYTES, 0).decode("ascii", "replace").strip()
                pid = holder if holder.isdigit() else "unknown"
                raise InUse(f"{self._what} is in use by another anr-watch (pid {pid})") from None
            with contextlib.suppress(OSError):  # a full disk takes no pid; the lock holds all the same
                pid_line = f"{os.getpid()}\n".encode()
                os.pwrite(handle, pid_line, 0)
                os.ftruncate(handle, len(pid_line))
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def release(self) -> None:
        """Let the lock go; nothing happens if it is not held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def stands(self) -> bool:
        """Say whether the lock is held on the file that stands at the path now."""
        if self._handle is None:
            return False
        try:
            there = self.path.lstat()
        except OSError:
            return False
        held = os.fstat(self._handle)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
