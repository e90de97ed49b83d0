"""Finishes the staged segments of a joined replay: cut or whole, synced, under their names. Worker process only.

It decides nothing: `joining` says what is released, and what is no longer wanted is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anr_watch.replay.exactcut import cut_file
from anr_watch.replay.joining import Joining, Release
from anr_watch.replay.muxer import Written


class Staged:
    """The staged segments of one replay that are neither finished nor removed.

    Raises (from `release`):
        OSError: the disk is full or broken.
        BadFragments: a staged file is damaged.
    """

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        self._files: list[str] = []

    def add(self, written: Written) -> None:
        """Take a closed segment."""
        self._files.append(written.file)

    def release(self, joining: Joining, *, final: bool) -> Iterator[Written]:
        """Finish what can be released, one by one, and remove what nobody wants any more."""
        for release in joining.releases(final=final):
            done = finish(self._staging, release)
            self._files.remove(release.written.file)
            if done is not None:
                yield done
        wanted = joining.holds
        for file in [file for file in self._files if file not in wanted]:
            _part(self._staging, file).unlink(missing_ok=True)
            self._files.remove(file)


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


def _part(staging: Path, file: str) -> Path:
    return (staging / file).with_suffix(".part")
