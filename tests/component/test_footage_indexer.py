"""Files become rows and holes become gaps, on a real folder and a real database of our own."""

import asyncio
import os
import resource
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from footage_media import footage

from anr_watch.config.settings import CameraSettings, DatabaseSettings, FillSettings
from anr_watch.errors import StoreUnavailable
from anr_watch.footage.folder import Recordings
from anr_watch.footage.indexer import Indexer
from anr_watch.footage.names import NamePattern
from anr_watch.instants import format_instant
from anr_watch.model import Camera, Segment, Window
from anr_watch.store import Mode, Origin, open_store

T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)
CAMERA = Camera(id="cam", name="Cam", segment_s=4)


class SetClock:
    """A clock that is set by hand."""

    def __init__(self):
        self.at, self.mono_s = T0, None

    def now(self):
        return self.at

    def monotonic(self):
        return time.monotonic() if self.mono_s is None else self.mono_s

    async def sleep(self, delay_s):
        await asyncio.sleep(0)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


class World:
    def __init__(self, store, recordings, clock, **fills):
        self.store, self.recordings, self.clock = store, recordings, clock
        self.fills = FillSettings(**fills)
        self.indexer = self.new_indexer()

    def new_indexer(self, store=None):
        return Indexer(store or self.store, self.recordings, self.fills, self.clock, origin=Origin.INDEXER)

    def put(self, start, seconds=4.0, *, written=None, data=None):
        """Put a file in place as if its last write had been at `written` (its end by default)."""
        path = self.recordings.root / "cam" / self.recordings.pattern.format(at(start))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(footage(float(seconds)) if data is None else data)
        moment = at(start + seconds if written is None else written).timestamp()
        os.utime(path, (moment, moment))
        return path

    async def index(self, now, camera=CAMERA, indexer=None):
        """Run until nothing more is to be done at `now`; return rows added, gaps written, and when it is due."""
        self.clock.at = at(now)
        added = gaps = 0
        for _ in range(10_000):
            result = await (indexer or self.indexer).index_camera(camera, at(now))
            added, gaps = added + result.added, gaps + result.gaps
            if result.next_due_s is None or result.next_due_s > 0.5:
                return added, gaps, result.next_due_s
        pytest.fail("never done")

    async def rows(self):
        return [
            ((row.window.start - T0).total_seconds(), (row.window.end - T0).total_seconds())
            for row in await self.store.segments("cam", Window(at(-4e6), at(4e6)))
        ]

    async def gaps(self):
        rows = await self.store.gaps_in("cam", Window(at(-90_000), at(90_000)))
        return [((gap.window.start - T0).total_seconds(), (gap.window.end - T0).total_seconds()) for gap in rows]


@asynccontextmanager
async def world(tmp_path, pattern="%Y%m%d_%H%M%S", **fills):
    clock = SetClock()
    root = tmp_path / "recordings"
    root.mkdir(exist_ok=True)
    settings = DatabaseSettings(path=tmp_path / "data" / "anr.db", mode="standalone")
    camera = CameraSettings(id="cam", name="Cam", address="127.0.0.1", segment_s=4)
    async with open_store(settings, clock, cameras=(camera,)) as store:
        assert store.mode is Mode.STANDALONE
        yield World(store, Recordings(root, NamePattern(pattern), clock), clock, **fills)


@pytest.fixture(autouse=True)
def no_change_time(monkeypatch):
    """A file's ctime cannot be set, and it is now: let the tests' files be as old as their mtime says."""
    original = Recordings._file

    def as_old_as_written(self, path, start, *, smallest=1):
        file = original(self, path, start, smallest=smallest)
        return file and type(file)(file.path, file.start, file.size_bytes, file.mtime_s)

    monkeypatch.setattr(Recordings, "_file", as_old_as_written)


