"""Finds recorded pictures again in a replay: where a run of equal fingerprints fits, and whether only there. Pure.

A run counts, not one picture: static scenes repeat. Of several places the longest run wins; where places are
equally good only an expected time can decide, and without one there is no match. Positions are presentation times
in any unit that grows; pictures come in order of presentation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

MIN_RUN: Final = 6  # equal pictures in a row
FEWEST: Final = 3  # a side with fewer pictures than this proves nothing
SURE_RUN: Final = 24  # a run of a side that does not repeat itself: nothing better will come
DAMAGED: Final = 2  # last pictures of a head that may differ: a connection that breaks leaves half a picture behind
_PLACES: Final = 256  # equally good places that are remembered


@dataclass(slots=True)
class Place:
    """Where a side fits. `cut` of a head is its first picture not recorded, of a tail its first recorded one.

    `damaged` pictures at the end of a head stand in their place and are not equal.
    """

    cut: int
    run: int
    damaged: int = 0


class Ambiguous(Exception):  # noqa: N818 - names what was found
    """The side fits equally well at several places."""


def run_needed(prints: Sequence[bytes]) -> int:
    """Return how many pictures of a side must be equal in a row, 0 when it has too few to prove anything."""
    return 0 if len(prints) < FEWEST else min(len(prints), MIN_RUN)


def repeats(prints: Sequence[bytes]) -> bool:
    """Say whether the first run of `prints` occurs in it again: a static scene, or a film that loops."""
    first = tuple(prints[:MIN_RUN])
    return any(tuple(prints[at : at + MIN_RUN]) == first for at in range(1, len(prints) - len(first) + 1))


class _Best:
    """The places of the longest run so far."""

    def __init__(self) -> None:
        self.run = 0
        self.places: deque[Place] = deque(maxlen=_PLACES)

    def offer(self, place: Place) -> None:
        if place.run > self.run:
            self.run = place.run
            self.places.clear()
        if place.run == self.run:
            self.places.append(place)

    def choose(self, expected: int | None) -> Place | None:
        """Return the one place, or the nearest to `expected`; None when nothing fits.

        Raises:
            Ambiguous: several fit and nothing is expected.
        """
        if not self.places:
            return None
        if len(self.places) > 1 and expected is None:
            raise Ambiguous
        return min(self.places, key=lambda place: 0 if expected is None else abs(place.cut - expected))


class HeadSearch:
    """Looks for the last recorded pictures; they fit where the last of them and a run before it are equal.

    The very last `DAMAGED` may differ behind a run that does not: they count as recorded, for that is where they are.
    """

    def __init__(self, prints: Sequence[bytes]) -> None:
        self._wanted = tuple(reversed(prints))
        self._needed = run_needed(prints)
        self._repeats = repeats(self._wanted)
        self._recent: deque[bytes] = deque(maxlen=max(1, len(prints)))
        self._found: tuple[int, int] | None = None  # run and damage of a place whose next picture has not come
        self._best = _Best()

    def push(self, fingerprint: bytes, at: int) -> None:
        """Take the next picture, presented `at`; an empty fingerprint is equal to none."""
        self.end_run(at)
        self._recent.append(fingerprint)
        for damaged in range(DAMAGED + 1):
            run = self._run(damaged)
            if run >= (max(self._needed, MIN_RUN) if damaged else self._needed) > 0:
                self._found = run, damaged
                return

    def _run(self, damaged: int) -> int:
        """Count equal pictures backwards from the newest, leaving out the first `damaged`."""
        run = 0
        pairs = zip(self._wanted, reversed(self._recent), strict=False)
        for ours, theirs in islice(pairs, damaged, None):
            if ours != theirs or not ours:
                break
            run += 1
        return run

    def end_run(self, at: int) -> None:
        """Say that the newest picture ends `at`: the next one begins there, or a hole."""
        if self._found is not None:
            self._best.offer(Place(at, *self._found))
            self._found = None

    def lose(self, at: int) -> None:
        """Say that time is not continuous after the newest picture, which ends `at`."""
        self.end_run(at)
        self._recent.clear()

    @property
    def sure(self) -> bool:
        """Whether waiting for a better place would be vain."""
        return self._best.run >= SURE_RUN and not self._repeats

    def choose(self, expected: int | None) -> Place | None:
        """Return where the head ends, None if it was not found.

        Raises:
            Ambiguous: it fits at several places and none is `expected`.
        """
        return self._best.choose(expected)


class TailSearch:
    """Looks for the first recorded pictures; they fit where the first of them and a run after it are equal."""

    def __init__(self, prints: Sequence[bytes]) -> None:
        self._wanted = tuple(prints)
        self._needed = run_needed(prints)
        self._repeats = repeats(self._wanted)
        self._live: list[Place] = []
        self._best = _Best()

    def push(self, fingerprint: bytes, at: int) -> None:
        """Take the next picture, presented `at`; an empty fingerprint is equal to none."""
        if not self._needed:
            return
        going = []
        for place in self._live:
            if fingerprint and fingerprint == self._wanted[place.run]:
                place.run += 1
                if place.run < len(self._wanted):
                    going.append(place)
                    continue
            if place.run >= self._needed:
                self._best.offer(place)
        if fingerprint and fingerprint == self._wanted[0]:
            going.append(Place(at, 1))
        self._live = going

    def lose(self) -> None:
        """Say that time is not continuous after the newest picture, or that none will come."""
        for place in self._live:
            if place.run >= self._needed:
                self._best.offer(place)
        self._live = []

    def forget_before(self, at: int) -> None:
        """Drop places before `at`: the head ends there."""
        self._live = [place for place in self._live if place.cut >= at]
        kept = [place for place in self._best.places if place.cut >= at]
        self._best = _Best()
        for place in kept:
            self._best.offer(place)

    @property
    def sure(self) -> bool:
        """Whether waiting for a better place would be vain."""
        longest = max((place.run for place in self._live), default=0)
        return max(longest, self._best.run) >= SURE_RUN and not self._repeats

    @property
    def earliest(self) -> int | None:
        """The first place that may still turn out to be the one; what lies before it is safe."""
        return min((place.cut for place in (*self._live, *self._best.places)), default=None)

    def choose(self, expected: int | None) -> Place | None:
        """Return where the tail begins, None if it was not found; nothing more may be pushed.

        Raises:
            Ambiguous: it fits at several places and none is `expected`.
        """
        self.lose()
        return self._best.choose(expected)
