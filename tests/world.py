"""The world around the installed program: cameras, live footage on disk, a kernel's database, a broker, the daemon.

Footage is written from the cameras' own film, in the past, so a test waits for nothing but the program. The database
is written by another process, the program is the installed one, the camera a real RTSP server on loopback.
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from anr_watch.camera.audio import Tone
from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.film import Film
from anr_watch.camera.mp4 import FragmentedMp4
from anr_watch.demo.proof import Proof, count_frames
from anr_watch.instants import parse_instant
from tests.fixtures_database import create_kernel_database, kernel_process, text

PROGRAM = Path(sys.executable).with_name("anr-watch")
DEADLINE_S = 25.0


async def until(done: Callable[[], object], what: object, *, deadline_s: float = DEADLINE_S) -> object:
    """Return the first true value of `done`; a condition, looked at every 20 ms, with a deadline."""
    end = asyncio.get_running_loop().time() + deadline_s
    while not (value := done()):
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"not within {deadline_s} s: {what() if callable(what) else what}")
        await asyncio.sleep(0.02)
    return value


@dataclass
class Daemon:
    """The running program and what it said."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def said_ready(self) -> bool:
        """Whether it is at work, as a plain line or as a JSON line says."""
        return any(" ready" in line or '"event":"ready"' in line for line in self.lines)

    async def ready(self) -> None:
        await until(lambda: self.said_ready or self.process.returncode is not None, lambda: f"ready: {self.log}")
        assert self.process.returncode is None, self.log

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), DEADLINE_S)


