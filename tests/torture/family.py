"""The processes of one world's daemons, found by a mark in their environment, whoever their parent is now."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """One process: `parent` is who has to reap it, `is_ours_to_fork` a forking parent or one of its workers."""

    pid: int
    parent: int
    command: bytes

    @property
    def forks(self) -> bool:
        """Whether it is a forking parent or, with the same command line, a worker."""
        return b"anr_watch.replay.forkserver" in self.command


def marked(mark: Path) -> dict[str, str]:
    """Return an environment that marks a daemon and its children; PATH is what workers inherit."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{mark}"}


def members(mark: Path) -> list[Member]:
    """Return the processes that carry the mark, without those that are dead and only wait to be reaped."""
    found = []
    sought = os.fsencode(mark)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if sought not in (entry / "environ").read_bytes():
                continue
            command = (entry / "cmdline").read_bytes()
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it is gone
            continue
        if state != "Z":
            found.append(Member(int(entry.name), int(parent), command))
    return found


def workers(mark: Path) -> list[int]:
    """Return the workers: children of a forking parent that are like it."""
    family = [member for member in members(mark) if member.forks]
    parents = {member.pid for member in family}
    return [member.pid for member in family if member.parent in parents]


def forking_parents(mark: Path) -> list[int]:
    """Return the forking parents."""
    lead = set(workers(mark))
    return [member.pid for member in members(mark) if member.forks and member.pid not in lead]
