"""What is counted while the daemon runs, for the metrics endpoint; plain numbers that nobody decides by.

They begin at zero with each process, as Prometheus expects of counters, and are kept whether or not they are asked
for: a few additions per fill cost less than a switch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from anr_watch.states import Reason

# Seconds from the sign that started a fill to its attempt's row. Usual is 5 to 30 ms; what waits for a free lane of
# the device or for a back-off is in the upper ones.
REACTION_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Figures:
    """The counters of this process.

    Attributes:
        fills: ended tries by reason; `covered` is a gap that needed no replay.
        recovered_s: seconds of footage that tries gained.
        recovered_bytes: bytes of the files they put into place.
        recovered_files: those files.
        reactions: tries begun, by the bucket of their reaction time; one more for the slower ones.
        reaction_s: the sum of those times.
    """

    fills: Counter[Reason] = field(default_factory=Counter)
    recovered_s: float = 0.0
    recovered_bytes: int = 0
    recovered_files: int = 0
    reactions: list[int] = field(default_factory=lambda: [0] * (len(REACTION_BUCKETS_S) + 1))
    reaction_s: float = 0.0

    def begun(self, reaction_s: float) -> None:
        """A try began `reaction_s` after what set it off."""
        reaction_s = max(reaction_s, 0.0)
        self.reactions[bisect_left(REACTION_BUCKETS_S, reaction_s)] += 1
        self.reaction_s += reaction_s

    def ended(self, reason: Reason, *, got_s: float, size_bytes: int, files: int) -> None:
        """A try ended and is settled."""
        self.fills[reason] += 1
        self.recovered_s += max(got_s, 0.0)
        self.recovered_bytes += size_bytes
        self.recovered_files += files
