"""Fixtures of the bad days: the counts of a test and how long it may go on."""

import os
import random
import time

import pytest

from tests.torture.tally import Rounds, Tally, write


@pytest.fixture
def tally():
    """The counts of this test; written when it ends, whatever its result."""
    counts = Tally()
    yield counts
    write(counts)
    assert not counts.lost(), f"lost: {counts.lost()}"


@pytest.fixture
def rounds():
    """Seeds to repeat a bad day with; TORTURE_SEED repeats a run that failed."""
    length = os.environ.get("TORTURE_S")
    seed = int(os.environ.get("TORTURE_SEED", "0")) or (random.randrange(1, 1 << 30) if length else 1)
    print(f"TORTURE_SEED={seed}")
    return Rounds(float(length) if length else None, seed, time.monotonic)


def pytest_collection_modifyitems(items):
    """In the long form every bad day may take as long as the whole run, and some more to end what it began."""
    length = os.environ.get("TORTURE_S")
    if length:
        for item in items:
            if "tests/torture" in item.nodeid:
                item.add_marker(pytest.mark.timeout(float(length) + 300), append=False)
