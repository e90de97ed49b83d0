"""Where time comes from; nothing else in the daemon may read a clock.

Two kinds of time leave this module and must not be mixed: aware UTC for footage (`now`) and
monotonic seconds for waiting (`monotonic`). Camera-local time exists only inside `replay/urls.py`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The three things a daemon needs of time, so that a test can replace them together."""

    def now(self) -> datetime:
        """Return the present as aware UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step, from an arbitrary origin."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait for `delay_s` monotonic seconds."""
        ...


class SystemClock:
    """The machine's own clocks.

    `monotonic` is CLOCK_BOOTTIME where the system has it, so a back-off that was due while the
    machine was suspended is due at once when it wakes.
    """

    _CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> datetime:
        """Return the present as aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since boot, suspend included."""
        return time.clock_gettime(self._CLOCK_ID)

    async def sleep(self, delay_s: float) -> None:
        """Wait for `delay_s` seconds of the event loop's time."""
        await asyncio.sleep(delay_s)
