"""A small process with libav loaded that forks one worker per job; it reads no network bytes and knows no URL.

Forking costs 7 ms where a new interpreter that imports av takes 72 to 105 ms. Messages on the socket (one JSON
object per packet): in `{"id": n}` with the worker's stdin, stdout and stderr as file descriptors; out
`{"id": n, "pid": p}` and later `{"id": n, "exit": status}`, negative for a signal. It ends when the daemon's end
of the socket closes; its workers do not, they hang on the daemon by their own stdin.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Final, NoReturn

# Everything a worker needs is loaded here, once, so that a fork is all it takes to have one.
from anr_watch.replay.worker import serve, warm_up

MESSAGE_BYTES: Final = 256
_FDS: Final = 3
CRASHED: Final = 70


def main(socket_fd: int) -> int:
    """Serve until the daemon is gone; return the exit status."""
    os.set_inheritable(socket_fd, False)  # noqa: FBT003 - the standard library's own signature
    with socket.socket(fileno=socket_fd) as control:
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        workers: dict[int, int] = {}
        poll = select.poll()
        poll.register(control.fileno(), select.POLLIN)
        poll.register(wake_r, select.POLLIN)
        warm_up()
        gc.collect()
        gc.freeze()  # what is loaded now is never collected, so its pages stay shared with the workers
        _send(control, {"ready": os.getpid()})
        while True:
            for fd, _ in poll.poll():
                if fd == wake_r:
                    os.read(wake_r, 512)
                    _reap(control, workers)
                elif not _accept(control, workers, (wake_r, wake_w)):
                    return 0


def _accept(control: socket.socket, workers: dict[int, int], ours: tuple[int, ...]) -> bool:
    """Start one worker; return whether the daemon is still there."""
    data, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, _FDS)
    if not data:
        return False
    job = json.loads(data)["id"]
    pid = os.fork()
    if pid == 0:
        _become_worker(control, fds, ours)
    for fd in fds:
        os.close(fd)
    workers[pid] = job
    return _send(control, {"id": job, "pid": pid})


def _become_worker(control: socket.socket, fds: list[int], ours: tuple[int, ...]) -> NoReturn:
    status = CRASHED
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        control.close()
        for fd in ours:
            os.close(fd)
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        for fd in fds:
            if fd >= _FDS:
                os.close(fd)
        status = serve()
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's loop
        os.write(2, f"{type(error).__name__} in the worker\n".encode())
        _trace(error)
    finally:
        os._exit(status)


def _trace(error: BaseException) -> None:
    """Say where it happened, without values, which could hold the URL."""
    at = error.__traceback__
    while at is not None:
        os.write(2, f"  {os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}\n".encode())  # noqa: PTH119 - no import in a crash
        at = at.tb_next


def _reap(control: socket.socket, workers: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        job = workers.pop(pid, None)
        if job is not None:
            _send(control, {"id": job, "exit": os.waitstatus_to_exitcode(status)})


def _send(control: socket.socket, message: dict[str, int]) -> bool:
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
