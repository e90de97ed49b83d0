"""Starts the program again and again, and kills it, its workers or their parent where it stands; see `stepped.py`."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Self

from tests.torture import family

SCRIPT = Path(__file__).with_name("stepped.py")


class Target(StrEnum):
    """Who is killed."""

    DAEMON = "daemon"
    WORKER = "worker"
    PARENT = "parent"  # the process that forks the workers
    ALL = "all"


# Named places, by what they interrupt. Migration statements are numbered: migration:1, migration:2, ...
FILL = tuple(
    f"fill:{step}"
    for step in ("planned", "attempt_written", "staged", "checked", "placed", "row_written", "judged", "settled")
)
INDEXER = ("indexer:rows", "indexer:rows_written", "indexer:hole", "indexer:hole_written")
PUBLISHER = ("publisher:sent", "publisher:acknowledged", "publisher:removing", "publisher:removed")
START = ("start:emptied", "start:workers", "start:open", "start:interrupted")


class Conductor:
    """One line of daemons on one configuration.

    Args:
        config: their config.toml.
        mark: any path of this world; it stands in the environment of all of its processes.
        plan: says who is to be killed at a place.

    Attributes:
        reached: how often each place was come to.
        killed: how often somebody was killed, by place and target.
        lines: what the daemons said.
        calm: nobody is killed at places any more.
    """

    def __init__(self, config: Path, mark: Path, plan: "Once | AtRandom") -> None:
        self._config, self._mark, self._plan = config, mark, plan
        self._name = f"anr-torture-{uuid.uuid4().hex}"
        self.reached: Counter[str] = Counter()
        self.killed: Counter[tuple[str, Target]] = Counter()
        self.lines: list[str] = []
        self.exits: list[int] = []
        self._begun = 0
        self.calm = False
        self.pid: int | None = None  # of the daemon that runs
        self._tasks: set[asyncio.Task] = set()

    @property
    def kills(self) -> int:
        """How often somebody was killed."""
        return self.killed.total()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._hear, path=f"\0{self._name}")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            self._name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**family.marked(self._mark), "PYTHONPATH": str(SCRIPT.parents[2])},
        )
        self._readers = [asyncio.ensure_future(self._read_news()), asyncio.ensure_future(self._read_log())]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._strike(Target.ALL)
        self._process.stdin.close()
        await self._process.wait()
        self._server.close()
        await asyncio.gather(*self._readers)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def start(self) -> None:
        """Start a daemon; returns at once."""
        assert not self.running
        self._begun += 1
        self._process.stdin.write(json.dumps({"argv": ["--config", str(self._config), "run"]}).encode() + b"\n")

    async def run_until(self, done: Callable[[], bool], *, deadline_s: float) -> None:
        """Start daemon after daemon until `done`; the one that runs then goes on."""
        try:
            async with asyncio.timeout(deadline_s):
                while not done():
                    if not self.running:
                        await self.start()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(
                f"not within {deadline_s} s: {self.reached} {self.killed}\n" + "\n".join(self.lines[-40:])
            ) from None

    async def one_kill(self, *, within_s: float, target: Target) -> None:
        """Go on until the plan has somebody killed; if it does not in that time, `target` is, wherever it stands."""
        wanted = self.kills + 1
        end = asyncio.get_running_loop().time() + within_s
        await self.run_until(
            lambda: self.kills >= wanted or asyncio.get_running_loop().time() > end, deadline_s=within_s + 30
        )
        if self.kills < wanted:
            self.strike(target, "any time")

    @property
    def running(self) -> bool:
        """Whether a daemon runs or is about to."""
        return self._begun > len(self.exits)

    def strike(self, target: Target, place: str) -> bool:
        """Kill now, and count it; False if there is nobody of that kind."""
        struck = self._strike(target)
        self.killed[place, target] += struck
        return struck

    def _strike(self, target: Target) -> bool:
        pids = []
        if target in (Target.WORKER, Target.ALL):
            pids += family.workers(self._mark)
        if target in (Target.PARENT, Target.ALL):
            pids += family.forking_parents(self._mark)
        if target in (Target.DAEMON, Target.ALL) and self.pid is not None:
            pids.append(self.pid)
        struck = False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                struck = True
        return struck

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            pid = int(await reader.readline())
            while line := await reader.readline():
                place = line.decode().strip()
                self.reached[place] += 1
                target = self._plan.at(place) if self.pid == pid and not self.calm else None
                if target is not None:
                    self._plan.done(place, target, struck=self.strike(target, place))
                writer.write(b"g")
        except (ConnectionError, asyncio.CancelledError, ValueError):
            pass  # it was killed; that is what we are here for
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _read_news(self) -> None:
        while line := await self._process.stdout.readline():
            news = json.loads(line)
            if "exit" in news:
                self.exits.append(news["exit"])
                self.pid = None
            else:
                self.pid = news["pid"]

    async def _read_log(self) -> None:
        while line := await self._process.stderr.readline():
            self.lines.append(line.decode(errors="replace").rstrip())


class Once:
    """Chooses each (place, target) of a list once, in the order in which the places are come to."""

    def __init__(self, wanted: list[tuple[str, Target]]) -> None:
        self.left = list(wanted)

    def at(self, place: str) -> Target | None:
        """Return who is to be killed here."""
        return next((target for wanted, target in self.left if wanted == place), None)

    def done(self, place: str, target: Target, *, struck: bool) -> None:
        """Note that it was done; where there was nobody to kill the next time is tried."""
        if struck:
            self.left.remove((place, target))


class AtRandom:
    """Chooses with a small chance at every place, and more often where nobody was killed yet."""

    def __init__(self, chance: random.Random, *, share: float) -> None:
        self._chance, self._share = chance, share
        self._struck: Counter[str] = Counter()

    def at(self, place: str) -> Target | None:
        """Return who is to be killed here."""
        share = self._share if self._struck[place] else min(1.0, 4 * self._share)
        if self._chance.random() >= share:
            return None
        return self._chance.choice([Target.DAEMON, Target.DAEMON, Target.ALL, Target.WORKER, Target.PARENT])

    def done(self, place: str, target: Target, *, struck: bool) -> None:
        """Note that it was done."""
        del target
        self._struck[place] += struck
