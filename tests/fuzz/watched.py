"""Feeds one case after another to a target and watches what each costs; a case that breaks a promise is shown whole."""

import base64
import random
import resource
import signal
import time
from contextlib import contextmanager

from tests.fuzz.mutation import mutations
from tests.fuzz.targets import TARGETS

LONGEST_CASE_S = 5.0  # of processor time; the slowest honest file takes a tenth of a second
MOST_GROWTH_KB = 200_000


class BrokenPromiseError(AssertionError):
    """A target broke a promise."""


class _TooLong(BaseException):
    """Raised by the timer: not to be caught by what is tested."""


def feed(name: str, data: bytes) -> None:
    """Feed one case.

    Raises:
        BrokenPromiseError: whatever the target raised, or it took too long; holds the case.
    """
    begin = time.thread_time()
    try:
        TARGETS[name].feed(data)
    except (Exception, _TooLong) as error:
        raise BrokenPromiseError(_told(name, data, repr(error)[:400])) from error
    if time.thread_time() - begin > LONGEST_CASE_S:
        raise BrokenPromiseError(_told(name, data, f"took {time.thread_time() - begin:.1f} s"))


def _told(name: str, data: bytes, what: str) -> str:
    return f"{name}: {what}\ncase ({len(data)} bytes, base64): {base64.b64encode(data).decode()}"


@contextmanager
def _timer():
    """Let nothing take for ever: a case that does not end is broken off, and shown."""

    def over(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGVTALRM, over)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 2 * LONGEST_CASE_S)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run(name: str, *, seed: int, cases: int, seconds: float = float("inf")) -> int:
    """Feed changed real inputs until `cases` or `seconds` are over; return how many there were.

    Raises:
        BrokenPromiseError: see `feed`; or the memory of the process grew beyond what any case may need.
    """
    target = TARGETS[name]
    dice = random.Random(f"{name} {seed}")
    seeds = target.seeds()
    done, end = 0, time.monotonic() + seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _timer() as wind_up:
        for data in mutations(seeds, target.words, dice):
            if done >= cases or time.monotonic() >= end:
                break
            wind_up()
            feed(name, data)
            done += 1
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
            if grown > MOST_GROWTH_KB:
                raise BrokenPromiseError(_told(name, data, f"the process grew by {grown} kB"))
    return done
