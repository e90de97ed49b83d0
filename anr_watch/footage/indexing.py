"""Decides when a recorder's file is finished, what it covers, and where footage is missing. Pure.

For databases of our own only: beside a kernel the kernel does this.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from anr_watch.footage.folder import FootageFile
from anr_watch.model import Coverage, Segment, Window

# The last file may grow in bursts that far apart; the kernel allows the same.
QUIET_EXTRA_S: Final = 15.0
# A file with a later sibling is closed, but it may be one that is being copied in, or one of ours that was moved
# into place a moment ago and gets its row from the fill that wrote it.
SETTLED_S: Final = 5.0
# Names are a second coarse and recorders cut at key pictures: ends reach a little into the next file.
_OVERLAP_S: Final = 2.0


def settles_in_s(
    file: FootageFile, now: datetime, *, segment_s: float, is_newest: bool, closed: bool = False
) -> float:
    """Return in how many seconds `file` can be taken as finished; 0 or less: it is.

    Without a later sibling it has to be silent for the length of a segment and a bit, unless it was seen `closed`.
    """
    if closed:
        return 0.0
    quiet_s = segment_s + QUIET_EXTRA_S if is_newest else SETTLED_S
    changed_s = file.mtime_s if is_newest else max(file.mtime_s, file.changed_s)
    # A time in the future is a clock that was set back: it must not hold the file for longer than silence would.
    return min(changed_s + quiet_s - now.timestamp(), quiet_s)


def clipped(segment: Segment, following: datetime | None) -> Segment:
    """Return `segment` cut back to the start of the file after it, if it reaches only a little into that.

    A file of ours knows its own end.
    """
    if segment.ours or following is None or not segment.window.start < following < segment.window.end:
        return segment
    if (segment.window.end - following).total_seconds() > _OVERLAP_S:
        return segment
    return replace(segment, window=Window(segment.window.start, following))


def holes(coverage: Coverage, since: datetime, until: datetime, min_gap_s: float) -> tuple[Window, ...]:
    """Return the holes longer than `min_gap_s` between pieces of `coverage` that end after `since` and by `until`."""
    found = []
    for before, after in pairwise(coverage):
        hole = Window(before.end, after.start)
        if hole.seconds > min_gap_s and since < hole.end <= until:
            found.append(hole)
    return tuple(found)
