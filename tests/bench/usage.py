"""What processes use, as /proc tells it: CPU seconds, memory, wake-ups. Linux only, like the program's watches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """One process at one moment; memory in bytes. `wakeups` counts voluntary switches of all its threads."""

    cpu_s: float
    children_cpu_s: float  # of children that have ended and were waited for
    rss: int
    peak_rss: int
    pss: int
    wakeups: int


def usage(pid: int) -> Usage:
    """Return what a process uses now.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    folder = Path(f"/proc/{pid}")
    stat = folder.joinpath("stat").read_text().rpartition(")")[2].split()
    status = _fields(folder / "status")
    rollup = _fields(folder / "smaps_rollup")
    wakeups = 0
    for task in folder.joinpath("task").iterdir():
        wakeups += _fields(task / "status").get("voluntary_ctxt_switches", 0)
    return Usage(
        cpu_s=(int(stat[11]) + int(stat[12])) / TICKS,
        children_cpu_s=(int(stat[13]) + int(stat[14])) / TICKS,
        rss=status.get("VmRSS", 0) * 1024,
        peak_rss=status.get("VmHWM", 0) * 1024,
        pss=rollup.get("Pss", 0) * 1024,
        wakeups=wakeups,
    )


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its threads to the nanosecond, without those of its children."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _fields(path: Path) -> dict[str, int]:
    """Return the lines `Name: number ...` of a file of /proc."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found
