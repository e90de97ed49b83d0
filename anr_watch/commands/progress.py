"""Shows how far a fill is: a bar on a terminal, lines elsewhere, JSON lines for programs. It decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anr_watch.commands.following import Snapshot
from anr_watch.commands.screen import emit, length, show, size

Show = Callable[[Snapshot], None]


@contextmanager
def shown_progress(*, as_json: bool, clock_s: Callable[[], float]) -> Iterator[Show]:
    """Return what shows each snapshot.

    Args:
        as_json: one JSON object per change.
        clock_s: monotonic seconds, for the rate.
    """
    if as_json:
        yield _emit
    elif sys.stdout.isatty():
        with _bar() as bar:
            yield bar
    else:
        yield _lines(clock_s)


def _emit(snapshot: Snapshot) -> None:
    emit(
        {
            "event": "progress",
            "covered_s": round(snapshot.covered_s, 3),
            "wanted_s": round(snapshot.wanted_s, 3),
            "bytes": snapshot.bytes,
            "attempt": snapshot.running.number if snapshot.running else None,
        }
    )


def doing(snapshot: Snapshot) -> str:
    """Return what happens at the moment in words."""
    if snapshot.running is None and snapshot.wanted_s <= snapshot.covered_s:
        return "done"
    if snapshot.running is None:
        return "waiting" if snapshot.attempts == 0 else "waiting for the next try"
    return "fetching" if snapshot.running.first_byte_s is not None or snapshot.bytes else "asking the camera"


def _lines(clock_s: Callable[[], float]) -> Show:
    began_s = clock_s()
    last = ""

    def line(snapshot: Snapshot) -> None:
        nonlocal last
        text = f"{doing(snapshot)}: {length(snapshot.covered_s)} of {length(snapshot.wanted_s)}"
        if text != last:
            last = text
            show(f"{clock_s() - began_s:6.1f} s  {text}, {size(snapshot.bytes)}")

    return line


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.progress import (  # noqa: PLC0415 - 90 ms that only a terminal pays
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("waiting", total=1.0, amount="")

        def update(snapshot: Snapshot) -> None:
            progress.update(
                task,
                description=doing(snapshot),
                total=max(snapshot.wanted_s, 0.001),
                completed=snapshot.covered_s,
                amount=f"{length(snapshot.covered_s)} of {length(snapshot.wanted_s)}, {size(snapshot.bytes)}",
            )

        yield update
