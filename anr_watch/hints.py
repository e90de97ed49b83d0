"""What may have changed since the coordinator looked last: collected, merged, never lost. Pure; looks at nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from anr_watch.filling.tools import Trigger
from anr_watch.presence import Evidence


@dataclass(slots=True)
class Hints:
    """What has been hinted at since the last pass."""

    trigger: Trigger | None = None
    evidence: list[Evidence] = field(default_factory=list)
    segments: dict[str, datetime] = field(default_factory=dict)  # camera -> newest start seen
    closed: dict[str, set[datetime]] = field(default_factory=dict)  # camera -> starts of finished files
    everything: bool = False
    rows: bool = False  # what the database says may be something else
    states: bool = False  # the broker may have forgotten the retained states
    edges: dict[str, bool] = field(default_factory=dict)  # came online, not served yet -> was known to be offline
    sources: dict[str, str] = field(default_factory=dict)  # the same cameras -> who said so

    def absorb(self, newer: Hints) -> None:
        """Put the hints of a later time behind these."""
        self.trigger = self.trigger or newer.trigger
        self.evidence += newer.evidence
        self.segments |= newer.segments
        for camera_id, starts in newer.closed.items():
            self.closed.setdefault(camera_id, set()).update(starts)
        self.everything |= newer.everything
        self.rows |= newer.rows
        self.states |= newer.states
        self.edges |= newer.edges
        self.sources |= newer.sources
