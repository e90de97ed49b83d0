"""`fill`: alone, beside a running daemon, ended by a signal; and windows that make no sense."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from commands_world import PASSWORD, World, ago, camera

from anr_watch.commands.running import daemon_on

PROGRAM = Path(sys.executable).with_name("anr-watch")


@pytest.fixture
def world(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ANR_WATCH_", "HELDAR_")):
            monkeypatch.delenv(name)
    return World(tmp_path, capsys)


def add(world, port, **columns):
    with world.kernel() as kernel:
        kernel.add_camera("cam", rtsp_port=port, password=PASSWORD, segment_seconds=10, **columns)
    (world.recordings / "cam").mkdir()


def stamp(at):
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def span(start_s, length_s):
    """Return FROM and TO of a window that began `start_s` ago."""
    start = ago(start_s)
    return stamp(start), stamp(start + timedelta(seconds=length_s))


def wait_for(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def program(world, *argv):
    """Run the installed program beside the test; it is ended at the latest when the block is left."""
    process = subprocess.Popen(
        [PROGRAM, "--config", world.config, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_window_is_filled_without_a_daemon(world):
    with camera() as port:
        add(world, port)
        said = world.run("fill", "cam", *span(120, 25))
    assert said.status == 0, said.out + said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("cam: 25 s missing between")
    assert lines[0].endswith("no anr-watch is running: this process fetches it")
    assert lines[-1] == "filled: 25 s recovered"
    with world.kernel() as kernel:
        assert [row["fill_state"] for row in kernel.gaps("cam")] == ["filled"]
        assert len(kernel.segments("cam")) >= 2
    assert daemon_on(world.recordings).running is False


def test_a_window_is_filled_without_heldar(world):
    with camera() as port:
        world.standalone(port)
        said = world.run("fill", "cam", *span(120, 25))
        assert said.status == 0, said.out + said.err
        assert len(list((world.recordings / "cam").glob("*.mp4"))) >= 2
        assert world.run("status", "--json").objects[0]["database"]["mode"] == "standalone"
        assert world.run("gaps", "--json").objects[0]["state"] == "filled"


def test_what_is_recorded_already_is_not_fetched_again(world):
    recorded = ago(110)
    window = stamp(recorded - timedelta(seconds=40)), stamp(recorded + timedelta(seconds=20))
    with camera() as port:
        add(world, port)
        with world.kernel() as kernel:
            kernel.add_segment("cam", recorded - timedelta(seconds=60), recorded)
        said = world.run("fill", "cam", *window, "--json")
        assert said.objects[0]["missing_s"] == 20
        assert said.objects[-1]["ok"] is True
        again = world.run("fill", "cam", *window)
    assert again.status == 0
    assert again.out == "all of it is recorded already; nothing was fetched\n"


def test_json_tells_each_step(world):
    with camera() as port:
        add(world, port)
        said = world.run("--json", "fill", "cam", "-60s", "-40s")
    assert said.status == 0
    kinds = [entry["event"] for entry in said.objects]
    assert kinds[0] == "registered"
    assert kinds[-1] == "ended"
    assert set(kinds[1:-1]) == {"progress"}
    assert said.objects[-1]["reason"] == "filled"
    assert said.objects[-1]["missing_s"] == 0


def test_a_gap_older_than_any_limit_of_a_camera_with_fills_off(world):
    with camera() as port:
        add(world, port, anr_enabled=0)
        said = world.run("fill", "cam", *span(3 * 86400, 15))
    assert said.status == 0, said.out + said.err


def test_other_gaps_are_left_to_the_daemon(world):
    with camera() as port:
        add(world, port)
        with world.kernel() as kernel:
            kernel.add_gap("cam", ago(900), ago(600), id="gap_of_somebody_else")
        assert world.run("fill", "cam", "-60s", "-40s").status == 0
    with world.kernel() as kernel:
        other = next(row for row in kernel.gaps("cam") if row["id"] == "gap_of_somebody_else")
    assert (other["fill_state"], other["fill_attempts"], other["last_attempt_at"]) == ("pending", 0, None)


def test_an_earlier_failure_and_a_parked_camera_do_not_matter(world):
    start, end = ago(60), ago(45)
    with camera() as port:
        add(world, port, address=None)
        said = world.run("fill", "cam", stamp(start), stamp(end))
        assert said.status == 1
        assert "there is nothing to ask the camera with" in said.out
        assert "parked: no_replay_url" in world.run("status").out
        with world.kernel() as kernel:
            kernel.execute("UPDATE cameras SET address = '127.0.0.1'")
            kernel.execute("UPDATE recording_gaps SET fill_state = 'failed', fill_attempts = 3")
        said = world.run("fill", "cam", stamp(start), stamp(end))
    assert said.status == 0, said.out + said.err
    assert "parked" not in world.run("status").out


@pytest.mark.parametrize(
    ("options", "words", "advice"),
    [
        (("--fault", "unauthorized=1"), "the camera refuses user name or password", "lock out after a few"),
        (("--offline",), "the camera cannot be reached", "check power, network and firewall"),
        (("--fault", "describe_status=404"), "the camera has no footage of that time", "records to its card"),
    ],
)
def test_a_failure_is_told_in_words_with_advice(world, options, words, advice):
    world.configure("[fills]\nconnect_timeout_s = 1.0")
    with camera(*options) as port:
        add(world, port)
        said = world.run("fill", "cam", "-60s", "-40s")
        assert said.status == 1
        assert f"not filled: {words}" in said.out
        assert advice in said.out
        listed = world.run("gaps", "--json").objects[0]
    assert listed["state"] == "pending"
    assert listed["origin"] == "command"
    assert listed["last"]["number"] == 1, "a person asks once; a camera locks out after a few wrong passwords"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("cma", "-60s", "now"), "no camera 'cma': did you mean cam?"),
        (("cam", "now", "-60s"), "before it starts"),
        (("cam", "2099-01-01T00:00:00Z", "2099-01-01T00:01:00Z"), "in the future"),
        (("cam", "yesterday", "now"), "not a time: 'yesterday'"),
        (("cam", "-60s"), "the following arguments are required: TO"),
        (("cam", "-60x", "now"), "not a time: '-60x'"),
    ],
)
def test_what_makes_no_sense_is_one_line(world, argv, said):
    add(world, 554)
    answer = world.run("fill", *argv)
    assert answer.status == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def test_a_recordings_folder_that_is_not_there(world):
    with world.kernel() as kernel:
        kernel.add_camera("cam")
    world.recordings.rmdir()
    answer = world.run("fill", "cam", "-60s", "now")
    assert answer.status == 1
    assert (
        answer.err
        == f"anr-watch: the recordings folder {world.recordings} is missing (a disk that is not mounted?)\n"
    )


def test_a_running_daemon_does_it_and_the_command_looks_on(world):
    with camera() as port:
        add(world, port)
        with program(world, "run") as daemon:
            wait_for(lambda: daemon_on(world.recordings).running, "the daemon's lock")
            said = world.run("fill", "cam", *span(120, 20))
            assert said.status == 0, said.out + said.err
            assert f"anr-watch (running (process {daemon.pid})) fetches it" in said.out.splitlines()[0]
            assert f"daemon      running (process {daemon.pid})" in world.run("status").out
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(15) == 0


def test_a_signal_ends_it_in_order(world):
    """A minute at real time takes a minute: the signal comes in the middle."""
    with camera("--speed", "1") as port:
        add(world, port)
        with program(world, "fill", "cam", "-300s", "-240s") as process:

            def running():
                with world.kernel() as kernel:
                    tables = kernel.execute("SELECT 1 FROM sqlite_master WHERE name = 'anr_attempts'")
                    return tables and kernel.execute("SELECT 1 FROM anr_attempts")

            wait_for(running, "the attempt")
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 143
            _, err = process.communicate()
    assert err == ""
    listed = world.run("gaps", "--json").objects[0]
    assert listed["state"] == "pending"
    assert listed["reason"] == "interrupted"
    assert daemon_on(world.recordings).running is False
