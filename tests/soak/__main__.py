"""`make soak`: waves of outages on simulated cameras for SOAK_S seconds, one daemon; nothing of it may grow or drift.

Time is accelerated: each wave writes a minute or two of the past of every camera with a hole in it, and the daemon
fills all of them. Between waves nothing runs for a moment; then the processes are measured. After each wave every
picture around its holes is decoded and counted. The recorder's retention deletes what was checked.

Prints one line of JSON last and writes it to build/soak.json. Exit status 0 only if all of it is as it must be.
"""

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from anr_watch.demo.proof import count_frames
from anr_watch.instants import parse_instant
from tests.broker import Broker
from tests.soak import judging, sampling
from tests.torture import family
from tests.world import Daemon, World

CAMERAS = 32
FPS = 5
SEGMENT_S = 12  # whole groups of pictures of both kinds: a recorder cuts at key frames
FIRST_S = -20 * 3600.0  # the cameras' past begins so long ago; a day is what the daemon looks back
REST_S = 3.0  # after a wave, before it is measured
KEPT = 3  # outages per camera that retention leaves
QUIET_S = 20.0  # for the wake-ups at the end
DEADLINE_S = 240.0  # for one wave on a busy machine
SETTINGS = (
    "min_free_mb = 1\n[fills]\nregister_gaps = false\nsettle_s = 1\nmax_gap_hours = 24\n"
    '[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "soak"\n'
)


@dataclass
class Hole:
    """One outage: live recording ended with the frame before `lost` and began again with `back`."""

    name: str
    gap_id: str
    lost: int
    back: int
    files: list[Path] = field(default_factory=list)


@dataclass
class Counts:
    """What the run came to."""

    outages: int = 0
    filled: int = 0
    frames: int = 0
    frames_missing: int = 0
    frames_double: int = 0
    joins_not_exact: int = 0
    attempts: int = 0
    boundary_ms_max: float = 0.0


