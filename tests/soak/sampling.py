"""What the processes of a daemon use, read from /proc: memory, descriptors, threads, wake-ups. It changes nothing."""

from pathlib import Path

from tests.torture import family


def sample(mark: Path, daemon: int, database: Path) -> dict[str, float]:
    """Return the figures of one moment; sizes in 1 000 000 bytes."""
    members = family.members(mark)
    found: dict[str, float] = {
        "processes": len(members),
        "together_pss_mb": 0.0,
        "together_dirty_mb": 0.0,
        "workers": len(family.workers(mark)),
    }
    parents = set(family.forking_parents(mark))
    for member in members:
        try:
            rss, pss, dirty = _memory(member.pid)
            if member.pid == daemon or member.pid in parents:
                name = "daemon" if member.pid == daemon else "parent"
                found |= {f"{name}_rss_mb": rss, f"{name}_pss_mb": pss, f"{name}_dirty_mb": dirty}
                found[f"{name}_fds"] = len(list(Path(f"/proc/{member.pid}/fd").iterdir()))
                found[f"{name}_threads"] = len(list(Path(f"/proc/{member.pid}/task").iterdir()))
            found["together_pss_mb"] += pss
            found["together_dirty_mb"] += dirty
        except OSError:  # it ended meanwhile
            continue
    found["database_mb"] = database.stat().st_size / 1e6
    wal = Path(f"{database}-wal")
    found["wal_mb"] = wal.stat().st_size / 1e6 if wal.exists() else 0.0
    return found


def switches(mark: Path) -> dict[int, int]:
    """Return how often each process went to sleep by itself so far: each is a wake-up."""
    found = {}
    for member in family.members(mark):
        total = 0
        try:
            for task in Path(f"/proc/{member.pid}/task").iterdir():
                for line in (task / "status").read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches:"):
                        total += int(line.split()[1])
        except OSError:
            continue
        found[member.pid] = total
    return found


def _memory(pid: int) -> tuple[float, float, float]:
    """Return what is resident, our share of it, and what no other process can have: pages it wrote itself."""
    figures = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        figures[name] = int(value.split()[0]) * 1024 / 1e6
    return figures["Rss"], figures["Pss"], figures["Private_Dirty"]
