"""`run` as a person meets it first: what is wrong is one line and a status; and it looks well on a terminal."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands_world import PASSWORD, World, ago, camera

PROGRAM = Path(sys.executable).with_name("anr-watch")


@pytest.fixture
def world(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ANR_WATCH_", "HELDAR_")):
            monkeypatch.delenv(name)
    return World(tmp_path, capsys)


def program(world, *argv, **more):
    return subprocess.run(
        [PROGRAM, "--config", world.config, *argv], capture_output=True, text=True, timeout=30, check=False, **more
    )


def test_a_second_one_on_the_same_recordings(world):
    (world.recordings / ".anr-watch").mkdir(mode=0o700)
    with (world.recordings / ".anr-watch" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()
        done = program(world, "run")
    assert done.returncode == 1
    assert done.stderr == f"anr-watch: {world.recordings} is in use by another anr-watch (pid 4711)\n"


def test_somebody_elses_database(world):
    for file in world.root.glob("heldar.db*"):
        file.unlink()
    world.database.write_text("not a database, but long enough that SQLite reads a header and finds none\n" * 9)
    done = program(world, "run")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"anr-watch: {world.database}: is not an SQLite database"
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration(world):
    world.configure("[fills]\nparallel = 0\n[wach]\nstep_ms = 3")
    done = program(world, "run")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "did you mean watch?" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_in_order(world, number):
    with world.kernel() as kernel:
        kernel.add_camera("cam")
    process = subprocess.Popen(
        [PROGRAM, "--config", world.config, "run", "--json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if json.loads(line)["event"] == "ready":
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    assert out == ""
    assert json.loads(err.splitlines()[-1])["event"] == "stopped"


def test_more_log_lines_can_be_asked_for(world):
    done = program(world, "run", "--log-level", "verbose")
    assert done.returncode == 2
    assert "invalid choice: 'verbose'" in done.stderr


def on_a_terminal(argv, environment):
    """Run a program on a terminal of 120 columns; return status and what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, os.environ | environment)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


@pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")
def test_a_terminal_gets_a_bar_and_colours(world):
    with camera() as port:
        with world.kernel() as kernel:
            kernel.add_camera("cam", rtsp_port=port, password=PASSWORD)
        (world.recordings / "cam").mkdir()
        argv = [str(PROGRAM), "--config", str(world.config)]
        width = {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": ""}
        del width["NO_COLOR"]
        status, shown = on_a_terminal([*argv, "fill", "cam", "-60s", "-40s"], width)
        assert status == 0, shown
        assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in shown
        assert "100 %" in shown
        assert "filled: 20 s recovered" in shown
        status, shown = on_a_terminal([*argv, "gaps"], width)
        assert "\x1b[32mfilled" in shown
        status, shown = on_a_terminal([*argv, "gaps"], width | {"NO_COLOR": "1"})
    assert (status, "\x1b" in shown) == (0, False)


def test_how_a_try_ended_is_listed_with_advice(world):
    with camera("--fault", "describe_status=404") as port:
        with world.kernel() as kernel:
            kernel.add_camera("cam", rtsp_port=port, password=PASSWORD)
            kernel.add_gap("cam", ago(50), ago(40))
        (world.recordings / "cam").mkdir()
        assert world.run("fill", "cam", "-60s", "-40s").status == 1
    listed = world.run("gaps").out
    assert "no_footage: " in listed
    assert listed.splitlines()[-1].startswith("no_footage: the camera has no footage of that time; check that it")
    shown = world.run("status").out
    assert "  no_footage: " in shown
    document = world.run("status", "--json").objects[0]
    assert document["cameras"][0]["last"]["reason"] == "no_footage"


def test_what_runs_is_shown_with_its_progress(world):
    with camera("--speed", "2") as port:
        with world.kernel() as kernel:
            kernel.add_camera("cam", rtsp_port=port, password=PASSWORD, segment_seconds=2)
        (world.recordings / "cam").mkdir()
        process = subprocess.Popen(
            [PROGRAM, "--config", world.config, "fill", "cam", "-120s", "-60s", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for line in process.stdout:
                if json.loads(line).get("covered_s", 0) > 0:
                    break
            shown = world.run("status")
            running = world.run("status", "--json").objects[0]["cameras"][0]["running"]
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert "fetching 1 min 01 s: " in shown.out
    assert re.search(r"fetching 1 min 01 s: \d+%, [\d.]+ [kM]?B, [\d.]+ [kM]?B/s", shown.out), shown.out
    assert running["got_s"] > 0
    assert running["files"] > 0
