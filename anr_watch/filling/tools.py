"""What the jobs of one fill share: the rims, the numbered steps, the attempt under way. Decides nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from anr_watch.announcements import Announcements
from anr_watch.clock import Clock
from anr_watch.config import Settings
from anr_watch.errors import StorageError, StoreUnavailable
from anr_watch.footage.folder import Recordings
from anr_watch.joins.neighbours import Neighbours
from anr_watch.live_first import Pace
from anr_watch.log import Repeated
from anr_watch.metrics.figures import Figures
from anr_watch.model import Attempt, Camera, Gap, Window
from anr_watch.replay.process import Workers
from anr_watch.store import Store

LOG = logging.getLogger("anr_watch.fill")
T = TypeVar("T")


class Step(StrEnum):
    """The numbered places of a fill, for tests that end the process there."""

    PLANNED = "planned"
    ATTEMPT_WRITTEN = "attempt_written"
    STAGED = "staged"
    CHECKED = "checked"
    PLACED = "placed"
    ROW_WRITTEN = "row_written"
    JUDGED = "judged"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Tools:
    """The rims a fill works with."""

    settings: Settings
    clock: Clock
    store: Store
    recordings: Recordings
    workers: Workers
    announcements: Announcements
    at_step: Callable[[Step], None] = lambda _step: None
    figures: Figures = field(default_factory=Figures)
    # Time beside files of ours, by camera, in which exact joins proved that no picture is missing; rows may overlap.
    proved: dict[str, deque[Window]] = field(default_factory=dict)
    # How fast devices may be asked, by `host:port`; those not there have no cap but the configured one.
    paces: dict[str, Pace] = field(default_factory=dict)

    async def insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeat a write until the database takes it: what is on disk must not stay without its row."""
        complaint = Repeated(LOG, "database does not take a result, trying again")
        wait_s = 0.2
        while True:
            try:
                result = await write()
            except (StoreUnavailable, StorageError) as error:
                complaint.failed(error, self.clock.monotonic())
                await self.clock.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)
            else:
                complaint.worked()
                return result


@dataclass(frozen=True, slots=True)
class Trigger:
    """What made us look, and when (monotonic), for the reaction time that events tell."""

    source: str  # start, database, recordings, mqtt, sweep, timer, command
    at_s: float


@dataclass(slots=True)
class Underway:
    """One attempt from its row to its verdict; only `attempt` changes, with what comes.

    Args:
        gap: the pending row.
        camera: its camera, secrets still sealed.
        target: the piece of the gap that is asked for.
        sides: the recorded pictures beside the piece.
        until: live recording may have what comes later.
        live_start: when the newest file of the recorder in front of the gap begins.
        attempt: the attempt with what came so far.
    """

    gap: Gap
    camera: Camera
    target: Window
    sides: Neighbours
    until: datetime
    live_start: datetime | None
    attempt: Attempt

    def note(self, **changes: object) -> None:
        """Change fields of the attempt; the next write takes them along."""
        self.attempt = replace(self.attempt, **changes)  # type: ignore[arg-type]
