"""What a watch on one folder tells, whoever notices it, and which of the two that do is used. Watches nothing itself.

`by_inotify` asks the kernel directly: an event is there at once, nothing runs while nothing happens, and it knows
when a file was closed, when the queue overflowed and which folders it could not watch. `by_watchfiles` works wherever
watchfiles does; it looks at its queue every few milliseconds and does not know those three. So `auto` takes the
former where there is one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal, Protocol

from anr_watch.errors import AnrWatchError

_LIMITS: Final = Path("/proc/sys/fs/inotify")


class Kind(IntEnum):
    """What happened to a path; the first three numbers are watchfiles' own."""

    ADDED = 1
    MODIFIED = 2
    DELETED = 3
    CLOSED = 4  # whoever wrote the file has closed it, or it was moved in whole; by_inotify only


Changes = set[tuple[int, str]]  # (Kind, path)


class Backend(Protocol):
    """A way to watch a folder."""

    def __call__(
        self, folder: Path, *, recursive: bool, every_write: bool, step_ms: int, debounce_ms: int
    ) -> AsyncGenerator[Changes, None]:
        """Yield an empty set when the watch is armed, then sets of (kind, path); paths begin with `folder`.

        A further empty set says that the watch was armed anew and changes may have been missed. A new folder is told
        when it is watched, but what was put into it before that is not. (DELETED, folder) is told when the folder
        itself is gone, and then nothing more. Ends within one step when cancelled or closed.

        Args:
            folder: must exist, absolute.
            recursive: with all folders below it, also future ones. Those that cannot be read are left out; hidden
                ones may be.
            every_write: tell each write to a file; else at least the first one in each folder.
            step_ms: shortest pause between two sets.
            debounce_ms: how long a growing set of paths may be held back.

        Raises:
            WatchRefused: there is no such folder, or no watch to be had.
        """
        ...


class WatchRefused(AnrWatchError):  # noqa: N818 - a state of the system, which may pass
    """The system gives no watch at the moment; the text says why and what helps."""


def backend_named(name: Literal["auto", "inotify", "watchfiles"]) -> Backend:
    """Return a backend; only what is used is loaded.

    Raises:
        WatchRefused: there is no inotify on this system.
    """
    from anr_watch.sources import by_inotify  # noqa: PLC0415 - it needs what this module defines

    if name == "inotify" or (name == "auto" and by_inotify.is_there()):
        if not by_inotify.is_there():
            raise WatchRefused('there is no inotify on this system: set watch.backend = "watchfiles"')
        return by_inotify.watch_folder
    from anr_watch.sources import by_watchfiles  # noqa: PLC0415 - see above

    return by_watchfiles.watch_folder


def limit_reached(limit: Literal["max_user_watches", "max_user_instances"]) -> str:
    """Say which limit of inotify is used up, and how to raise it."""
    better = {"max_user_watches": 1_048_576, "max_user_instances": 1024}[limit]
    try:
        now = f" (now {(_LIMITS / limit).read_text(encoding='ascii').strip()})"
    except OSError:
        now = ""
    return f"the system's inotify limit is used up: sysctl fs.inotify.{limit}={better}{now}"
