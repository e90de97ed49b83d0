"""The kernel's inotify calls, and nothing more: no tree, no meaning. Linux only.

Three functions of the C library and one fixed record. The packages that wrap them were weighed (asyncinotify 4.4.4,
MPL-2.0, and inotify_simple 2.0.1, BSD-2, both pure ctypes and maintained): both find the C library by running
`ldconfig`, or a compiler where that fails, and the daemon starts no programs but its own; asyncinotify builds three
objects per event, registers with the loop anew for each batch and keeps the old path of a folder that was moved.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from enum import IntFlag
from typing import Final, NamedTuple

_RECORD: Final = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, length of the name behind it
_READ_BYTES: Final = 64 * 1024


class Mask(IntFlag):
    """What to tell, and what happened (inotify(7))."""

    MODIFY = 0x2
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x0100_0000
    EXCL_UNLINK = 0x0400_0000
    ISDIR = 0x4000_0000


class Happened(NamedTuple):
    """One event: of which watch, what (bits of `Mask`), and the name inside the watched folder, empty for itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of the kernel with its watches. Calls may come from several threads.

    Raises:
        OSError: EMFILE: the user has too many queues, or the process too many files.
    """

    def __init__(self) -> None:
        self._calls = _c_library()
        self._closing = threading.Lock()
        self.fd = _checked(self._calls.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str, mask: int) -> int:
        """Watch a path and return the number of the watch; the same for each path of one file or folder.

        Raises:
            OSError: ENOSPC: the user has too many watches; EACCES, ENOENT, ENOTDIR; EBADF after `close`.
        """
        with self._closing:
            return _checked(self._calls.inotify_add_watch(self.fd, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        """End a watch; one that is gone already is no error."""
        with self._closing:
            self._calls.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Happened]:
        """Return what waits in the queue, about 1 300 events at most; empty if there is nothing."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        found: list[Happened] = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            found.append(Happened(watch, mask, os.fsdecode(name)))
        return found

    def close(self) -> None:
        """Let go of the queue and all watches; may be called twice."""
        with self._closing:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


def is_there() -> bool:
    """Say whether the C library has inotify."""
    return hasattr(_c_library(), "inotify_init1")


def _c_library() -> ctypes.CDLL:
    # None: what this process has loaded. Nothing has to be searched for.
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
    return result
