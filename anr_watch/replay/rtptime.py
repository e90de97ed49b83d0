"""Brings libavformat's time stamps back to the camera's RTP clock. Pure.

With more than one RTP stream libavformat derives pts from the NTP times of sender reports. When those say the
present, a fast replay runs back to almost zero at each report (measured: 2 s of footage became 41 ms). The
report and the producer time of a packet together still hold its RTP time stamp, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TICKS: Final = 90_000
_WRAP: Final = 1 << 32
_PLAUSIBLE: Final = TICKS  # a first report moves pts by less than this when it only aligns sound and picture


@dataclass(frozen=True, slots=True)
class Report:
    """One RTCP sender report: `rtp` on the sender's clock is the instant `ntp_us` (microseconds since 1970)."""

    ntp_us: int
    rtp: int


class RtpTime:
    """The RTP clock of one stream, unwrapped, in ticks of 1/90000 s from libavformat's own zero."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._report: Report | None = None
        self._rtp: int | None = None  # of the newest unit, 32 bits
        self._run = 0  # clock ticks since the anchor
        self._anchor = 0
        self._next: int | None = None

    def media(self, pts: int, duration: int, utc_us: int | None, report: Report | None) -> int:
        """Return where a unit stands, given libavformat's pts, its producer time and a report that came before it."""
        if report is not None:
            self._report = report
        if self._report is None or utc_us is None:
            self._next = pts + duration
            return pts
        since = round((utc_us - self._report.ntp_us) * self._rate_hz / 1_000_000)
        rtp = (self._report.rtp + since) % _WRAP
        if self._rtp is None:
            aligned = self._next is None or abs(pts - self._next) <= _PLAUSIBLE
            self._anchor = pts if aligned or self._next is None else self._next
        else:
            step = (rtp - self._rtp) % _WRAP
            self._run += step - _WRAP if step >= _WRAP // 2 else step
        self._rtp = rtp
        return self._anchor + self._run * TICKS // self._rate_hz
