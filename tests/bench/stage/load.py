"""A process that commits unrelated rows at a steady rate, as a busy kernel does; tells how many it managed.

    python -m tests.bench.stage.load DATABASE RATE full|normal

Ends when stdin ends, with one line: commits and seconds. It rests at least as long as each commit took: where the disk
cannot keep up the lock would never be free, and SQLite's waiting is not fair. What it managed is part of the result.
"""

from __future__ import annotations

import json
import select
import sqlite3
import sys
import time


def main() -> None:
    database, rate, synchronous = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    db = sqlite3.connect(database, isolation_level=None, timeout=15)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    start = due = time.monotonic()
    commits = 0
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        begun = time.monotonic()
        db.execute(
            "INSERT INTO events (id, event_type, timestamp, payload, created_at) VALUES ('unrelated', 'note', '', ?, '')"
            " ON CONFLICT (id) DO UPDATE SET payload = excluded.payload",
            (json.dumps({"number": commits}),),
        )
        commits += 1
        ended = time.monotonic()
        due = max(due + 1 / rate, ended + (ended - begun))
    sys.stdout.write(json.dumps({"commits": commits, "seconds": time.monotonic() - start}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
