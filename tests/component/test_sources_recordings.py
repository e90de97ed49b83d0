"""Every new footage file is told, or a look at everything is asked for, on real folders."""

import asyncio
import random
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from watching import BACKENDS, running, until

from anr_watch.clock import SystemClock
from anr_watch.footage.names import NamePattern
from anr_watch.sources.recordings import RecordingsWatch

T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)
FLAT = NamePattern("%Y%m%d_%H%M%S")


class Seen:
    def __init__(self, root, backend, pattern=FLAT):
        self.files, self.again, self.closed = [], [], []
        self.watch = RecordingsWatch(
            root,
            pattern,
            segment_seen=lambda camera_id, start, path: self.files.append((camera_id, start, path)),
            segment_closed=lambda camera_id, start: self.closed.append((camera_id, start)),
            look_again=self.again.append,
            clock=SystemClock(),
            step_ms=2,
            debounce_ms=20,
            guard_s=0.05,
            backend=backend,
        )

    def told(self):
        return {(camera_id, start) for camera_id, start, _ in self.files}


def at(seconds):
    return T0 + timedelta(seconds=seconds)


PATTERNS = ["%Y%m%d_%H%M%S", "%Y-%m-%d/%H/%M-%S", "%Y%m%d/%H%M%S"]


@pytest.mark.parametrize("pattern", PATTERNS)
@BACKENDS
def test_new_files_are_told_with_camera_and_start(tmp_path, backend, pattern):
    names = NamePattern(pattern)
    path = tmp_path / "cam 1" / names.format(at(0))
    path.parent.mkdir(parents=True)

    async def scenario():
        seen = Seen(tmp_path, backend, names)
        async with running(seen.watch):
            await until(lambda: seen.again)
            path.write_bytes(b"x")
            await until(lambda: seen.files)
        assert seen.files[0] == ("cam 1", at(0), path)

    asyncio.run(scenario())


@BACKENDS
def test_junk_staging_and_growth_are_not_told(tmp_path, backend):
    (tmp_path / ".anr-watch/gap_1").mkdir(parents=True)
    (tmp_path / "cam").mkdir()

    async def scenario():
        seen = Seen(tmp_path, backend)
        async with running(seen.watch):
            await until(lambda: seen.again)
            name = FLAT.format(at(0))
            with (tmp_path / "cam" / name).open("wb", buffering=0) as growing:
                for _ in range(20):
                    growing.write(b"x")
                    await asyncio.sleep(0.005)
            for junk in (f".anr-watch/gap_1/{name}", f"cam/{name}.part", "cam/notes.mp4", f"cam/sub/{name}", name):
                (tmp_path / junk).parent.mkdir(exist_ok=True)
                (tmp_path / junk).write_bytes(b"x")
            (tmp_path / "cam" / FLAT.format(at(60))).touch()
            await until(lambda: ("cam", at(60)) in seen.told())
        assert [start for _, start, _ in seen.files] == [at(0), at(60)]

    asyncio.run(scenario())


@BACKENDS
def test_a_file_whose_beginning_was_missed_is_told_when_it_grows(tmp_path, backend):
    (tmp_path / "cam").mkdir()
    path = tmp_path / "cam" / FLAT.format(at(0))
    path.touch()

    async def scenario():
        seen = Seen(tmp_path, backend)
        async with running(seen.watch):
            await until(lambda: seen.again)
            with path.open("ab", buffering=0) as growing:
                growing.write(b"x")
                await until(lambda: seen.files)
                growing.write(b"x")
        assert seen.told() == {("cam", at(0))}

    asyncio.run(scenario())


@pytest.mark.parametrize("pattern", PATTERNS)
@BACKENDS
def test_a_folder_created_and_filled_at_once_is_told_whole(tmp_path, backend, pattern):
    """189 of 300 first files were missed by the watch alone."""
    names = NamePattern(pattern)

    async def scenario():
        seen = Seen(tmp_path, backend, names)
        async with running(seen.watch):
            await until(lambda: seen.again)
            expected = set()
            for camera in range(100):
                for second in (0, 60, 120):
                    path = tmp_path / f"cam_{camera}" / names.format(at(second))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
                    expected.add((f"cam_{camera}", at(second)))
            await until(lambda: seen.told() >= expected)
            assert seen.told() == expected

    asyncio.run(scenario())


@BACKENDS
def test_a_folder_moved_in_is_told_and_then_watched(tmp_path, backend):
    root = tmp_path / "root"
    root.mkdir()
    ready = tmp_path / "cam"
    ready.mkdir()
    (ready / FLAT.format(at(0))).touch()

    async def scenario():
        seen = Seen(root, backend)
        async with running(seen.watch):
            await until(lambda: seen.again)
            ready.rename(root / "cam")
            await until(lambda: ("cam", at(0)) in seen.told())
            (root / "cam" / FLAT.format(at(60))).touch()
            await until(lambda: ("cam", at(60)) in seen.told())

    asyncio.run(scenario())


@BACKENDS
def test_two_thousand_files_at_once_are_all_told(tmp_path, backend):
    folders = [tmp_path / f"cam_{n}" for n in range(20)]
    for folder in folders:
        folder.mkdir()

    async def scenario():
        seen = Seen(tmp_path, backend)
        async with running(seen.watch):
            await until(lambda: seen.again)

            def drop():
                for second in range(100):
                    for folder in folders:
                        (folder / FLAT.format(at(second))).write_bytes(b"x")

            await asyncio.to_thread(drop)
            await until(lambda: len(seen.told()) == 2000)

    asyncio.run(scenario())


@BACKENDS
def test_a_flood_asks_for_a_look_at_everything(tmp_path, backend):
    """The system's queue is bounded and loses the rest without a word."""
    (tmp_path / "cam").mkdir()
    seen = Seen(tmp_path, backend)
    seen.watch._take({(1, str(tmp_path / "cam" / FLAT.format(at(n)))) for n in range(5000)})
    assert any("at once" in why for why in seen.again)
    assert len(seen.told()) == 5000


@BACKENDS
def test_a_root_removed_and_made_again_is_looked_at_and_watched(tmp_path, backend):
    root = tmp_path / "root"

    async def scenario():
        seen = Seen(root, backend)
        async with running(seen.watch):
            await until(lambda: any("not watched" in why for why in seen.again))
            for turn in range(3):
                (root / "cam").mkdir(parents=True)
                await until(lambda turn=turn: seen.again.count("recordings watched") == turn + 1)
                (root / "cam" / FLAT.format(at(turn))).touch()
                await until(lambda turn=turn: ("cam", at(turn)) in seen.told())
                shutil.rmtree(root)
                await until(lambda: "not watched" in seen.again[-1])

    asyncio.run(scenario())


@BACKENDS
def test_every_start_in_any_order_is_told(tmp_path, backend):
    """Fills add files in the past between those of the recorder."""
    (tmp_path / "cam").mkdir()
    seconds = random.Random(3).sample(range(1000), 50)

    async def scenario():
        seen = Seen(tmp_path, backend)
        async with running(seen.watch):
            await until(lambda: seen.again)
            for second in seconds:
                (tmp_path / "cam" / FLAT.format(at(second))).write_bytes(b"x")
                await asyncio.sleep(0.001)
            await until(lambda: seen.told() == {("cam", at(second)) for second in seconds})

    asyncio.run(scenario())
