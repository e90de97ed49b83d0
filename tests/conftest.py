"""What every test gets: a check that it leaves no thread, task or child behind."""

import os
import threading
import time

import pytest


def _children() -> set[int]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                found |= {int(pid) for pid in file.read().split()}
        except FileNotFoundError:
            continue
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
