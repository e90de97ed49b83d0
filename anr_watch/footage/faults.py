"""What an operating system error means for the recordings folder. Pure; touches no file."""

from __future__ import annotations

import errno
from pathlib import Path

from anr_watch.errors import StorageError


def storage_error(what: str, path: Path, error: OSError) -> StorageError:
    """Return the `StorageError` for a failed write at `path`; `full` for a full disk or a used-up quota."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(f"{what} {path}: {error.strerror or type(error).__name__}", full=full)
