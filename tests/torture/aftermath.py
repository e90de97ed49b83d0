"""What must be true after a bad day: files, rows, events and processes against each other. Counts into the tally."""

import asyncio
import contextlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.footage.boxes import read_facts
from anr_watch.instants import parse_instant
from anr_watch.model import Window, merge, subtract
from tests.broker import Seen
from tests.forms import forms
from tests.torture import family
from tests.torture.tally import Tally
from tests.world import World

# A recorder's names are a second coarse, and a row of ours says to the microsecond what its file holds.
NAME_S = 1.05


@dataclass
class History:
    """What the cameras of a world went through: per camera the recorded span and the holes, in seconds of the world."""

    span_s: tuple[float, float]
    holes: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=lambda: defaultdict(list))


def outages(
    world: World, name: str, *, holes: list[tuple[float, float]], span_s: tuple[float, float], segment_s: int
) -> None:
    """Record a camera over a span but for some holes, and note those as the kernel does."""
    at = span_s[0]
    ended: str | None = None
    for start, end in [*holes, (span_s[1], span_s[1])]:
        paths = world.record(name, at, start, segment_s=segment_s)
        if world.kernel is not None:
            rows = {Path(row["path"]).name: row for row in world.kernel.segments(name)}
            if ended is not None:
                world.kernel.add_gap(name, ended, rows[paths[0].name]["start_time"])
            ended = rows[paths[-1].name]["end_time"]
        at = end


def count_frames_of(world: World, tally: Tally, *, doubles: bool = True) -> list[str]:
    """Decode everything and count what is missing and what is double; return what is wrong in words."""
    faults = []
    for name in world.cameras:
        proof = world.prove(name)
        tally.frames_missing += proof.missing_frames
        tally.frames_double += proof.double if doubles else 0
        if not proof.complete or (doubles and (proof.double or proof.out_of_order)):
            faults.append(f"{name}: {proof}")
    return faults


def rows_against_files(world: World) -> list[str]:
    """Return where rows of `segments` and files disagree; every file has one row, every row its file."""
    faults = []
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        rows = database.execute("SELECT camera_id, path, start_time, end_time, size_bytes FROM segments").fetchall()
    known = set()
    for camera_id, path_text, start, end, size in rows:
        path = Path(path_text)
        known.add(path.resolve())
        if not path.is_file():
            faults.append(f"row without a file: {path}")
            continue
        facts = read_facts(path)
        length_s = (parse_instant(end) - parse_instant(start)).total_seconds()
        if size not in (path.stat().st_size, 0, 1000):  # the stand-in kernel writes 1000
            faults.append(f"{path}: {path.stat().st_size} bytes, the row says {size}")
        if abs(facts.duration_s - length_s) > NAME_S:
            faults.append(f"{path}: holds {facts.duration_s} s, the row of {camera_id} says {length_s}")
    files = {path.resolve() for name in world.cameras for path in world.files(name)}
    faults += [f"file without a row: {path}" for path in sorted(files - known)]
    return faults


def gaps_against_files(world: World, tally: Tally) -> list[str]:
    """Return gap rows that do not tell the truth: filled where pictures are missing, or still pending."""
    faults = []
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        rows = database.execute(
            "SELECT id, camera_id, gap_start, gap_end, fill_state FROM recording_gaps ORDER BY gap_start"
        ).fetchall()
        open_attempts = database.execute("SELECT gap_id FROM anr_attempts WHERE ended_at IS NULL").fetchall()
        covered = defaultdict(list)
        for camera_id, start, end in database.execute("SELECT camera_id, start_time, end_time FROM segments"):
            covered[camera_id].append((parse_instant(start), parse_instant(end)))
    for gap_id, camera_id, start, end, state in rows:
        if state != "filled":
            tally.gaps_lost += 1
            faults.append(f"{gap_id} of {camera_id} is {state}")
            continue
        at, until = parse_instant(start), parse_instant(end)
        for piece_start, piece_end in sorted(covered[camera_id]):
            if piece_start <= at + timedelta(seconds=NAME_S) and piece_end > at:
                at = piece_end
        if at < until - timedelta(seconds=NAME_S):
            tally.gaps_lost += 1
            faults.append(f"{gap_id} of {camera_id} is filled, but nothing is recorded from {at} to {until}")
    faults += [f"open attempt at {gap_id}" for (gap_id,) in open_attempts]
    return faults


def left_in_folders(world: World, tally: Tally) -> list[str]:
    """Return files of ours that are neither footage nor the lock."""
    staging = world.recordings / ".anr-watch"
    left = [path for path in staging.rglob("*") if path.name != "lock"] if staging.exists() else []
    left += [path for name in world.cameras for path in (world.recordings / name).rglob("*") if path.suffix != ".mp4"]
    tally.orphans += len(left)
    return [f"left behind: {path}" for path in left]


