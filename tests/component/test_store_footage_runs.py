"""Runs of footage out of a real database mean what the rows mean, whatever their order, form and owner."""

import asyncio
import random
import sqlite3
from datetime import timedelta, timezone

import pytest

from anr_watch.config.settings import DatabaseSettings
from anr_watch.model import Segment, Window, clip, merge
from anr_watch.store import footage_runs, open_store
from tests.fixtures_database import FixedClock, Kernel, at, create_kernel_database, text

WINDOW = Window(at(0), at(3600))
JOIN_S = 1.5
HOLES_S = (-30.0, -0.001, 0.0, 0.2, 1.499, 1.5, 1.501, 2.0, 40.0)
BROKEN = ("", "yesterday", "2026-99-99T12:00:00+00:00", None)


def meaning(segments):
    """The runs that rows stand for, by the arithmetic of windows."""
    found = [
        (part, ours)
        for ours in (False, True)
        for part in clip(
            WINDOW, merge([segment.window for segment in segments if segment.ours is ours], join_s=JOIN_S)
        )
    ]
    return sorted(found)


def rows_of(rnd: random.Random, camera: str) -> list[Segment]:
    """Rows around the window, one after the other with holes and overlaps of all lengths, in no order."""
    found, start_s = [], -120.0 * rnd.randint(0, 2)
    while start_s < 3700:
        length_s = rnd.choice((0.001, 1.0, 10.033, 60.0, 60.467, 600.0))
        window = Window(at(start_s), at(round(start_s + length_s, 3)))
        path = f"./data/recordings/{camera}/{len(found)}.mp4"
        found.append(Segment(camera, path, window, ours=rnd.random() < 0.3))
        start_s = round(start_s + length_s + rnd.choice(HOLES_S), 3)
    rnd.shuffle(found)
    return found


def written(kernel: Kernel, segment: Segment, rnd: random.Random) -> None:
    """Insert a row; of ours the kernel's row is cut back, as it does, and the note holds the truth."""
    window = segment.window
    end = min(window.end, window.start + timedelta(seconds=5)) if segment.ours else window.end
    form = rnd.choice((text, lambda instant: text(instant).replace("+00:00", "Z")))
    kernel.add_segment(segment.camera_id, form(window.start), form(end), path=segment.path)


def test_runs_mean_what_the_rows_mean(tmp_path):
    rnd = random.Random(6)
    database = create_kernel_database(tmp_path / "kernel.db")
    segments = {f"cam{number}": rows_of(rnd, f"cam{number}") for number in range(40)}

    async def main():
        settings = DatabaseSettings(path=database)
        async with open_store(settings, FixedClock()) as store:
            with Kernel(database) as kernel:
                kernel.execute("BEGIN")
                for camera in [*segments, "empty", "other"]:
                    kernel.add_camera(camera)
                everything = [segment for of_camera in segments.values() for segment in of_camera]
                rnd.shuffle(everything)
                for segment in everything:
                    written(kernel, segment, rnd)
                for number, broken in enumerate(BROKEN[:3]):
                    kernel.add_segment("other", broken, text(at(10)), path=f"a{number}")
                    kernel.add_segment("other", text(at(10)), broken, path=f"b{number}")
                kernel.add_segment("other", text(at(20)), text(at(10)), path="backwards")
                kernel.execute("COMMIT")
            for segment in everything:
                if segment.ours:
                    assert not await store.add_segments([segment]), "it has its row; the note is new"
            found = await store.footage_runs(WINDOW, join_s=JOIN_S)
            assert set(found) == set(segments)
            for camera, of_camera in segments.items():
                assert found[camera] == meaning(of_camera), camera
                alone = await store.footage_runs(WINDOW, join_s=JOIN_S, camera_id=camera)
                assert alone == {camera: found[camera]}
            assert await store.footage_runs(WINDOW, join_s=JOIN_S, camera_id="empty") == {}

    asyncio.run(main())


@pytest.mark.parametrize("prepared", [True, False])
def test_one_pass_reads_the_table_by_the_index_on_the_end(tmp_path, prepared):
    """By a camera's index, each page of the table would be fetched for each camera."""
    database = create_kernel_database(tmp_path / "kernel.db")
    plans = []

    class Session:
        def each(self, sql, parameters):
            with sqlite3.connect(database) as db:
                db.execute("CREATE TEMP TABLE anr_segments (path PRIMARY KEY, start_time, end_time) WITHOUT ROWID")
                plans.extend(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return iter(())

    asyncio.run(footage_runs.read(Session(), WINDOW, join_s=JOIN_S, prepared=prepared))
    assert any("idx_segments_end" in plan for plan in plans), plans
    assert not any(plan.startswith("SCAN s") for plan in plans), plans


def test_a_zone_of_its_own_is_read_as_an_instant(tmp_path):
    database = create_kernel_database(tmp_path / "kernel.db")
    with Kernel(database) as kernel:
        kernel.add_camera("gate")
        east = [at(seconds).astimezone(timezone(timedelta(hours=1))).isoformat() for seconds in (60, 120)]
        kernel.add_segment("gate", *east, path="east")

    async def main():
        async with open_store(DatabaseSettings(path=database), FixedClock()) as store:
            found = await store.footage_runs(Window(at(0), at(7200)), join_s=JOIN_S)
            assert found == {"gate": [(Window(at(60), at(120)), False)]}

    asyncio.run(main())
