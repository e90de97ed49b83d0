"""What a replay costs a camera: a bucket of bytes that empties when it replays faster than it can; it sends nothing.

Small cameras read their card, encode and send with one processor: a replay that is too fast, or on some any replay,
takes from the live stream. The bucket stands for the buffers between card and network, so that a burst at the
beginning, which a camera's own socket takes up, does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from anr_watch.camera.faults import Faults, Suffers

_BUFFER_BYTES: Final = 128 * 1024
_BUFFER_S: Final = 0.25  # of the rate it can bear
_RECOVERY_S: Final = 0.5  # at most so long after the end of what was too much
SOCKET_BYTES: Final = 16 * 1024  # what such a camera's socket takes up


class Strain:
    """The bucket of one camera. `faults` gives the present ones; times are monotonic seconds."""

    def __init__(self, faults: Callable[[], Faults], monotonic: Callable[[], float]) -> None:
        self._faults, self._monotonic = faults, monotonic
        self._level: float | None = None
        self._at_s = 0.0
        self._playing = 0

    @property
    def matters(self) -> bool:
        """Whether live suffers from replays at all."""
        return self._faults().live_suffers is not Suffers.NOT

    def begin(self) -> None:
        """A replay plays."""
        self._playing += 1

    def end(self) -> None:
        """It does not play any more."""
        self._playing -= 1

    def sent(self, count: int) -> None:
        """Note bytes of a replay."""
        faults = self._faults()
        if faults.live_limit_bytes_s > 0:
            level = self._filled(faults.live_limit_bytes_s) - count
            self._level = max(level, -_RECOVERY_S * faults.live_limit_bytes_s)

    def suffers(self) -> Suffers:
        """Return what live suffers at this moment."""
        faults = self._faults()
        limit = faults.live_limit_bytes_s
        too_much = self._filled(limit) < 0 if limit > 0 else self._playing > 0
        return faults.live_suffers if too_much else Suffers.NOT

    def _filled(self, limit: float) -> float:
        now_s, full = self._monotonic(), _BUFFER_BYTES + _BUFFER_S * limit
        level = full if self._level is None else min(full, self._level + (now_s - self._at_s) * limit)
        self._level, self._at_s = level, now_s
        return level
