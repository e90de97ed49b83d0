"""The simulated camera as a process: what it prints, obeys and refuses."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from camera_client import play

from anr_watch.camera.control import Control
from anr_watch.camera.device import SimulatedCamera

PASSWORD = "s3cret pass/word"


@contextmanager
def process(*arguments, environment=None):
    command = [sys.executable, "-m", "anr_watch.camera", *arguments]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CAMERA_PASSWORD": PASSWORD, **(environment or {})},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


def command(child, **values):
    child.stdin.write(json.dumps(values) + "\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline())


def test_a_process_obeys_and_ends_with_its_stdin():
    with process("--json", "--control", "--verbose", "--camera-number", "3") as child:
        facts = json.loads(child.stdout.readline())
        assert set(facts) == {"rtsp_port", "http_port", "live", "replay", "http_replay"}
        assert facts["live"] == f"rtsp://***@127.0.0.1:{facts['rtsp_port']}/Streaming/Channels/101"
        url = f"rtsp://admin:s3cret%20pass%2Fword@127.0.0.1:{facts['rtsp_port']}"
        replay = url + "/Streaming/tracks/101?starttime=20200101T000000Z&endtime=20200101T000002Z"
        first = play(replay)
        assert [mark.camera_number for mark in first.marks] == [3] * 30
        assert command(child, cmd="offline") == {"ok": True}
        assert play(replay).error is not None
        assert command(child, cmd="online") == {"ok": True}
        assert command(child, cmd="faults", short_window_s=1)["faults"] == {"short_window_s": 1.0}
        assert play(replay).numbers == first.numbers[:15]
        assert command(child, cmd="faults", clear=True)["faults"] == {}
        journal = command(child, cmd="journal")
        assert journal["next"] == len(journal["journal"])
        assert [entry["kind"] for entry in journal["journal"]].count("first_byte") == 2
        assert command(child, cmd="wait", kind="online")["entry"]["kind"] == "online"
        out, err = child.communicate(timeout=10)  # closes its stdin
        assert child.returncode == 0
    assert out == ""
    assert "first_byte" in err
    assert "s3cret" not in err + json.dumps(journal)


def test_a_killed_camera_comes_back_with_the_same_film():
    def once():
        with process("--json") as child:
            port = json.loads(child.stdout.readline())["rtsp_port"]
            url = f"rtsp://admin:s3cret%20pass%2Fword@127.0.0.1:{port}/Streaming/tracks/101"
            got = play(url + "?starttime=20200101T000000Z&endtime=20200101T000001Z")
            child.kill()
            return got.numbers, got.video_bytes

    assert once() == once()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(number, tmp_path):
    file = tmp_path / "password"
    file.write_text("another\n")
    with process("--password-file", str(file)) as child:
        assert child.stdout.readline().startswith("rtsp_port ")
        child.send_signal(number)
        _, err = child.communicate(timeout=10)
        assert child.returncode == 0
        assert err == ""


def test_without_control_the_end_of_stdin_is_no_reason_to_go():
    with process("--json", "--offline") as child:
        json.loads(child.stdout.readline())
        status = command(child, cmd="status")
        assert status["active_replays"] == 0
        child.stdin.close()
        child.stdin = None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0


def test_stdin_may_be_a_file_or_nothing(tmp_path):
    script = tmp_path / "commands"
    script.write_text('{"cmd": "status"}\n\n{"cmd": "dance"}\n')
    command = [sys.executable, "-m", "anr_watch.camera", "--json", "--control"]
    with script.open() as file:
        run = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=20, check=True)
    assert [json.loads(line).get("ok") for line in run.stdout.splitlines()] == [None, True, False]
    nothing = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=True
    )
    assert run.stderr + nothing.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "stal=1"], "no fault 'stal'"),
        (["--size", "big"], "not a size"),
        (["--fps", "0"], "fps 0"),
        (["--zone", "Mars/Olympus"], "not a time zone"),
        (["--hole", "yesterday"], "not a time"),
        (["--password-file", "/nowhere/at/all"], "--password-file"),
        (["--codec", "vp9"], "--codec"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, words):
    with process(*arguments) as child:
        out, err = child.communicate(timeout=10)
        assert (child.returncode, out) == (2, "")
        assert words in err
        assert "Traceback" not in err


def test_a_taken_port_is_status_1():
    with process("--json") as one:
        port = json.loads(one.stdout.readline())["rtsp_port"]
        with process("--rtsp-port", str(port)) as two:
            _, err = two.communicate(timeout=10)
            assert two.returncode == 1
            assert "cannot listen" in err


def test_naming_the_arguments_loads_no_codec():
    code = (
        "import argparse, sys; from anr_watch.camera.cli import add_arguments\n"
        "add_arguments(argparse.ArgumentParser()); print('av' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout == "False\n"


def test_commands_that_are_refused_change_nothing():
    async def main():
        async with SimulatedCamera() as camera:
            control = Control(camera)
            lines = [
                "not json",
                "[]",
                '{"cmd": "dance"}',
                '{"cmd": "faults", "stal": 1}',
                '{"cmd": "faults", "clear": true, "stal": 1}',
                '{"cmd": "offline", "drop": "gently"}',
                '{"cmd": "storage", "holes": [["noon", "one"]]}',
                '{"cmd": "storage", "size": 3}',
                '{"cmd": "wait", "kind": "play", "timeout_s": 0.01}',
            ]
            camera.faults.update({"refuse": True})
            answers = [await control.execute(line) for line in lines]
            assert camera.faults.refuse
            assert camera.storage.holes == []
            return answers

    answers = asyncio.run(main())
    assert all(answer["ok"] is False and answer["error"] for answer in answers)


def test_the_storage_can_be_changed():
    async def main():
        async with SimulatedCamera() as camera:
            control = Control(camera)
            hole = ["2026-06-13T12:00:00Z", "2026-06-13T12:01:00Z"]
            line = {"cmd": "storage", "holes": [hole], "recorded": [hole], "retention_s": 60, "clock_offset_s": 1.5}
            assert await control.execute(json.dumps(line)) == {"ok": True}
            storage = camera.storage
            assert (len(storage.holes), len(storage.recorded), storage.retention_s) == (1, 1, 60.0)
            assert storage.clock_offset_us == 1_500_000
            line = {"cmd": "storage", "holes": [], "recorded": None, "retention_s": None}
            assert await control.execute(json.dumps(line)) == {"ok": True}
            assert (storage.holes, storage.recorded, storage.retention_s) == ([], None, None)
            assert (await control.execute('{"cmd": "stop"}'))["ok"]
            assert control.stopped.is_set()

    asyncio.run(main())
