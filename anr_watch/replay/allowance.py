"""How much a replay may take for the footage it brings: bytes, files, breaks, time. Pure; it ends nothing itself.

A camera that is broken, or means harm, can send for ever and keep every single bound of a stream: pictures that all
show the same instant, new parameter sets with each of them, a second of footage per minute. What it brings decides.
"""

from __future__ import annotations

from typing import Final

from anr_watch.replay.rtptime import TICKS
from anr_watch.states import Reason

SPARE_BYTES: Final = 64 << 20  # queues, a group before the start, key frames of 8K
MOST_BYTES_S: Final = 12_500_000  # 100 Mbit/s of footage: three times what 8K cameras store
SPARE_FILES: Final = 50
SPARE_BREAKS: Final = 200
SPARE_S: Final = 120.0  # of slow begin: cameras spin disks up
SLOWEST: Final = 20.0  # a twentieth of life speed; links slower than that bring nothing back before it is deleted


class Allowance:
    """What one replay has brought so far, and whether it takes too much for it."""

    def __init__(self, wanted_s: float, max_bytes_s: float) -> None:
        self._wanted_s, self._max_bytes_s = wanted_s, max_bytes_s
        self._first: int | None = None
        self._top = 0
        self.files = 0
        self.breaks = 0

    def saw(self, pts: int) -> None:
        """Note where a picture lies, in ticks."""
        if self._first is None:
            self._first = self._top = pts
        self._top = max(self._top, pts)

    def exceeded(self, received_bytes: int, playing_s: float) -> tuple[Reason, str] | None:
        """Return why the replay has to end, given what was received since its first packet, `playing_s` ago."""
        footage_s = 0.0 if self._first is None else min((self._top - self._first) / TICKS, 2 * self._wanted_s)
        if received_bytes > SPARE_BYTES + MOST_BYTES_S * footage_s:
            return Reason.BAD_MEDIA, f"{received_bytes >> 20} MB for {footage_s:.0f} s of footage"
        if self.files > SPARE_FILES + self._wanted_s / 2:
            return Reason.BAD_MEDIA, f"{self.files} pieces of {footage_s:.0f} s together"
        if self.breaks > SPARE_BREAKS + self._wanted_s:
            return Reason.BAD_MEDIA, f"time stamps jumped {self.breaks} times"
        capped_s = received_bytes / self._max_bytes_s if self._max_bytes_s > 0 else 0.0
        if playing_s - capped_s - SPARE_S > footage_s * SLOWEST:
            return Reason.STALLED, f"only {footage_s:.0f} s of footage within {playing_s:.0f} s"
        return None
