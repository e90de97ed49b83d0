"""What goes out for each step: the event and the camera's retained state, as one list for one transaction.

Keeps what a state needs and no row holds: presence, the running attempt, the parked reason. Builds messages only;
the store writes them into the outbox together with the change they tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from anr_watch.clock import Clock
from anr_watch.live_first import Pace
from anr_watch.model import Attempt, CameraFacts, DeviceClock, Gap, Message, subtract
from anr_watch.mqtt.events import Announcer
from anr_watch.presence import Change, PresenceBook
from anr_watch.states import Presence, Reason
from anr_watch.store import Interrupted
from anr_watch.verdict import Verdict

Announce = Callable[[CameraFacts], Sequence[Message]]


class Announcements:
    """Composes messages from an announcer and what is believed at the moment.

    Args:
        announcer: builds single messages; silent when no broker is configured.
        book: presence of the cameras.
        clock: for the times in messages.
    """

    def __init__(self, announcer: Announcer, book: PresenceBook, clock: Clock) -> None:
        self._announcer, self._book, self._clock = announcer, book, clock
        self._current: dict[str, Attempt] = {}
        self._parked: Mapping[str, Reason] = {}
        self._clocks: dict[str, DeviceClock] = {}
        self._held = ""
        self._paused: frozenset[str] = frozenset()
        self._paces: dict[str, Pace] = {}

    def note_parked(self, parked: Mapping[str, Reason]) -> None:
        """Take over which cameras are parked, for the states that go out from now on."""
        self._parked = dict(parked)

    def note_held(self, why: str) -> None:
        """Take over why no camera is asked for anything (empty: nothing is in the way), for the states to come."""
        self._held = why

    def note_paused(self, camera_ids: Collection[str]) -> None:
        """Take over which cameras a person has paused, for the states to come."""
        self._paused = frozenset(camera_ids)

    def note_clocks(self, clocks: Mapping[str, DeviceClock]) -> None:
        """Take over the measured clocks by camera, for the states that go out from now on."""
        self._clocks = dict(clocks)

    def note_paces(self, paces: Mapping[str, Pace]) -> None:
        """Take over the paces by camera, for the states that go out from now on."""
        self._paces = dict(paces)

    def paced(self, camera_id: str, pace: Pace | None, *, why: str = "") -> Announce:
        """A camera's device is asked slower (`why` live faltered), faster, or without a cap again (None)."""
        events: tuple[Message, ...] = ()
        if pace is None:
            self._paces.pop(camera_id, None)
        else:
            self._paces[camera_id] = pace
            if why:
                events = self._announcer.camera_slowed(camera_id, at=self._clock.now(), pace=pace, why=why)
        return lambda facts: (*events, *self.state(facts))

    def clock_measured(self, camera_id: str, clock: DeviceClock, *, before_s: float | None) -> Announce:
        """A join measured a camera's clock; `before_s` is what was believed, where people want to know."""
        self._clocks[camera_id] = clock
        events: tuple[Message, ...] = ()
        if before_s is not None:
            events = self._announcer.clock_corrected(camera_id, at=self._clock.now(), clock=clock, before_s=before_s)
        return lambda facts: (*events, *self.state(facts))

    def gap_detected(self, origin: str) -> Callable[[Gap, CameraFacts], Sequence[Message]]:
        """A row was registered, or made longer, by us."""
        return lambda gap, facts: (
            *self._announcer.gap_detected(gap, at=self._clock.now(), origin=origin),
            *self.state(facts),
        )

    def fill_started(self, gap: Gap, reaction_ms: float) -> Callable[[Attempt, CameraFacts], Sequence[Message]]:
        """The camera is being asked."""

        def announce(attempt: Attempt, facts: CameraFacts) -> Sequence[Message]:
            self._current[gap.camera_id] = attempt
            events = self._announcer.fill_started(gap, attempt, at=attempt.started_at, reaction_ms=reaction_ms)
            return (*events, *self.state(facts))

        return announce

    def fill_progress(self, gap: Gap, attempt: Attempt) -> Announce:
        """One more segment is in place."""
        self._current[gap.camera_id] = attempt
        events = self._announcer.fill_progress(gap, attempt, at=self._clock.now(), step=attempt.files)
        return lambda facts: (*events, *self.state(facts))

    def fill_ended(self, gap: Gap, attempt: Attempt, verdict: Verdict) -> Announce:
        """The try is over: completed, partial or failed, as the covered time says."""
        self._current.pop(gap.camera_id, None)
        events = self._announcer.fill_ended(
            gap, attempt, at=attempt.ended_at or self._clock.now(), filled=verdict.filled, missing=verdict.missing
        )
        return lambda facts: (*events, *self.state(facts))

    def fill_interrupted(self, ended: Interrupted, facts: CameraFacts) -> Sequence[Message]:
        """A try of an earlier run is over, told by the next one; the gap itself is judged when it is looked at."""
        attempt = ended.attempt
        at, missing = attempt.ended_at or self._clock.now(), subtract(attempt.window, ended.placed)
        if ended.placed:
            events = self._announcer.fill_partial(ended.gap, attempt, at=at, filled=ended.placed, missing=missing)
        else:
            events = self._announcer.fill_failed(ended.gap, attempt, at=at, missing=missing)
        return (*events, *self.state(facts))

    def nothing_runs(self, camera_id: str) -> None:
        """Forget the running attempt of a camera whose fill ended without a verdict."""
        self._current.pop(camera_id, None)

    def presence(self, change: Change) -> Announce:
        """What is believed about a camera changed; a seed (from or to `unknown`) changes the state only."""
        if change.after is Presence.ONLINE and change.edge:
            events = self._announcer.camera_online(change.camera_id, at=change.at, source=change.source)
        elif change.after is Presence.OFFLINE:
            events = self._announcer.camera_offline(change.camera_id, at=change.at, source=change.source)
        else:
            events = ()
        return lambda facts: (*events, *self.state(facts))

    def parked(self, camera_id: str, reason: Reason, detail: str) -> Announce:
        """Nothing is asked of the camera until somebody changes something."""
        self._parked = {**self._parked, camera_id: reason}
        events = self._announcer.camera_parked(camera_id, at=self._clock.now(), reason=reason, detail=detail)
        return lambda facts: (*events, *self.state(facts))

    def unparked(self, camera_id: str) -> Announce:
        """The camera is asked again."""
        self._parked = {key: reason for key, reason in self._parked.items() if key != camera_id}
        events = self._announcer.camera_unparked(camera_id, at=self._clock.now())
        return lambda facts: (*events, *self.state(facts))

    def state(self, facts: CameraFacts) -> Sequence[Message]:
        """Return the retained snapshot of one camera."""
        return self._announcer.camera_state(
            facts.camera_id,
            at=self._clock.now(),
            presence=self._book.presence(facts.camera_id),
            since=self._book.since(facts.camera_id),
            facts=facts,
            current=self._current.get(facts.camera_id),
            parked=self._parked.get(facts.camera_id),
            held=self._held,
            paused=facts.camera_id in self._paused,
            clock=self._clocks.get(facts.camera_id),
            pace=self._paces.get(facts.camera_id),
        )
