"""What only the kernel's own queue can tell or do: closed files, overflow, the limit of watches, moved and linked trees."""

import asyncio
import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from watching import running, until

from anr_watch.clock import SystemClock
from anr_watch.footage.names import NamePattern
from anr_watch.sources import by_inotify
from anr_watch.sources.backend import Kind, WatchRefused
from anr_watch.sources.inotify import Inotify
from anr_watch.sources.recordings import RecordingsWatch

T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)
FLAT = NamePattern("%Y%m%d_%H%M%S")


class Told:
    """A watch by inotify and everything it told, in order."""

    def __init__(self, folder, *, recursive=True, every_write=False):
        self.folder, self.sets, self.armed = folder, [], 0
        self._options = {"recursive": recursive, "every_write": every_write, "step_ms": 1, "debounce_ms": 1}

    async def run(self):
        async for changes in by_inotify.watch_folder(self.folder, **self._options):
            self.armed += not changes
            self.sets.append(changes)

    def has(self, kind, path):
        return any((kind, str(path)) in changes for changes in self.sets)

    def count(self, kind, path):
        return sum((kind, str(path)) in changes for changes in self.sets)


@pytest.fixture
def quick_poll(monkeypatch):
    monkeypatch.setattr(by_inotify, "POLL_S", 0.02)


def test_a_file_is_told_when_it_comes_and_when_it_is_closed_but_not_while_it_grows(tmp_path):
    (tmp_path / "cam").mkdir()
    one, two = tmp_path / "cam/one", tmp_path / "cam/two"

    async def scenario():
        told = Told(tmp_path)
        async with running(told):
            await until(lambda: told.armed)
            with one.open("wb", buffering=0) as growing:
                await until(lambda: told.has(Kind.ADDED, one))
                for _ in range(50):
                    growing.write(b"x")
                    await asyncio.sleep(0)
                assert not told.has(Kind.CLOSED, one)
            await until(lambda: told.has(Kind.CLOSED, one))
            with one.open("ab", buffering=0) as growing:
                growing.write(b"x")
                two.touch()
                await until(lambda: told.has(Kind.ADDED, two))
            (tmp_path / "elsewhere").write_bytes(b"x")
            (tmp_path / "elsewhere").rename(tmp_path / "cam/three")
            await until(lambda: told.has(Kind.CLOSED, tmp_path / "cam/three"))
        assert told.count(Kind.MODIFIED, one) == 0, "the first event of the folder was that it came"

    asyncio.run(scenario())


def test_every_write_is_told_where_that_is_asked_for(tmp_path):
    log = tmp_path / "heldar.db-wal"
    log.touch()

    async def scenario():
        told = Told(tmp_path, recursive=False, every_write=True)
        async with running(told):
            await until(lambda: told.armed)
            with log.open("ab", buffering=0) as growing:
                for turn in range(5):
                    growing.write(b"x")
                    await until(lambda turn=turn: told.count(Kind.MODIFIED, log) > turn)

    asyncio.run(scenario())


def test_the_first_event_of_a_burst_is_told_at_once_and_the_rest_together(tmp_path):
    """One wake-up per step, whatever happens: 1 000 commits a second cost as much as 100."""

    async def scenario():
        told = Told(tmp_path)
        told._options["step_ms"] = 200
        async with running(told):
            await until(lambda: told.armed)
            (tmp_path / "first").mkdir()
            await until(lambda: told.sets[-1] == {(Kind.ADDED, str(tmp_path / "first"))})
            began_s = asyncio.get_running_loop().time()
            for n in range(500):
                (tmp_path / str(n)).touch()
                await asyncio.sleep(0)
            await until(lambda: told.has(Kind.ADDED, tmp_path / "499"))
            took_s = asyncio.get_running_loop().time() - began_s
        assert len(told.sets) <= 2 + took_s / 0.2 + 1

    asyncio.run(scenario())


