"""How the tests of the sources wait and run: on conditions with a deadline, and cancelled at the end."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from anr_watch.sources.backend import backend_named

NAMES = ("inotify", "watchfiles")
BACKENDS = pytest.mark.parametrize("backend", [backend_named(name) for name in NAMES], ids=NAMES)


def name_of(backend):
    return next(name for name in NAMES if backend_named(name) is backend)


async def until(condition, deadline_s=10.0):
    """Wait for something that others bring about."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(source):
    task = asyncio.create_task(source.run())
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
