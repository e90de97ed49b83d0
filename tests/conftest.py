"""What every test gets: a check that it leaves no thread, task or child behind."""

import contextlib
import threading
import time
from pathlib import Path

import pytest


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
