"""What an operating system error means for the recordings folder. Pure; touches no file."""

from __future__ import annotations

import errno
from pathlib import Path

from anr_watch.errors import StorageError

# Nothing was seen, so nothing may be concluded: what cannot be opened for want of a descriptor is not gone.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def is_passing(error: OSError) -> bool:
    """Say whether the same look works as soon as this process or the machine has files and memory again."""
    return error.errno in _PASSING


def storage_error(what: str, path: Path, error: OSError) -> StorageError:
    """Return the `StorageError` for a failed write at `path`; `full` for a full disk or a used-up quota."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(f"{what} {path}: {error.strerror or type(error).__name__}", full=full)
