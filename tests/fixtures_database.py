"""A Heldar-like database and somebody else who writes to it: a second connection here, or another process.

    create_kernel_database(path)
    with Kernel(path) as kernel: kernel.add_camera("gate"); kernel.add_gap("gate", start, end)
    with kernel_process(path) as kernel: ...   # the same methods, run in a process of its own

Times are given as aware datetimes or as the very text that is to stand in the row.
"""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

SCHEMA = Path(__file__).with_name("kernel_schema.sql")
T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the instant `seconds` after T0."""
    return T0 + timedelta(seconds=seconds)


def text(instant: datetime | str) -> str:
    """Return a time as the kernel writes it; a text stays as it is."""
    if isinstance(instant, str):
        return instant
    digits = "" if not instant.microsecond else f".{instant.microsecond:06}".removesuffix("000")
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{digits}+00:00"


class FixedClock:
    """A clock that stands where a test puts it; waiting is real."""

    def __init__(self, now: datetime = T0) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - T0).total_seconds()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def create_kernel_database(path: Path) -> Path:
    """Create the kernel's tables in a new file in WAL mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA.read_text())
    return path


class Kernel:
    """What the kernel does to its database, on a connection of its own. Every method commits at once."""

    def __init__(self, path: Path | str, busy_timeout_s: float = 15.0) -> None:
        # A test may write from inside a transaction of the store, which runs on a thread of its own.
        self._db = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False)
        self._db.execute("PRAGMA foreign_keys = on")
        self._db.execute("PRAGMA synchronous = normal")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a transaction that is open is rolled back."""
        self._db.close()

    def execute(self, sql: str, parameters: list | tuple = ()) -> list[list]:
        """Run any statement and return its rows as lists."""
        return [list(row) for row in self._db.execute(sql, parameters).fetchall()]

    def _insert(self, table: str, row: dict) -> None:
        columns = ", ".join(row)
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", list(row.values()))

    def add_camera(self, camera_id: str = "gate", **columns: object) -> str:
        """Insert a camera that wants fills, with its status row."""
        given = {
            "id": camera_id,
            "name": camera_id.title(),
            "vendor": "hikvision",
            "address": "127.0.0.1",
            "username": "admin",
            "password": "secret pass",
            "anr_enabled": 1,
            "created_at": text(T0),
            "updated_at": text(T0),
        }
        self._insert("cameras", given | columns)
        self._insert("camera_status", {"camera_id": camera_id, "state": "recording", "updated_at": text(T0)})
        return camera_id

    def set_status(self, camera_id: str, state: str) -> None:
        """Change `camera_status.state`."""
        self._db.execute("UPDATE camera_status SET state = ? WHERE camera_id = ?", (state, camera_id))

    def add_gap(self, camera_id: str, start: datetime | str, end: datetime | str, **columns: object) -> str:
        """Insert a gap row as the indexer does; conflicts are ignored. Returns the id it would have."""
        gap_id = str(columns.pop("id", f"gap_{uuid.uuid4().hex}"))
        row = {
            "id": gap_id,
            "camera_id": camera_id,
            "gap_start": text(start),
            "gap_end": text(end),
            "gap_seconds": int((end - start).total_seconds())
            if isinstance(start, datetime) and isinstance(end, datetime)
            else 0,
            "created_at": text(T0),
        } | columns
        self._db.execute(
            f"INSERT INTO recording_gaps ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
            " ON CONFLICT (camera_id, gap_start) DO NOTHING",
            list(row.values()),
        )
        return gap_id

    def add_segment(
        self, camera_id: str, start: datetime | str, end: datetime | str, path: str | None = None, **columns: object
    ) -> str:
        """Insert a segment row; the path is the kernel's default unless given."""
        if path is None:
            name = start.strftime("%Y%m%d_%H%M%S") if isinstance(start, datetime) else uuid.uuid4().hex
            path = f"./data/recordings/{camera_id}/{name}.mp4"
        row = {
            "id": f"seg_{uuid.uuid4().hex}",
            "camera_id": camera_id,
            "path": path,
            "start_time": text(start),
            "end_time": text(end),
            "duration_s": (end - start).total_seconds()
            if isinstance(start, datetime) and isinstance(end, datetime)
            else 0.0,
            "codec": "h264",
            "width": 1920,
            "height": 1080,
            "size_bytes": 1000,
            "created_at": text(T0),
        } | columns
        self._insert("segments", row)
        return path

    def gaps(self, camera_id: str | None = None) -> list[dict]:
        """Return gap rows by start, all columns."""
        cursor = self._db.execute(
            "SELECT * FROM recording_gaps WHERE ?1 IS NULL OR camera_id = ?1 ORDER BY camera_id, gap_start, id",
            (camera_id,),
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def segments(self, camera_id: str | None = None) -> list[dict]:
        """Return segment rows by start, all columns."""
        cursor = self._db.execute(
            "SELECT * FROM segments WHERE ?1 IS NULL OR camera_id = ?1 ORDER BY camera_id, start_time", (camera_id,)
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class _Foreign:
    """The methods of Kernel, called in a child over JSON lines."""

    def __init__(self, child: subprocess.Popen) -> None:
        self.pid = child.pid
        self._child = child

    def __getattr__(self, method: str):
        def call(*arguments: object, **named: object):
            plain = [text(value) if isinstance(value, datetime) else value for value in arguments]
            line = json.dumps(
                [method, plain, {k: text(v) if isinstance(v, datetime) else v for k, v in named.items()}]
            )
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
            if not answer:
                raise RuntimeError(f"the kernel's process ended with {self._child.wait(5)}")
            value, error = json.loads(answer)
            if error:
                raise sqlite3.OperationalError(error)
            return value

        return call


@contextlib.contextmanager
def kernel_process(path: Path):
    """Run a Kernel in another process; gap and segment lengths are then 0 (times travel as texts)."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield _Foreign(child)
    finally:
        child.stdin.close()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
        child.stdout.close()


def _serve(path: str) -> None:
    with Kernel(path) as kernel:
        for line in sys.stdin:
            method, arguments, named = json.loads(line)
            try:
                answer = [getattr(kernel, method)(*arguments, **named), None]
            except sqlite3.Error as error:
                answer = [None, str(error)]
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
