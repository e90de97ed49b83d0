"""Numbers for monitoring, read in one go; it changes nothing and names no footage."""

from __future__ import annotations

from datetime import datetime

from anr_watch.states import FillState
from anr_watch.store import outbox, reading
from anr_watch.store.connection import Session
from anr_watch.store.reading import Options
from anr_watch.store.values import Measures, Missing

SQL_STATES = "SELECT fill_state, count(*) FROM recording_gaps GROUP BY fill_state"  # one pass over an index


async def measures(
    session: Session, options: Options, now: datetime, max_gap_hours: float, *, standalone: bool, prepared: bool
) -> Measures:
    """Return rows by state, what each camera that wants fills misses, and how full the outbox is."""
    counted = {str(row[0]): int(row[1]) for row in await session.all(SQL_STATES)}
    view = await reading.look(session, now, max_gap_hours, options, standalone=standalone, prepared=prepared)
    missing: dict[str, Missing] = {}
    for camera_id, camera in sorted(view.cameras.items()):
        if camera.wants_fills:
            gaps = [gap for gap in view.gaps if gap.camera_id == camera_id]
            seconds = reading.missing_s(gaps, view.asked, now, max_gap_hours)
            missing[camera_id] = Missing(len(gaps), seconds)
    return Measures(
        gaps={state: counted.get(state.value, 0) for state in FillState},
        missing=missing,
        outbox=await outbox.depth(session) if prepared else 0,
        dropped=await outbox.dropped(session) if prepared else 0,
    )