def test_an_overflow_means_that_everything_is_looked_at_again(tmp_path, caplog):
    """The kernel keeps 16 384 events (max_queued_events) and then says that it lost some."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "cam").mkdir()

    async def scenario():
        told = Told(tmp_path)
        async with running(told):
            await until(lambda: told.armed)
            for n in range(limit // 2 + 100):  # created, closed: while the loop does not come to read
                (tmp_path / "cam" / str(n % 2)).open("wb").close()
            (tmp_path / "late").mkdir()
            await until(lambda: told.armed == 2)
            (tmp_path / "late/file").touch()
            await until(lambda: told.has(Kind.ADDED, tmp_path / "late/file"))

    with caplog.at_level("INFO", logger="anr_watch.sources"):
        asyncio.run(scenario())
    assert "everything is looked at again" in caplog.text


@pytest.fixture
def few_watches(monkeypatch):
    """At most so many watches, as fs.inotify.max_user_watches would have it."""
    room = {"left": 2}
    add = Inotify.add

    def limited(self, path, mask):
        known = limited.known.setdefault(id(self), set())
        if path not in known and len(known) >= room["left"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        known.add(path)
        return add(self, path, mask)

    limited.known = {}
    monkeypatch.setattr(Inotify, "add", limited)
    return room


def test_at_the_limit_of_watches_the_rest_is_looked_at_now_and_then_until_there_is_room(
    tmp_path, few_watches, quick_poll, caplog
):
    for name in "abc":
        (tmp_path / name).mkdir()

    async def scenario():
        told = Told(tmp_path)
        async with running(told):
            await until(lambda: told.armed)
            for turn in range(2):
                for name in "abc":
                    (tmp_path / name / f"{turn}").touch()
                await until(
                    lambda turn=turn: (
                        sum(
                            told.has(Kind.ADDED, tmp_path / name / f"{turn}")
                            or told.count(Kind.ADDED, tmp_path / name) > turn
                            for name in "abc"
                        )
                        == 3
                    )
                )
            few_watches["left"] = 10
            await until(lambda: sum(told.has(Kind.ADDED, tmp_path / n) for n in "abc") >= 2)
            for turn in range(2, 500):
                for name in "abc":
                    (tmp_path / name / f"{turn}").touch()
                await asyncio.sleep(0.01)
                if all(any(told.has(Kind.ADDED, tmp_path / n / f"{t}") for t in range(2, 500)) for n in "abc"):
                    return
            raise AssertionError("not watched though there is room")

    asyncio.run(scenario())
    lines = [record.getMessage() for record in caplog.records if "max_user_watches" in record.getMessage()]
    assert len(lines) == 1, "said once, not per folder or look"
    assert "sysctl fs.inotify.max_user_watches=" in lines[0]


def test_a_root_that_gets_no_watch_or_no_queue_is_refused_with_what_helps(tmp_path, few_watches, monkeypatch):
    async def scenario():
        told = Told(tmp_path)
        few_watches["left"] = 0
        with pytest.raises(WatchRefused, match="max_user_watches="):
            await told.run()

        def none_left(self):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(Inotify, "__init__", none_left)
        with pytest.raises(WatchRefused, match="max_user_instances="):
            await told.run()
        monkeypatch.undo()
        with pytest.raises(WatchRefused, match="No such file"):
            await Told(tmp_path / "none").run()

    asyncio.run(scenario())


def test_folders_made_one_in_the_other_are_watched_down_to_the_last(tmp_path):
    """Made with mkdir -p, and a file at once, deeper than the first watch can tell of."""

    async def scenario():
        told = Told(tmp_path)
        async with running(told):
            await until(lambda: told.armed)
            for n in range(100):
                (tmp_path / f"cam_{n}/2026-06-13/12").mkdir(parents=True)
            await until(lambda: all(told.has(Kind.ADDED, tmp_path / f"cam_{n}/2026-06-13/12") for n in range(100)))
            for n in range(100):
                (tmp_path / f"cam_{n}/2026-06-13/12/file").touch()
            await until(
                lambda: all(told.has(Kind.ADDED, tmp_path / f"cam_{n}/2026-06-13/12/file") for n in range(100))
            )

    asyncio.run(scenario())


def test_a_moved_tree_is_told_under_its_new_name_only(tmp_path):
    root, away = tmp_path / "root", tmp_path / "away"
    (root / "a/day").mkdir(parents=True)

    async def scenario():
        told = Told(root)
        async with running(told):
            await until(lambda: told.armed)
            (root / "a").rename(root / "b")
            await until(lambda: told.has(Kind.ADDED, root / "b/day"))
            assert told.has(Kind.DELETED, root / "a")
            (root / "b/day/file").touch()
            await until(lambda: told.has(Kind.ADDED, root / "b/day/file"))
            (root / "b").rename(away)
            await until(lambda: told.has(Kind.DELETED, root / "b"))
            (away / "day/outside").touch()
            (root / "c").mkdir()
            await until(lambda: told.has(Kind.ADDED, root / "c"))
            shutil.rmtree(root / "c")
            await until(lambda: told.has(Kind.DELETED, root / "c"))
        paths = {path for changes in told.sets for _, path in changes}
        assert not any("outside" in path or path.startswith(str(root / "a/day")) for path in paths)

    asyncio.run(scenario())


def test_links_inside_are_followed_and_those_that_leave_or_loop_are_not(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real/day").mkdir(parents=True)
    outside.mkdir()
    (root / "loop").symlink_to(root)
    (root / "real/up").symlink_to("..")
    (root / "out").symlink_to(outside)
    (root / "alias").symlink_to("real")

    async def scenario():
        told = Told(root)
        async with running(told):
            await until(lambda: told.armed)
            (root / "later").symlink_to("real/day")
            await until(lambda: told.has(Kind.ADDED, root / "later"))
            (outside / "file").touch()
            (root / "real/day/file").touch()
            names = ("real/day", "alias/day", "later")
            await until(lambda: all(told.has(Kind.ADDED, root / name / "file") for name in names))
        paths = {path for changes in told.sets for _, path in changes}
        assert not any("loop/" in path or "up/" in path or "out/" in path for path in paths)

    asyncio.run(scenario())


def test_the_end_of_the_root_is_told_last(tmp_path):
    root = tmp_path / "root"
    root.mkdir()

    async def scenario():
        told = Told(root)
        async with asyncio.timeout(5):
            task = asyncio.create_task(told.run())
            await until(lambda: told.armed)
            shutil.rmtree(root)
            await task
        assert (Kind.DELETED, str(root)) in told.sets[-1]

    asyncio.run(scenario())


def test_staging_is_not_watched(tmp_path):
    """A fill writes there all the time; nobody wants to hear of it."""
    (tmp_path / ".anr-watch/gap").mkdir(parents=True)

    async def scenario():
        told = Told(tmp_path)
        async with running(told):
            await until(lambda: told.armed)
            (tmp_path / ".anr-watch/gap/1.part").touch()
            (tmp_path / ".anr-watch/other").mkdir()
            (tmp_path / "cam").mkdir()
            await until(lambda: told.has(Kind.ADDED, tmp_path / "cam"))
        assert not any(".anr-watch/" in path for changes in told.sets for _, path in changes)

    asyncio.run(scenario())


def test_cancelling_while_it_is_armed_leaves_no_descriptor(tmp_path):
    for n in range(50):
        (tmp_path / str(n)).mkdir()

    def descriptors():
        return sum(
            link.is_symlink() and "inotify" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir()
        )

    async def scenario():
        for turns in range(12):
            task = asyncio.create_task(Told(tmp_path).run())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    before = descriptors()
    asyncio.run(scenario())
    assert descriptors() == before


@pytest.mark.parametrize("keeps_open", [True, False], ids=["ffmpeg", "appends"])
def test_a_finished_file_is_told_of_recorders_that_close_each_file_once(tmp_path, keeps_open):
    """One that opens its file anew for each burst would have its files taken as finished when they are not."""
    (tmp_path / "cam").mkdir()
    closed, seen = [], set()

    def saw(camera_id, start, path):
        seen.add(start)

    watch = RecordingsWatch(
        tmp_path,
        FLAT,
        segment_seen=saw,
        segment_closed=lambda camera_id, start: closed.append((camera_id, start)),
        look_again=seen.add,
        clock=SystemClock(),
        step_ms=1,
        backend=by_inotify.watch_folder,
    )

    async def scenario():
        async with running(watch):
            await until(lambda: "recordings watched" in seen)
            for n in range(4):
                start = T0 + timedelta(seconds=10 * n)
                path = tmp_path / "cam" / FLAT.format(start)
                with path.open("wb", buffering=0) as growing:
                    growing.write(b"x")
                    await until(lambda start=start: start in seen)
                if not keeps_open:
                    for _ in range(2):
                        with path.open("ab", buffering=0) as growing:
                            growing.write(b"x")
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.01)
            (tmp_path / "other").mkdir()
            path.with_name(FLAT.format(T0 + timedelta(seconds=90))).touch()
            await until(lambda: T0 + timedelta(seconds=90) in seen)
        told = {start for _, start in closed}
        assert told >= ({T0 + timedelta(seconds=10 * n) for n in (1, 2, 3)} if keeps_open else set())
        if not keeps_open:
            assert not told & {T0 + timedelta(seconds=10 * n) for n in range(4)}

    asyncio.run(scenario())
