"""Follows one gap through the database until it is settled or nobody will go on soon; it fills nothing itself.

Rows are the only thing asked, so it is the same whether a daemon fills or this process does. What is filled is
decided by the footage that is recorded, not by a state or a reason; equal pictures, which only who fills has seen,
may prove more than rows tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from anr_watch.clock import Clock
from anr_watch.coverage import NAME_STEP_S, TOLERANCE_S, still_missing, trusted
from anr_watch.model import Attempt, Coverage, Gap, Window, total_s
from anr_watch.states import FillState, Reason
from anr_watch.store import Store, Wait

POLL_S = 0.25
# A next try further away than this is not waited for: the second pass comes after 20 s, the back-offs are longer.
PATIENCE_S = 25.0
# As long as nothing runs anywhere and this gap is not begun, somebody may still be looking at it.
UNTOUCHED_S = 30.0
SETTLING_S = 5.0
# After these only somebody who changes something helps, or the camera comes back some time.
_FINAL = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.UNAUTHORIZED,
        Reason.NO_REPLAY_URL,
        Reason.BAD_CONFIG,
        Reason.DISK_FULL,
        Reason.STORAGE,
    }
)
_COARSE_S = NAME_STEP_S + TOLERANCE_S
_AROUND_S = 900.0  # footage that reaches into the window may have begun this long before it


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far it is: seconds of what was missing at first and are recorded now, and the try that runs."""

    wanted_s: float
    covered_s: float
    running: Attempt | None
    newest: Attempt | None  # of those that began since we asked
    attempts: int
    bytes: int  # of all of them


@dataclass(frozen=True, slots=True)
class Ending:
    """Why following ended. `reason` is None where no try ended; then `text` says what happened instead."""

    ok: bool
    reason: Reason | None
    detail: str
    text: str
    next_at: datetime | None
    last: Snapshot


async def recorded(store: Store, camera_id: str, window: Window) -> Coverage:
    """Return the time in and around `window` for which the database has footage."""
    return trusted(await store.segments(camera_id, window.widened(_AROUND_S, _AROUND_S)))


