"""What is recorded in and around a gap: rows, files without a row, time that needs none. Asks no camera.

The answer is of one moment: the recorder and other fills go on writing while it is used.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from anr_watch.coverage import trusted
from anr_watch.filling.tools import Tools, Underway
from anr_watch.footage.folder import Recordings
from anr_watch.joins import approach
from anr_watch.model import Coverage, Gap, Segment, Window, merge
from anr_watch.replay.job import Joined, Side

# Fills of one camera whose proofs are remembered: overlapping rows of one outage follow each other at once.
PROVED_KEPT = 32
# Footage that reaches into a gap may have begun this long before it: the longest segment anybody records.
AROUND_S = 900.0
# Rows this near to a gap are looked at in the file: one of ours is at most a gap's length and its margins away.
NEAR_S = 15.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """The footage in and around a gap.

    Args:
        segments: rows, and files that have none yet.
        covered: the time they cover, with what exact joins proved to hold no missing picture.
        live_start: when the newest file of the recorder in front of the gap begins.
    """

    segments: Sequence[Segment]
    covered: Coverage
    live_start: datetime | None


def around(gap: Gap) -> Window:
    """Return the time whose segments may have footage of a gap."""
    return gap.window.widened(AROUND_S, AROUND_S)


async def recorded(tools: Tools, gap: Gap, rows: Sequence[Segment] | None = None) -> Recorded:
    """Return the footage in and around a gap, and give a row to files of ours in it that have none.

    Args:
        tools: the rims.
        gap: what is missing.
        rows: the segments `around` the gap where they were read just now.

    Raises:
        AnrWatchError: the database cannot be used.
    """
    if rows is None:
        rows = await tools.store.segments(gap.camera_id, around(gap))
    segments = await _segments(tools, gap, rows)
    return Recorded(
        segments,
        covered=merge([*trusted(segments), *tools.proved.get(gap.camera_id, ())]),
        live_start=max((s.window.start for s in segments if _borders(s, gap)), default=None),
    )


def remember_proved(
    tools: Tools,
    underway: Underway,
    placed: Sequence[Window],
    joins: Mapping[Side, Joined],
    jumps: Sequence[datetime],
) -> None:
    """Remember the time around what was placed in which exact joins proved that no picture is missing."""
    sides = underway.sides
    proved = tools.proved.setdefault(underway.camera.id, deque(maxlen=PROVED_KEPT))
    proved.extend(
        approach.proved(
            underway.target,
            placed,
            joins,
            head_at=sides.head.at,
            tail_at=sides.tail.at,
            jumps=jumps,
        )
    )


async def _segments(tools: Tools, gap: Gap, rows: Sequence[Segment]) -> list[Segment]:
    """Return the footage in and around the gap: rows, and files that have no row yet.

    A file of ours without a row, or with one that its recorder made after a crash of ours, is noted as ours here:
    then its time counts to the microsecond, and the kernel never has to index it. Any other file inside the gap
    without a row is the recorder's newest, or one that came from elsewhere.
    """
    store, recordings, camera_id = tools.store, tools.recordings, gap.camera_id
    near = gap.window.widened(NEAR_S, NEAR_S)
    unsaid = [row for row in rows if not row.ours and row.window.overlaps(near)]
    strays, newest, files = await asyncio.to_thread(
        lambda: (
            _strays(recordings, camera_id, around(gap), rows),
            recordings.newest(camera_id),
            {row.path: _file_of(recordings, row) for row in unsaid},
        )
    )
    for path, stray in strays:
        inside = gap.window.start <= stray.window.start < gap.window.end
        if stray.ours or (inside and newest is not None and path != newest.path):
            text = await store.segment_path_text(camera_id, path, recordings.root)
            await store.add_segment(replace(stray, path=text), announce=tools.announcements.state)
    known = [await _as_the_file_says(tools, row, files.get(row.path)) for row in rows]
    return [*known, *(stray for _, stray in strays)]


async def _as_the_file_says(tools: Tools, row: Segment, file: Segment | None) -> Segment:
    """Return what a row that is not known to be ours stands for; a file of ours says so itself, and is noted."""
    if file is None or not file.ours:
        return row
    found = replace(file, path=row.path)
    await tools.store.add_segment(found, announce=tools.announcements.state)
    return found


def _file_of(recordings: Recordings, row: Segment) -> Segment | None:
    depth = recordings.pattern.depth + 1
    start = recordings.pattern.parse("/".join(Path(row.path).parts[-depth:]))
    file = recordings.file_at(row.camera_id, start) if start is not None else None
    return recordings.segment_of(file, row.camera_id, row.path) if file is not None else None


def _strays(
    recordings: Recordings, camera_id: str, window: Window, rows: Sequence[Segment]
) -> list[tuple[Path, Segment]]:
    """Return the files that have no row."""
    folder = recordings.camera_folder(camera_id)
    depth = recordings.pattern.depth + 1
    known = {Path(row.path).parts[-depth:] for row in rows}
    found: list[tuple[Path, Segment]] = []
    for file in recordings.files(camera_id, window):
        if file.path.relative_to(folder).parts not in known:
            segment = recordings.segment_of(file, camera_id, str(file.path))
            if segment is not None:
                found.append((file.path, segment))
    return found


def _borders(segment: Segment, gap: Gap) -> bool:
    return not segment.ours and segment.window.start <= gap.window.start
