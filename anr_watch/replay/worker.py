"""A worker process: one job on stdin, events on stdout, then it is gone. It never sees the database or the broker.

It reads bytes from the network, so it is confined first. It lives no longer than its stdin is open at the other
end: a daemon that dies, however it dies, takes its workers with it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from anr_watch.errors import ParseError
from anr_watch.log import one_line, redact
from anr_watch.model import Secret, Window
from anr_watch.replay.feed import Poised
from anr_watch.replay.job import Ended, Event, Opened, ReplayJob
from anr_watch.replay.replay import Replay
from anr_watch.replay.source import LibavSource, rehearse
from anr_watch.replay.wire import MAX_JOB_BYTES, event_line, job_line, parse_job
from anr_watch.states import Reason

MEMORY_BYTES: Final = 1 << 30  # a replay of any length takes below 100 MB; libav maps about 200 MB of code and stacks
FILE_BYTES: Final = 8 << 30  # no segment is this long
FILES: Final = 64
# 6 to 16 ms per MB and 4 ms per second with sound were measured: 0.1 s for a second of 4K.
CPU_SPARE_S: Final = 120
CPU_PER_S: Final = 1.0
NICE: Final = 5  # live recording comes first
STOP_LINE: Final = b"stop\n"
ORPHANED: Final = 3  # exit status: the daemon is gone
BAD_JOB: Final = 2

# The worker has no Clock: it is one process for one job, and nothing in it is tested against another time.
_monotonic: Final = time.monotonic  # noqa: TID251 - see above


def _wall_us() -> int:
    return time.time_ns() // 1000


def confine() -> None:
    """Give up what a replay does not need; irrevocable."""
    os.umask(0o077)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),  # a core file would hold the URL
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, FILES),
    ):
        _, hard = resource.getrlimit(what)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (allowed, allowed))


def _limit_work(job: ReplayJob) -> None:
    """Give the worker no more processor time than its footage can cost, with the slowest machines in mind."""
    allowed = CPU_SPARE_S + round(CPU_PER_S * job.asked.seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or allowed < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))


def warm_up() -> None:
    """Do once, before there is a job, what is slow the first time: in the parent, and in a worker that stands by.

    Otherwise that processor time lies between the job and the camera.
    """
    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(start, start + timedelta(seconds=1))
    url = Secret("rtsp://u:p@camera/")
    line = job_line(
        ReplayJob(
            url=url,
            asked=window,
            keep=window,
            staging=Path("/"),
            head=(b"1",),
            tail=(b"2",),
            head_at=start,
            tail_at=start,
        )
    )
    job = parse_job(line)
    source = LibavSource(job, _monotonic)
    Replay(job, source, emit=lambda _: None, stop=threading.Event(), monotonic=_monotonic, wall_us=_wall_us)
    event_line(Ended(Reason.INTERRUPTED))
    rehearse()


def serve(job_fd: int = 0, event_fd: int = 1) -> int:
    """Do the job that comes on `job_fd`; return the exit status."""
    confine()
    control, reader = Poised("control"), Poised("reader")
    warm_up()
    line, rest = _first_line(job_fd)
    try:
        job = parse_job(line)
    except ParseError as error:
        _emit(event_fd, Ended(Reason.BAD_CONFIG, f"the worker got no job: {error}"))
        return BAD_JOB
    _limit_work(job)
    stop = threading.Event()
    if rest:
        stop.set()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    control.begin(lambda: _listen(job_fd, stop))
    source = LibavSource(job, _monotonic)
    replay = Replay(
        job,
        source,
        emit=lambda event: _tell(event_fd, event),
        stop=stop,
        monotonic=_monotonic,
        wall_us=_wall_us,
        reader=reader,
    )
    ended = replay.run()
    detail = one_line(redact(ended.detail, [job.url.reveal()]), 300)
    _emit(event_fd, replace(ended, detail=detail))
    return 0


def _first_line(fd: int) -> tuple[bytes, bytes]:
    """Return the job's line and what came after it."""
    data = b""
    while b"\n" not in data and len(data) <= MAX_JOB_BYTES:
        part = os.read(fd, MAX_JOB_BYTES)
        if not part:
            os._exit(ORPHANED)
        data += part
    line, _, rest = data.partition(b"\n")
    return line, rest


def _listen(fd: int, stop: threading.Event) -> None:
    """Wait for the stop line, or for the end of the daemon, which ends this process at once."""
    while True:
        try:
            data = os.read(fd, len(STOP_LINE))
        except OSError:
            data = b""
        if not data:
            os._exit(ORPHANED)
        if data.startswith(STOP_LINE[:1]):
            stop.set()


def _tell(fd: int, event: Event) -> None:
    if isinstance(event, Opened):
        # Asking is urgent, fetching is not. The group: niceness belongs to threads, and the reader is one already.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, 0, NICE)
    _emit(fd, event)


def _emit(fd: int, event: Event) -> None:
    data = event_line(event)
    while data:
        try:
            data = data[os.write(fd, data) :]
        except OSError:
            os._exit(ORPHANED)
