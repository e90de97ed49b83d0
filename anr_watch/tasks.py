"""A TaskGroup after whose failure its task can go on. Leaf; knows asyncio and nothing of ours."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Self

# Python 3.13 keeps the count itself (gh-116720).
_COUNTS_ITSELF = sys.version_info >= (3, 13)


class BalancedGroup(asyncio.TaskGroup):
    """A TaskGroup for loops that catch its failure and go on: use it there instead of `asyncio.TaskGroup`.

    When a child fails while the group waits for its children at its end, the group cancels its own task to wake it
    and, before Python 3.13, never takes that back: `Task.cancelling()` stays above zero. Then `asyncio.timeout`
    before 3.11.3 (Debian 12 has 3.11.2) raises CancelledError where it should raise TimeoutError, and an orderly
    stop is taken for a second one. A cancel from outside that a failure has swallowed is raised at the end.
    """

    _entered_with = 0

    async def __aenter__(self) -> Self:
        """Enter, and note what was pending."""
        task = asyncio.current_task()
        self._entered_with = task.cancelling() if task is not None else 0
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the children; leave no cancel request of the group's own behind."""
        task = asyncio.current_task()
        in_body = bool(getattr(self, "_parent_cancel_requested"))  # noqa: B009 - the name must exist: fail loudly
        try:
            await super().__aexit__(kind, error, trace)
        except BaseExceptionGroup as failed:
            if task is not None and not _COUNTS_ITSELF:
                if getattr(self, "_parent_cancel_requested") and not in_body:  # noqa: B009 - same
                    task.uncancel()
                if task.cancelling() > self._entered_with:
                    raise asyncio.CancelledError from failed
            raise
