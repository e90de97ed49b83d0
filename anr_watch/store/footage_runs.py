"""A stretch of time as runs of footage, ours and the recorder's apart, of all cameras in one pass. It opens no file.

A month of 64 cameras has 2.8 million rows and mostly some runs per camera. A file's row lies beside the rows of the
other cameras of the same minute, so a pass per camera fetches each page of the table once per camera; by the index on
the end the table is read from front to back, once. Windows in SQL that joined the rows per camera took 16.5 s of CPU,
joining them here as they come takes 4.7 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from anr_watch.instants import format_instant
from anr_watch.model import Window
from anr_watch.store.connection import Session
from anr_watch.store.reading import TEXT_SLACK
from anr_watch.store.rows import decode_text

Runs = dict[str, list[tuple[Window, bool]]]  # by camera: (run, is it ours), by start

# A segment that reaches into a window begins at most this long before it, and one that begins in it ends at most a
# day after it.
_LONGEST_SEGMENT = timedelta(hours=2)
_LATEST_END = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = 2440587.5  # the same as a Julian day, which is how SQLite reads a time: whole milliseconds inside
_DAY_MS = 86_400_000.0
_HALF_MS = 0.5

_BEGUN = "s.start_time >= :low AND s.start_time < :high"
_OF_ALL = f"s.end_time >= :low AND s.end_time < :far AND {_BEGUN}"
_OF_ONE = f"s.camera_id = :camera AND {_BEGUN}"
# The camera as a BLOB: as a text it would be decoded, 2.8 million times.
_ROWS = """
    SELECT CAST(s.camera_id AS BLOB), 0, julianday(s.start_time), julianday(s.end_time)
    FROM segments AS s WHERE {where}
"""
# What we know of a file of ours comes from our own table: the kernel cuts rows back where a later one begins. There
# are few of them, so they are looked up among the rows and not the other way round.
_OURS = """
    WITH ours AS MATERIALIZED (
        SELECT s.rowid AS row, s.camera_id, o.start_time, o.end_time
        FROM anr_segments AS o CROSS JOIN segments AS s
        WHERE o.end_time >= :low AND s.path = o.path AND {where})
    SELECT CAST(camera_id AS BLOB), 1, julianday(start_time), julianday(end_time) FROM ours
    UNION ALL
"""
_NOT_OURS = " AND s.rowid NOT IN (SELECT row FROM ours)"


async def read(
    session: Session, window: Window, *, join_s: float, camera_id: str | None = None, prepared: bool = True
) -> Runs:
    """Return the footage in `window` of all cameras or of one, holes up to `join_s` seconds closed.

    Rows whose times cannot be read, or that end before they begin, cover nothing. A camera without footage has no
    entry. Times are as fine as a millisecond.
    """
    where = _OF_ALL if camera_id is None else _OF_ONE
    sql = _OURS.format(where=where) + _ROWS.format(where=where) + _NOT_OURS if prepared else _ROWS.format(where=where)
    high = window.end + TEXT_SLACK
    found = session.each(
        sql,
        {
            "low": format_instant(window.start - _LONGEST_SEGMENT),
            "high": format_instant(high),
            "far": format_instant(high + _LATEST_END),
            "camera": camera_id,
        },
    )
    runs: Runs = {}
    for (camera, ours), pieces in _joined(found, join_s).items():
        met = [(part, bool(ours)) for run in pieces if (part := _inside(window, *run)) is not None]
        runs.setdefault(decode_text(camera), []).extend(met)
    return {camera: sorted(of_camera) for camera, of_camera in runs.items() if of_camera}


def _joined(
    found: Iterable[tuple[bytes, int, float | None, float | None]], join_s: float
) -> dict[tuple[bytes, int], list[list[float]]]:
    """Return [start, end] in Julian days by camera and whose, by start: what is at most `join_s` apart is one."""
    # Whole milliseconds lie 40 us apart from themselves as a fraction of a day.
    join = (join_s * 1000 + _HALF_MS) / _DAY_MS
    runs: tuple[dict[bytes, list[list[float]]], ...] = ({}, {})
    newest: tuple[dict[bytes, list[float]], ...] = ({}, {})
    for camera, ours, start, end in found:
        if start is None or end is None or end <= start:
            continue
        run = newest[ours].get(camera)
        if run is not None and run[0] <= start <= run[1] + join:
            if end > run[1]:  # noqa: PLR1730 - 2.8 million times: `max` is a call and costs 0.2 s
                run[1] = end
        else:
            run = newest[ours][camera] = [start, end]
            runs[ours].setdefault(camera, []).append(run)
    return {(camera, ours): _in_order(pieces, join) for ours in (0, 1) for camera, pieces in runs[ours].items()}


def _in_order(pieces: list[list[float]], join: float) -> list[list[float]]:
    """Join what did not come one after the other: rows are mostly, but not always, in the order of their times."""
    merged: list[list[float]] = []
    for piece in sorted(pieces):
        if merged and piece[0] <= merged[-1][1] + join:
            merged[-1][1] = max(merged[-1][1], piece[1])
        else:
            merged.append(piece)
    return merged


def _inside(window: Window, first: float, last: float) -> Window | None:
    start, end = max(_instant(first), window.start), min(_instant(last), window.end)
    return Window(start, end) if start < end else None


def _instant(day: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=round((day - _EPOCH_DAY) * _DAY_MS))
