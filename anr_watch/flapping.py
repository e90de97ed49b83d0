"""How soon word that a camera is back is believed, per device and source. Pure; waits are monotonic seconds.

The first word after quiet is believed at once: that is what the program is for. Where a connection that followed it
failed, the next one has to hold for a while first, longer each time. A camera that flaps every 3 s is then asked
when its back-off ends and not at each flap; nor is one whose recorder writes `recording` at each try of an outage.
Sources are kept apart: a recorder that cried wolf for an hour does not delay the camera's own message.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anr_watch.model import Device

# How long a word has to hold after the first, second, ... connection in a row that followed one and failed. 16 s: a
# recorder's try at a silent address takes up to 15 s to fail.
HOLDS_S = (4.0, 8.0, 16.0, 20.0)


@dataclass(slots=True)
class _Words:
    failures: dict[str, int] = field(default_factory=dict)  # per source
    due_s: dict[str, float] = field(default_factory=dict)  # per source: when its word is believed
    behind: set[str] = field(default_factory=set)  # sources whose word led to the present try


class Damper:
    """The words about each device that are not served yet, and what became of earlier ones."""

    def __init__(self) -> None:
        self._devices: dict[Device, _Words] = {}

    def back(self, device: Device, source: str, now_s: float) -> None:
        """Note that a source says the device is back; it takes the place of the source's earlier word."""
        words = self._devices.setdefault(device, _Words())
        failures = words.failures.get(source, 0)
        words.due_s[source] = now_s + (HOLDS_S[min(failures, len(HOLDS_S)) - 1] if failures else 0.0)

    def gone(self, device: Device, source: str) -> None:
        """Note that the source says the device is gone again."""
        if (words := self._devices.get(device)) is not None:
            words.due_s.pop(source, None)

    def due_s(self, device: Device) -> float:
        """Return when the first of the words about the device is believed; infinity if there is none."""
        words = self._devices.get(device)
        return min(words.due_s.values(), default=float("inf")) if words is not None else float("inf")

    def tried(self, device: Device) -> None:
        """Note that the device is asked now, which serves all words about it."""
        if (words := self._devices.get(device)) is not None:
            words.behind = set(words.due_s)
            words.due_s.clear()

    def failed(self, device: Device) -> None:
        """Note that the device was not there, or went away while it was asked."""
        if (words := self._devices.get(device)) is not None:
            for source in words.behind:
                words.failures[source] = words.failures.get(source, 0) + 1
            words.behind.clear()

    def worked(self, device: Device) -> None:
        """Note that the device was there all the time: every source is believed again."""
        self._devices.pop(device, None)