def test_an_empty_folder_and_a_missing_one_are_nothing_to_do(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            assert await w.index(0) == (0, 0, None)
            (w.recordings.root / "cam").mkdir()
            assert await w.index(1) == (0, 0, None)

    asyncio.run(scenario())


@pytest.mark.parametrize("pattern", ["%Y%m%d_%H%M%S", "%Y-%m-%d/%H/%M-%S"])
def test_closed_files_get_rows_and_the_growing_one_waits_for_silence(tmp_path, pattern):
    async def scenario():
        async with world(tmp_path, pattern) as w:
            for start in (0, 4, 8):
                w.put(start)
            path = w.put(12, 2)
            assert await w.index(14) == (2, 0, pytest.approx(3.0)), "8 was written 2 s ago; 12 is the newest"
            assert await w.index(17) == (1, 0, pytest.approx(16.0))
            assert await w.rows() == [(0, 4), (4, 8), (8, 12)]
            assert await w.index(33) == (1, 0, None)
            assert await w.rows() == [(0, 4), (4, 8), (8, 12), (12, 14)]
            newest = await w.store.newest_segment("cam")
            assert newest.path.endswith(f"recordings/cam/{path.relative_to(w.recordings.root / 'cam')}")
            assert (newest.codec, newest.width, newest.height) == ("h264", 128, 96)
            assert newest.size_bytes == path.stat().st_size

    asyncio.run(scenario())


def test_a_file_that_was_heard_being_closed_gets_its_row_at_once(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(4, 2)
            await w.index(6)
            w.clock.at = at(6)
            heard = {"cam": {at(4)}, "nobody": {at(4)}}
            await w.indexer.run_once({"cam": CAMERA}, set(), everything=False, now=at(6), closed=heard)
            assert (4, 6) in await w.rows()

    asyncio.run(scenario())


def test_a_hole_becomes_a_gap_that_begins_where_the_row_ends(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(6)  # 2 s are no gap
            w.put(20)
            w.put(24)
            assert await w.index(100) == (4, 1, None)
            assert await w.gaps() == [(10, 20)]
            [gap] = await w.store.gaps_in("cam", Window(at(0), at(100)))
            assert gap.start_text == format_instant(at(10))
            assert await w.index(101) == (0, 0, None)
            again = w.new_indexer()
            assert await w.index(102, indexer=again) == (0, 0, None), "a restart finds everything known"

    asyncio.run(scenario())


def test_no_gap_is_seen_in_front_of_a_file_that_was_not_read_yet(tmp_path):
    """A file in the middle was written to a moment ago: what it covers is not missing."""

    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(4, written=99)
            w.put(8)
            assert await w.index(100) == (2, 0, pytest.approx(4.0))
            assert await w.index(104) == (1, 0, None)
            assert await w.gaps() == []

    asyncio.run(scenario())


def test_what_is_known_of_a_hole_is_not_registered_again_but_made_longer(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            await w.index(50)
            await w.store.register_gap("cam", Window(at(4), at(60)))  # by an online edge
            w.put(80)
            assert await w.index(150) == (1, 1, None)
            assert await w.gaps() == [(4, 80)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("camera", "fills"),
    [
        (Camera(id="cam", name="Cam", record_mode="event"), {}),
        (Camera(id="cam", name="Cam", record_enabled=False), {}),
        (CAMERA, {"register_gaps": False}),
    ],
)
def test_holes_on_purpose_are_no_gaps(tmp_path, camera, fills):
    async def scenario():
        async with world(tmp_path, **fills) as w:
            w.put(0)
            w.put(60)
            assert await w.index(1000, camera) == (2, 0, None)

    asyncio.run(scenario())


def test_broken_files_are_told_once_and_looked_at_again_when_they_change(tmp_path, caplog):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(4, data=b"")
            broken = w.put(8, data=footage(4.0)[:300])
            (broken.parent / w.recordings.pattern.format(at(10))).mkdir()
            w.put(12)
            for now in (60, 61, 62):
                await w.index(now)
            assert await w.rows() == [(0, 4), (12, 16)]
            assert await w.gaps() == [(4, 12)]
            assert caplog.text.count("holds no footage") == 2
            w.put(8, written=70)
            assert (await w.index(80))[0] == 1
            assert await w.rows() == [(0, 4), (8, 12), (12, 16)]

    asyncio.run(scenario())


def test_late_files_and_files_that_have_rows_fit_in(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(40)
            await w.index(100)
            filled = w.put(4)
            text = await w.store.segment_path_text("cam", filled, w.recordings.root)
            await w.store.add_segments([Segment("cam", text, Window(at(4.25), at(8.25)), ours=True)])
            w.put(8)
            assert await w.index(101) == (1, 0, None)
            assert (4.25, 8.25) in await w.rows(), "the exact row of a fill is left alone"
            assert await w.gaps() == [(4, 40)]

    asyncio.run(scenario())


def test_a_database_that_is_away_loses_nothing(tmp_path):
    class Flaky:
        def __init__(self, store):
            self.store, self.fails = (
                store,
                ["segments", "segment_paths", "add_segments", "register_hole", "segment_path_text"],
            )

        def __getattr__(self, name):
            async def call(*args, **kwargs):
                if name in self.fails:
                    self.fails.remove(name)
                    raise StoreUnavailable("locked")
                return await getattr(self.store, name)(*args, **kwargs)

            return call

    async def scenario():
        async with world(tmp_path) as w:
            for start in (-100_000, 0, 20):
                w.put(start)
            indexer = w.new_indexer(Flaky(w.store))
            failures = 0
            for _ in range(50):
                try:
                    await w.index(100, indexer=indexer)
                    break
                except StoreUnavailable:
                    failures += 1
            assert failures == 5
            assert await w.rows() == [(-100_000, -99_996), (0, 4), (20, 24)]
            assert await w.gaps() == [(4, 20)]

    asyncio.run(scenario())


def test_old_files_follow_in_the_background_and_make_no_gaps(tmp_path):
    async def scenario():
        async with world(tmp_path, max_gap_hours=1.0) as w:
            old = [-3600 * hours for hours in range(2, 300)]
            for start in old:
                w.put(start)
            w.put(0)
            first = await w.indexer.index_camera(CAMERA, at(100))
            assert first.added <= 101, "the newest at once, then a batch"
            added, gaps, due_s = await w.index(100)
            assert first.added + added == len(old) + 1
            assert (gaps, due_s) == (0, None)
            again = w.new_indexer()
            assert await w.index(101, indexer=again) == (0, 0, None)

    asyncio.run(scenario())


def test_one_pass_serves_all_cameras_and_says_when_to_come_again(tmp_path):
    async def scenario():
        async with world(tmp_path) as w:
            w.put(0)
            w.put(4, 2)
            cameras = {
                "cam": CAMERA,
                "../etc": Camera(id="../etc", name="Evil"),
                "none": Camera(id="none", name="None"),
            }
            w.clock.at, w.clock.mono_s = at(20), 500.0
            due_s = await w.indexer.run_once(cameras, set(), everything=True, now=at(20))
            assert due_s == pytest.approx(500 + (6 + 19 - 20))
            w.clock.mono_s = 506.0
            assert await w.indexer.run_once(cameras, set(), everything=False, now=at(26)) is None
            assert await w.rows() == [(0, 4), (4, 6)]
            assert await w.indexer.run_once({}, {"cam"}, everything=True, now=at(27)) is None

    asyncio.run(scenario())


def test_thousands_of_files_with_rows_are_compared_without_opening_them(tmp_path, monkeypatch):
    """A flat folder of some days; a year (500 000) is the same, 160 times."""

    async def scenario():
        async with world(tmp_path) as w:
            folder = w.recordings.root / "cam"
            folder.mkdir()
            batch = []
            for minute in range(3_000):
                name = w.recordings.pattern.format(at(-60 * minute))
                (folder / name).touch()
                window = Window(at(-60 * minute), at(-60 * minute + 60))
                batch.append(Segment("cam", f"{w.recordings.root}/cam/{name}", window))
            await w.store.add_segments(batch)
            opened = []
            monkeypatch.setattr(w.recordings, "segment_of", lambda *args: opened.append(args))
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert await w.index(100) == (0, 0, None)
            assert opened == []
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 30_000

    asyncio.run(scenario())
