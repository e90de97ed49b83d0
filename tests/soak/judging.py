"""Whether a series of measurements stays flat: a slope that a few outliers cannot bend, against a stated limit. Pure.

The slope is the median of the slopes between all pairs of samples (Theil and Sen): up to 29 % of the samples may be
anything. What is judged is the drift, slope times time: a limit says how much of it is allowed for the whole run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import median

WARM_UP = 1 / 3  # of the samples: caches fill, malloc finds its size
FEWEST = 5  # samples; with fewer nothing can be said


@dataclass(frozen=True)
class Limit:
    """How far a figure may drift upwards in a run: `share` of its median, but `least` in any case."""

    share: float
    least: float

    def of(self, typical: float) -> float:
        """Return the allowed drift for a figure of that size."""
        return max(self.share * typical, self.least)


@dataclass(frozen=True)
class Trend:
    """What became of one figure; `flat` is the verdict."""

    median: float
    slope_per_hour: float
    drift: float
    allowed: float
    samples: int
    flat: bool


# Figures are of moments at which nothing runs, so a process or a thread more than before is one too many. Memory: the
# allocator gives back in steps, and what is known of the newest 1024 files (0.7 KB each) fills up during the run. PSS
# is not judged: it changes with the other programs that have the same libraries mapped.
LIMITS: Mapping[str, Limit] = {
    "daemon_rss_mb": Limit(0.04, 1.0),
    "daemon_dirty_mb": Limit(0.04, 1.0),
    "parent_rss_mb": Limit(0.02, 0.5),
    "parent_dirty_mb": Limit(0.02, 0.5),
    "together_dirty_mb": Limit(0.04, 1.5),
    "daemon_fds": Limit(0.0, 0.5),
    "parent_fds": Limit(0.0, 0.5),
    "daemon_threads": Limit(0.0, 0.5),
    "processes": Limit(0.0, 0.5),
    "wal_mb": Limit(0.05, 1.0),
}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points; 0 for fewer than two."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] != a[0]]
    return median(slopes) if slopes else 0.0


def trend(points: Sequence[tuple[float, float]], limit: Limit) -> Trend:
    """Judge samples of (seconds, value) in order of time, the first third left out."""
    kept = points[int(len(points) * WARM_UP) :]
    per_s = slope(kept)
    typical = median(value for _, value in kept) if kept else 0.0
    drift = per_s * (kept[-1][0] - kept[0][0]) if kept else 0.0
    allowed = limit.of(typical)
    flat = len(kept) >= FEWEST and drift <= allowed
    return Trend(round(typical, 3), round(per_s * 3600, 3), round(drift, 3), round(allowed, 3), len(kept), flat)


def judged(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | bool]]:
    """Judge every figure that has a limit; samples hold `at_s` and the figures."""
    return {
        name: asdict(trend([(sample["at_s"], sample[name]) for sample in samples], limit))
        for name, limit in LIMITS.items()
    }
