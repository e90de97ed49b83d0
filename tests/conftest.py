"""What every test gets: nothing it started is left behind, and the log is as it was."""

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings

from tests.torture.tally import TALLY_FILE, total

# Timing decides no test: an example that is slow on a busy machine is not wrong.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves threads or child processes running."""
    threads, children = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        new_threads = {t for t in threading.enumerate() if t not in threads and t.is_alive() and not t.daemon}
        new_children = _children() - children
        if not new_threads and not new_children:
            return
        time.sleep(0.01)
    pytest.fail(f"left behind: threads {new_threads}, children {new_children}")


@pytest.fixture(autouse=True)
def log_as_it_was():
    """Put levels and handlers back: a command that runs in this process sets the log up for itself."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in ("watchfiles", "aiosqlite", "mqtt", "asyncio")}
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def pytest_configure(config):
    """Give the bad days of all test processes one file for their counts; workers of xdist inherit its name."""
    if not hasattr(config, "workerinput"):
        handle, path = tempfile.mkstemp(prefix="anr-tally-")
        os.close(handle)
        os.environ[TALLY_FILE] = path


def pytest_terminal_summary(terminalreporter):
    """Print what the bad days came to, as one line of JSON."""
    counts = total(Path(os.environ[TALLY_FILE]))
    if any(dataclasses.astuple(counts)):
        terminalreporter.ensure_newline()
        terminalreporter.write_line(json.dumps(dataclasses.asdict(counts)))


def pytest_unconfigure(config):
    """Take the file of counts away."""
    if not hasattr(config, "workerinput"):
        Path(os.environ.pop(TALLY_FILE)).unlink(missing_ok=True)
