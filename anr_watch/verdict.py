"""What a try at a gap achieved: covered time decides, never an exit status. Pure.

`judge` takes what was missing before, what is covered now and how the replay ended, and says what becomes of the
gap's row, whether the try counts, and how long each remaining piece waits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from anr_watch.coverage import partition, still_missing
from anr_watch.model import Coverage, Window, clip, total_s
from anr_watch.states import POLICY, Follow, Presence, Reason, counts_as_attempt

# Reasons for which the camera did answer, so that repeated failure means there is nothing to be had.
_ANSWERED = frozenset({Reason.NO_FOOTAGE, Reason.STALLED, Reason.CUT_SHORT, Reason.BAD_MEDIA, Reason.WRONG_FOOTAGE})

# A replay that breaks off before it reaches the gap says nothing about it, as with a camera that flaps; one that does
# so again and again for over ten minutes (20 + 60 + 300 + 300 s) never will.
PATIENCE = 4


@dataclass(frozen=True, slots=True)
class ReplayEnd:
    """How the replay ended as far as the replay itself can tell.

    `reason` is None when the source came to its end in order (window reached or end of stream). `reached` says that
    it played up to where footage is missing: before that it cannot have said anything about it.
    """

    reason: Reason | None
    detail: str = ""
    reached: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the row, the attempt and the remaining pieces."""

    reason: Reason
    detail: str
    pieces: tuple[tuple[Window, bool], ...]  # the row's window: (piece, filled)
    got_s: float  # footage of the row's window gained by this try
    counts: bool
    failed: bool  # no attempts are left: the missing pieces become `failed`
    follow: Follow

    @property
    def filled(self) -> Coverage:
        """The pieces that are recorded now."""
        return tuple(piece for piece, is_filled in self.pieces if is_filled)

    @property
    def missing(self) -> Coverage:
        """The pieces that are not."""
        return tuple(piece for piece, is_filled in self.pieces if not is_filled)


def judge(
    row: Window,
    target: Window,
    *,
    before: Coverage,
    after: Coverage,
    end: ReplayEnd,
    attempts: int,
    max_attempts: int,
    presence: Presence,
    settled_before: datetime | None = None,
    unreached: Collection[datetime] = (),
    tries: int = 0,
    went_away: bool = False,
) -> Verdict:
    """Return the verdict on one try.

    Args:
        row: the gap's window as planned.
        target: the part of it this try asked for.
        before: covered time before the try.
        after: covered time after it.
        end: how the replay ended.
        attempts: counted attempts so far, without this one.
        max_attempts: counted attempts after which a gap is given up.
        presence: what is believed of the camera at the end of the try.
        settled_before: footage younger than this may not have been in the camera's storage yet.
        unreached: edges of the target whose recorded pictures what came is proved not to have reached.
        went_away: somebody said during the try that the camera was gone.
        tries: tries in a row before this one that ended for the same reason.
    """
    edges = [min(max(instant, row.start), row.end) for instant in unreached]
    remaining = still_missing(row, after, settled_before=settled_before, unreached=edges)
    got_s = max(0.0, total_s(clip(row, after)) - total_s(clip(row, before)))
    pieces = partition(row, remaining)
    in_target = clip(target, remaining)
    if not remaining:
        return Verdict(Reason.FILLED, end.detail, pieces, got_s, counts=True, failed=False, follow=Follow.NOTHING)
    if not in_target:
        # This try got all it asked for; the rest of the row was not asked yet and waits for nothing.
        return Verdict(Reason.FILLED, end.detail, pieces, got_s, counts=False, failed=False, follow=Follow.NOTHING)
    # The target may reach a name step beyond the row, which is not the row's to miss.
    reason = _reason(min(target.end, row.end), in_target, end, presence, gained=got_s > 0)
    if went_away and reason is Reason.NO_FOOTAGE and got_s == 0:
        reason = Reason.INTERRUPTED  # what a camera says that goes away meanwhile is no answer
    counts = counts_as_attempt(reason, gained=got_s > 0)
    if not end.reached and tries < PATIENCE:
        counts = False
    if counts and reason not in _ANSWERED and attempts + 1 >= max_attempts:
        counts = False  # a camera that only ever refused us has not said that it has nothing
    failed = counts and reason in _ANSWERED and attempts + 1 >= max_attempts
    return Verdict(reason, end.detail, pieces, got_s, counts, failed, POLICY[reason].follow)


def _reason(asked_until: datetime, missing: Coverage, end: ReplayEnd, presence: Presence, *, gained: bool) -> Reason:
    if end.reason is None:
        # The source ended in order. A missing tail may still come (the camera closes its last file late);
        # a hole before the last picture is a hole in the camera's storage.
        if missing[-1].end >= asked_until and gained:
            return Reason.CUT_SHORT
        return Reason.NO_FOOTAGE
    cut_off = end.reason in (Reason.STALLED, Reason.CUT_SHORT, Reason.UNREACHABLE)
    if cut_off and presence is Presence.OFFLINE and end.reason is not Reason.UNREACHABLE:
        return Reason.INTERRUPTED
    return end.reason


def covered_verdict(row: Window) -> Verdict:
    """Return the verdict on a gap whose time turned out to be recorded already."""
    return Verdict(
        Reason.COVERED, "recorded already", ((row, True),), 0.0, counts=False, failed=False, follow=Follow.NOTHING
    )
