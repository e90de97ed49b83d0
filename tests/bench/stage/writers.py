"""Records many cameras at once as far as the disk can tell: files that grow in steps, rows when they are closed.

    python -m tests.bench.stage.writers RECORDINGS DATABASE TEMPLATE CAMERAS STEP_BYTES

Each camera writes TEMPLATE, a minute of footage, over and over into new files, in steps spread over the minute; the
cameras' minutes begin one after the other. It writes what has passed of the first minute, says so, and goes on until
its stdin ends; then it says how many writes and files it made.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import sqlite3
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from anr_watch.instants import format_instant

MINUTE_S = 60.0


class Writer:
    """One camera's file."""

    def __init__(self, folder: Path, template: bytes, step: int, start_s: float) -> None:
        self.folder, self.template, self.step = folder, template, step
        self.every_s = MINUTE_S / -(-len(template) // step)
        self.start_s = start_s
        self.handle = -1
        self.path = folder
        self.written = 0

    def open(self) -> None:
        self.path = self.folder / f"{datetime.fromtimestamp(self.start_s, UTC):%Y%m%d_%H%M%S}.mp4"
        self.handle = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        os.write(self.handle, self.template[:28])  # as ffmpeg: a box at once, the rest when a step is full
        self.written = 28

    def due_s(self) -> float:
        """Return when the next step is full."""
        return self.start_s + self.every_s * (self.written // self.step + 1)

    def write(self) -> bool:
        """Write one step; say whether the file is complete."""
        end = min(len(self.template), (self.written // self.step + 1) * self.step)
        os.write(self.handle, self.template[self.written : end])
        self.written = end
        return end == len(self.template)


def main() -> None:
    recordings, database, template = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
    count, step = int(sys.argv[4]), int(sys.argv[5])
    db = sqlite3.connect(database, isolation_level=None, timeout=15)
    db.execute("PRAGMA synchronous = normal")
    now_s = int(time.time())
    writes = files = 0
    due: list[tuple[float, int]] = []
    writers = []
    for number in range(count):
        folder = recordings / f"cam{number}"
        folder.mkdir(parents=True, exist_ok=True)
        writer = Writer(folder, template, step, now_s - 1 - number * 58 // count)
        writer.open()
        while writer.due_s() <= time.time() and writer.written + step < len(template):
            writer.write()
        writers.append(writer)
        heapq.heappush(due, (writer.due_s(), number))
    say({"recording": count})
    while True:
        at_s, number = due[0]
        if select.select([sys.stdin], [], [], max(0.0, at_s - time.time()))[0]:
            break
        writer = writers[number]
        done = writer.write()
        writes += 1
        if done:
            close(db, f"cam{number}", writer)
            writer.start_s += MINUTE_S
            writer.open()
            files += 1
        heapq.heapreplace(due, (writer.due_s(), number))
    say({"writes": writes, "files": files})


def close(db: sqlite3.Connection, camera: str, writer: Writer) -> None:
    """Close a file, give it its row as the kernel's indexer does."""
    os.close(writer.handle)
    start = datetime.fromtimestamp(writer.start_s, UTC)
    end = datetime.fromtimestamp(writer.start_s + MINUTE_S, UTC)
    text = format_instant(end)
    db.execute("BEGIN IMMEDIATE")
    db.execute(
        "INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height, size_bytes,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, 'h264', 1920, 1080, ?, ?)",
        (
            f"seg_{uuid.uuid4().hex}",
            camera,
            str(writer.path),
            format_instant(start),
            text,
            MINUTE_S,
            writer.written,
            text,
        ),
    )
    db.execute(
        "UPDATE camera_status SET last_segment_at = ?, segments_written = segments_written + 1, updated_at = ?"
        " WHERE camera_id = ?",
        (text, text, camera),
    )
    db.execute("COMMIT")


def say(line: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