class Soak:
    """The cameras' past, written wave by wave."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self._chance = world, random.Random(seed)
        self._at_s = dict.fromkeys(world.cameras, FIRST_S)
        self._before: dict[str, list[Path]] = {}
        self._done: dict[str, list[Hole]] = {name: [] for name in world.cameras}
        self.counts = Counts()

    def wave(self) -> list[Hole]:
        """Write the past of every camera up to the end of one more hole, and some time behind it. Blocks."""
        return [self._outage(name) for name in self.world.cameras]

    def _outage(self, name: str) -> Hole:
        world, chance = self.world, self._chance
        lost_s = self._at_s[name] + 22 + chance.uniform(0, 10)
        back_s = lost_s + chance.uniform(6, 40)
        before = world.record(name, self._at_s[name], lost_s, segment_s=SEGMENT_S)
        after = world.record(name, back_s, back_s + 12, segment_s=SEGMENT_S)
        # The next live footage goes on where this one ended: cameras record without a break but for the holes.
        film = world.cameras[name].spec.film
        ended = world.frame(name, back_s + 12)
        self._at_s[name] = back_s + 12 + (-ended % film.gop_frames) / FPS + 8
        back = film.key_frame_before(world.frame(name, back_s) + film.gop_frames - 1)
        rows = {Path(row["path"]).name: row for row in self._rows(name)}
        start, end = rows[before[-1].name]["end_time"], rows[after[0].name]["start_time"]
        gap_id = world.kernel.add_gap(name, start, end)
        self.counts.outages += 1
        return Hole(name, gap_id, world.frame(name, lost_s), back, [*before, *after])

    def _rows(self, name: str) -> list[dict]:
        with self._database() as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM segments WHERE camera_id = ?", (name,))]

    @contextlib.contextmanager
    def _database(self):
        with contextlib.closing(
            sqlite3.connect(f"{self.world.database.as_uri()}?mode=ro", uri=True, timeout=15)
        ) as it:
            yield it

    async def filled(self, holes: list[Hole]) -> bool:
        """Wait until the rows of a wave are filled."""
        end = asyncio.get_running_loop().time() + DEADLINE_S
        wanted = {hole.gap_id for hole in holes}
        while asyncio.get_running_loop().time() < end:
            with self._database() as database:
                rows = database.execute("SELECT id FROM recording_gaps WHERE fill_state = 'filled'").fetchall()
            if wanted <= {row[0] for row in rows}:
                self.counts.filled += len(holes)
                return True
            await asyncio.sleep(0.2)
        return False

    def check(self, holes: list[Hole]) -> None:
        """Decode what is recorded around the holes, and look how they were joined. Blocks."""
        for hole in holes:
            self._check(hole)
            self._done[hole.name].append(hole)

    def _check(self, hole: Hole) -> None:
        film = self.world.cameras[hole.name].spec.film
        first, last = hole.lost - 8 * FPS, hole.back + 8 * FPS
        low, high = self._named(first, -30), self._named(last, 30)
        files = [path for path in self.world.files(hole.name) if low <= path.stem <= high]
        proof = count_frames(files, first=first, last=last, camera_number=film.camera_number)
        with self._database() as database:
            tries = database.execute(
                "SELECT join_head, join_tail FROM anr_attempts WHERE gap_id = ?", (hole.gap_id,)
            ).fetchall()
            starts = database.execute(
                "SELECT min(s.start_time) FROM anr_segments AS s JOIN anr_attempts AS a ON a.id = s.attempt_id"
                " WHERE a.gap_id = ?",
                (hole.gap_id,),
            ).fetchone()
        if not proof.complete or proof.double:
            shown = [path.name for path in files]
            print(f"soak: {hole.name}, frames {hole.lost} to {hole.back} lost: {proof} in {shown}", file=sys.stderr)
        counts = self.counts
        counts.frames += proof.expected
        counts.frames_missing += proof.missing_frames + len(proof.broken) + proof.unreadable
        counts.frames_double += proof.double
        counts.attempts += len(tries)
        counts.joins_not_exact += sum(join != "exact" for joins in tries for join in joins)
        if film.gop_frames == FPS and starts[0]:  # names without a fraction: the boundary is known exactly
            began_s = parse_instant(starts[0]).timestamp()
            counts.boundary_ms_max = max(counts.boundary_ms_max, abs(began_s - hole.lost / FPS) * 1000)

    def _named(self, frame: int, slack_s: float) -> str:
        moment = datetime.fromtimestamp(frame / FPS, self.world.now.tzinfo) + timedelta(seconds=slack_s)
        return moment.strftime(self.world.pattern)

    def retention(self) -> None:
        """Delete the oldest footage and its rows, as the kernel does. Blocks."""
        for name, done in self._done.items():
            while len(done) > KEPT:
                hole = done.pop(0)
                oldest = done[0].files[0].stem
                for path in [path for path in self.world.files(name) if path.stem < oldest]:
                    path.unlink()
                    self.world.kernel.execute("DELETE FROM segments WHERE path = ?", [str(path)])
                self.world.kernel.execute("DELETE FROM recording_gaps WHERE id = ?", [hole.gap_id])


def cameras() -> list[CameraSpec]:
    """Half of them with key frames on whole seconds, so that boundaries are known to the microsecond."""
    return [
        CameraSpec(
            name=f"cam{number:02}",
            film=FilmSpec(camera_number=number, width=160, height=96, fps=FPS, gop_frames=FPS if number % 2 else 4),
        )
        for number in range(1, CAMERAS + 1)
    ]


async def soak(folder: Path, length_s: float, seed: int) -> dict[str, object]:
    """Run waves for `length_s` seconds and return what they came to."""
    began = time.monotonic()
    pace_s = min(60.0, max(15.0, length_s / 30))
    with Broker(folder) as broker:
        async with World(folder, *cameras(), settings=SETTINGS.format(port=broker.port).partition("\n")[2]) as world:
            run = Soak(world, seed)
            async with world.daemon(env=family.marked(folder)) as daemon:
                samples = await _waves(run, daemon, folder, began, length_s, pace_s)
                wake_ups = await _wake_ups(folder, daemon)
            stopped = daemon.process.returncode
        left = family.members(folder)
    return _result(run, samples, wake_ups, seconds=time.monotonic() - began, stopped=stopped, left=len(left))


async def _waves(
    run: Soak, daemon: Daemon, folder: Path, began: float, length_s: float, pace_s: float
) -> list[dict[str, float]]:
    samples: list[dict[str, float]] = []
    while time.monotonic() - began < length_s:
        wave_began = time.monotonic()
        holes = await asyncio.to_thread(run.wave)
        if not await run.filled(holes):
            print(f"soak: not filled within {DEADLINE_S:g} s\n{daemon.log[-3000:]}", file=sys.stderr)
            break
        await asyncio.to_thread(run.check, holes)
        await asyncio.to_thread(run.retention)
        took_s = time.monotonic() - wave_began
        await asyncio.sleep(max(REST_S, pace_s - took_s))
        assert daemon.process.returncode is None, daemon.log[-3000:]
        figures = await asyncio.to_thread(sampling.sample, folder, daemon.process.pid, run.world.database)
        samples.append({"at_s": round(time.monotonic() - began, 1), **figures})
        print(
            f"soak: wave {len(samples)}, {run.counts.outages} outages in {samples[-1]['at_s']:.0f} s, the last"
            f" {CAMERAS} filled and checked in {took_s:.0f} s; daemon {figures['daemon_rss_mb']:.1f} MB,"
            f" together {figures['together_pss_mb']:.1f} MB (PSS)",
            flush=True,
        )
    return samples


async def _wake_ups(folder: Path, daemon: Daemon) -> dict[str, float]:
    """Return wake-ups per second of the daemon and of its forking parent while nothing happens."""
    before = sampling.switches(folder)
    began = time.monotonic()
    await asyncio.sleep(QUIET_S)
    after = sampling.switches(folder)
    elapsed_s = time.monotonic() - began
    rates = {pid: (after[pid] - count) / elapsed_s for pid, count in before.items() if pid in after}
    own = rates.pop(daemon.process.pid, 0.0)
    return {"daemon": round(own, 1), "others": round(sum(rates.values()), 1)}


def _result(
    run: Soak,
    samples: list[dict[str, float]],
    wake_ups: dict[str, float],
    *,
    seconds: float,
    stopped: int | None,
    left: int,
) -> dict[str, object]:
    counts = run.counts
    trends = judging.judged(samples)
    growth = (samples[-1]["database_mb"] - samples[0]["database_mb"]) * 1e6 if samples else 0.0
    outages = (len(samples) - 1) * CAMERAS
    faults = [
        f"{name} drifts by {trend['drift']}, {trend['allowed']} allowed"
        for name, trend in trends.items()
        if not trend["flat"]
    ]
    faults += [
        f"{name} is {value}"
        for name, value in (
            ("frames_missing", counts.frames_missing),
            ("frames_double", counts.frames_double),
            ("joins_not_exact", counts.joins_not_exact),
            ("outages not filled", counts.outages - counts.filled),
            ("processes left", left),
            ("exit status", stopped),
        )
        if value
    ]
    if counts.boundary_ms_max > 1:
        faults.append(f"a boundary is {counts.boundary_ms_max:.1f} ms off")
    return {
        "ok": not faults,
        "faults": faults,
        "seconds": round(seconds),
        "cameras": CAMERAS,
        **{name: round(value, 3) for name, value in vars(counts).items()},
        "wake_ups_per_s": wake_ups,
        "together_pss_mb": round(samples[-1]["together_pss_mb"], 1) if samples else 0.0,
        "database_bytes_per_outage": round(growth / outages) if outages > 0 else 0,
        "trends": trends,
    }


def main() -> int:
    """Run it; the environment says how long (SOAK_S, seconds) and with which holes (SOAK_SEED)."""
    length_s = float(os.environ.get("SOAK_S", "1800"))
    seed = int(os.environ.get("SOAK_SEED", "1"))
    with tempfile.TemporaryDirectory(prefix="anr-soak-") as folder:
        result = asyncio.run(soak(Path(folder), length_s, seed))
    line = json.dumps(result)
    Path("build").mkdir(exist_ok=True)
    Path("build/soak.json").write_text(line + "\n")
    print(line)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
