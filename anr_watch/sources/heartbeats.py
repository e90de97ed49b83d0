"""Who has fallen silent, of sources that repeat themselves. Pure: is told what was heard and when, and asked."""

from __future__ import annotations

from collections.abc import Mapping


class Heartbeats:
    """When each source last spoke of each camera.

    Args:
        within_s: by source, the time in which it repeats itself; other sources are not listened for.
    """

    def __init__(self, within_s: Mapping[str, float]) -> None:
        self._within_s = dict(within_s)
        self._heard_s: dict[tuple[str, str], float] = {}  # (source, camera) -> monotonic

    @property
    def step_s(self) -> float | None:
        """How often `silent` has to be asked, so that silence is noticed a quarter too late at most; None: never."""
        return min(self._within_s.values(), default=0.0) / 4 or None

    def heard(self, source: str, camera_id: str, now_s: float) -> None:
        """Note that the source spoke of the camera, whatever it said."""
        if source in self._within_s:
            self._heard_s[source, camera_id] = now_s

    def silent(self, now_s: float) -> list[tuple[str, str]]:
        """Return (source, camera) of those that fell silent since the last call; each is told once."""
        found = [key for key, heard_s in self._heard_s.items() if now_s - heard_s > self._within_s[key[0]]]
        for key in found:
            del self._heard_s[key]
        return found
