"""What the bad days came to: counts of every case, summed over all test processes into one line of JSON."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

TALLY_FILE = "ANR_TORTURE_TALLY"


@dataclasses.dataclass
class Tally:
    """Counts of one test; the names are those of the summary line.

    The first three count what was done, the others what must not happen: a test that finds one of them not 0 counts
    it here and fails.
    """

    kills: int = 0
    faults: int = 0
    cases: int = 0
    gaps_lost: int = 0
    frames_missing: int = 0
    frames_double: int = 0
    events_lost: int = 0
    orphans: int = 0
    secrets_leaked: int = 0

    def lost(self) -> dict[str, int]:
        """Every count that has to be 0 and is not."""
        return {
            name: count
            for name, count in dataclasses.asdict(self).items()
            if count and name not in {"kills", "faults", "cases"}
        }


def write(tally: Tally) -> None:
    """Add one test's counts to the run's file; a line is short enough to be appended whole."""
    path = os.environ.get(TALLY_FILE)
    if path and any(dataclasses.astuple(tally)):
        with Path(path).open("a", encoding="ascii") as file:
            file.write(json.dumps(dataclasses.asdict(tally)) + "\n")


def total(path: Path) -> Tally:
    """The sum of all lines of a run."""
    together = Tally()
    for line in path.read_text(encoding="ascii").splitlines():
        for name, count in json.loads(line).items():
            setattr(together, name, getattr(together, name) + count)
    return together


class Rounds:
    """How often a bad day is repeated: a few times in the short form, for a share of the time in the long one."""

    def __init__(self, long_s: float | None, seed: int, now: Callable[[], float]) -> None:
        """Take the length of the whole long form in seconds (None: the short one), the first seed, a clock."""
        self.long_s = long_s
        self._seed = seed
        self._now = now

    @property
    def long(self) -> bool:
        """Whether this is `make torture`."""
        return self.long_s is not None

    def __call__(self, *, short: int, share: float) -> Iterator[int]:
        """Seeds, one per round: `short` of them, or new ones until `share` of the long form's time is over."""
        if self.long_s is None:
            yield from range(self._seed, self._seed + short)
            return
        end = self._now() + self.long_s * share
        seed = self._seed
        while seed < self._seed + short or self._now() < end:
            yield seed
            seed += 1
