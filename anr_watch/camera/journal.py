"""What happened at the simulated camera, in order, and a way to wait for it; it decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anr_watch.clock import Clock


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: when (monotonic seconds and UTC), what kind, and its details."""

    monotonic_s: float
    utc: datetime
    kind: str
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {"monotonic_s": self.monotonic_s, "utc": self.utc.isoformat(), "kind": self.kind, **self.detail}


class Journal:
    """Entries in order of time; grows as long as the camera lives."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self._name = name
        self._waiting: list[tuple[Callable[[Entry], bool], asyncio.Future[Entry]]] = []
        self.entries: list[Entry] = []
        self.echo: Callable[[str], None] | None = None  # told every entry as one line

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, kind: str, **detail: Any) -> None:
        """Record that something happened just now."""
        entry = Entry(self._clock.monotonic(), self._clock.now(), kind, detail)
        self.entries.append(entry)
        if self.echo is not None:
            details = " ".join(f"{name}={value}" for name, value in detail.items())
            self.echo(f"{entry.utc.isoformat(timespec='milliseconds')} {self._name} {kind} {details}")
        for predicate, future in self._waiting:
            if not future.done() and predicate(entry):
                future.set_result(entry)

    def of_kind(self, kind: str) -> list[Entry]:
        """Return the entries of one kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    async def wait_for(self, wanted: str | Callable[[Entry], bool], timeout_s: float, *, since: int = 0) -> Entry:
        """Return the first entry from index `since` on that is of a kind or fulfils a predicate.

        Raises:
            TimeoutError: nothing of that kind within `timeout_s`.
        """
        predicate = wanted if callable(wanted) else lambda entry: entry.kind == wanted
        for entry in self.entries[since:]:
            if predicate(entry):
                return entry
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        waiter = (predicate, future)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            self._waiting.remove(waiter)
