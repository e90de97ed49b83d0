"""Sets up one measurement: folders, kernel database, footage, cameras, broker, the daemon. Measures nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from anr_watch.camera.film import FilmSpec
from anr_watch.demo.children import Child, Children
from anr_watch.demo.tables import Tables
from anr_watch.instants import format_instant
from tests.bench.running import CLOCK
from tests.bench.stage.footage import Reel
from tests.broker import Broker
from tests.fixtures_database import create_kernel_database

PROGRAM = Path(sys.executable).with_name("anr-watch")
NODE = "bench"
START_S = 60.0
SMALL = FilmSpec(width=160, height=96, fps=10, gop_frames=10)


@dataclass
class Lines:
    """The lines that a process has said, and a way to wait for one."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, line: dict[str, Any]) -> None:
        self.seen.append(line)
        self._news.set()

    async def first(
        self, wanted: Callable[[dict[str, Any]], bool], what: str, *, since: int = 0, timeout_s: float = 30.0
    ) -> dict[str, Any]:
        """Return the first line from `since` on that is wanted.

        Raises:
            TimeoutError: it did not come; the text says what.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    for number in range(since, len(self.seen)):
                        if wanted(self.seen[number]):
                            return self.seen[number]
                    since = len(self.seen)
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}") from None

    async def count(
        self, wanted: Callable[[dict[str, Any]], bool], number: int, what: str, *, timeout_s: float
    ) -> None:
        """Wait until `number` lines are wanted ones."""
        since, found = 0, 0
        try:
            async with asyncio.timeout(timeout_s):
                while found < number:
                    self._news.clear()
                    found += sum(map(wanted, self.seen[since:]))
                    since = len(self.seen)
                    if found < number:
                        await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{found} of {number} within {timeout_s:g} s: {what}") from None


class Stage:
    """One measurement's world; cameras are `cam0`, `cam1` ... All processes on it end with `opened`.

    Args:
        folder: where everything goes.
        film: what the cameras show; camera n has `camera_number` n + 1 unless the film is shared.
        count: number of cameras.
        shared: all show the film of camera 1.
    """

    def __init__(
        self,
        folder: Path,
        children: Children,
        stack: contextlib.ExitStack,
        *,
        film: FilmSpec,
        count: int,
        shared: bool,
    ) -> None:
        self.folder, self.film, self.count, self.shared = folder, film, count, shared
        self.children = children
        self.names = [f"cam{index}" for index in range(count)]
        self.database = folder / "data" / "heldar.db"
        self.recordings = folder / "recordings"
        self.events: dict[int, Lines] = defaultdict(Lines)  # of the cameras, by number
        self.log = Lines()  # of the daemon
        self.ports: list[int] = []
        self.broker: Broker | None = None
        self.now = datetime.now(UTC).replace(microsecond=0)
        self._reels: dict[int, Reel] = {}
        self._stack = stack
        self._reader: sqlite3.Connection | None = None
        self.live: dict[str, Path] = {}  # the first file of each camera that the kernel opened

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        folder: Path,
        *,
        count: int,
        film: FilmSpec = SMALL,
        shared: bool = True,
        broker: bool = True,
        cameras: bool = True,
        simulated: int | None = None,
        database: Path | None = None,
        kernel_tables: bool = False,
        camera_options: Sequence[str] = (),
    ) -> AsyncIterator[Stage]:
        """Yield a stage with cameras, a kernel database that knows them (a copy of `database`), and a broker.

        `cameras`: off where nobody is to be asked; `simulated`: only so many of them are there. `kernel_tables`: the database is made by the stand-in kernel's own module, which is to run on it.
        """
        (folder / "logs").mkdir(parents=True)
        async with contextlib.AsyncExitStack() as stack:  # the broker outlives the daemon, the log both
            outlives = stack.enter_context(contextlib.ExitStack())
            served = stack.enter_context(Broker(folder)) if broker else None
            children = await stack.enter_async_context(Children(folder / "logs", grace_s=20.0))
            stage = cls(folder, children, outlives, film=film, count=count, shared=shared)
            stage.recordings.mkdir()
            stage.broker = served
            stage.ports = [1] * count
            if cameras:
                await stage._start_cameras(camera_options, count if simulated is None else simulated)
            if kernel_tables:
                tables = Tables(stage.database)
                tables.migrated()
                tables.close()
            elif database is None:
                create_kernel_database(stage.database)
            else:
                stage.database.parent.mkdir()
                await asyncio.to_thread(shutil.copyfile, database, stage.database)
            stage._add_cameras()
            yield stage

    # -- cameras ----------------------------------------------------------------------------------------------

    async def _start_cameras(self, options: Sequence[str], count: int) -> None:
        film = self.film
        ready: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def heard(child: Child, text: str) -> None:
            line = json.loads(text)
            if "event" in line:
                self.events[line["camera"]].add(line)
            elif "ports" in line:
                ready.set_result(line["ports"])
            else:
                child.answered(line)

        arguments = [
            "--count", str(count), "--size", f"{film.width}x{film.height}", "--fps", str(film.fps),
            "--gop", str(film.gop_frames), "--bitrate", str(film.bitrate_bps), *options,
        ]  # fmt: skip
        if self.shared:
            arguments.append("--shared")
        self.cameras = await self.python("cameras", "tests.bench.stage.cameras", *arguments, on_line=heard)
        self.ports[:count] = await asyncio.wait_for(ready, START_S)

    async def python(
        self, name: str, module: str, *arguments: str, on_line: Callable[[Child, str], None] | None = None
    ) -> Child:
        """Start a module of ours as a process."""
        return await self.children.start(name, [sys.executable, "-m", module, *arguments], on_line=on_line)

    def connects(self, index: int) -> int:
        """Return how many lines of a camera there are: where to look from."""
        return len(self.events[index].seen)

    async def connected(self, index: int, *, since: int, timeout_s: float = 30.0) -> float:
        """Return when the camera accepted a connection (of its RTSP port), seconds of the shared clock."""
        entry = await self.events[index].first(
            lambda line: line["event"] == "accept", f"a connection at cam{index}", since=since, timeout_s=timeout_s
        )
        return float(entry["at"])

    # -- what is recorded -------------------------------------------------------------------------------------

    def reel(self, index: int) -> Reel:
        """Return the film of a camera."""
        number = 1 if self.shared else index + 1
        if number not in self._reels:
            film = FilmSpec(**{**_fields(self.film), "camera_number": number})
            self._reels[number] = Reel(film)
        return self._reels[number]

    def at(self, seconds: float) -> datetime:
        """Return the instant `seconds` after the stage was made."""
        return self.now + timedelta(seconds=seconds)

    def record(self, index: int, *spans: tuple[float, float], rows: bool = True) -> None:
        """Write one file per span of seconds, with the kernel's row."""
        made = []
        for start_s, end_s in spans:
            start, end = self.at(start_s), self.at(end_s)
            path, size = self.reel(index).write(self.recordings / self.names[index], start, end)
            made.append((self.names[index], str(path), start, end, size))
        if rows:
            self.add_rows(made)

    def add_rows(self, made: Iterable[tuple[str, str, datetime, datetime, int]]) -> None:
        """Insert segment rows: camera, path, start, end, bytes."""
        with self.written() as db:
            db.executemany(
                "INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, codec, width, height,"
                " size_bytes, created_at) VALUES ('seg_' || lower(hex(randomblob(16))), ?, ?, ?, ?, ?, 'h264', ?, ?, ?, ?)",
                [
                    (
                        *(camera, path, format_instant(start), format_instant(end), (end - start).total_seconds()),
                        *(self.film.width, self.film.height, size, format_instant(end)),
                    )
                    for camera, path, start, end, size in made
                ],
            )

    @contextlib.contextmanager
    def written(self):
        """Give a connection in a transaction; for before the daemon starts or after it measured."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None, timeout=15)) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def _add_cameras(self) -> None:
        created = format_instant(self.now)
        with self.written() as db:
            for name, port in zip(self.names, self.ports, strict=True):
                db.execute(
                    "INSERT INTO cameras (id, name, vendor, address, rtsp_port, username, password, segment_seconds,"
                    " anr_enabled, created_at, updated_at) VALUES (?, ?, 'hikvision', '127.0.0.1', ?, 'admin', 'camera',"
                    " 60, 1, ?, ?)",
                    (name, name, port, created, created),
                )
                db.execute(
                    "INSERT INTO camera_status (camera_id, state, updated_at) VALUES (?, 'recording', ?)",
                    (name, created),
                )

    def kernel_said(self, _: Child, text: str) -> None:
        """Take in a line of the stand-in kernel: the first file after an outage is where live recording resumed."""
        line = json.loads(text)
        if line["event"] == "file":
            self.live.setdefault(line["camera"], Path(line["path"]))

    def reader(self) -> sqlite3.Connection:
        """Return a connection that only reads; one for all, because opening one wakes whoever watches the log."""
        if self._reader is None:
            self._reader = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=15)
            self._stack.callback(self._reader.close)
        return self._reader

    def gaps(self) -> list[tuple[str, str, str, str]]:
        """Return camera, start, end and state of every gap row that ends in the last day."""
        return (
            self.reader()
            .execute(
                "SELECT camera_id, gap_start, gap_end, fill_state FROM recording_gaps WHERE gap_end > ?"
                " ORDER BY camera_id, gap_start",
                (format_instant(self.at(-86400)),),
            )
            .fetchall()
        )

    # -- the program ------------------------------------------------------------------------------------------

    async def start_daemon(self, settings: str = "", *, until: str = "connected to the broker") -> Child:
        """Start the installed program as a person would and return when its log says what `until` begins with."""
        mqtt = ""
        if self.broker is not None:
            mqtt = (
                f'[mqtt]\nhost = "127.0.0.1"\nport = {self.broker.port}\nnode = "{NODE}"\n'
                '[[mqtt.presence]]\nname = "cameras"\ntopic = "cameras/{camera}/status"\n'
            )
        config = self.folder / "config.toml"
        config.write_text(
            f'[database]\npath = "{self.database}"\n[recordings]\npath = "{self.recordings}"\nmin_free_mb = 1\n'
            f'[log]\nformat = "json"\n{settings}\n{mqtt}'
        )
        self.log = Lines()

        log = (self.folder / "logs" / "anr-watch.json").open("a", encoding="utf-8")  # for what went wrong
        self._stack.enter_context(log)

        def heard(_: Child, text: str) -> None:
            log.write(text + "\n")
            if text.startswith("{"):
                self.log.add(json.loads(text))

        # Its log, on stderr, is what we listen to; sh becomes the program.
        run = ["sh", "-c", 'exec "$@" 2>&1', "sh", str(PROGRAM), "--config", str(config), "run"]
        daemon = await self.children.start("anr-watch", run, on_line=heard)
        if self.broker is None and until:
            until = "ready"
        await self.log.first(lambda line: line["event"].startswith(until), f"{until!r} in the log", timeout_s=START_S)
        return daemon

    async def foreigner(self) -> Child:
        """Start the process that commits and writes files."""
        return await self.python(
            "foreigner",
            "tests.bench.stage.foreigner",
            str(self.database),
            on_line=lambda child, text: child.answered(json.loads(text)),
        )

    async def fill_ended(self, index: int, *, since: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the daemon's word on the end of a camera's fill."""
        name = self.names[index]
        return await self.log.first(
            lambda line: line["event"] == "fill ended" and line["camera"] == name,
            f"the fill of {name}",
            since=since,
            timeout_s=timeout_s,
        )

    async def all_filled(self, *, timeout_s: float) -> None:
        """Wait until no gap row is pending.

        Raises:
            TimeoutError: rows are left; the text names them.
        """
        end_s = CLOCK.monotonic() + timeout_s
        while left := [row for row in self.gaps() if row[3] != "filled"]:
            if CLOCK.monotonic() > end_s:
                raise TimeoutError(f"{len(left)} gaps not filled within {timeout_s:g} s, such as {left[0]}")
            await asyncio.sleep(0.1)


def _fields(film: FilmSpec) -> dict[str, Any]:
    return {name: getattr(film, name) for name in film.__slots__}
