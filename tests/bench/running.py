"""What a benchmark gets: folders, time, and what was measured before it in the same run. It knows no benchmark."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from anr_watch.clock import SystemClock
from tests.bench.figures import Figure

ROOM_BYTES = 6 << 30
CLOCK = SystemClock()  # the one that cameras and daemon read, too: the same seconds in all processes


@dataclass
class Bench:
    """One run.

    Args:
        build: folder of the results; what is kept between runs (`cache`) and what is not (`folder`) is below it.
    """

    build: Path
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """Return the folder for what takes long to make and does not change."""
        path = self.build / "bench-cache"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def folder(self, name: str, *, root: Path | None = None) -> Iterator[Path]:
        """Return a new folder that is removed in the end, unless something went wrong."""
        root = root or self.build
        root.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=root))
        try:
            yield path
        except Exception:
            self.say(f"what is left of it: {path}")
            raise
        shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def memory_folder(self, name: str) -> Iterator[Path]:
        """Return a new folder in memory where there is room, so that the disk is not what is measured."""
        shared = Path("/dev/shm")
        roomy = shared.is_dir() and shutil.disk_usage(shared).free > ROOM_BYTES
        with self.folder(name, root=shared if roomy else None) as folder:
            yield folder

    def now_s(self) -> float:
        """Return seconds of the clock that all processes here share."""
        return CLOCK.monotonic()

    def now(self) -> datetime:
        """Return the present as aware UTC."""
        return CLOCK.now()

    def median(self, name: str) -> float | None:
        """Return the median of a figure measured earlier in this run, if it was."""
        figure = self.figures.get(name)
        return figure.median if figure else None

    def say(self, text: str) -> None:
        """Tell a person what goes on."""
        sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()
