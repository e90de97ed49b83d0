"""What a benchmark hands back: figures with their statistics, budgets and peers. Measures nothing, prints nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Budget:
    """Limits of a figure; None: none. `ratio` compares with the figure's peer (ours divided by the peer's)."""

    median_max: float | None = None
    p99_max: float | None = None
    median_min: float | None = None
    ratio_max: float | None = None

    @property
    def text(self) -> str:
        """Return the limits as they are printed: `p50 <= 15, p99 <= 40`."""
        alone = self.p99_max is None
        parts = [
            (self.median_max, "<= {:g}" if alone else "p50 <= {:g}"),
            (self.p99_max, "p99 <= {:g}"),
            (self.median_min, ">= {:g}"),
            (self.ratio_max, "<= {:g} x peer"),
        ]
        return ", ".join(form.format(limit) for limit, form in parts if limit is not None)

    def met(self, figure: Figure) -> bool | None:
        """Say whether a figure keeps within; None where a peer that is needed is missing."""
        ratio = figure.ratio
        if self.ratio_max is not None and ratio is None:
            return None
        return not (
            (self.median_max is not None and figure.median > self.median_max)
            or (self.p99_max is not None and figure.p99 > self.p99_max)
            or (self.median_min is not None and figure.median < self.median_min)
            or (self.ratio_max is not None and ratio is not None and ratio > self.ratio_max)
        )


@dataclass(frozen=True)
class Spec:
    """One figure before it is measured: its name and unit as in the file of results, and what it says in words."""

    name: str
    unit: str
    says: str
    budget: Budget | None = None


@dataclass
class Figure:
    """One measured figure.

    `peer` is the value, in the same unit, of what `peer_name` says; `ratio` is our median divided by it.
    """

    spec: Spec
    samples: Sequence[float]
    peer: float | None = None
    peer_name: str = ""
    note: str = ""
    extra: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.spec.name}: no samples")

    @property
    def median(self) -> float:
        return quantile(self.samples, 0.5)

    @property
    def p99(self) -> float:
        return quantile(self.samples, 0.99)

    @property
    def ratio(self) -> float | None:
        return self.median / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        return self.spec.budget.met(self) if self.spec.budget else None

    def as_json(self) -> dict[str, object]:
        """Return the figure as it stands in the file of results."""
        return {
            "name": self.spec.name,
            "unit": self.spec.unit,
            "says": self.spec.says,
            "median": rounded(self.median),
            "p99": rounded(self.p99),
            "max": rounded(max(self.samples)),
            "n": len(self.samples),
            "peer": None if self.peer is None else rounded(self.peer),
            "peer_name": self.peer_name,
            "ratio": None if self.ratio is None else rounded(self.ratio),
            "budget": self.spec.budget.text if self.spec.budget else "",
            "met": self.met,
            "note": self.note,
            **self.extra,
        }


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least `share` of all samples do not exceed (the median: the middle)."""
    ordered = sorted(samples)
    if share == 0.5:
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def rounded(value: float) -> float:
    """Return three significant digits or, from 1000 on, whole numbers: more would say something about noise."""
    if value == 0 or not math.isfinite(value):
        return value
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return round(value, digits)
