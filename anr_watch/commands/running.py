"""Says whether an anr-watch runs on a recordings folder, without taking its lock even for a moment.

Trying the lock would let a daemon that starts at that moment believe that another one runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from anr_watch.footage.staging import STAGING_NAME

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whether somebody holds the lock (None: it cannot be known from here), and its process id if known."""

    running: bool | None
    pid: int | None = None
    why: str = ""  # why it cannot be known

    def __str__(self) -> str:
        """Return it in words."""
        if self.running is None:
            return f"not known ({self.why})"
        if not self.running:
            return "not running"
        return f"running (process {self.pid})" if self.pid is not None else "running"


def daemon_on(recordings: Path, *, locks: Path = _LOCKS) -> Daemon:
    """Return whether an anr-watch runs on these recordings.

    `locks` is the kernel's table of locks: `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`.
    """
    lock = recordings / STAGING_NAME / "lock"
    try:
        found = lock.stat()
        told = lock.read_bytes()[:20].strip()
    except FileNotFoundError:
        return Daemon(running=False)
    except OSError as error:
        return Daemon(None, why=f"{lock}: {error.strerror}")
    pid = int(told) if told.isdigit() else None
    try:
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        return Daemon(None, why=f"{locks}: {error.strerror}")
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for line in lines:
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK" or fields[3] != "WRITE":
            continue
        holder, (major_minor, _, inode) = fields[4], fields[5].rpartition(":")
        # Some file systems (btrfs, overlays) show another device there than `stat` does: then the pid must fit.
        if inode == str(found.st_ino) and (major_minor == device or holder == str(pid)):
            return Daemon(running=True, pid=int(holder) if holder.isdigit() and holder != "0" else pid)
    return Daemon(running=False)
