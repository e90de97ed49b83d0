"""What goes into the store and comes out of it, as frozen values; nothing here touches a database. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from anr_watch.model import (
    Attempt,
    Camera,
    CameraFacts,
    Coverage,
    DeviceClock,
    Gap,
    KernelEvent,
    Message,
    Window,
    merge,
)
from anr_watch.states import FillState, Presence, Reason

# Called inside the transaction with the facts as they will be committed. A transaction that meets a busy
# database is redone, and so is the call: it must be pure.
Announce = Callable[[CameraFacts], Sequence[Message]]


# The same for a row that is being written: it is told as it will stand.
AnnounceGap = Callable[[Gap, CameraFacts], Sequence[Message]]
AnnounceAttempt = Callable[[Attempt, CameraFacts], Sequence[Message]]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A try whose process was gone: the gap's row as it stands, the try as it ended, what of it had rows already."""

    gap: Gap
    attempt: Attempt
    placed: Coverage


AnnounceInterrupted = Callable[[Interrupted, CameraFacts], Sequence[Message]]


class Mode(StrEnum):
    """Whose database it is."""

    HELDAR = "heldar"  # the kernel's: its tables are never altered
    STANDALONE = "standalone"  # ours: cameras come from config.toml


class Origin(StrEnum):
    """Who wrote a gap row."""

    KERNEL = "kernel"  # not us
    EDGE = "edge"  # we, when the camera came back
    COMMAND = "command"  # we, because a person asked
    INDEXER = "indexer"  # we, from the folder (standalone)
    RESIDUAL = "residual"  # we, when a fill left something


@dataclass(frozen=True, slots=True)
class Parked:
    """Why nothing is asked of a camera. `fingerprint` is the caller's: when it changes, so did the cause."""

    reason: Reason
    detail: str
    fingerprint: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """Everything the planner needs of the database at one time.

    `gaps` are pending and reach into the asked hours; the caller clips them. `malformed` names rows that
    cannot be read, as (id, why), each once in the life of a store; they are ignored and never changed. `asked` are
    the ids of the gaps that a person asked for: they are among `gaps` whatever their age. `parked` are the cameras
    that are not asked any more.
    """

    cameras: dict[str, Camera]
    gaps: tuple[Gap, ...]
    malformed: tuple[tuple[str, str], ...] = ()
    asked: frozenset[str] = frozenset()
    parked: Mapping[str, Parked] = field(default_factory=dict)

    def with_gaps(self, fresh: Mapping[str, Sequence[Gap]]) -> Look:
        """Return this with the pending gaps of some cameras as they are a moment later; asked ones stay."""
        known = {gap.id for gaps in fresh.values() for gap in gaps}
        kept = (
            gap for gap in self.gaps if gap.id not in known and (gap.camera_id not in fresh or gap.id in self.asked)
        )
        return replace(self, gaps=(*kept, *(gap for gaps in fresh.values() for gap in gaps)))


@dataclass(frozen=True, slots=True)
class Noted:
    """What became of a hole: how many rows were made or got longer, and the camera's pending gaps after that."""

    rows: int
    pending: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What earlier fills found out: clocks by device, guesses ruled out for the gap, whether joins matched."""

    clocks: Mapping[str, DeviceClock]
    tried: Collection[str]
    matched: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """How the newest try at a pending gap (or at the gap it is a residual of) ended."""

    next_at: datetime | None  # not before; None: as soon as something is to be had
    tries: int  # tries in a row that ended for `reason`
    reason: Reason


class Registered(StrEnum):
    """What `register_gap` did."""

    INSERTED = "inserted"
    EXTENDED = "extended"  # a pending row began at the same instant and was shorter
    KNOWN = "known"  # a row began at the same instant; it is as it was
    CAMERA_GONE = "camera_gone"


@dataclass(frozen=True, slots=True)
class Registration:
    """`gap` is the row as it stands now; None when the camera is gone or the row in the way is unreadable."""

    what: Registered
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a try at a gap ended, as seen against the window the gap had when it was planned.

    `pieces` is a partition of `gap.window` into (window, recorded now); consecutive pieces may be of one kind.

    Raises:
        ValueError: the pieces are no partition, the attempt has no end, or something counts without an attempt.
    """

    gap: Gap
    attempt: Attempt | None  # ended; None: nothing was asked, the time turned out to be covered
    pieces: tuple[tuple[Window, bool], ...]
    counts: bool  # fill_attempts + 1
    failed: bool  # what is missing becomes `failed` instead of `pending`
    kernel_event: KernelEvent | None = None

    def __post_init__(self) -> None:
        windows = [window for window, _ in self.pieces]
        joined = all(a.end == b.start for a, b in pairwise(windows))
        if not windows or not joined or merge(windows) != (self.gap.window,):
            raise ValueError(f"pieces {windows} are no partition of {self.gap.window}")
        if self.attempt is not None and (self.attempt.ended_at is None or self.attempt.reason is None):
            raise ValueError("an attempt that is settled needs an end and a reason")
        if self.attempt is None and (self.counts or self.failed):
            raise ValueError("only an attempt can count or fail")


class Outcome(StrEnum):
    """What `settle` did to the gap's row."""

    FILLED = "filled"  # all of it is recorded
    PARTIAL = "partial"  # split into what is recorded and what is missing
    PENDING = "pending"  # nothing gained
    FAILED = "failed"  # nothing gained, and it is not tried again
    OVERTAKEN = "overtaken"  # somebody else resolved or broke the row meanwhile: left as it is
    GONE = "gone"  # the row or its camera was deleted
    REPEATED = "repeated"  # this attempt was settled before: nothing changed


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the gap. `left` are the pending rows that now hold what is missing."""

    outcome: Outcome
    row: Gap | None
    left: tuple[Gap, ...]
    facts: CameraFacts


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that waits to be sent; `row_id` grows and is never used twice."""

    row_id: int
    message: Message


@dataclass(frozen=True, slots=True)
class GapRow:
    """One gap for people."""

    gap: Gap
    origin: Origin
    created_at: datetime | None
    filled_at: datetime | None
    last: Attempt | None


@dataclass(frozen=True, slots=True)
class Missing:
    """What a camera misses and we want."""

    gaps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measures:
    """What the database says for monitoring: rows by state, what each camera that wants fills misses, the outbox."""

    gaps: Mapping[FillState, int]
    missing: Mapping[str, Missing]
    outbox: int
    dropped: int


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One camera for people: what we believe, what is missing, what runs, what happened last."""

    camera: Camera
    presence: Presence
    presence_since: datetime | None
    parked: Parked | None
    pending_gaps: int
    missing_s: float
    running: Attempt | None
    last: Attempt | None
