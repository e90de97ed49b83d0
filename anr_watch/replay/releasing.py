"""Finishes the staged segments of a joined replay: cut or whole, synced, under their names. Worker process only.

It decides nothing: `joining` says what is released, and what is no longer wanted is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from anr_watch.replay.exactcut import cut_file
from anr_watch.replay.joining import Release
from anr_watch.replay.muxer import Written


def finish(staging: Path, release: Release) -> Written | None:
    """Give a staged segment its finished name, cut where that is asked; None if no picture is left of it.

    Raises:
        OSError: the disk is full or broken.
        BadFragments: the staged file is damaged.
    """
    written = release.written
    part, final = _part(staging, written.file), staging / written.file
    if release.start is None and release.end is None:
        handle = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        part.rename(final)
        return written
    exact = part.with_suffix(".cut")
    start, end = (None if at is None else at - written.zero for at in (release.start, release.end))
    cut = cut_file(part, exact, start=start, end=end, hide=release.hide)
    if cut is None:
        part.unlink()
        return None
    exact.rename(final)
    part.unlink()
    return replace(
        written, start=written.zero + cut.start, end=written.zero + cut.end, bytes=cut.bytes, frames=cut.frames
    )


def discard(staging: Path, files: Iterable[str]) -> None:
    """Remove staged segments that nobody wants.

    Raises:
        OSError: the disk does not let us.
    """
    for file in files:
        _part(staging, file).unlink(missing_ok=True)


def _part(staging: Path, file: str) -> Path:
    return (staging / file).with_suffix(".part")
