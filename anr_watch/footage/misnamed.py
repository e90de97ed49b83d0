"""Finds recordings that nobody would ever see: names off the pattern or in local time, folders of no camera.

It reads names, and of the newest few files time stamps and boxes; it changes nothing and decides nothing. What is not
found by its name is not footage, and a name in another time zone is footage of another hour: both are silent, so a
person has to be told. All calls block; the daemon makes them in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Final

from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.footage.folder import FootageFile, Recordings
from anr_watch.footage.names import NamePattern

_FILMS: Final = (".mp4", ".m4v", ".mov", ".mkv", ".ts", ".avi", ".flv", ".webm", ".asf", ".dav")
_ENOUGH: Final = 100  # files in the pattern's own folders after which no older one is looked into
_FOLDERS: Final = 64  # looked into per camera
_ODD_FOLDERS: Final = 3  # of those below one folder that the pattern does not know, the last by name
_DEEPER: Final = 3  # levels below the pattern's own
_NEWEST: Final = 8  # files whose last write is compared with their names
_STRANGE: Final = 50  # folders of no camera that are looked into
_SHOWN: Final = 5  # of those that are named
_FAR: Final = datetime(9999, 12, 31, tzinfo=UTC)
# A file that was written this recently is the recorder's, not one of a copied archive: ffmpeg writes at least every
# 256 KiB, and the newest files of a recorder with segments of a minute all lie within it.
_JUST_WRITTEN_S: Final = 900.0
_SLACK_S: Final = 30.0  # a file opened late, closed late, cut at the next key frame
_AHEAD_S: Final = 120.0  # how far a recorder's clock may be ahead of ours
_HALF_HOUR_S: Final = 1800.0
_ZONES: Final = range(-28, 29)  # in half hours: UTC+14 (Kiribati) is the furthest


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that a person must know: about which camera (empty: the whole folder), what, what to do."""

    camera_id: str
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Names:
    """What the names in one camera's folders say.

    Attributes:
        files: film files that were looked at: all of a flat folder, else those of the newest folders.
        fitting: how many of them have footage names.
        misfit: one that has not, as its path below the camera's folder; empty if all fit.
        newest: the file with the latest name.
        shifted_s: how far the names of just written files lie after the files' times, in half hours; 0: they do not.
    """

    files: int = 0
    fitting: int = 0
    misfit: str = ""
    newest: FootageFile | None = None
    shifted_s: float = 0.0


def look_at_names(recordings: Recordings, camera_id: str, now: datetime, *, segment_s: float) -> Names:
    """Return what the names of a camera say; of no folder, or one that cannot be read, nothing.

    Args:
        recordings: the folder of all.
        camera_id: whose.
        now: the present.
        segment_s: how long its files are meant to be; longer ones are seen to be longer.
    """
    try:
        recordings.check_folder(camera_id)
        files, fitting, misfit = _count(recordings.camera_folder(camera_id), recordings.pattern)
        starts = recordings.before(camera_id, _FAR, _NEWEST)
        found = [file for start in starts if (file := recordings.file_at(camera_id, start)) is not None]
        newest = found[0] if found else None
        return Names(files, fitting, misfit, newest, _shifted_s(recordings, found, now, segment_s))
    except (ReplayRefused, StorageError):  # `check` and the fills say so themselves
        return Names()


def remarks_on(camera_id: str, names: Names, pattern: NamePattern, now: datetime) -> list[Remark]:
    """Return what a person must know of a camera's names; empty if all is well."""
    found = []
    if names.misfit:
        found.append(
            Remark(
                camera_id,
                f"{names.fitting} of {names.files} files fit the name pattern {pattern.pattern!r},"
                f" {names.misfit!r} does not: such files are ignored",
                "set [recordings] name_pattern to what the recorder writes, or let it write names like"
                f" {pattern.format(now)}",
            )
        )
    if names.newest is None:
        return found
    name, ahead_s = names.newest.path.name, (names.newest.start - now).total_seconds()
    if names.shifted_s:
        side = "after" if names.shifted_s > 0 else "before"
        found.append(
            Remark(
                camera_id,
                f"{name!r} and its like lie {abs(names.shifted_s) / 3600:g} h {side} the time they were written:"
                " names seem to be local time, not UTC",
                "let the recorder run with TZ=UTC (systemd: Environment=TZ=UTC; a container: -e TZ=UTC), then rename"
                " or remove what it has written so far",
            )
        )
    elif ahead_s > _AHEAD_S:
        found.append(
            Remark(
                camera_id,
                f"the newest name, {name!r}, lies in the future by {timedelta(seconds=round(ahead_s))}",
                "put the recorder's clock right (and let it run with TZ=UTC), then rename or remove such files",
            )
        )
    return found