async def left_processes(mark: Path, tally: Tally, *, deadline_s: float = 5.0) -> list[str]:
    """Return the processes of a world whose daemon has ended that do not end within the deadline."""
    end = asyncio.get_running_loop().time() + deadline_s
    while (left := family.members(mark)) and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.02)
    tally.orphans += len(left)
    return [f"still runs: {member}" for member in left]


def ledger(world: World) -> list[tuple[str, str, bytes, int]]:
    """Return every message a transaction of ours ever put: event id, topic, payload, retained or not."""
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        return database.execute("SELECT event_id, topic, payload, retain FROM torture_ledger").fetchall()


def waiting(world: World) -> int:
    """Return how many messages have not been acknowledged."""
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        return database.execute("SELECT count(*) FROM anr_outbox").fetchone()[0]


def events_against_ledger(world: World, seen: Iterable[Seen], tally: Tally) -> list[str]:
    """Return events that were not delivered, or under another id or content than was written."""
    faults = []
    delivered: dict[str, set[bytes]] = defaultdict(set)
    for message in seen:
        if message.topic.endswith("/event"):
            delivered[json.loads(message.payload)["id"]].add(message.payload)
    written = {event_id: bytes(payload) for event_id, _, payload, retain in ledger(world) if not retain}
    lost = [event_id for event_id in written if event_id not in delivered]
    tally.events_lost += len(lost)
    faults += [f"never delivered: {written[event_id]}" for event_id in lost]
    for event_id, payloads in delivered.items():
        if payloads != {written.get(event_id)}:
            faults.append(f"{event_id}: written {written.get(event_id)}, delivered {payloads}")
    return faults


def fills_told_to_their_end(world: World, tally: Tally) -> list[str]:
    """Return tries whose start was told and whose end never was, and filled gaps nobody was told of."""
    ends: dict[str, list[str]] = defaultdict(list)
    parts: dict[str, list[Window]] = defaultdict(list)
    started, completed, detected = set(), set(), set()
    for _, _, payload, retain in ledger(world):
        if retain:
            continue
        event = json.loads(payload)
        kind, data = event["type"].removeprefix("io.anr-watch."), event["data"]
        if kind == "fill.started.v1":
            started.add(data["attempt_id"])
            detected.add(data["gap"]["id"])
        elif kind in ("fill.completed.v1", "fill.partial.v1", "fill.failed.v1"):
            ends[data["attempt_id"]].append(kind)
            if kind == "fill.completed.v1":
                completed.add(data["gap"]["id"])
            for part in data["filled"]:  # what a broken off try had becomes the row, the rest another one
                parts[data["gap"]["id"]].append(Window(parse_instant(part["start"]), parse_instant(part["end"])))
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        filled = {
            row[0]: Window(parse_instant(row[1]), parse_instant(row[2]))
            for row in database.execute(
                "SELECT id, gap_start, gap_end FROM recording_gaps WHERE fill_state = 'filled'"
            )
        }
    untold = [attempt for attempt in started if attempt not in ends]
    silent = [
        gap for gap in filled.keys() & detected if gap not in completed and subtract(filled[gap], merge(parts[gap]))
    ]
    tally.events_lost += len(untold) + len(silent)
    return [f"a start without an end: {attempt}" for attempt in untold] + [
        f"filled, never told: {gap}" for gap in silent
    ]


def states_are_true(world: World, seen: Iterable[Seen]) -> list[str]:
    """Return cameras whose last retained state says something else than that all is well and nothing runs."""
    last: dict[str, dict] = {}
    for message in seen:
        if message.topic.endswith("/state"):
            state = json.loads(message.payload)
            last[state["camera"]] = state
    return [
        f"state of {name}: {last.get(name)}"
        for name in world.cameras
        if name not in last or last[name]["pending_gaps"] or last[name]["current"] is not None
    ]


def secrets_in(core: str, texts: Iterable[bytes], tally: Tally) -> list[str]:
    """Return what of the texts holds the secret in any form."""
    wanted = forms(core.encode())
    found = [text for text in texts if any(form in text for form in wanted)]
    tally.secrets_leaked += len(found)
    return [f"secret in: {text[:300]!r}" for text in found]


def everything_outside(world: World, lines: Iterable[str], seen: Iterable[Seen]) -> Iterable[bytes]:
    """Yield what of a world others can read: log, traffic, file names, tables but the kernel's `cameras`."""
    yield from (line.encode() for line in lines)
    yield from (message.topic.encode() + message.payload for message in seen)
    yield from (str(path).encode() for path in world.folder.rglob("*"))
    with contextlib.closing(sqlite3.connect(world.database, timeout=5)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table == "cameras" and not world.standalone:
                continue
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
