"""What of each second is on disk, and from whom, as one line of characters; it reads files and prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from anr_watch.coverage import CONTIGUOUS_S
from anr_watch.demo.recorder import NAME_FORMAT
from anr_watch.errors import ParseError
from anr_watch.footage.boxes import read_facts
from anr_watch.model import Window, clip, merge, subtract, total_s


class Cell(Enum):
    """What a piece of the bar stands for."""

    RECORDED = "recorded"
    FILLED = "filled"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Footage:
    """The windows for which a camera has footage, by the names and lengths of its files."""

    recorded: tuple[Window, ...] = ()
    filled: tuple[Window, ...] = ()


class Folder:
    """Reads one camera's folder again and again; a file that did not change is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lengths: dict[tuple[str, int], float] = {}

    def footage(self, recorders_files: Collection[str], *, growing: bool, now: datetime) -> Footage:
        """Return what is there. `recorders_files` are names; while `growing`, its newest one reaches up to `now`.

        An open file shows its footage only in steps of 256 KiB, so its length on disk says too little.
        """
        recorded: list[Window] = []
        filled: list[Window] = []
        newest = max(recorders_files, default="")
        for path in sorted(self._path.glob("*.mp4")) if self._path.is_dir() else ():
            start = datetime.strptime(path.name, NAME_FORMAT).replace(tzinfo=UTC)
            end = start + timedelta(seconds=self._length_s(path))
            if path.name == newest and growing:
                end = now
            if end > start:
                (recorded if path.name in recorders_files else filled).append(Window(start, end))
        return Footage(tuple(recorded), tuple(filled))

    def _length_s(self, path: Path) -> float:
        try:
            key = (path.name, path.stat().st_size)
            if key not in self._lengths:
                self._lengths[key] = read_facts(path).duration_s
        except (OSError, ParseError):
            return 0.0  # nothing to show of it yet
        return self._lengths[key]


def bar(footage: Footage, window: Window, width: int) -> list[Cell]:
    """Return at most `width` cells for `window`, each a second or a whole number of seconds long.

    A cell shows what at least half of it is; recorded footage hides what a fill brought besides.
    """
    step_s = -(-int(window.seconds) // max(width, 1)) or 1
    cells: list[Cell] = []
    at = window.start
    # Names are a second coarse, and a file of ours may stand a second beside its first picture.
    covered = merge([*footage.recorded, *footage.filled], join_s=CONTIGUOUS_S)
    while at < window.end:
        cell = Window(at, at + timedelta(seconds=step_s))
        at = cell.end
        seen = Window(cell.start, min(cell.end, window.end))
        recorded_s = total_s(clip(seen, footage.recorded))
        missing_s = total_s(subtract(seen, covered))
        if recorded_s >= seen.seconds / 2:
            cells.append(Cell.RECORDED)
        else:
            cells.append(Cell.MISSING if missing_s > seen.seconds / 2 else Cell.FILLED)
    return cells


def runs(cells: Sequence[Cell]) -> list[tuple[Cell, int]]:
    """Return the bar as runs of equal cells."""
    found: list[tuple[Cell, int]] = []
    for cell in cells:
        if found and found[-1][0] is cell:
            found[-1] = (cell, found[-1][1] + 1)
        else:
            found.append((cell, 1))
    return found
