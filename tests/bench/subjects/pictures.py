"""How long the coverage of a month of 64 cameras takes to be drawn."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path

from tests.bench.figures import Figure, Spec
from tests.bench.running import Bench
from tests.fixtures_database import create_kernel_database

ORDER = 70
CAMERAS, DAYS, ROUNDS = 64, 30, 3
FIGURES = (Spec("timeline_s", "s", f"`timeline` of {CAMERAS} cameras, {DAYS} days of 60-s segments, as SVG"),)
# Minute by minute over all cameras, as a kernel writes them; a file of a thousand is missing.
ROWS = f"""
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {CAMERAS * DAYS * 1440 - 1}),
    rows AS (SELECT i, printf('cam%02d', i % {CAMERAS}) AS camera,
                    1781352000 + i / {CAMERAS} * 60 + i % {CAMERAS} % 60 AS at FROM n)
    INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, size_bytes, created_at)
    SELECT printf('seg_%032x', i), camera,
           printf('./data/recordings/%s/%s.mp4', camera, strftime('%Y%m%d_%H%M%S', at, 'unixepoch')),
           strftime('%Y-%m-%dT%H:%M:%S+00:00', at, 'unixepoch'),
           strftime('%Y-%m-%dT%H:%M:%S+00:00', at + 59 + i % 3 / 2, 'unixepoch'), 60, 15000000, ''
    FROM rows WHERE i % 1009 <> 0
"""


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Draw it as a person does, some times."""
    del wanted
    database = made(bench.cache / "month.db")
    samples = []
    with bench.folder("pictures") as folder:
        config = folder / "config.toml"
        config.write_text(f'[database]\npath = "{database}"\n[recordings]\npath = "{folder}"\n')
        for _ in range(ROUNDS):
            began = bench.now_s()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "anr_watch", "--config", str(config), "timeline",
                *("--from", "2026-06-13T12:00:00Z", "--to", "2026-07-13T12:00:00Z", "-o", str(folder / "month.svg")),
                stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert await asyncio.wait_for(process.wait(), 120) == 0
            samples.append(bench.now_s() - began)
    return [Figure(FIGURES[0], samples, note=f"{CAMERAS * DAYS * 1440:,} rows, 1.1 GB".replace(",", " "))]


def made(path: Path) -> Path:
    """Return the database; it takes 20 s to make and stays."""
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        create_kernel_database(draft)
        with contextlib.closing(sqlite3.connect(draft)) as db, db:
            db.execute("PRAGMA journal_mode = off")
            for number in range(CAMERAS):
                db.execute(
                    "INSERT INTO cameras (id, name, vendor, created_at, updated_at) VALUES (?, ?, 'generic', '', '')",
                    (f"cam{number:02}",) * 2,
                )
            db.execute(ROWS)
        with contextlib.closing(sqlite3.connect(draft)) as db:
            db.execute("PRAGMA journal_mode = wal")
        draft.replace(path)
    return path
