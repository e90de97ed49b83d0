"""How a camera is asked for one missing piece: which requests in which order, and what joins prove about it. Pure.

While recorded pictures are known beside the piece, every request but the last ends without a file if it shows the
time of those pictures and not the pictures themselves. The last one is cut by time, where that is wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from anr_watch.coverage import NAME_STEP_S, SMALLEST_HOLE_S
from anr_watch.joins.guesses import Guess, key_of
from anr_watch.model import DeviceClock, ReplayOptions, Window
from anr_watch.replay.job import Cause, End, Joined, Joint, Side, Unproved
from anr_watch.states import Reason

UNMATCHED = "unmatched"  # DeviceClock.source: its storage never held the pictures it had sent
UNMATCHED_FOR = timedelta(days=1)  # after that all guesses are tried again: a firmware may have changed


@dataclass(frozen=True, slots=True)
class Request:
    """One replay to ask for."""

    guess: Guess
    unproved: Unproved


@dataclass(frozen=True, slots=True)
class Windows:
    """What one request is about, on the recorder's clock: kept by time, and asked for."""

    keep: Window
    asked: Window


def requests(
    guesses: Sequence[Guess], *, comparable: bool, tried: Collection[str], keep_unproved: bool, unmatched: bool
) -> tuple[Request, ...]:
    """Return the requests for one piece, in order; empty: everything was tried and nothing else is wanted.

    Args:
        guesses: how the camera's clock may be off, the most likely first.
        comparable: whether recorded pictures are known on any side.
        tried: guesses (`key_of`) that were wrong for this gap before.
        keep_unproved: whether footage is wanted that cannot be proved to be the right one.
        unmatched: the camera is known to store other pictures than it sends: guessing would only cost time.
    """
    last = Request(guesses[0], Unproved.KEEP)
    if not comparable or (unmatched and keep_unproved):
        return (last,)
    left = [Request(guess, Unproved.STOP) for guess in guesses if key_of(guess) not in tried]
    return (*left, last) if keep_unproved else tuple(left)


def measured(request: Request, offset_s: float, options: ReplayOptions) -> Request:
    """Return the request again, for where its own first join found the recorded pictures."""
    return Request(Guess("measured now", offset_s, options.margin_s, known=True), request.unproved)


def windows(
    target: Window, guess: Guess, options: ReplayOptions, *, comparable: bool, until: datetime, now: datetime
) -> Windows:
    """Return what to keep by time and what to ask for: more on both sides where there is something to compare.

    Nothing after `until` is kept by time: live recording may have it. The margin counts behind the piece, too, when
    only the pictures before it are known: a clock that runs ahead has them there.
    """
    keep = target.widened(options.lead_s, options.trail_s)
    keep = Window(keep.start, min(keep.end, until))
    margin_s = guess.margin_s if comparable else 0.0
    asked = target.widened(max(options.lead_s, margin_s), max(options.trail_s, margin_s))
    return Windows(keep, Window(asked.start, max(keep.end, min(asked.end, now))))


def goes_on(cause: Cause, request: Request, *, first: bool, zones: bool) -> bool:
    """Say whether the next guess is worth a try after a request ended so.

    A wrong zone can ask for the future, where there is no footage; that is the only other mistake like it.
    """
    if cause is End.SUSPECT:
        return True
    return cause is Reason.NO_FOOTAGE and request.unproved is Unproved.STOP and (not first or zones)


def is_unmatched(clock: DeviceClock | None, now: datetime) -> bool:
    """Say whether the device was found lately to store other pictures than it sends."""
    return clock is not None and clock.source == UNMATCHED and now - clock.measured_at < UNMATCHED_FOR


def proved(
    target: Window,
    placed: Sequence[Window],
    joins: Mapping[Side, Joined],
    *,
    head_at: datetime | None,
    tail_at: datetime | None,
    jumps: Sequence[datetime] = (),
) -> tuple[Window, ...]:
    """Return the time around `target` that holds no missing picture although no file covers it, after exact joins.

    Clocks and file names may leave time between a file of ours and its neighbour where no picture was ever taken.
    `head_at` is when the footage before it ends, `tail_at` when the one after it begins, as its name says: what it
    holds begins up to a name step later. `jumps` are where the replay's time was not continuous: holes of the
    camera's own storage stay missing.
    """
    exact = {side for side, joined in joins.items() if joined.kind is Joint.EXACT}
    if tail_at is not None and Side.TAIL in exact:
        target = Window(target.start, max(target.end, tail_at + timedelta(seconds=NAME_STEP_S)))
    found: list[Window] = []
    if placed:
        first, last = min(window.start for window in placed), max(window.end for window in placed)
        begins = head_at is not None and abs((first - head_at).total_seconds()) <= SMALLEST_HOLE_S
        if Side.HEAD in exact and begins and target.start < first:
            found.append(Window(target.start, first))
        ends = all(abs((last - jump).total_seconds()) > NAME_STEP_S for jump in jumps)
        if Side.TAIL in exact and ends and last < target.end:
            found.append(Window(last, target.end))
    elif exact == {Side.HEAD, Side.TAIL} and not jumps:
        found.append(target)
    return tuple(found)


def offset_of(joins: Mapping[Side, Joined]) -> float | None:
    """Return the camera's clock minus the recorder's as the joins measured it, None if no side matched."""
    for side in (Side.HEAD, Side.TAIL):
        joined = joins.get(side)
        if joined is not None and joined.kind is Joint.EXACT and joined.offset_s is not None:
            return joined.offset_s
    return None
