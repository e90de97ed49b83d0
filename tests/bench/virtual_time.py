"""An event loop whose time jumps to the next timer: hours of a fleet in seconds, in the same order every time."""

import asyncio
import selectors
from datetime import datetime, timedelta


class _Jumping(selectors.SelectSelector):
    """Never waits: what would have been waited is added to the loop's time."""

    passed_s = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("nothing is due any more and nothing can happen: the simulation stands still")
        self.passed_s += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for coroutines that wait only for each other and for timers."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._jumping.passed_s


class VirtualClock:
    """The daemon's `Clock` on that loop; the wall clock begins at `start`."""

    def __init__(self, loop: VirtualLoop, start: datetime) -> None:
        self._loop, self._start = loop, start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
