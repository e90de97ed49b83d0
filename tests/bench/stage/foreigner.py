"""Another process that writes: gap rows into the kernel's database, files into the recordings. Stamps what it does.

    python -m tests.bench.stage.foreigner DATABASE

Commands and answers are JSON lines; times are seconds of the clock that all processes here share.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import uuid

now = time.CLOCK_BOOTTIME


def seconds() -> float:
    return time.clock_gettime(now)


class Foreigner:
    def __init__(self, database: str) -> None:
        self._db = sqlite3.connect(database, isolation_level=None, timeout=15)
        self._db.execute("PRAGMA foreign_keys = on")
        self._db.execute("PRAGMA synchronous = normal")

    def gap(self, camera: str, start: str, end: str) -> dict[str, object]:
        """Insert a gap row; `at` is when its commit had returned, so others could see it."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (f"gap_{uuid.uuid4().hex}", camera, start, end, 10, end),
        )
        begun = seconds()
        self._db.execute("COMMIT")
        return {"at": seconds(), "begun": begun}

    def file(self, path: str, first: int = 0, *, source: str = "") -> dict[str, object]:
        """Create a file and put the first bytes of `source` into it, as a recorder opens one; `at` is just before."""
        with open(source, "rb") as content:  # noqa: PTH123 - nothing may stand between the stamp and open(2)
            data = content.read(first)
        at = seconds()
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(handle, data)
        os.close(handle)
        return {"at": at}

    def touch(self, path: str) -> dict[str, object]:
        """Append a byte to a file; `at` is just before."""
        handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        at = seconds()
        os.write(handle, b"x")
        os.close(handle)
        return {"at": at}


def main() -> None:
    foreigner = Foreigner(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(foreigner, command.pop("cmd"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
