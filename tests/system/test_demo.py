"""The demo as people run it: the real program closes a real gap, and nothing of it stays behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from anr_watch.demo.stage import CLOCKS_OFF_S, find_broker


@contextmanager
def demo(*arguments, tmp_path):
    """Run `anr-watch demo --json` with a temporary folder of its own."""
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "NO_COLOR": "1"}
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "anr_watch", "demo", "--json", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def processes_of(folder):
    """Return the command lines of all processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def until(condition, timeout_s=10):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def lines_until(process, event):
    """Read JSON lines up to an event."""
    lines = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if lines[-1].get("event") == event:
            return lines
    raise AssertionError(f"no {event!r}: {lines}, {process.stderr.read()}")


@pytest.mark.timeout(120)
def test_an_outage_closes_and_every_frame_is_there(tmp_path):
    with demo("--outage", "6", "--keep", str(tmp_path / "kept"), tmp_path=tmp_path) as process:
        out, complaints = process.communicate(timeout=110)
    lines = [json.loads(text) for text in out.splitlines()]
    last = lines[-1]
    assert process.returncode == 0, (last, complaints)
    assert last["ok"]
    assert last["frames_missing"] == 0
    assert last["frames_expected"] > 2 * 15 * 15
    assert last["frames_double"] == 0
    assert last["joins"] == ["exact"]
    for camera, off_s in zip(last["cameras"], CLOCKS_OFF_S, strict=False):
        assert camera["offset_ms"] == pytest.approx(off_s * 1000, abs=3500)  # the recorder names files up to 3 s late
    assert last["recovered_s"] > 10  # two cameras, 6 s each, less what one of them may lose to rounding
    assert 6 <= last["outage_s"] < 8
    kinds = {line["event"] for line in lines[:-1]}
    assert {"cut", "return", "row"} <= kinds
    if find_broker() is not None:
        assert last["events"] >= 4
        assert last["online_to_connect_ms"] is not None
        assert {"fill.started", "fill.completed"} <= kinds
    # The passwords of the cameras are in files only their owner reads, and nowhere else.
    kept = tmp_path / "kept"
    password = (kept / "camera-password").read_text().strip()
    private = {path for path in kept.rglob("*") if path.is_file() and path.stat().st_mode & 0o077 == 0}
    assert {kept / "camera-password", kept / "cameras.json"} <= private
    assert password not in out + complaints
    for log in (kept / "logs").iterdir():
        assert password not in log.read_text(errors="replace"), log.name
    assert (kept / "config.toml").exists()
    assert not processes_of(kept)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_takes_everything_with_it(tmp_path, number, status):
    with demo(tmp_path=tmp_path) as process:
        lines_until(process, "recorder")
        assert processes_of(tmp_path / "tmp")
        process.send_signal(number)
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in complaints
    assert not processes_of(tmp_path / "tmp")
    assert not list((tmp_path / "tmp").iterdir())


def test_the_processes_of_a_killed_demo_end_by_themselves(tmp_path):
    with demo("--keep", str(tmp_path / "kept"), tmp_path=tmp_path) as process:
        lines_until(process, "recorder")
        assert len(processes_of(tmp_path / "kept")) >= 4
        process.kill()
        process.wait()
        until(lambda: not processes_of(tmp_path / "kept"))


@pytest.mark.parametrize(
    "arguments",
    [("--cameras", "0"), ("--cameras", "9"), ("--outage", "nan"), ("--outage", "2"), ("--keep", "/proc/x/y")],
)
def test_options_that_make_no_sense_are_one_line(tmp_path, arguments):
    with demo(*arguments, tmp_path=tmp_path) as process:
        out, complaints = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert complaints.startswith(f"anr-watch: {arguments[0]} ")
    assert complaints.count("\n") == 1


def test_a_folder_in_use_is_not_touched(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").write_text("x")
    with demo("--keep", str(kept), tmp_path=tmp_path) as process:
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "empty" in complaints
    assert [path.name for path in kept.iterdir()] == ["mine"]
