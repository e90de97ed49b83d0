"""Becomes another program that gets SIGTERM when the process that started it dies, however it dies; nothing else.

    python -m anr_watch.demo.leash PARENT_PID PROGRAM ARGUMENT...

Linux's PR_SET_PDEATHSIG survives exec (prctl(2)), so brokers and daemons need not know that they are on a leash.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put the leash on and become the program; exit status 127 if there is no such program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the leash was on
        sys.exit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606 - a list of arguments from our own parent, no shell
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
