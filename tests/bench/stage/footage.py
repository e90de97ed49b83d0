"""Footage on disk as a recorder leaves it, and the proof by decoding that every frame is there once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from anr_watch.camera.audio import Tone
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.camera.kinds import AudioKind
from anr_watch.camera.mp4 import FragmentedMp4
from anr_watch.demo.proof import Proof, count_frames

NAME = "%Y%m%d_%H%M%S.mp4"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reel:
    """One camera's film as mp4 files. Groups of pictures are one second long, files begin at whole seconds."""

    def __init__(self, spec: FilmSpec, *, cached_gops: int = 400) -> None:
        assert spec.gop_frames == spec.fps, "files are to begin at whole seconds"
        self.spec, self._film = spec, Film(spec, cached_gops=cached_gops)
        self._made: dict[tuple[int, int], bytes] = {}

    def frame(self, at: datetime) -> int:
        """Return the number of the first frame at or after an instant."""
        return self.spec.first_frame_at((at - EPOCH) // timedelta(microseconds=1))

    def mp4(self, start: datetime, end: datetime) -> bytes:
        """Return the file that shows `start` to `end`."""
        first, stop = self.frame(start), self.frame(end)
        known = self._made.get((first, stop))
        if known is not None:
            return known
        muxer = FragmentedMp4(self._film, Tone(AudioKind.NONE))
        data = bytearray()
        for number in range(first, stop):
            group = self._film.gop(number // self.spec.gop_frames)
            data += muxer.add(number, group.pictures[number % self.spec.gop_frames])
        data += muxer.close()
        return self._made.setdefault((first, stop), bytes(data))

    def write(self, folder: Path, start: datetime, end: datetime) -> tuple[Path, int]:
        """Write that file into a camera's folder and return its path and length; it looks as old as it says."""
        data = self.mp4(start, end)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{start:{NAME}}"
        path.write_bytes(data)
        os.utime(path, (end.timestamp(), end.timestamp()))
        return path, len(data)


Asked = tuple[list[Path], int | None, int | None, int]  # files, first and last frame, number of the camera


def prove(asked: Iterable[Asked]) -> list[Proof]:
    """Decode sets of files, two at a time, in processes of their own."""
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        return list(pool.map(_proof, asked, chunksize=4))


def _proof(asked: Asked) -> Proof:
    files, first, last, number = asked
    return count_frames(files, first=first, last=last, camera_number=number)


class IncompleteError(AssertionError):
    """A benchmark that was fast and wrong."""


def assert_every_frame_once(folders: Iterable[tuple[Path, int, int, int]]) -> int:
    """Return how many frames were expected, all of them there once.

    Raises:
        IncompleteError: a frame is missing or double, or something else is in the files.
    """
    given = list(folders)
    expected = 0
    asked = [(sorted(folder.glob("*.mp4")), first, last, number) for folder, first, last, number in given]
    for (folder, *_), proof in zip(given, prove(asked), strict=True):
        if not proof.complete or proof.double:
            raise IncompleteError(
                f"{folder.name}: {proof.missing_frames} of {proof.expected} frames missing, {proof.double} double: {proof}"
            )
        expected += proof.expected
    return expected