def remarks_on_folders(recordings: Recordings, camera_ids: Mapping[str, object]) -> list[Remark]:
    """Return the folders with films that belong to none of the cameras, in one remark at most."""
    _, folders = _entries(recordings.root)
    strange = sorted(set(folders) - set(camera_ids))
    strange = [name for name in strange[:_STRANGE] if _count(recordings.root / name, recordings.pattern)[0]]
    if not strange:
        return []
    without = {camera_id.casefold(): camera_id for camera_id in camera_ids if camera_id not in folders}
    texts = []
    for name in strange[:_SHOWN]:
        near = get_close_matches(name.casefold(), without, n=1, cutoff=0.5)
        texts.append(repr(name) + (f" (did you mean {without[near[0]]}?)" if near else ""))
    more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
    return [
        Remark(
            "",
            f"there are recordings in folders that belong to no camera: {', '.join(texts)}{more}",
            "a camera's folder has the name of its id: rename one of the two",
        )
    ]


def all_remarks(recordings: Recordings, segment_s: Mapping[str, float], now: datetime) -> list[Remark]:
    """Return all there is to be known of these cameras (by id, with the length of their files)."""
    found = []
    for camera_id, length_s in sorted(segment_s.items()):
        names = look_at_names(recordings, camera_id, now, segment_s=length_s)
        found += remarks_on(camera_id, names, recordings.pattern, now)
    return found + remarks_on_folders(recordings, segment_s)


def _count(root: Path, pattern: NamePattern) -> tuple[int, int, str]:
    """Return how many films there are, how many have footage names, and one that has not."""
    files = fitting = 0
    misfit = ""
    for below, films in _films(root, pattern):
        prefix = f"{below}/" if below else ""
        fits = len(pattern.starts(below, films)) if _level(below) == pattern.depth else 0
        files, fitting = files + len(films), fitting + fits
        if fits < len(films) and not misfit:
            misfit = max((prefix + name for name in films if pattern.parse(prefix + name) is None), default="")
    return files, fitting, misfit


def _films(root: Path, pattern: NamePattern) -> Iterator[tuple[str, list[str]]]:
    """Walk the folders of a camera, the latest first, each with its films, until there were enough.

    Few folders that the pattern does not know are looked into in any case: maybe all is there.
    """
    waiting, left, enough = [""], _FOLDERS, _ENOUGH
    while waiting and left:
        below = waiting.pop()
        known = not below or pattern.folder_key(below) is not None
        if known and enough <= 0:
            continue
        left -= 1
        films, folders = _entries(root / below)
        enough -= len(films) if known and _level(below) == pattern.depth else 0
        if films:
            yield below, films
        if _level(below) >= pattern.depth + _DEEPER:
            continue
        paths = [f"{below}/{name}" if below else name for name in folders]
        keys = {path: pattern.folder_key(path) for path in paths}
        waiting += sorted((path for path in paths if keys[path] is not None), key=lambda path: keys[path] or ())
        waiting += sorted(path for path in paths if keys[path] is None)[-_ODD_FOLDERS:]


def _level(below: str) -> int:
    return below.count("/") + 1 if below else 0


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the films and the folders in a folder, without what is hidden; links to folders are none."""
    films, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.name.lower().endswith(_FILMS):
                    films.append(entry.name)
    except OSError:  # gone, or not ours to read: nothing can be said of it
        return [], []
    return films, folders


def _shifted_s(recordings: Recordings, files: list[FootageFile], now: datetime, segment_s: float) -> float:
    """Return by how much the names of just written files lie after their times, if all agree; else 0.

    A file is last written between its start and its end, so that time minus name, less a number of half hours, must
    lie between 0 and the file's length for every one of them. Files of ours were written long after they begin.
    """
    lengths_s, offsets_s, starts = [segment_s], [], []
    for file in files:
        facts = recordings.facts(file)
        if facts is not None and facts.mark is not None:
            continue
        starts.append(file.start.timestamp())
        if -_AHEAD_S <= now.timestamp() - file.mtime_s <= _JUST_WRITTEN_S:
            offsets_s.append(file.mtime_s - file.start.timestamp())
            lengths_s.append(facts.duration_s if facts is not None else 0.0)
    steps_s = sorted(later - earlier for later, earlier in pairwise(starts))
    if steps_s:
        lengths_s.append(steps_s[len(steps_s) // 2])
    longest_s = max(lengths_s)
    if all(-_AHEAD_S <= offset_s <= longest_s + _AHEAD_S for offset_s in offsets_s):
        return 0.0
    fitting = [
        shift
        for shift in _ZONES
        if all(-_SLACK_S <= offset_s + shift * _HALF_HOUR_S <= longest_s + _SLACK_S for offset_s in offsets_s)
    ]
    if not fitting or 0 in fitting:
        return 0.0
    return min(fitting, key=lambda shift: (shift % 2, abs(shift))) * _HALF_HOUR_S
