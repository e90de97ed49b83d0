"""A folder stays watched through everything that happens to folders."""

import asyncio
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from watching import BACKENDS, name_of, running, until

from anr_watch.clock import SystemClock
from anr_watch.sources.backend import WatchRefused, backend_named
from anr_watch.sources.watch import FolderWatch


class Heard:
    """What a folder watch said, in order."""

    def __init__(self, folder, backend, **options):
        self.said, self.paths = [], set()
        self.watch = FolderWatch(
            folder,
            clock=SystemClock(),
            changes=lambda changes: self.paths.update(path for _, path in changes),
            back=lambda: self.said.append("back"),
            lost=lambda why: self.said.append(f"lost: {why}"),
            guard_s=0.05,
            backend=backend,
            **{"recursive": True, "step_ms": 2, **options},
        )


@pytest.mark.parametrize("fate", ["removed", "renamed", "never there", "replaced at once"])
@BACKENDS
def test_a_folder_that_goes_and_comes_is_watched_again(tmp_path, backend, fate):
    root = tmp_path / "root"

    async def scenario():
        heard = Heard(root, backend)
        if fate != "never there":
            root.mkdir()
        async with running(heard.watch):
            await until(lambda: heard.said)
            if fate == "removed":
                (root / "sub").mkdir()
                shutil.rmtree(root)
                await until(lambda: heard.said[1:])
                root.mkdir()
            elif fate == "renamed":
                root.rename(tmp_path / "away")
                root.mkdir()
            elif fate == "replaced at once":
                root.rmdir()
                root.mkdir()
            else:
                root.mkdir()
            await until(lambda: heard.said[-1] == "back" and any(said.startswith("lost") for said in heard.said))
            (root / "file").touch()
            await until(lambda: str(root / "file") in heard.paths)
        assert sum(said.startswith("lost") for said in heard.said) == 1, "told once, not per retry"

    asyncio.run(scenario())


@BACKENDS
def test_a_folder_put_in_place_by_a_mount_or_rename_is_found_by_its_identity(tmp_path, backend):
    """Nothing is reported when an ancestor is exchanged: only the look at the identity can find out."""
    (tmp_path / "disk/root").mkdir(parents=True)

    async def scenario():
        heard = Heard(tmp_path / "disk/root", backend)
        async with running(heard.watch):
            await until(lambda: heard.said == ["back"])
            (tmp_path / "other/root").mkdir(parents=True)
            (tmp_path / "disk").rename(tmp_path / "old")
            (tmp_path / "other").rename(tmp_path / "disk")
            await until(lambda: len(heard.said) == 3)
            (tmp_path / "disk/root/file").touch()
            await until(lambda: heard.paths)

    asyncio.run(scenario())


@BACKENDS
def test_cancelling_is_prompt_and_leaves_no_thread(tmp_path, backend):
    async def scenario():
        heard = Heard(tmp_path, backend, step_ms=10)
        before = set(threading.enumerate())
        async with running(heard.watch) as task:
            await until(lambda: heard.said)
            began = asyncio.get_running_loop().time()
            task.cancel()
            await asyncio.wait([task])
            took_s = asyncio.get_running_loop().time() - began
        left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("watch:")]
        return took_s, left

    took_s, left = asyncio.run(scenario())
    assert left == []
    assert took_s < 2, "usually 0.01 s"


@BACKENDS
def test_cancelling_before_it_is_armed_leaves_nothing(tmp_path, backend):
    async def scenario():
        for turns in range(8):
            task = asyncio.create_task(Heard(tmp_path, backend).watch.run())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not [t for t in threading.enumerate() if t.name.startswith("watch:")]

    asyncio.run(scenario())


def test_a_refusal_is_told_in_one_line_and_tried_again(tmp_path, caplog):
    refusals = [
        WatchRefused("the system's inotify limit is used up: sysctl ..."),
        PermissionError(13, "Permission denied"),
    ]

    async def refusing(folder, **options):
        if refusals:
            raise refusals.pop(0)
        async for changes in backend_named("auto")(folder, **options):
            yield changes

    async def scenario():
        heard = Heard(tmp_path, refusing)
        async with running(heard.watch):
            await until(lambda: heard.said[-1:] == ["back"])
            assert heard.said[0].startswith("lost: the system's inotify limit")
            assert len(heard.said) == 2

    asyncio.run(scenario())
    assert caplog.text.count("limit is used up") == 1


UNPRIVILEGED = """
import asyncio, itertools, os, sys
from pathlib import Path
from anr_watch.sources.backend import backend_named
watch_folder = backend_named(sys.argv[2])
asyncio.run(asyncio.to_thread(int))  # what has to be imported is imported now
if os.getuid() == 0:  # root may read everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
root = Path(sys.argv[1])
seen = set()
async def poke():
    for turn in itertools.count():
        for name in "abz":
            (root / name / f"file_{name}_{turn}").write_bytes(b"x")
        if {"file_a", "file_b", "file_z"} <= seen:
            (root / "a" / "new").mkdir(exist_ok=True)
            (root / "a" / "new" / f"in_new_{turn}").write_bytes(b"x")
        await asyncio.sleep(0.01)
async def main():
    async with asyncio.timeout(20):
        poking = asyncio.create_task(poke())
        async for changes in watch_folder(root, recursive=True, every_write=True, step_ms=2, debounce_ms=10):
            seen.update(Path(path).name.rpartition("_")[0] for _, path in changes)
            if {"file_a", "file_b", "file_z", "in_new"} <= seen:
                print("all seen")
                poking.cancel()
                return
asyncio.run(main())
"""


@BACKENDS
def test_an_unreadable_folder_costs_no_other_folder(tmp_path, backend):
    """A `lost+found` beside the cameras: watchfiles alone would silently watch only what it lists before it."""
    root = tmp_path / "recordings"
    for name in ("a", "b", "lost+found", "z"):
        (root / name).mkdir(parents=True)
        if os.getuid() == 0 and name != "lost+found":
            os.chown(root / name, 65534, 65534)
    (root / "lost+found").chmod(0o000)
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)

    async def scenario():
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", UNPRIVILEGED, str(root), name_of(backend), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        assert (child.returncode, out) == (0, b"all seen\n")

    asyncio.run(scenario())
