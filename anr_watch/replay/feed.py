"""The reader thread of a worker and the bounded queue behind it; it touches no file and decides nothing.

libav blocks inside C calls that no other thread can end, so it gets a thread of its own; whoever watches it can
still see within a tenth of a second that nothing comes. The queue is bounded in bytes: when it is full the reader
waits, TCP's window closes, and the camera sends no faster than we write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from anr_watch.replay.failures import Failure
from anr_watch.replay.source import PacketSource, Playing, SourceFailed
from anr_watch.replay.stamps import Unit
from anr_watch.states import Reason

QUEUE_BYTES: Final = 8 * 1024 * 1024
_QUEUE_UNITS: Final = 4096  # sound comes in many small blocks


class Poised:
    """A thread that is there already and begins as soon as it is told what to do.

    A new thread has to be given a processor before its maker goes on, which takes long on a busy machine.
    """

    def __init__(self, name: str) -> None:
        self._told = threading.Lock()
        self._told.acquire()
        self._work: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._wait, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], None]) -> None:
        """Let it do `work`, once."""
        self._work = work
        self._told.release()

    def join(self, wait_s: float) -> None:
        """Wait for its end, but not for longer."""
        self._thread.join(wait_s)

    def _wait(self) -> None:
        self._told.acquire()
        self._work()


class Feed:
    """Runs a source in a thread of its own. `playing` is set once it plays, `failure` or `over` at its end."""

    def __init__(
        self,
        source: PacketSource,
        *,
        monotonic: Callable[[], float],
        max_bytes_s: float,
        reader: Poised | None = None,
    ) -> None:
        self._source = source
        self._monotonic = monotonic
        self._max_bytes_s = max_bytes_s
        self._change = threading.Condition()
        self._queue: list[Unit] = []
        self._queued_bytes = 0
        self._stop = False
        self._asking_since: float | None = monotonic()
        self._reader = reader
        self.playing: Playing | None = None
        self.first_at: float | None = None
        self.failure: Failure | None = None
        self.over = False
        self.bytes = 0

    def start(self) -> None:
        """Start reading."""
        if self._reader is None:
            self._reader = Poised("reader")
        self._reader.begin(self._run)

    @property
    def connected(self) -> bool:
        """Whether the TCP connection was there once."""
        return self._source.connected

    @property
    def strayed(self) -> str:
        """Where the camera wanted to lead us, if it did."""
        return self._source.strayed

    def silent_s(self) -> float:
        """Return how long the source has been asked for the next packet without an answer."""
        since = self._asking_since
        return 0.0 if since is None else self._monotonic() - since

    def take(self, wait_s: float) -> list[Unit]:
        """Return what has come, after at most `wait_s`."""
        with self._change:
            if not self._queue and not self.over and self.failure is None:
                self._change.wait(wait_s)
            units, self._queue, self._queued_bytes = self._queue, [], 0
            if units:
                self._change.notify_all()
            return units

    @property
    def ended(self) -> bool:
        """Whether nothing more will come (what has come may still be in the queue)."""
        return self.over or self.failure is not None

    def stop(self, wait_s: float) -> None:
        """Let the reader close the source, and give it `wait_s` to do so; one that hangs is left behind."""
        with self._change:
            self._stop = True
            self._change.notify_all()
        if self._reader is not None:
            self._reader.join(wait_s)

    def _run(self) -> None:
        try:
            self.playing = self._source.open()
            self._read()
        except SourceFailed as error:
            self._end(error.failure)
        except MemoryError:
            self._end(Failure(Reason.BAD_MEDIA, "the stream needs more memory than a worker may take"))
        except Exception as error:  # noqa: BLE001 - a thread that dies silently would look like a stalled camera
            self._end(Failure(Reason.BAD_MEDIA, f"the reader broke: {type(error).__name__}"))
        else:
            self._end(None)
        # Not before the other side is done: segment headers are made from the source's own streams, and libav frees
        # those when the source is closed (measured: a crash, SIGSEGV).
        with self._change:
            self._change.wait_for(lambda: self._stop)
        self._source.close()

    def _end(self, failure: Failure | None) -> None:
        with self._change:
            self.failure, self.over = failure, failure is None
            self._asking_since = None
            self._change.notify_all()

    def _read(self) -> None:
        debt_s, last = 0.0, self._monotonic()
        for unit in self._source.units():
            now = self._monotonic()
            self._asking_since = None
            if self.first_at is None:
                self.first_at = now
            if self._max_bytes_s > 0:
                debt_s = max(0.0, debt_s - (now - last)) + unit.size / self._max_bytes_s
                last = now
            with self._change:
                self._queue.append(unit)
                self._queued_bytes += unit.size
                self.bytes += unit.size
                if len(self._queue) == 1:
                    self._change.notify_all()
                while not self._stop and (self._queued_bytes > QUEUE_BYTES or len(self._queue) > _QUEUE_UNITS):
                    self._change.wait(1.0)
                if debt_s > 0.02 and not self._stop:  # shorter waits cost more than they even out
                    self._change.wait_for(lambda: self._stop, debt_s)
                if self._stop:
                    return
            self._asking_since = self._monotonic()
