"""The daemon's handle of one worker: its pipes, its events, its end. It starts nothing and never imports av.

A worker reads bytes from the network, so nothing it says is trusted: lines are bounded and parsed strictly, every
wait has a bound, and whatever happens the last event is `Ended`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final, Self

from anr_watch.errors import ParseError
from anr_watch.log import one_line, redact
from anr_watch.replay.job import Ended, Event, Progress, ReplayJob
from anr_watch.replay.wire import MAX_LINE_BYTES, job_line, parse_event
from anr_watch.states import Reason

LAST_S: Final = 2.0  # for what must happen at once: the end of a killed process, its exit status
MARGIN_S: Final = 10.0  # a worker that says nothing for this much longer than it may be silent hangs
_TAIL_BYTES: Final = 4096
_STOP: Final = b"stop\n"
# Signals by which a process dies of what it reads; others come from outside.
_CRASHES: Final = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGXFSZ,
    signal.SIGXCPU,
}


class Tail(asyncio.Protocol):
    """The last few kilobytes of a stderr."""

    def __init__(self) -> None:
        self._data = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keep the end of what comes."""
        self._data += data
        del self._data[:-_TAIL_BYTES]

    def text(self, job: ReplayJob | None = None) -> str:
        """Return it as one line without credentials."""
        secrets = () if job is None else (job.url.reveal(),)
        return one_line(redact(self._data.decode("utf-8", "replace").strip(), secrets), 300)


class Running:
    """One replay: iterate its events; the last is always `Ended`."""

    def __init__(self, job: ReplayJob) -> None:
        self._job = job
        self.pid: int | None = None  # of the worker, and of its process group
        self._exit: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self._tail = Tail()
        self._transports: list[asyncio.BaseTransport] = []
        self._stdin: int | None = None
        self._ended: Ended | None = None
        self._stillborn: Ended | None = None
        self._last = Progress(0, None)
        self._patience_s = job.connect_timeout_s + 2 * job.stall_timeout_s + MARGIN_S

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._ended is not None:
            raise StopAsyncIteration
        if self._stillborn is not None:
            self._ended = self._stillborn
            return self._ended
        try:
            async with asyncio.timeout(self._patience_s):
                line = await self._reader.readline()
            event = parse_event(line) if line else await self._obituary()
        except TimeoutError:
            event = self._given_up(Reason.STALLED, f"the worker hung for {self._patience_s:g} s")
        except (ParseError, ValueError) as error:  # ValueError: readline's limit
            event = self._given_up(Reason.BAD_MEDIA, f"the worker sent nonsense: {error}")
        if isinstance(event, Ended):
            self._ended = event
        elif isinstance(event, Progress):
            self._last = event
        return event

    async def stop(self) -> None:
        """Ask for a graceful end: the open segment is finished, `Ended` follows."""
        self._write(_STOP)

    def kill(self) -> None:
        """End the worker at once; what it has not finished is lost."""
        gone = self._exit.done() and self._exit.result() is not None
        if self.pid is not None and not gone:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _obituary(self) -> Ended:
        """Say what ended a worker that did not say it itself."""
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                status = await asyncio.shield(self._exit)
        cause, text = Reason.INTERRUPTED, "the worker is gone"
        if status is not None and status < 0:
            cause = Reason.BAD_MEDIA if -status in _CRASHES else Reason.INTERRUPTED
            text = f"worker died: signal {-status}"
        elif status is not None:
            cause, text = Reason.BAD_MEDIA, f"worker died: exit status {status}"
        tail = self._tail.text(self._job)
        return self._given_up(cause, f"{text}: {tail}" if tail else text)

    def _given_up(self, cause: Reason, detail: str) -> Ended:
        self.kill()
        return Ended(cause, detail, bytes=self._last.bytes, until=self._last.until)

    def _write(self, data: bytes) -> None:
        # A pipe takes 64 KiB without a reader; what is written here is one line and one word.
        if self._stdin is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._stdin, data)

    async def attach(self, stdin: int, stdout: int, stderr: int) -> None:
        """Hand over the job, first of all, and take over our ends of the worker's pipes."""
        loop = asyncio.get_running_loop()
        self._stdin = stdin
        os.set_blocking(stdin, False)
        self._write(job_line(self._job))
        pipes = [os.fdopen(fd, "rb", buffering=0) for fd in (stdout, stderr)]
        for pipe, protocol in zip(pipes, (asyncio.StreamReaderProtocol(self._reader), self._tail), strict=True):
            transport, _ = await loop.connect_read_pipe(lambda kept=protocol: kept, pipe)  # type: ignore[misc]
            self._transports.append(transport)

    def started(self, pid: int) -> None:
        """Note the worker's process id, which is its process group, too."""
        self.pid = pid

    def exited(self, status: int | None) -> None:
        """Note its exit status, negative for a signal, None when nobody will ever know."""
        if not self._exit.done():
            self._exit.set_result(status)

    def never_started(self, detail: str) -> None:
        """Make this a replay that ended before it began."""
        self._stillborn = Ended(Reason.INTERRUPTED, one_line(detail, 300))
        self.exited(None)

    def never_asked(self) -> None:
        """Make this a replay whose worker got no job, and maybe never came to be: there is nothing to wait for.

        A worker that was forked meanwhile ends at the end of its stdin, which `close` brings about.
        """
        self.never_started("given up before the worker had its job")

    async def close(self, grace_s: float) -> None:
        """Stop the worker if it still runs, wait for its end, kill it after `grace_s`; also when cancelled."""
        try:
            self._write(_STOP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    async for _ in self:  # a worker that waits for its pipe to drain could not end
                        pass
                    await asyncio.shield(self._exit)
        finally:
            self.kill()
            if self._stdin is not None:
                os.close(self._stdin)
                self._stdin = None
            for transport in self._transports:
                transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await asyncio.shield(self._exit)
