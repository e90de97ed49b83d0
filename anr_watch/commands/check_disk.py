"""Checks what a fill needs of the disk: rights on the database, the recordings folder, room. Leaves nothing there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anr_watch.clock import Clock
from anr_watch.commands.findings import Finding, fail, ok, warn
from anr_watch.commands.screen import size
from anr_watch.config import Settings
from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.footage.placing import move
from anr_watch.footage.staging import STAGING_NAME

_RIGHTS = "run anr-watch as the user that records, or give its user write access"


def check_database_file(path: Path) -> list[Finding]:
    """Check that the database can be written; SQLite also makes files beside it."""
    if not os.access(path, os.W_OK):
        return [fail("database", f"{path} cannot be written", _RIGHTS)]
    if not os.access(path.absolute().parent, os.W_OK):
        return [fail("database", f"{path.parent}: no files can be made in the database's folder", _RIGHTS)]
    return []


def check_recordings(settings: Settings, clock: Clock, camera_ids: Sequence[str]) -> list[Finding]:
    """Check that files can be made and moved into place, that these cameras' folders take them, and the room."""
    root = settings.recordings.path
    recordings = Recordings(root, NamePattern(settings.recordings.name_pattern), clock)
    try:
        _try_a_file(recordings)
        free_mb = recordings.free_mb()
    except StorageError as error:
        advice = "free space" if error.full else f"set [recordings] path to the folder the recorder writes; {_RIGHTS}"
        return [fail("recordings", str(error), advice)]
    found: list[Finding] = []
    least_mb = settings.recordings.min_free_mb
    free = size(free_mb * 1e6)
    if free_mb < least_mb:
        found.append(
            fail(
                "recordings",
                f"{root}: only {free} free, fills stop below {size(least_mb * 1e6)}",
                "free space, or lower [recordings] min_free_mb",
                free_mb=round(free_mb),
            )
        )
    else:
        found.append(ok("recordings", f"{root}: files can be made and moved, {free} free", free_mb=round(free_mb)))
    for camera_id in camera_ids:
        found += _camera_folder(recordings, camera_id)
    return found


def _try_a_file(recordings: Recordings) -> None:
    """Make a file where fills stage theirs, move it as they do, remove it.

    Raises:
        StorageError: one of these does not work.
    """
    base = recordings.root / STAGING_NAME
    was_there = base.is_dir()
    folder = recordings.staging(f"check-{os.getpid()}")
    try:
        probe, moved = folder / "probe", folder / "moved"
        with probe.open("wb") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        move(probe, moved)
        moved.unlink()
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from None
    finally:
        _remove(folder, base if not was_there else None)


def _remove(folder: Path, base: Path | None) -> None:
    try:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
        if base is not None:
            base.rmdir()
    except OSError:
        return  # what is left is emptied at the next start of `run`; the check itself has said what it found


def _camera_folder(recordings: Recordings, camera_id: str) -> list[Finding]:
    about = f"camera {camera_id}"
    try:
        folder = recordings.camera_folder(camera_id)
    except ReplayRefused as error:
        return [fail(about, str(error), "rename the camera in the recorder")]
    if not folder.is_dir():
        return (
            [warn(about, f"{folder} does not exist yet: nothing is recorded of it")]
            if not folder.exists()
            else [fail(about, f"{folder} is not a folder")]
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return [fail(about, f"{folder} cannot be written", _RIGHTS)]
    return []
