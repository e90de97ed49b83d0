"""What of a gap's time is really recorded, given how coarse the recorder's times are. Pure.

A recorder names its files by the second, so a file called 12:00:07 holds footage from somewhere in
[12:00:07, 12:00:08). Taken at its word, up to a second in front of the first file after an outage would
count as recorded and never be fetched. Our own rows carry the true start to the microsecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from anr_watch.model import Coverage, Segment, Window, merge, subtract

NAME_STEP_S = 1.0  # resolution of a recorder's file names
# Neighbouring files of one recording: a name cut down by up to 1 s, plus the frame between them.
CONTIGUOUS_S = 1.5
# Time stamps of neighbouring pictures jitter; what is shorter than this is no hole.
SMALLEST_HOLE_S = 0.2
# A fill that ends this close to the gap's edge has covered it: names, clocks and frame times are that coarse.
TOLERANCE_S = 1.0


def trusted(segments: Iterable[Segment]) -> Coverage:
    """Return the time certainly covered by `segments`.

    Runs of a recorder's own files count from one name step after the start of the run, because only the first
    file of a run can begin later than its name says without a hole; files of ours count as they are.
    """
    exact: list[Window] = []
    named: list[Window] = []
    for segment in segments:
        (exact if segment.ours else named).append(segment.window)
    step = timedelta(seconds=NAME_STEP_S)
    certain = [
        Window(run.start + step, run.end) for run in merge(named, join_s=CONTIGUOUS_S) if run.seconds > NAME_STEP_S
    ]
    return merge([*exact, *certain], join_s=SMALLEST_HOLE_S)


def missing(window: Window, covered: Coverage) -> Coverage:
    """Return what has to be fetched so that `window` is recorded without a hole."""
    return tuple(piece for piece in subtract(window, covered) if piece.seconds >= SMALLEST_HOLE_S)


def still_missing(
    window: Window,
    covered: Coverage,
    *,
    settled_before: datetime | None = None,
    unreached: Collection[datetime] = (),
) -> Coverage:
    """Return what counts as not recovered of `window`: pieces longer than the tolerance.

    A camera's newest seconds may not be in its storage yet, so nothing is tolerated of a piece that ends after
    `settled_before`: it is fetched again when the camera has settled. Nor of one that touches an instant in
    `unreached`: there the recorded pictures go on, and what came did not get that far.
    """
    return tuple(
        piece
        for piece in subtract(window, covered)
        if piece.seconds > TOLERANCE_S
        or (
            piece.seconds >= SMALLEST_HOLE_S
            and (
                (settled_before is not None and piece.end > settled_before)
                or any(piece.start <= instant <= piece.end for instant in unreached)
            )
        )
    )


def partition(window: Window, missing_pieces: Coverage) -> tuple[tuple[Window, bool], ...]:
    """Return `window` cut into (piece, is it filled), in order, without overlap or hole."""
    filled = subtract(window, missing_pieces)
    pieces = [(piece, True) for piece in filled] + [(piece, False) for piece in missing_pieces]
    return tuple(sorted(pieces))