class World:
    """One recordings folder, one database, some cameras. `settings` is TOML text put behind the basics."""

    def __init__(
        self,
        folder: Path,
        *specs: CameraSpec,
        standalone: bool = False,
        settings: str = "",
        record_audio: bool = False,
        pattern: str = "%Y%m%d_%H%M%S",
    ) -> None:
        self.folder, self.standalone, self.settings = folder, standalone, settings
        self.record_audio, self.pattern = record_audio, pattern
        self.specs = specs or (CameraSpec(name="gate"),)
        self.recordings = folder / "recordings"
        self.database = folder / "data" / "heldar.db"
        self.config = folder / "config.toml"
        self.cameras: dict[str, SimulatedCamera] = {}
        self.kernel = None
        self.now = datetime.now(UTC).replace(microsecond=0)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        self.recordings.mkdir(parents=True, exist_ok=True)
        for spec in self.specs:
            self.cameras[spec.name] = await self._stack.enter_async_context(SimulatedCamera(spec))
        if not self.standalone:
            create_kernel_database(self.database)
            self.kernel = self._stack.enter_context(kernel_process(self.database))
            for name in self.cameras:
                self.add_camera(name)
        self.write_config()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.__aexit__(*error)

    def add_camera(self, name: str, **columns: object) -> None:
        camera = self.cameras[name]
        given = {
            "rtsp_port": camera.rtsp_port,
            "username": camera.spec.username,
            "password": camera.spec.password,
            "segment_seconds": 10,
        }
        self.kernel.add_camera(name, **(given | columns))

    def write_config(self, extra: str = "") -> None:
        cameras = ""
        if self.standalone:
            for name, camera in self.cameras.items():
                cameras += (
                    f'[[camera]]\nid = "{name}"\naddress = "127.0.0.1"\nrtsp_port = {camera.rtsp_port}\n'
                    f'username = "{camera.spec.username}"\npassword = "{camera.spec.password}"\nsegment_s = 10\n'
                    f"record_audio = {str(self.record_audio).lower()}\n"
                )
        self.config.write_text(
            f'[database]\npath = "{self.database}"\n[recordings]\npath = "{self.recordings}"\nmin_free_mb = 1\n'
            f'name_pattern = "{self.pattern}"\n'
            f"{self.settings}\n{extra}\n{cameras}"
        )

    # -- footage ----------------------------------------------------------------------------------------------

    def at(self, seconds: float) -> datetime:
        """Return the instant `seconds` after the world began (negative: the past)."""
        return self.now + timedelta(seconds=seconds)

    def elapsed_s(self) -> float:
        """Return the present as seconds after the world began."""
        return (datetime.now(UTC) - self.now).total_seconds()

    def frame(self, name: str, seconds: float) -> int:
        """Return the number of the first frame at or after an instant."""
        return self.cameras[name].spec.film.first_frame_at(int(self.at(seconds).timestamp() * 1e6))

    def record(
        self, name: str, start_s: float, end_s: float, *, segment_s: int = 10, rows: bool = True
    ) -> list[Path]:
        """Write live files as a recorder does: cut at key frames, named by the second in which they began."""
        camera = self.cameras[name]
        film, spec = camera.film, camera.spec.film
        number = spec.key_frame_before(self.frame(name, start_s) + spec.gop_frames - 1)  # begins with a key frame
        last = self.frame(name, end_s)
        paths = []
        while number < last:
            stop = min(last, number + segment_s * spec.fps)
            paths.append(self._write(name, film, camera.spec, number, stop, rows=rows))
            number = stop
        return paths

    def _write(self, name: str, film: Film, spec: CameraSpec, first: int, stop: int, *, rows: bool) -> Path:
        mp4 = FragmentedMp4(film, Tone(spec.audio))
        data = bytearray()
        for number in range(first, stop):
            group = film.gop(number // spec.film.gop_frames)
            data += mp4.add(number, group.pictures[number % spec.film.gop_frames])
        data += mp4.close()
        start = datetime.fromtimestamp(float(Fraction(first, spec.film.fps)), UTC)
        named = start.replace(microsecond=0)
        path = self.recordings / name / f"{named.strftime(self.pattern)}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        changed = float(Fraction(stop, spec.film.fps))
        os.utime(path, (changed, changed))
        if rows and self.kernel is not None:
            end = named + timedelta(seconds=(stop - first) / spec.film.fps)
            self.kernel.add_segment(name, named, end, str(path))
        return path

    def gap_between(self, before: Path, after: Path, *, frames: int, fps: int = 15) -> tuple[datetime, datetime]:
        """Return the window that the kernel would note between two files."""
        start = datetime.strptime(before.stem, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        end = datetime.strptime(after.stem, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        return start + timedelta(seconds=frames / fps), end

    def outage(self, name: str = "gate", *, gap: bool = True, lost_s: tuple[float, float] = (-90.3, -60.7)) -> str:
        """Record 40 s before and 20 s after a hole, and note the hole as the kernel does; return the gap's id."""
        lost_from, lost_to = lost_s
        self.record(name, lost_from - 40, lost_from)
        after = self.record(name, lost_to, lost_to + 20)
        rows = self.kernel.segments(name) if self.kernel is not None else []
        start = max((row["end_time"] for row in rows if row["start_time"] < text(self.at(lost_from))), default="")
        end = datetime.strptime(after[0].stem, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        return self.kernel.add_gap(name, start, text(end)) if gap else ""

    def note_hole(self, name: str) -> str:
        """Note the largest hole between rows as the kernel does; return the gap's id."""
        rows = sorted(self.kernel.segments(name), key=lambda row: row["start_time"])
        pairs = ((a["end_time"], b["start_time"]) for a, b in pairwise(rows))
        start, end = max(pairs, key=lambda pair: _length(*pair))
        return self.kernel.add_gap(name, start, end)

    def files(self, name: str) -> list[Path]:
        return sorted((self.recordings / name).glob("**/*.mp4"))

    def prove(self, name: str = "gate", start_s: float | None = None, end_s: float | None = None) -> Proof:
        """Decode everything recorded of a camera and count its frames."""
        first = None if start_s is None else self.frame(name, start_s)
        last = None if end_s is None else self.frame(name, end_s) - 1
        return count_frames(
            self.files(name), first=first, last=last, camera_number=self.cameras[name].spec.film.camera_number
        )

    @contextlib.asynccontextmanager
    async def recorder(self, name: str = "gate", *, segment_s: float = 2.0, status: bool = False):
        """Record a camera live in a process of its own, in real time, as the kernel's ffmpeg does.

        With `status` the kernel's words follow: `offline` when a session ends, `recording` at each new try.
        """
        url = self.folder / f"live-{name}"
        url.write_text(self.cameras[name].url_live())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "anr_watch.demo.recorder", "--url-file", str(url), "--camera", name),
            *("--recordings", str(self.recordings), "--segment-s", str(segment_s)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        states: list[str] = []
        reader = asyncio.ensure_future(self._hear_recorder(process, name, states, status=status))
        try:
            await until(lambda: "recording" in states, "a live recording")
            yield states
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), DEADLINE_S)
            await reader

    async def _hear_recorder(self, process, name: str, states: list[str], *, status: bool) -> None:
        words = {"connecting": "recording", "offline": "offline"}
        while line := await process.stdout.readline():
            state = json.loads(line)["state"]
            states.append(state)
            if status and state in words:
                self.kernel.set_status(name, words[state])

    def live_files(self, name: str = "gate") -> list[Path]:
        """Return the files that no fill wrote."""
        ours = {Path(row[0]).name for row in self.kernel.execute("SELECT path FROM anr_segments")}
        return [path for path in self.files(name) if path.name not in ours]

    # -- the program ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def daemon(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        ready: bool = True,
        cwd: Path | None = None,
        program: Path = PROGRAM,
    ):
        """Run `anr-watch run` as a process of its own; ends it in order."""
        process = await asyncio.create_subprocess_exec(
            str(program),
            "--config",
            str(self.config if cwd is None else self.config.relative_to(cwd)),
            "run",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        daemon = Daemon(process)
        reader = asyncio.ensure_future(self._read(daemon))
        try:
            if ready:
                await daemon.ready()
            yield daemon
        finally:
            try:
                await daemon.stop()
            except (TimeoutError, ProcessLookupError):
                process.kill()
                await process.wait()
            await reader

    async def _read(self, daemon: Daemon) -> None:
        while line := await daemon.process.stderr.readline():
            daemon.lines.append(line.decode(errors="replace").rstrip())

    async def command(self, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run one command of the program; return exit status, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM),
            "--config",
            str(self.config),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()

    def attempts(self, name: str | None = None) -> list[dict]:
        """Return the tries as rows, by start."""
        columns = [
            "gap_id",
            "camera_id",
            "reason",
            "detail",
            "got_s",
            "bytes",
            "files",
            "ended_at",
            "next_at",
            "number",
        ]
        rows = self.kernel.execute(f"SELECT {', '.join(columns)} FROM anr_attempts ORDER BY started_at")
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return [row for row in found if name in (None, row["camera_id"])]

    def states(self, name: str = "gate") -> set[str]:
        if self.kernel is not None:
            return {row["fill_state"] for row in self.kernel.gaps(name)}
        if not self.database.exists():
            return set()
        with contextlib.closing(sqlite3.connect(self.database, timeout=5)) as database:
            try:
                rows = database.execute(
                    "SELECT fill_state FROM recording_gaps WHERE camera_id = ?", (name,)
                ).fetchall()
            except sqlite3.OperationalError:  # the program has not made its tables yet
                return set()
        return {row[0] for row in rows}

    async def settled(self, name: str = "gate", state: str = "filled") -> None:
        """Wait until every gap row of the camera has that state (and there is one)."""
        await until(lambda: self.states(name) == {state}, lambda: self.kernel.gaps(name))


def _length(start: str, end: str) -> float:
    return (parse_instant(end) - parse_instant(start)).total_seconds()
