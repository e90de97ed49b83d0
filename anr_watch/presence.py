"""What is believed about each camera, from levels that several sources report. Pure; starts and asks nothing.

A source repeats itself (Frigate 0.17 says `online` every second, a status row is rewritten every ten), so a
level is no news: only a *change* of one source's level is. The order of arrival decides; `Evidence.at` is
carried along for people and never compared, so a wall clock that steps back cannot make evidence stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from anr_watch.states import Presence


@dataclass(frozen=True, slots=True)
class Evidence:
    """One source's word about one camera.

    `source` is `mqtt:<rule>`, `database` or `recordings`. A `retained` word was said some time ago, to nobody
    in particular: it is a level to start from and never the moment something happened.
    """

    camera_id: str
    source: str
    level: Presence
    retained: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """The belief about one camera became another; `edge` says that the camera came online just now."""

    camera_id: str
    before: Presence
    after: Presence
    edge: bool
    source: str
    at: datetime


@dataclass(slots=True)
class _Belief:
    levels: dict[str, Presence] = field(default_factory=dict)  # in the order of their last change
    overall: Presence = Presence.UNKNOWN
    since: datetime | None = None


class PresenceBook:
    """The levels per camera and source, and what they add up to.

    The overall presence is the level of the source that changed last, sources without an opinion (`unknown`)
    set aside; with no opinion left it is `unknown`. Cameras the book was not told of are unheard: evidence
    about them changes nothing and costs no memory.
    """

    def __init__(self, camera_ids: Iterable[str] = ()) -> None:
        self._beliefs = {camera_id: _Belief() for camera_id in camera_ids}

    def set_cameras(self, camera_ids: Iterable[str]) -> None:
        """Forget cameras that are not among `camera_ids`, begin `unknown` with new ones, keep the others."""
        self._beliefs = {camera_id: self._beliefs.get(camera_id) or _Belief() for camera_id in camera_ids}

    def presence(self, camera_id: str) -> Presence:
        """Return what is believed about the camera; `unknown` for one the book does not hold."""
        belief = self._beliefs.get(camera_id)
        return belief.overall if belief else Presence.UNKNOWN

    def since(self, camera_id: str) -> datetime | None:
        """Return the `at` of the evidence that made the present belief, None before the first change."""
        belief = self._beliefs.get(camera_id)
        return belief.since if belief else None

    def level(self, camera_id: str, source: str) -> Presence:
        """Return what one source last said about the camera."""
        belief = self._beliefs.get(camera_id)
        return belief.levels.get(source, Presence.UNKNOWN) if belief else Presence.UNKNOWN

    def hear(self, evidence: Evidence) -> Change | None:
        """Take one piece of evidence in and return how the belief changed, or None.

        The change is an edge only when a word that was not retained turned `offline` or `unknown` to `online`.
        """
        belief = self._beliefs.get(evidence.camera_id)
        if belief is None:
            return None
        edge = evidence.level is Presence.ONLINE and not evidence.retained
        return _turn(belief, evidence, edge=edge)


def _turn(belief: _Belief, word: Evidence, *, edge: bool) -> Change | None:
    if belief.levels.get(word.source, Presence.UNKNOWN) is word.level:
        return None
    belief.levels.pop(word.source, None)
    if word.level is not Presence.UNKNOWN:
        belief.levels[word.source] = word.level  # a dict keeps the order of insertion: now the latest
    before, after = belief.overall, next(reversed(belief.levels.values()), Presence.UNKNOWN)
    if after is before:
        return None
    belief.overall, belief.since = after, word.at
    return Change(word.camera_id, before, after, edge, word.source, word.at)
