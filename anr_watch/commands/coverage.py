"""Reads out of the database what is recorded, filled and missing of each camera; it writes and draws nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anr_watch.commands.advice import in_words
from anr_watch.commands.screen import clean, until
from anr_watch.coverage import CONTIGUOUS_S
from anr_watch.drawing.lanes import Hole, Lane, lane
from anr_watch.model import Attempt, Gap, Window
from anr_watch.states import FillState
from anr_watch.store import Store, Wait


async def lanes(store: Store, camera_ids: Collection[str], window: Window, *, only: bool = False) -> list[Lane]:
    """Return a lane per camera; `only`: they are few of the cameras there are, so each is read for itself.

    Raises:
        StoreUnavailable, ContractError: the database cannot be read.
    """
    waits = await store.waits(now=window.end) if store.prepared else {}
    runs: dict[str, list[tuple[Window, bool]]] = {}
    for read in camera_ids if only else (None,):
        runs |= await store.footage_runs(window, join_s=CONTIGUOUS_S, camera_id=read)
    return [await _lane(store, camera_id, window, runs.get(camera_id, []), waits) for camera_id in camera_ids]


async def _lane(
    store: Store, camera_id: str, window: Window, runs: Sequence[tuple[Window, bool]], waits: dict[str, Wait]
) -> Lane:
    gaps = [gap for gap in await store.gaps_in(camera_id, window) if gap.state is not FillState.FILLED]
    tries = await store.tries([gap.id for gap in gaps])
    holes = [
        Hole(gap.window, _why(gap, tries.get(gap.id, ()), waits.get(gap.id), window), gap.state is FillState.FAILED)
        for gap in gaps
    ]
    recorded = (run for run, ours in runs if not ours)
    return lane(camera_id, window, recorded, (run for run, ours in runs if ours), holes)


def _why(gap: Gap, tries: Sequence[Attempt], wait: Wait | None, window: Window) -> str:
    """Return why a gap is open, in words; a rest that was not tried itself has the reason of the try that left it."""
    ended = [attempt for attempt in tries if attempt.reason is not None]
    reason = ended[-1].reason if ended else wait.reason if wait is not None else None
    if reason is None:
        return "being fetched" if tries else "not tried yet"
    detail = clean(ended[-1].detail, 120) if ended else ""
    text = in_words(reason).words + (f": {detail}" if detail else "")
    if gap.state is FillState.FAILED:
        return f"{text}; given up after {gap.attempts} tries"
    return f"{text}; next try {until(wait.next_at, window.end)}" if wait and wait.next_at else text
