"""How a camera is asked for one missing piece: which requests in which order, and what joins prove about it. Pure.

While recorded pictures are known beside the piece, every request but the last ends without a file if it shows the
time of those pictures and not the pictures themselves. The last one is cut by time, where that is wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from anr_watch.coverage import NAME_STEP_S, SMALLEST_HOLE_S
from anr_watch.joins.guesses import Guess, key_of
from anr_watch.model import DeviceClock, ReplayOptions, Window
from anr_watch.replay.job import Cause, End, Joined, Joint, Side, Unproved
from anr_watch.states import Reason

JOIN, RHYTHM = "join", "rhythm"  # DeviceClock.source: equal pictures, or the same scene coded another way
UNMATCHED = "unmatched"  # its storage never held the pictures it had sent
UNMATCHED_FOR = timedelta(days=1)  # after that all guesses are tried again: a firmware may have changed
# A camera whose storage held the very pictures it had sent so lately holds them again.
MATCHED_FOR = timedelta(days=7)
REFUSED = "refused"  # among the guesses of a gap: neither side was in the footage of its time


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
    guesses: Sequence[Guess],
    *,
    comparable: bool,
    both: bool,
    tried: Collection[str],
    keep_unproved: bool,
    matched: bool,
    unmatched: bool,
) -> tuple[Request, ...]:
    """Return the requests for one piece, in order; empty: everything was tried and nothing else is wanted.

    Args:
        guesses: how the camera's clock may be off, the most likely first.
        comparable: whether recorded pictures are known on any side.
        both: whether they are on both.
        tried: guesses (`key_of`) that were wrong for this gap before.
        keep_unproved: whether footage is wanted that cannot be proved to be the right one.
        matched: the camera was found lately to store the very pictures it sends, so what lacks them is wrong.
        unmatched: the camera is known to store other pictures than it sends: guessing would only cost time.
    """
    last = Request(guesses[0], Unproved.KEEP)
    if not comparable or (unmatched and keep_unproved and not matched):
        return (last,)
    left = [Request(guess, Unproved.STOP) for guess in guesses if key_of(guess) not in tried]
    if both and (matched or not keep_unproved):
        # A connection that was bad before it broke leaves pictures that the camera never had: one side must do.
        last = Request(guesses[0], Unproved.PROVE)
        return tuple(left) if REFUSED in tried else (*left, last)
    return (*left, last) if keep_unproved else tuple(left)


def with_doubt(request: Request) -> Request:
    """Return the request again, for a camera whose storage turned out to be coded another way than what it sends."""
    return Request(request.guess, Unproved.KEEP)


def noted(request: Request) -> str:
    """Return what is remembered of a request that showed other footage."""
    return REFUSED if request.unproved is Unproved.PROVE else key_of(request.guess)


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
    """Say whether nothing of what the device sends was found in its storage lately, whatever clock was tried."""
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
    """Return the time around `target` that holds no missing picture although no file covers it.

    That is so beside a join that found the recorded pictures.

    Clocks and file names may leave time between a file of ours and its neighbour where no picture was ever taken.
    `head_at` is when the footage before it ends, `tail_at` when the one after it begins, as its name says: what it
    holds begins up to a name step later. `jumps` are where the replay's time was not continuous: holes of the
    camera's own storage stay missing.
    """
    found_at = {side for side, joined in joins.items() if joined.found}
    if tail_at is not None and Side.TAIL in found_at:
        target = Window(target.start, max(target.end, tail_at + timedelta(seconds=NAME_STEP_S)))
    found: list[Window] = []
    if placed:
        first, last = min(window.start for window in placed), max(window.end for window in placed)
        begins = head_at is not None and abs((first - head_at).total_seconds()) <= SMALLEST_HOLE_S
        if Side.HEAD in found_at and begins and target.start < first:
            found.append(Window(target.start, first))
        ends = all(abs((last - jump).total_seconds()) > NAME_STEP_S for jump in jumps)
        if Side.TAIL in found_at and ends and last < target.end:
            found.append(Window(last, target.end))
    elif found_at == {Side.HEAD, Side.TAIL} and not jumps:
        found.append(target)
    return tuple(found)


def offset_of(joins: Mapping[Side, Joined]) -> tuple[float, str] | None:
    """Return the camera's clock minus the recorder's as the joins measured it, and what did; None if nothing did."""
    for kind, source in ((Joint.EXACT, JOIN), (Joint.TIME, RHYTHM)):
        for side in (Side.HEAD, Side.TAIL):
            joined = joins.get(side)
            if joined is not None and joined.kind is kind and joined.offset_s is not None:
                return joined.offset_s, source
    return None


def tolerance_of(joins: Iterable[Joined]) -> float | None:
    """Return how far a side that was cut by time may be from the true place, None if none was."""
    return max((joined.tolerance_s for joined in joins if joined.tolerance_s is not None), default=None)


def unreached(target: Window, joins: Mapping[Side, Joined]) -> tuple[datetime, ...]:
    """Return the edges of `target` that what came did not reach, where the other side was found.

    A tolerance for coarse names has no place there: the recorded pictures were looked for and not met.
    """
    if not any(joined.found for joined in joins.values()):
        return ()
    missed = {side for side, joined in joins.items() if joined.kind is Joint.TIME and not joined.found}
    return tuple(at for side, at in ((Side.HEAD, target.start), (Side.TAIL, target.end)) if side in missed)
