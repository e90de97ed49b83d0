"""The store as the rest of the program sees it: two long-lived connections and one method per question or change.

It holds no SQL: what a method does inside its transaction stands in the module for that job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from anr_watch.clock import Clock
from anr_watch.errors import StorageError
from anr_watch.live_first import Pace
from anr_watch.model import Attempt, CameraFacts, DeviceClock, Gap, Message, Segment, Window
from anr_watch.states import FillState, Presence, Reason
from anr_watch.store import (
    attempts,
    clocks,
    footage_runs,
    gaps,
    measuring,
    outbox,
    paces,
    people,
    reading,
    schema,
    segment_rows,
    settling,
)
from anr_watch.store.connection import Reader, Session, Work, Writer
from anr_watch.store.footage_runs import Runs
from anr_watch.store.reading import Options
from anr_watch.store.values import (
    Announce,
    AnnounceAttempt,
    AnnounceGap,
    AnnounceInterrupted,
    GapRow,
    Learned,
    Look,
    Measures,
    Mode,
    Noted,
    Origin,
    OutboxRow,
    Outcome,
    Parked,
    Registered,
    Registration,
    Settled,
    Settlement,
    StatusRow,
    Wait,
)

T = TypeVar("T")
_REPORTED_MAX = 10_000  # malformed rows remembered, so that each is reported once
_OWN_WRITE_S = 0.02  # a transaction of ours takes 1 ms, on an SD card with FULL up to 50: then for nothing once more


class Store:
    """The open database. Every method may raise StoreUnavailable, StorageError or ContractError.

    `mode` says whose database it is; `prepared` is False only for a read-only store on a database in which
    anr-watch has never run: then nothing of ours can be said, and the kernel's rows can be read all the same.
    `outgoing` is set after each transaction that may have put messages into the outbox; whoever sends them clears it.
    """

    def __init__(
        self,
        *,
        path: Path,
        identity: tuple[int, int],
        mode: Mode,
        prepared: bool,
        clock: Clock,
        reader: Reader,
        writer: Writer | None,
        options: Options,
        max_gap_hours: float,
        outbox_rows: int,
    ) -> None:
        self.path = path
        self.mode = mode
        self.prepared = prepared
        self._identity = identity
        self._clock = clock
        self._reader = reader
        self._writer_or_none = writer
        self._options = options
        self._hours = max_gap_hours
        self._outbox_rows = outbox_rows
        self._reported: set[tuple[str, str]] = set()
        self._version = 0
        self._seen_by_reader = self._seen_by_writer = -1
        self.outgoing = asyncio.Event()

    @property
    def _writer(self) -> Writer:
        if self._writer_or_none is None:
            raise StorageError(f"{self.path}: opened to be read only")
        return self._writer_or_none

    # ---- has somebody else written?

    async def version(self) -> int:
        """Return a number that grows when another connection than ours has committed (about 0.1 ms).

        SQLite leaves a connection's own commits out of its `data_version`, so the writing connection is asked,
        as a rule when its transaction is over. While that one waits for a lock the reading one answers, for which
        our own commits count: now and then the number grows for nothing, but never stays the same when it should not.
        """
        writer = self._writer_or_none
        if writer is not None and writer.at_work:
            await writer.rest(_OWN_WRITE_S)
        if writer is None or writer.at_work:
            seen = await self._reader.read(_data_version)
            if seen != self._seen_by_reader:
                self._seen_by_reader = seen
                self._version += 1
        else:
            seen = await writer.peek(_data_version)
            if seen != self._seen_by_writer:
                self._seen_by_writer = seen
                self._version += 1
        return self._version

    async def newest_gap(self) -> int:
        """Return a number that is another one when somebody has inserted a gap row (unless the last one had gone)."""
        return await self._reader.read(lambda session: session.number(reading.SQL_NEWEST_GAP))

    def own_writes(self) -> int:
        """Return a number that grows when a transaction of ours begins and when it ends."""
        return 0 if self._writer_or_none is None else self._writer_or_none.steps

    async def replaced(self) -> bool:
        """Say whether another file, or none, stands at the path now; our connections would never notice."""
        return await asyncio.to_thread(identity_of, self.path) != self._identity

    # ---- reading

    async def look(self, *, now: datetime, max_gap_hours: float | None = None) -> Look:
        """Return cameras and pending gaps that reach into the last hours: one cheap pass (see `reading`)."""
        hours = self._hours if max_gap_hours is None else max_gap_hours
        standalone = self.mode is Mode.STANDALONE
        seen = await self._reader.read(
            lambda session: reading.look(
                session, now, hours, self._options, standalone=standalone, prepared=self.prepared
            )
        )
        fresh = tuple(pair for pair in seen.malformed if pair not in self._reported)
        if len(self._reported) < _REPORTED_MAX:
            self._reported.update(fresh)
        else:
            fresh = ()
        return Look(seen.cameras, seen.gaps, fresh, seen.asked, seen.parked)

    async def gap(self, gap_id: str) -> Gap | None:
        """Return one row of any state; None if there is none or it cannot be read."""
        return await self._reader.read(lambda session: reading.gap(session, gap_id))

    async def gaps_in(self, camera_id: str, window: Window) -> list[Gap]:
        """Return the camera's rows of any state that share time with the window, by start."""
        return await self._reader.read(lambda session: reading.gaps_in(session, camera_id, window))

    async def recorded_and_missed(
        self, camera_id: str, *, recorded: Window, missed: Window
    ) -> tuple[list[Segment], list[Gap]]:
        """Return `segments` of one window and `gaps_in` another one, in one turn."""

        async def work(session: Session) -> tuple[list[Segment], list[Gap]]:
            segments = await segment_rows.covering(session, camera_id, recorded, prepared=self.prepared)
            return segments, await reading.gaps_in(session, camera_id, missed)

        return await self._reader.read(work)

    async def segments(self, camera_id: str, window: Window) -> list[Segment]:
        """Return the camera's segments that share time with the window, by start."""
        return await self._reader.read(
            lambda session: segment_rows.covering(session, camera_id, window, prepared=self.prepared)
        )

    async def footage_runs(self, window: Window, *, join_s: float, camera_id: str | None = None) -> Runs:
        """Return the footage in the window of all cameras or of one, holes up to `join_s` closed, in one pass."""
        return await self._reader.read(
            lambda session: footage_runs.read(
                session, window, join_s=join_s, camera_id=camera_id, prepared=self.prepared
            )
        )

    async def segment_paths(self, camera_id: str, window: Window) -> list[str]:
        """Return the paths of the camera's segments that begin in the window, in no order."""
        return await self._reader.read(lambda session: segment_rows.paths(session, camera_id, window))

    async def newest_segment(self, camera_id: str) -> Segment | None:
        """Return the camera's segment that ends last."""
        found = await self._reader.read(
            lambda session: segment_rows.newest(session, camera_id, prepared=self.prepared)
        )
        return None if found is None else found[0]

    async def segment_path_text(self, camera_id: str, file: Path, root: Path) -> str:
        """Return the text of `segments.path` for a file of ours, built as the kernel builds it."""
        return await self._reader.read(lambda session: segment_rows.path_text(session, camera_id, file, root))

    async def waits(self, *, now: datetime | None = None, max_gap_hours: float | None = None) -> dict[str, Wait]:
        """Return, by gap id, how the newest try at each wanted pending gap ended."""
        at, hours = now or self._clock.now(), self._hours if max_gap_hours is None else max_gap_hours

        async def work(session: Session) -> dict[str, Wait]:
            wanted = await reading.look(session, at, hours, self._options, standalone=False, prepared=self.prepared)
            return await reading.waits(session, wanted.gaps)

        return await self._reader.read(work) if self.prepared else {}

    async def facts(self, camera_id: str) -> CameraFacts:
        """Return what a transaction would announce about a camera now."""
        return await self._reader.read(
            lambda session: reading.facts(session, camera_id, self._clock.now(), self._hours)
        )

    # ---- gaps

    async def register_gap(
        self,
        camera_id: str,
        window: Window,
        *,
        start_text: str | None = None,
        origin: Origin = Origin.EDGE,
        announce: AnnounceGap | None = None,
    ) -> Registration:
        """Note a gap that we found; a row that begins at the same instant is kept, and extended if it may be.

        Messages are put only when something changed.
        """

        async def work(session: Session) -> Registration:
            now = self._clock.now()
            done = await gaps.register(session, camera_id, window, now, start_text=start_text, origin=origin)
            if done.gap is not None and done.what in (Registered.INSERTED, Registered.EXTENDED):
                told = None if announce is None else partial(announce, done.gap)
                await self._announce(session, camera_id, told)
            return done

        return await self._write(work)

    async def register_hole(
        self,
        camera_id: str,
        hole: Window,
        *,
        origin: Origin = Origin.EDGE,
        longer_than_s: float = 0.0,
        found: AnnounceGap | None = None,
        extended: Announce | None = None,
    ) -> Noted:
        """Note what no row says yet of a hole: behind a pending row as its continuation, else as a row of its own.

        Args:
            camera_id: whose.
            hole: what is missing.
            origin: how it was found.
            longer_than_s: pieces up to this length are not noted.
            found: makes the messages of a new row.
            extended: makes those of a row that got longer.
        """

        async def work(session: Session) -> Noted:
            now = self._clock.now()
            rows = await gaps.register_hole(session, camera_id, hole, now, origin=origin, longer_than_s=longer_than_s)
            for gap, was_there in rows:
                told = extended if was_there else None if found is None else partial(found, gap)
                await self._announce(session, camera_id, told)
            return Noted(len(rows), tuple(await reading.pending(session, camera_id, now, self._hours)))

        return await self._write(work)

    async def settle(self, settlement: Settlement, announce: Announce | None = None) -> Settled:
        """End a try: gap rows, attempt, the kernel's event and messages, in one transaction (see `settling`).

        A repeated settlement changes and announces nothing, nor does one without a try of a row that is not pending.
        """

        async def work(session: Session) -> Settled:
            outcome, row, left = await settling.settle(session, settlement, self._clock.now())
            camera_id = settlement.gap.camera_id
            overtaken = settlement.attempt is None and outcome in (Outcome.OVERTAKEN, Outcome.GONE)
            if outcome is Outcome.REPEATED or overtaken:
                facts = await reading.facts(session, camera_id, self._clock.now(), self._hours)
            else:
                facts = await self._announce(session, camera_id, announce)
            return Settled(outcome, row, left, facts)

        return await self._write(work)

    async def retry(
        self, *, gap_id: str | None = None, camera_id: str | None = None, announce: Announce | None = None
    ) -> int:
        """Make a gap of any age, or all wanted gaps of a camera, pending with no attempts and no waits; unpark.

        Filled rows are left alone. Returns how many rows there are to be tried now.
        """

        async def work(session: Session) -> int:
            now = self._clock.now()
            chosen: list[Gap] = []
            if gap_id is not None and (gap := await reading.gap(session, gap_id)) is not None:
                chosen.append(gap)
            if camera_id is not None:
                chosen += await gaps.retryable(session, camera_id, now, self._hours)
            count = await gaps.retry(session, chosen)
            for gap in chosen:
                await clocks.forget_guesses(session, gap.id)
            if gap_id is not None and count and chosen[0].id == gap_id:
                await gaps.ask(session, gap_id, now)
            cameras = {gap.camera_id for gap in chosen if gap.state is not FillState.FILLED}
            for one_id in sorted(cameras | ({camera_id} if camera_id else set())):
                await attempts.unpark(session, one_id)
                await self._announce(session, one_id, announce)
            return count

        return await self._write(work)

    # ---- attempts and footage

    async def begin_attempt(
        self, attempt: Attempt, messages: Sequence[Message] = (), announce: AnnounceAttempt | None = None
    ) -> Attempt | None:
        """Claim a pending gap for one try; returns it with its number, None if it is resolved or being tried."""

        async def work(session: Session) -> Attempt | None:
            begun = await attempts.begin(session, attempt)
            if begun is not None:
                await self._put(session, messages)
                told = None if announce is None else partial(announce, begun)
                await self._announce(session, attempt.camera_id, told)
            return begun

        return await self._write(work)

    async def add_segment(
        self, segment: Segment, *, attempt: Attempt | None = None, announce: Announce | None = None
    ) -> bool:
        """Insert a file's row and, if a try produced it, that try's counters; False if the path has a row already.

        Also False, with nothing inserted, when the camera is gone.
        """

        async def work(session: Session) -> bool:
            attempt_id = None if attempt is None else attempt.id
            inserted = await segment_rows.add(session, segment, self._clock.now(), attempt_id)
            if attempt is not None:
                await attempts.progress(session, attempt)
            await self._announce(session, segment.camera_id, announce)
            return inserted

        return await self._write(work)

    async def add_segments(self, segments: Sequence[Segment]) -> int:
        """Insert the rows of files that no try produced, in one transaction; return how many had none yet."""

        async def work(session: Session) -> int:
            now = self._clock.now()
            return sum([await segment_rows.add(session, segment, now) for segment in segments])

        return await self._write(work)

    async def interrupt_open_attempts(
        self, announce: AnnounceInterrupted | None = None, *, running: Collection[str] = ()
    ) -> int:
        """End every open try as interrupted, but for those at gaps that are `running`; only for the sole user."""

        async def work(session: Session) -> int:
            ended = await attempts.interrupt_open(session, self._clock.now(), running)
            for one in ended:
                told = None if announce is None else partial(announce, one)
                await self._announce(session, one.attempt.camera_id, told)
            return len(ended)

        return await self._write(work)

    async def attempts(self, gap_id: str) -> list[Attempt]:
        """Return the tries at a gap, first one first."""
        return await self._reader.read(lambda session: attempts.of_gap(session, gap_id)) if self.prepared else []

    async def tries(self, gap_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """Return the tries at each of these gaps, first one first, in one read; gaps without a try have no entry."""

        async def work(session: Session) -> dict[str, list[Attempt]]:
            found = {gap_id: await attempts.of_gap(session, gap_id) for gap_id in gap_ids}
            return {gap_id: tried for gap_id, tried in found.items() if tried}

        return await self._reader.read(work) if self.prepared else {}

    # ---- cameras

    async def park(
        self, camera_id: str, reason: Reason, detail: str, fingerprint: str, announce: Announce | None = None
    ) -> None:
        """Ask nothing of a camera until somebody unparks it."""

        async def work(session: Session) -> None:
            await attempts.park(session, camera_id, Parked(reason, detail, fingerprint, self._clock.now()))
            await self._announce(session, camera_id, announce)

        await self._write(work)

    async def unpark(self, camera_id: str, announce: Announce | None = None) -> bool:
        """Let a camera be asked again; False if it was not parked."""

        async def work(session: Session) -> bool:
            was_parked = await attempts.unpark(session, camera_id)
            if was_parked:
                await self._announce(session, camera_id, announce)
            return was_parked

        return await self._write(work)

    async def parked(self) -> dict[str, Parked]:
        """Return the parked cameras by id."""
        return await self._reader.read(reading.parked) if self.prepared else {}

    async def save_presence(
        self, camera_id: str, presence: Presence, since: datetime, announce: Announce | None = None
    ) -> None:
        """Note what is believed about a camera, with messages in the same transaction."""

        async def work(session: Session) -> None:
            await attempts.save_presence(session, camera_id, presence, since)
            await self._announce(session, camera_id, announce)

        await self._write(work)

    async def presences(self) -> dict[str, tuple[Presence, datetime]]:
        """Return what was last believed about each camera, and since when."""
        return await self._reader.read(attempts.presences) if self.prepared else {}

    # ---- clocks

    async def clocks(self) -> dict[str, DeviceClock]:
        """Return the measured clocks, by device as `host:port`."""
        return await self._reader.read(clocks.known) if self.prepared else {}

    async def save_clock(self, clock: DeviceClock, camera_id: str, announce: Announce | None = None) -> None:
        """Note a measured clock, with messages about one of the device's cameras in the same transaction."""

        async def work(session: Session) -> None:
            await clocks.save(session, clock)
            await self._announce(session, camera_id, announce)

        await self._write(work)

    async def before_fill(self, gap: Gap, window: Window, *, since: datetime) -> tuple[list[Segment], Learned]:
        """Return `segments` of the gap's camera, and what fills that ended `since` have found out, in one turn."""

        async def work(session: Session) -> tuple[list[Segment], Learned]:
            segments = await segment_rows.covering(session, gap.camera_id, window, prepared=self.prepared)
            return segments, Learned(
                await clocks.known(session),
                await clocks.guessed(session, gap.id),
                await attempts.matched(session, gap.camera_id, since),
            )

        return await self._reader.read(work)

    async def note_guess(self, gap_id: str, guess: str) -> None:
        """Note a guess that was wrong for a gap."""
        await self._write(lambda session: clocks.note_guess(session, gap_id, guess, self._clock.now()))

    # ---- where the recordings are

    async def recordings_home(self, root: Path) -> Path | None:
        """Return the mount point on whose disk `root` was when files were last put there; None: never noted."""
        if not self.prepared:
            return None
        home = await self._reader.read(lambda session: schema.recordings_home(session, str(root)))
        return None if home is None else Path(home)

    async def remember_home(self, root: Path, home: Path) -> None:
        """Note the mount point on whose disk `root` is."""
        await self._write(lambda session: schema.remember_home(session, str(root), str(home)))

    # ---- notes

    async def noted(self, key: str) -> str | None:
        """Return what was noted under `key`; None: nothing."""
        return await self._reader.read(lambda session: schema.noted(session, key)) if self.prepared else None

    async def note(self, key: str, value: str) -> None:
        """Note a short text that has to survive a restart."""
        await self._write(lambda session: schema.note(session, key, value))

    # ---- paces

    async def paces(self) -> dict[str, Pace]:
        """Return how fast devices may be asked, by device as `host:port`; those not there have no cap."""
        return await self._reader.read(paces.known) if self.prepared else {}

    async def save_pace(
        self, device: str, pace: Pace | None, camera_id: str, announce: Announce | None = None
    ) -> None:
        """Note a device's pace (None: no cap any more), with messages about the camera in the same transaction."""

        async def work(session: Session) -> None:
            if pace is None:
                await paces.forget(session, device)
            else:
                await paces.save(session, pace)
            await self._announce(session, camera_id, announce)

        await self._write(work)

    # ---- outbox

    async def tell(self, camera_ids: Collection[str], announce: Announce) -> None:
        """Put messages about cameras of which no row changed."""

        async def work(session: Session) -> None:
            for camera_id in camera_ids:
                await self._announce(session, camera_id, announce)

        await self._write(work)

    async def put(self, messages: Sequence[Message]) -> None:
        """Put messages that belong to no other change."""
        await self._write(lambda session: self._put(session, messages))

    async def outbox(self, after_id: int, limit: int) -> list[OutboxRow]:
        """Return up to `limit` waiting messages with a row id above `after_id`, in order."""
        return await self._reader.read(lambda session: outbox.waiting(session, after_id, limit))

    async def outbox_done(self, row_ids: Sequence[int]) -> None:
        """Remove messages the broker has taken."""
        await self._writer.transact(lambda session: outbox.done(session, row_ids))

    async def outbox_depth(self) -> int:
        """Return how many messages wait."""
        return await self._reader.read(outbox.depth) if self.prepared else 0

    async def outbox_dropped(self) -> int:
        """Return how many messages were ever dropped for want of room."""
        return await self._reader.read(outbox.dropped) if self.prepared else 0

    # ---- for people

    async def gaps(
        self, camera_id: str | None = None, state: FillState | None = None, limit: int = 100
    ) -> list[GapRow]:
        """Return the newest gaps of one or all cameras, newest first."""
        return await self._reader.read(
            lambda session: people.gaps(
                session, camera_id=camera_id, state=state, limit=limit, prepared=self.prepared
            )
        )

    async def status_rows(self) -> list[StatusRow]:
        """Return one row per readable camera, by id."""
        standalone = self.mode is Mode.STANDALONE
        return await self._reader.read(
            lambda session: people.status(
                session,
                self._options,
                self._clock.now(),
                self._hours,
                standalone=standalone,
                prepared=self.prepared,
            )
        )

    # ---- for monitoring

    async def measures(self) -> Measures:
        """Return numbers for monitoring; about 10 ms with 100,000 rows of gaps of 64 cameras."""
        now, standalone = self._clock.now(), self.mode is Mode.STANDALONE
        return await self._reader.read(
            lambda session: measuring.measures(
                session, self._options, now, self._hours, standalone=standalone, prepared=self.prepared
            )
        )

    # ---- inside a transaction

    async def _write(self, work: Work[T]) -> T:
        """Carry out one transaction, then wake whoever empties the outbox.

        Always, also for a cancelled caller and for a change that put nothing: a flag of "something was put" would
        be shared with the next transaction, whose commit is still to come.
        """
        try:
            return await self._writer.transact(work)
        finally:
            self.outgoing.set()

    async def _put(self, session: Session, messages: Sequence[Message]) -> None:
        await outbox.put(session, messages, self._clock.now(), self._outbox_rows)

    async def _announce(self, session: Session, camera_id: str, announce: Announce | None) -> CameraFacts:
        facts = await reading.facts(session, camera_id, self._clock.now(), self._hours)
        # Nothing is told of a camera that was deleted: a retained state of it would stay for ever.
        if announce is not None and await gaps.camera_exists(session, camera_id):
            await self._put(session, announce(facts))
        return facts


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at `path`, or None."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _data_version(session: Session) -> int:
    return await session.number("PRAGMA data_version")
