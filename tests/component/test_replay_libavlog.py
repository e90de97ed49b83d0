"""The reading thread never returns to a libav that is about to follow a camera to another machine."""

import logging
import threading
import time

import pytest

from anr_watch.replay.libavlog import LibavLog


def say(log, text, level=logging.INFO):
    log.handle(logging.LogRecord("libav", level, "", 0, text, (), None))


def connected(scheme="http", host="localhost", address="127.0.0.1"):
    log = LibavLog(scheme, host)
    say(log, f"Starting connection attempt to {address} port 80")
    say(log, f"Successfully connected to {address} port 80")
    return log


@pytest.mark.parametrize(
    "text",
    [
        "Starting connection attempt to 127.0.0.2 port 80",
        "Starting connection attempt to 169.254.169.254 port 80",
        "Starting connection attempt to fe80::1 port 80",
        "Status 302: Redirecting to rtsp://127.0.0.1/x",
        "Status 302: Redirecting to ",
    ],
)
def test_the_thread_is_held_before_it_connects_elsewhere(text):
    log = connected()
    thread = threading.Thread(target=say, args=(log, text), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not log.strayed and time.monotonic() < deadline:
        time.sleep(0.001)
    assert log.strayed
    thread.join(0.05)
    assert thread.is_alive()
    say(log, "others are not held", logging.WARNING)
    assert log.lines[-1] == "others are not held"


@pytest.mark.parametrize(
    "text",
    [
        "Starting connection attempt to 127.0.0.1 port 8080",
        "Starting connection attempt to ::ffff:127.0.0.1 port 80",
        "Status 301: Redirecting to http://localhost/other",
        "method DESCRIBE failed: 404",
    ],
)
def test_the_camera_itself_may_be_asked_again(text):
    log = connected()
    say(log, text)
    assert log.connected
    assert not log.strayed


def test_a_name_with_several_addresses_is_one_machine(monkeypatch):
    found = [(0, 0, 0, "", ("192.0.2.7", 0)), (0, 0, 0, "", ("2001:db8::7%eth0", 0, 0, 0))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    log = connected("rtsp", "cam.lan", "2001:db8:0::7")
    say(log, "Starting connection attempt to 192.0.2.7 port 554")
    assert not log.strayed