class Following:
    """One gap, from the moment it was asked for.

    Args:
        store: the database.
        clock: time.
        gap: the pending row, as registered.
        window: what of it was asked for.
        still_served: says whether somebody is there to fill it at all.
    """

    def __init__(
        self, store: Store, clock: Clock, gap: Gap, window: Window, *, still_served: Callable[[], bool]
    ) -> None:
        self._store, self._clock, self._gap, self._window = store, clock, gap, window
        self._still_served = still_served
        self._asked_at = clock.now()
        self._touched_s = clock.monotonic()
        self._wanted: Coverage = ()
        self._ours = {gap.id}

    async def begin(self) -> float:
        """Note what is missing now; return its seconds."""
        self._wanted = still_missing(self._window, await recorded(self._store, self._gap.camera_id, self._window))
        return total_s(self._wanted)

    async def until_settled(self, show: Callable[[Snapshot], None]) -> Ending:
        """Show each change and return when the gap is filled, given up, or not tried again soon.

        Raises:
            AnrWatchError: the database cannot be used any more.
        """
        shown: Snapshot | None = None
        while True:
            snapshot, missing, pending = await self._look()
            if snapshot != shown:
                show(snapshot)
                shown = snapshot
            ending = await self._ending(snapshot, missing, pending)
            if ending is not None:
                return ending
            await self._clock.sleep(POLL_S)

    async def _look(self) -> tuple[Snapshot, Coverage, dict[str, Wait | None]]:
        """Return how far it is, what is missing, and the pending rows of this gap with how they wait.

        What a try left of the gap stands in rows of its own inside the window; they carry the wait of that try. A
        row in there that was never tried is somebody else's and may be left alone by who fills.
        """
        store, now = self._store, self._clock.now()
        look = await store.look(now=now)
        waits = await store.waits(now=now)
        inside = [g for g in look.gaps if g.camera_id == self._gap.camera_id and g.window.overlaps(self._window)]
        self._ours |= {gap.id for gap in inside if gap.id in waits}
        pending = {gap.id: waits.get(gap.id) for gap in inside if gap.id in self._ours}
        tries = [
            attempt
            for gap_id in self._ours
            for attempt in await store.attempts(gap_id)
            if attempt.started_at >= self._asked_at or attempt.ended_at is None
        ]
        tries.sort(key=lambda attempt: attempt.started_at)
        missing = still_missing(self._window, await recorded(store, self._gap.camera_id, self._window))
        wanted_s = total_s(self._wanted)
        snapshot = Snapshot(
            wanted_s=wanted_s,
            covered_s=max(0.0, wanted_s - total_s(missing)),
            running=next((attempt for attempt in tries if attempt.ended_at is None), None),
            newest=tries[-1] if tries else None,
            attempts=len(tries),
            bytes=sum(attempt.bytes for attempt in tries),
        )
        return snapshot, missing, pending

    async def _ending(self, snapshot: Snapshot, missing: Coverage, pending: dict[str, Wait | None]) -> Ending | None:
        row = await self._store.gap(self._gap.id)
        if snapshot.running is not None:
            self._touched_s = self._clock.monotonic()
            return None
        if not missing:
            # Recorded; the rows may be told so a moment later, by whoever finds out.
            settled = not pending or self._clock.monotonic() - self._touched_s > SETTLING_S
            return _end(snapshot, ok=True) if settled else None
        if row is None:
            return _end(snapshot, text="the gap's row was removed")
        if not pending and _is_recorded_already(row, self._gap, snapshot):
            nothing = replace(snapshot, wanted_s=0.0, covered_s=0.0)
            return Ending(ok=True, reason=Reason.COVERED, detail="", text="", next_at=None, last=nothing)
        if not pending:
            return _end(_whole(snapshot), ok=True) if _is_proved(row, snapshot, missing) else _end(snapshot)
        parked = (await self._store.parked()).get(self._gap.camera_id)
        if parked is not None:
            return Ending(ok=False, reason=parked.reason, detail=parked.detail, text="", next_at=None, last=snapshot)
        if not self._still_served():
            return _end(snapshot, text="the anr-watch that was to fill it has ended")
        return await self._idle(snapshot, [wait for wait in pending.values() if wait is not None])

    async def _idle(self, snapshot: Snapshot, waits: list[Wait]) -> Ending | None:
        """Return the end if nothing will happen soon, now that no try at this gap runs."""
        now = self._clock.now()
        tried = snapshot.newest is not None
        if tried and any(wait.reason in _FINAL for wait in waits):
            return _end(snapshot)
        dues = [wait.next_at for wait in waits if wait.next_at is not None]
        if tried and dues and len(dues) == len(waits) and min(dues) > now + timedelta(seconds=PATIENCE_S):
            return _end(snapshot, next_at=min(dues))
        if tried and dues:
            return None
        rows = await self._store.status_rows()
        if any(row.running is not None for row in rows):
            self._touched_s = self._clock.monotonic()
        if self._clock.monotonic() - self._touched_s > UNTOUCHED_S:
            return _end(
                snapshot, text=f"nobody has begun it for {UNTOUCHED_S:.0f} s (paused, or waiting for the camera)"
            )
        return None


def _is_proved(row: Gap, snapshot: Snapshot, missing: Coverage) -> bool:
    """Say whether what rows leave open holds no picture: equal pictures on a side proved it to who filled the gap.

    Names are a second coarse, and a clock may be off: between a file of ours and its neighbour the timeline can show
    a hole of a second or two in which nothing was ever taken.
    """
    newest = snapshot.newest
    return (
        row.state is FillState.FILLED
        and newest is not None
        and newest.reason is Reason.FILLED
        and "exact" in (newest.join_head, newest.join_tail)
        and all(piece.seconds <= _COARSE_S for piece in missing)
    )


def _is_recorded_already(row: Gap, asked: Gap, snapshot: Snapshot) -> bool:
    """Say whether who fills closed the row without a try: a fill just before proved that its time holds no picture.

    A recorder that calls rows filled on its own (Heldar's loop) counts a try in the row; such a word proves nothing.
    """
    return row.state is FillState.FILLED and snapshot.newest is None and row.attempts == asked.attempts


def _whole(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, covered_s=snapshot.wanted_s)


def _end(snapshot: Snapshot, *, ok: bool = False, text: str = "", next_at: datetime | None = None) -> Ending:
    newest = snapshot.newest
    return Ending(
        ok=ok,
        reason=newest.reason if newest is not None else None,
        detail=newest.detail if newest is not None else "",
        text=text,
        next_at=next_at or (newest.next_at if newest is not None else None),
        last=snapshot,
    )
