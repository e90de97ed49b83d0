"""A look into the shared database from outside, as any other reader would; it writes nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class GapRow:
    """One row of `recording_gaps`, texts as they stand there."""

    id: str
    camera: str
    start: str
    end: str
    state: str
    attempts: int


class Rows:
    """One read-only connection for the whole demo: opening one per look would wake every watcher of the folder."""

    def __init__(self, database: Path) -> None:
        """Open the database.

        Raises:
            sqlite3.Error: it is not there.
        """
        # The demo looks from outside, so it does not borrow the program's own store.
        self._db = sqlite3.connect(  # noqa: TID251 - see above
            f"file:{quote(str(database.absolute()))}?mode=ro", uri=True, timeout=5.0, isolation_level=None
        )

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def gaps(self) -> dict[str, GapRow]:
        """Return all gap rows by id."""
        rows = self._db.execute(
            "SELECT id, camera_id, gap_start, gap_end, fill_state, fill_attempts FROM recording_gaps"
            " ORDER BY gap_start"
        )
        return {row[0]: GapRow(*row) for row in rows}

    def joins(self) -> dict[str, tuple[tuple[str, ...], float | None]]:
        """Return, by camera, how its fills were joined on both sides, and its clock's last measured offset in ms."""
        found: dict[str, tuple[tuple[str, ...], float | None]] = {}
        rows = self._db.execute(
            "SELECT camera_id, join_head, join_tail, offset_ms FROM anr_attempts WHERE files > 0 ORDER BY started_at"
        )
        for camera, head, tail, offset_ms in rows:
            joins, before_ms = found.get(camera, ((), None))
            known = tuple(join for join in (head, tail) if join is not None)
            found[camera] = joins + known, before_ms if offset_ms is None else offset_ms
        return found
