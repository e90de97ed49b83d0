"""The processes of the demo: the only place here that starts any; none outlives the demo, however that ends.

Every child has a session of its own (Ctrl-C reaches only the demo, which then ends them in order), a leash
(`leash.py`) for the case that the demo is killed, a log file for stderr, and a drained stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anr_watch.errors import AnrWatchError

GRACE_S = 6.0  # the kernel may wait out a silent camera; the daemon stops within 5 s
_LINE_LIMIT_BYTES = 16 * 1024 * 1024  # a camera's journal is one line
_KEPT_LINES = 15


class ChildFailedError(AnrWatchError):
    """A process of the demo ended or did not answer; `tail` holds its last log lines."""

    def __init__(self, text: str, tail: Sequence[str] = ()) -> None:
        self.tail = tuple(tail)
        super().__init__(text)


class Child:
    """One running process; JSON objects go in by `send` and `ask`, lines come out by a callback."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.ending = False
        self.process = process
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()

    def send(self, command: dict[str, object]) -> None:
        """Write one JSON line to its stdin."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def ask(self, timeout_s: float = 10.0, **command: object) -> dict[str, Any]:
        """Send a command and return the next answer (`answered` decides what one is).

        Raises:
            ChildFailedError: it refused, or gave no answer in time.
        """
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers.append(future)
        self.send(command)
        await asyncio.wait([future], timeout=timeout_s)
        if not future.done():
            future.cancel()
            raise ChildFailedError(f"{self.name} does not answer {command.get('cmd')!r}", self.tail())
        answer = future.result()
        if answer.get("error"):
            raise ChildFailedError(f"{self.name} refused {command.get('cmd')!r}: {answer['error']}", self.tail())
        return answer

    def answered(self, answer: dict[str, Any]) -> None:
        """Hand an answer to the oldest open question."""
        if self._answers and not (future := self._answers.popleft()).done():
            future.set_result(answer)

    def tail(self) -> list[str]:
        """Return the last lines of its log."""
        with suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-_KEPT_LINES:]
        return []


class Children:
    """Starts children and ends them, the last one first; one that ends by itself ends the whole group.

    Raises:
        ChildFailedError: (in an ExceptionGroup) a child ended that was not asked to.
    """

    def __init__(self, logs: Path, *, grace_s: float = GRACE_S) -> None:
        self._logs, self._grace_s = logs, grace_s
        self._group = asyncio.TaskGroup()
        self._all: list[Child] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._all):
            child.ending = True
        try:
            for child in reversed(self._all):
                await self.stop(child)
        finally:
            for child in self._all:  # only after a second interruption is anything left here
                _kill(child)
            await self._group.__aexit__(kind, error, trace)

    async def start(
        self, name: str, program: Sequence[str], *, on_line: Callable[[Child, str], None] | None = None
    ) -> Child:
        """Start a program; its log is `<logs>/<name>.log`, and `on_line` gets every line of its stdout."""
        log = self._logs / f"{name}.log"
        leash = [sys.executable, "-m", "anr_watch.demo.leash", str(os.getpid())]
        # What a person has set for their own installation must not change the demo.
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("ANR_WATCH_", "HELDAR_"))
        }
        with log.open("ab") as errors:
            # The demo's own children; replay/process.py starts those of the daemon.
            process = await asyncio.create_subprocess_exec(  # noqa: TID251 - see above
                *leash,
                *program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if on_line else errors,
                stderr=errors,
                env=environment,
                start_new_session=True,
                limit=_LINE_LIMIT_BYTES,
            )
        child = Child(name, process, log)
        self._all.append(child)
        self._group.create_task(self._watch(child, on_line), name=f"child {name}")
        return child

    async def stop(self, child: Child) -> int:
        """End a child: close its stdin, SIGTERM, after a grace SIGKILL; return its exit status."""
        child.ending = True
        process = child.process
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        if not await _ended(child, self._grace_s):
            _kill(child)
            await _ended(child, self._grace_s)
        return -1 if process.returncode is None else process.returncode

    async def _watch(self, child: Child, on_line: Callable[[Child, str], None] | None) -> None:
        stdout = child.process.stdout
        while stdout is not None and (line := await stdout.readline()):
            if on_line is not None:
                on_line(child, line.decode(errors="replace").rstrip("\n"))
        status = await child.process.wait()
        if not child.ending:
            raise ChildFailedError(f"{child.name} ended with status {status}", child.tail())


def _kill(child: Child) -> None:
    if child.process.returncode is None:
        with suppress(ProcessLookupError):
            child.process.kill()


async def _ended(child: Child, timeout_s: float) -> bool:
    """Wait for the end without `asyncio.timeout`, which does not go with a task that is being cancelled."""
    waiter = asyncio.ensure_future(child.process.wait())
    done, _ = await asyncio.wait([waiter], timeout=timeout_s)
    if not done:
        waiter.cancel()
    return bool(done)
