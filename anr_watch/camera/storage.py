"""What the card of a simulated camera holds, and which pictures a window gives; it knows no protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from anr_watch.camera.faults import Faults
from anr_watch.camera.film import FilmSpec
from anr_watch.camera.query import Window
from anr_watch.clock import Clock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """Frames without a hole between them, `first` (a key frame) up to, not including, `end`."""

    first: int
    end: int


def micros(instant: datetime) -> int:
    """Return microseconds since 1970 of an aware instant."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


class Storage:
    """The recorded windows of one camera, in true UTC.

    Everything up to now is recorded unless `recorded` lists windows; `holes` are never there, footage older
    than `retention_s` is gone, and the newest `closing_s` seconds stand in a file the camera has not closed
    yet. `clock_offset_s` is how far the camera's own clock runs ahead of true time: it reads queries and
    writes sender reports in its own time. Windows and holes may be changed while the camera runs.
    """

    def __init__(self, film: FilmSpec, clock: Clock) -> None:
        self._film = film
        self._clock = clock
        self.recorded: list[tuple[datetime, datetime]] | None = None
        self.holes: list[tuple[datetime, datetime]] = []
        self.retention_s: float | None = None
        self.closing_s: float = 0.0
        self.clock_offset_s: float = 0.0

    @property
    def clock_offset_us(self) -> int:
        """How far the camera's clock is ahead, in microseconds."""
        return round(self.clock_offset_s * 1e6)

    def now_us(self) -> int:
        """Return true UTC, microseconds since 1970."""
        return micros(self._clock.now())

    def runs(self, window: Window, faults: Faults | None = None) -> list[Run]:
        """Return what is sent for a window of the camera's clock: from the key frame at or before its start.

        `faults` may shift the ends of the window or take a hole out of it.
        """
        faults = faults or Faults()
        asked_us = window.start_us - self.clock_offset_us
        now_us = self.now_us()
        end_us = now_us if window.end_us is None else window.end_us - self.clock_offset_us
        start_us = asked_us + round((faults.late_start_s - faults.early_start_s) * 1e6)
        end_us += round((faults.overrun_s - faults.short_window_s) * 1e6)
        pieces = self._recorded_pieces(now_us)
        if faults.hole is not None:
            pieces = _without(
                pieces, (asked_us + round(faults.hole[0] * 1e6), asked_us + round(faults.hole[1] * 1e6))
            )
        runs = (self._run(piece, start_us, end_us) for piece in pieces)
        return [run for run in runs if run is not None]

    def _recorded_pieces(self, now_us: int) -> list[tuple[int, int]]:
        oldest_us = 0 if self.retention_s is None else now_us - round(self.retention_s * 1e6)
        newest_us = now_us - round(self.closing_s * 1e6)
        if self.recorded is None:
            pieces = [(oldest_us, newest_us)]
        else:
            known = sorted((micros(start), micros(end)) for start, end in self.recorded)
            pieces = [(max(start, oldest_us), min(end, newest_us)) for start, end in known]
        for start, end in self.holes:
            pieces = _without(pieces, (micros(start), micros(end)))
        return [piece for piece in pieces if piece[0] < piece[1]]

    def _run(self, piece: tuple[int, int], start_us: int, end_us: int) -> Run | None:
        film = self._film
        from_us, to_us = max(piece[0], start_us), min(piece[1], end_us)
        if from_us >= to_us:
            return None
        first = film.key_frame_before(film.first_frame_at(from_us))
        recorded_from = film.first_frame_at(piece[0])
        if first < recorded_from:  # that key frame was not recorded: decoding can begin at the next one only
            first += film.gop_frames
        end = film.first_frame_at(to_us)
        return Run(first, end) if first < end else None


def _without(pieces: Iterable[tuple[int, int]], hole: tuple[int, int]) -> list[tuple[int, int]]:
    """Return half-open `pieces` minus `hole`."""
    left: list[tuple[int, int]] = []
    for start, end in pieces:
        if hole[1] <= start or end <= hole[0]:
            left.append((start, end))
            continue
        if start < hole[0]:
            left.append((start, hole[0]))
        if hole[1] < end:
            left.append((hole[1], end))
    return left
