"""What the machine's bad days share: small disks, and what has to be true when one is over."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anr_watch.instants import parse_instant
from anr_watch.model import Window, merge, subtract
from tests.torture.tally import Tally
from tests.world import Daemon, World, until

# A broker that is never there: what would go out stays in the outbox, where a test can read it.
NO_BROKER = '[mqtt]\nhost = "127.0.0.1"\nport = 9\nnode = "test"\n'
QUICK = "[fills]\nsettle_s = 0.3\nstall_timeout_s = 2.0\nconnect_timeout_s = 2.0\nregister_gaps = false\n"
LINE = re.compile(r"\d{4}-\d\d-\d\dT|anr-watch: ")


def _may_mount() -> bool:
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and tried.returncode == 0


needs_mount = pytest.mark.skipif(not _may_mount(), reason="a small disk needs the right to mount (root)")


@contextlib.contextmanager
def disk(at: Path, size: str = "64m") -> Iterator["Disk"]:
    """Mount a small file system on a folder; unmounted at the end, whatever is open there."""
    made = Disk(at, size)
    at.mkdir(parents=True, exist_ok=True)
    made.mount()
    try:
        yield made
    finally:
        made.unmount()


class Disk:
    """A tmpfs of a few megabytes; its content is gone when it is unmounted for good."""

    def __init__(self, at: Path, size: str) -> None:
        self.at, self._size = at, size
        self._kept: Path | None = None

    def mount(self) -> None:
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "anr-watch-test", self.at)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.at], capture_output=True, check=False)
        if self._kept is not None:
            subprocess.run(["umount", "-l", self._kept], capture_output=True, check=False)

    def unplug(self) -> None:
        """Take the disk away from its mount point, also from under open files; what is on it stays."""
        self._kept = self.at.with_name(self.at.name + "-unplugged")
        self._kept.mkdir(exist_ok=True)
        _run("mount", "--bind", self.at, self._kept)
        _run("umount", "-l", self.at)

    def plug(self) -> None:
        """Mount the same disk at its mount point again."""
        _run("mount", "--bind", self._kept, self.at)
        _run("umount", "-l", self._kept)
        self._kept = None

    def read_only(self) -> None:
        """Let it take nothing new from now on; files that are open for writing go on, as after an error."""
        _run("mount", "--bind", self.at, self.at)
        _run("mount", "-o", "remount,bind,ro", self.at)

    def writable(self) -> None:
        _run("umount", "-l", self.at)

    def fill(self, *, leave: int = 0) -> Path:
        """Take all room but `leave` bytes."""
        ballast = self.at / "ballast"
        room = os.statvfs(self.at)
        size = room.f_bavail * room.f_frsize - leave
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        return ballast


def _run(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)


def children(pid: int) -> set[int]:
    """Return the processes below one, as they are now."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | children(child)
    return found


def workers_of(daemon_pid: int) -> list[int]:
    """Return the replay workers, the oldest first: children of the daemon's child."""
    return sorted(worker for parent in children(daemon_pid) for worker in children(parent))


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


async def said(daemon: Daemon, text: str, *, since: int = 0, deadline_s: float = 25.0) -> None:
    """Wait for a line of the log."""
    await until(
        lambda: any(text in line for line in daemon.lines[since:]),
        lambda: f"{text!r} in:\n{daemon.log}",
        deadline_s=deadline_s,
    )


async def stopped(daemon: Daemon) -> set[int]:
    """End the daemon in order; return those of its processes that are still there."""
    family = children(daemon.process.pid)
    assert await daemon.stop() == 0, daemon.log
    with contextlib.suppress(AssertionError):
        await until(lambda: not _alive(family), "no process left", deadline_s=5)
    return _alive(family)


def _alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def held(world: World, name: str = "gate") -> str | None:
    """Return why nothing is filled, as the newest retained state in the outbox says."""
    rows = world.kernel.execute(
        "SELECT CAST(payload AS TEXT) FROM anr_outbox WHERE topic = ? ORDER BY id DESC LIMIT 1",
        [f"anr-watch/test/camera/{name}/state"],
    )
    return json.loads(rows[0][0])["held"] if rows else None


def over(
    world: World, tally: Tally, *logs: str, names: tuple[str, ...] = (), kept: tuple[float, float] = (-80, -40)
) -> None:
    """What must be true when a bad day is over; `kept` is what is decoded, in seconds after the world began."""
    for name in names or tuple(world.cameras):
        proof = world.prove(name, *kept)
        tally.frames_missing += proof.missing_frames
        tally.frames_double += proof.double
        assert proof.complete, (name, proof, *logs)
        assert proof.double == 0, (name, proof, *logs)
        _no_row_lies(world, tally, name)
    staging = world.recordings / ".anr-watch"
    assert sorted(path.name for path in staging.iterdir()) == ["lock"], list(staging.rglob("*"))
    assert world.kernel.execute("SELECT count(*) FROM anr_attempts WHERE ended_at IS NULL") == [[0]]
    for log in logs:
        plain(log)


def plain(log: str) -> None:
    """The log is lines with a time in front: a trace, or a text that breaks out of its line, is not."""
    for line in log.splitlines():
        assert LINE.match(line), f"{line!r} in:\n{log}"


def _no_row_lies(world: World, tally: Tally, name: str) -> None:
    rows = world.kernel.segments(name)
    for row in rows:
        assert Path(row["path"]).stat().st_size == row["size_bytes"] or row["size_bytes"] == 1000, row
    paths = {row["path"] for row in rows}
    assert {str(path) for path in world.files(name)} <= paths, "a file without a row"
    covered = merge([Window(parse_instant(r["start_time"]), parse_instant(r["end_time"])) for r in rows])
    for gap in world.kernel.gaps(name):
        window = Window(parse_instant(gap["gap_start"]), parse_instant(gap["gap_end"]))
        left = [piece for piece in subtract(window, covered) if piece.seconds > 1.5]
        if gap["fill_state"] == "filled":
            tally.gaps_lost += bool(left)
            assert not left, (gap, left)


def short_outage(world: World, name: str = "gate") -> str:
    """Record 10 s, lose 20, record 10; return the gap's id."""
    world.record(name, -80, -70)
    world.record(name, -50, -40)
    return world.note_hole(name)
