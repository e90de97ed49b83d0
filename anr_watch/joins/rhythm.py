"""Finds recorded pictures in a replay that is coded another way: by the rhythm of their sizes. Pure, decodes nothing.

A camera that stores another encoding than it sends codes the same scene twice: where something moves both streams
grow, where nothing does both shrink. So the sizes of some seconds of pictures fit at one place of the replay and
badly at all others. It is a statement about time, not a proof like equal pictures: it counts only where it is far
better than everywhere else, and it tells between which pictures the place lies. A still scene has no rhythm.
Measured with the simulated film (120 pictures, same codec): right place 0.68 to 0.95, best wrong one 0.50.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import median
from typing import Final

FITS: Final = 0.6  # correlation of the sizes' logarithms
CLEARLY: Final = 0.2  # so much better than the best other place
FEWEST: Final = 80  # pictures that must be compared
FEWEST_NEAR: Final = 40  # where the place is known to some seconds
BLUNT: Final = 0.1  # places beside the best one that fit nearly as well are not told apart
WIDEST: Final = 12  # pictures that such a doubt may span
_KEY: Final = 3.0  # times the usual size: a key frame, whose place says nothing about the scene
_MOST: Final = 1 << 13  # pictures of a replay that are remembered: five minutes at 25 per second


@dataclass(frozen=True, slots=True)
class Fit:
    """Where the pictures are: the last picture before `low`, or the first at `low`, up to `high` if in doubt."""

    low: int
    high: int
    correlation: float


class Rhythm:
    """Sizes of recorded pictures, looked for among those pushed. Positions are presentation times."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._wanted = _levels(sizes)
        self._sizes: deque[tuple[int, int, int]] = deque(maxlen=_MOST)

    @property
    def possible(self) -> bool:
        """Whether there are enough pictures to be looked for anywhere."""
        return len(self._wanted) >= FEWEST_NEAR

    def push(self, size: int, at: int, end: int) -> None:
        """Take the next picture of the replay."""
        if self.possible:
            self._sizes.append((size, at, end))

    def lose(self) -> None:
        """Say that time is not continuous after the newest picture."""
        self._sizes.clear()

    def head(self, near: tuple[int, int] | None = None) -> Fit | None:
        """Return where the pictures end that were pushed; `near` are the bounds of their end, where it is known."""
        ends = [end for _, _, end in self._sizes]
        places = range(-len(self._wanted) + 1, len(ends) - len(self._wanted) + 1)
        found = self._best({at: ends[at + len(self._wanted) - 1] for at in places}, near)
        # The end of a picture is a guess; the begin of the next one is not.
        return None if found is None else Fit(self._next(found.low), self._next(found.high), found.correlation)

    def tail(self, near: tuple[int, int] | None = None) -> Fit | None:
        """Return where the pictures begin that were pushed; `near` are the bounds of their begin."""
        found = self._best({number: at for number, (_, at, _) in enumerate(self._sizes)}, near)
        if found is None:
            return None
        return Fit(self._sizes[found.low][1], self._sizes[found.high][1], found.correlation)

    def _next(self, place: int) -> int:
        last = place + len(self._wanted) - 1
        return self._sizes[last + 1][1] if last + 1 < len(self._sizes) else self._sizes[last][2]

    def _best(self, places: dict[int, int], near: tuple[int, int] | None) -> Fit | None:
        """Return the first and last place (number of a picture) that may be the one, and how well the best fits."""
        levels = _levels([size for size, _, _ in self._sizes])
        if near is not None:
            places = {place: at for place, at in places.items() if near[0] <= at <= near[1]}
        least = FEWEST if near is None else FEWEST_NEAR
        fits = {place: _correlation(self._wanted, levels, place, least) for place in places}
        if not fits:
            return None
        best = max(fits, key=lambda place: fits[place])
        if fits[best] < FITS:
            return None
        low = high = best
        while fits.get(low - 1, 0.0) >= fits[best] - BLUNT:
            low -= 1
        while fits.get(high + 1, 0.0) >= fits[best] - BLUNT:
            high += 1
        other = max((fit for place, fit in fits.items() if not low - 1 <= place <= high + 1), default=0.0)
        if high - low > WIDEST or fits[best] - other < CLEARLY:
            return None
        return Fit(low, high, fits[best])


def _levels(sizes: Sequence[int]) -> list[float | None]:
    """Return the logarithms of sizes, None for key frames and for pictures without a size."""
    known = [size for size in sizes if size > 0]
    limit = _KEY * median(known) if known else 0.0
    return [log(size) if 0 < size <= limit else None for size in sizes]


def _correlation(ours: Sequence[float | None], theirs: Sequence[float | None], place: int, least: int) -> float:
    """Return how alike two rows of levels are (-1 to 1), the first of `ours` laid at `place`; 0.0 if too few meet."""
    count = 0
    a = b = aa = bb = ab = 0.0
    for x, y in zip(ours[max(0, -place) :], theirs[max(0, place) :], strict=False):
        if x is not None and y is not None:
            count += 1
            a += x
            b += y
            aa += x * x
            bb += y * y
            ab += x * y
    if count < least:
        return 0.0
    spread = (count * aa - a * a) * (count * bb - b * b)
    return (count * ab - a * b) / sqrt(spread) if spread > 0 else 0.0
