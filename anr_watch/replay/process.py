"""The daemon's side of the replay workers: starts the forking parent and hands jobs over; it never imports av.

The only module of the daemon that starts a program, and that program is our own `forkserver`. One worker stands by,
forked and waiting for its job; further ones are forked while their fills look up what to ask for (`expected`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anr_watch
from anr_watch.errors import AnrWatchError
from anr_watch.replay.job import ReplayJob
from anr_watch.replay.running import LAST_S, Running, Tail

_log = logging.getLogger(__name__)

STAND_BY_S: Final = 0.5  # after a job was handed over
START_S: Final = 20.0  # loading av takes 0.1 s on a quiet machine
STARTS: Final = 3  # of a forking parent that somebody kills, the system for want of memory maybe
GRACE_S: Final = 5.0
# The daemon's environment holds secrets (HELDAR_SECRET_KEY); workers get only what finds libraries and certificates.
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")


class WorkersUnavailable(AnrWatchError):  # noqa: N818 - a state of the world, not a mistake
    """No worker can be started; the text says why."""


class NoDescriptors(WorkersUnavailable):
    """This process, or the machine, can open no more files."""


@dataclass(slots=True)
class _Worker:
    """A worker that was asked for, by its number, and our ends of its pipes."""

    number: int
    stdin: int
    stdout: int
    stderr: int
    pid: int | None = None

    def close(self) -> None:
        """Let go of it; one without a job ends at that."""
        for fd in (self.stdin, self.stdout, self.stderr):
            os.close(fd)


class Workers:
    """Starts replay workers. Use as `async with`; the forking parent starts with the first replay or `start()`."""

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._standing_by: list[_Worker] = []
        self._expected = 0
        self._next_one: asyncio.TimerHandle | None = None
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._ready: asyncio.Future[int] | None = None
        self._stderr: asyncio.BaseTransport | None = None
        self._running: dict[int, Running] = {}
        self._number = 0
        self._tail = Tail()
        self._status: int | None = None  # how the last forking parent ended; None: it had to be ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._running.values():
            running.kill()
        await self._shut()

    @property
    def pid(self) -> int | None:
        """Process id of the forking parent, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def killed(self) -> bool:
        """Whether the last forking parent was ended by a signal that was not ours."""
        return self._status is not None and self._status < 0

    async def launch(self) -> None:
        """Let the forking parent begin to load, on another core; `start` waits for it and says what is wrong."""
        async with self._starting:
            if self._socket is None:
                with contextlib.suppress(WorkersUnavailable):
                    await self._launch()

    async def start(self) -> None:
        """Start the forking parent, unless it runs, and let one worker stand by.

        Raises:
            WorkersUnavailable: it does not start (av is missing, no memory, ...).
        """
        await self._start()
        self._stand_by()

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """During the block it turns out what to ask for: a worker for that is forked meanwhile, on another core."""
        self._expected += 1
        try:
            self._fork_ahead(self._expected)
            yield
        finally:
            self._expected -= 1
            self._soon()

    @contextlib.asynccontextmanager
    async def replay(self, job: ReplayJob) -> AsyncIterator[Running]:
        """Run one job in a worker of its own; leaving early stops the worker and waits for its end."""
        running = Running(job)
        try:
            try:
                await self._begin(running)
            except BaseException:
                running.never_asked()
                raise
            yield running
        finally:
            try:
                await running.close(self._grace_s)
            finally:
                self._stand_by()  # the next camera need not wait for it
                self._running = {number: kept for number, kept in self._running.items() if kept is not running}

    async def _start(self) -> None:
        """Start the forking parent, unless it runs; one that is killed while it loads is started again."""
        async with self._starting:
            if self._socket is not None and self._ready is not None and self._ready.done():
                return
            for left in reversed(range(STARTS)):
                try:
                    if self._socket is None:
                        await self._shut()
                        await self._launch()
                    await self._until_ready()
                except WorkersUnavailable:
                    # What it dies of by itself (av is missing) it would die of again.
                    if not left or not self.killed:
                        raise
                else:
                    return

    async def _begin(self, running: Running) -> None:
        """Hand the job to the worker that stands by, or to a new one."""
        try:
            worker = await self._worker()
        except NoDescriptors as error:  # the parent is well
            running.never_started(str(error))
            return
        except (WorkersUnavailable, OSError) as error:
            self._lost()
            running.never_started(str(error) or "the replay workers cannot be started")
            return
        self._running[worker.number] = running
        if worker.pid is not None:
            running.started(worker.pid)
        await running.attach(worker.stdin, worker.stdout, worker.stderr)
        self._soon()

    async def _worker(self) -> _Worker:
        """Return the worker that stands by, or a new one.

        Raises:
            WorkersUnavailable, OSError: there is none to be had.
        """
        if self._standing_by:
            return self._standing_by.pop(0)
        await self._start()
        try:
            return self._fork()
        except OSError:  # a parent that died unnoticed is replaced once
            self._lost()
            await self._start()
            return self._fork()

    def _fork(self) -> _Worker:
        """Ask the parent for one more worker.

        Raises:
            NoDescriptors: none are left for its pipes.
            OSError: the parent is gone.
        """
        if self._socket is None:
            raise BrokenPipeError
        self._number += 1
        (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = _pipes()
        worker = _Worker(self._number, stdin_w, stdout_r, stderr_r)
        try:
            socket.send_fds(self._socket, [json.dumps({"id": worker.number}).encode()], [stdin_r, stdout_w, stderr_w])
        except OSError:
            worker.close()
            raise
        finally:
            for fd in (stdin_r, stdout_w, stderr_w):
                os.close(fd)
        return worker

    def _soon(self) -> None:
        """In a moment see to it that one worker stands by."""
        if self._next_one is None:
            self._next_one = asyncio.get_running_loop().call_later(STAND_BY_S, self._stand_by)

    def _stand_by(self) -> None:
        """Have one worker stand by, and as many more as are expected to be needed."""
        if self._next_one is not None:
            self._next_one.cancel()
            self._next_one = None
        wanted = max(1, self._expected)
        for worker in self._standing_by[wanted:]:
            worker.close()
        del self._standing_by[wanted:]
        self._fork_ahead(wanted)

    def _fork_ahead(self, count: int) -> None:
        # The next replay starts another parent, or says what is missing.
        with contextlib.suppress(OSError, NoDescriptors):
            while self._socket is not None and len(self._standing_by) < count:
                self._standing_by.append(self._fork())

    def _dismiss(self) -> None:
        """Let the workers that stand by go, and call no other."""
        if self._next_one is not None:
            self._next_one.cancel()
            self._next_one = None
        standing_by, self._standing_by = self._standing_by, []
        for worker in standing_by:
            worker.close()

    async def _launch(self) -> None:
        """Start the parent's process.

        Raises:
            WorkersUnavailable: it cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        loop = asyncio.get_running_loop()
        self._tail = Tail()
        stderr_r, stderr_w = os.pipe2(os.O_CLOEXEC)
        stderr, _ = await loop.connect_read_pipe(lambda: self._tail, os.fdopen(stderr_r, "rb", buffering=0))
        try:
            # The only place of the daemon that starts a program, and it is this one.
            self._process = await asyncio.create_subprocess_exec(  # noqa: TID251 - see above
                sys.executable,
                "-P",
                "-m",
                "anr_watch.replay.forkserver",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr_w,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            stderr.close()
            raise WorkersUnavailable(f"the replay workers cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
            os.close(stderr_w)
        self._socket, self._ready, self._stderr = ours, loop.create_future(), stderr
        loop.add_reader(ours.fileno(), self._on_message)

    async def _until_ready(self) -> None:
        """Wait until the parent has loaded everything.

        Raises:
            WorkersUnavailable: it ended, or hangs.
        """
        if self._ready is None:
            raise WorkersUnavailable("the replay workers are gone")
        try:
            async with asyncio.timeout(START_S):
                await asyncio.shield(self._ready)
        except (TimeoutError, ConnectionError) as error:
            hung = isinstance(error, TimeoutError)
            await self._shut(LAST_S if hung else START_S)  # on a busy machine a process is not dead at once
            how = f"nothing within {START_S:g} s" if hung else f"exit status {self._status}"
            raise WorkersUnavailable(f"the replay workers do not start: {how}: {self._tail.text()}") from None
        finally:
            self._close_stderr()

    def _close_stderr(self) -> None:
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _on_message(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(256)
            message = json.loads(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if isinstance(message, dict):
            self._told(message)
        else:
            self._lost()

    def _told(self, message: dict[str, int]) -> None:
        if "ready" in message and self._ready is not None and not self._ready.done():
            self._ready.set_result(message["ready"])
        number = message.get("id", 0)
        running, waiting = self._running.get(number), [w for w in self._standing_by if w.number == number]
        if running is not None and "pid" in message:
            running.started(int(message["pid"]))
        elif running is not None and "exit" in message:
            running.exited(int(message["exit"]))
        elif waiting and "exit" in message:  # somebody killed it
            self._standing_by.remove(waiting[0])
            waiting[0].close()
            self._soon()
        elif waiting:
            waiting[0].pid = message.get("pid")

    def _lost(self) -> None:
        """The forking parent is gone; its workers go on and are heard through their own pipes."""
        lost, self._socket = self._socket, None
        self._dismiss()
        if lost is None:
            return
        asyncio.get_running_loop().remove_reader(lost.fileno())
        lost.close()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ConnectionError())
            self._ready.exception()  # who waited for it may have been cancelled, and then nobody would ask
            return
        for running in self._running.values():
            running.exited(None)
        if self._running:
            _log.warning("the parent of the replay workers is gone; a new one starts with the next replay")

    async def _shut(self, patience_s: float = LAST_S) -> None:
        self._lost()
        self._close_stderr()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                self._status = await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self._status = None


def _pipes() -> list[tuple[int, int]]:
    """Return three pipes.

    Raises:
        NoDescriptors: none are left; the forking parent is well.
    """
    pipes: list[tuple[int, int]] = []
    try:
        for _ in range(3):
            pipes.append(os.pipe2(os.O_CLOEXEC))  # noqa: PERF401 - what was opened must be closed when one fails
    except OSError as error:
        for fd in (fd for pipe in pipes for fd in pipe):
            os.close(fd)
        raise NoDescriptors(f"the replay workers cannot be started: {error.strerror}") from None
    return pipes


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    root = str(Path(anr_watch.__file__).resolve().parent.parent)
    # Two arenas: glibc would reserve 64 MB of address space for each thread.
    return kept | {"PYTHONPATH": root, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
