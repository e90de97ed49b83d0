"""Until when each device is left alone, and why. Pure; all times are monotonic seconds.

A device waits in back-off steps: at most one connection ends each of them, whoever says meanwhile that the camera is
back, and however many gaps its cameras have. Only word that holds (`flapping`) ends a step early, and only one that
waits for a device that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from anr_watch.flapping import Damper
from anr_watch.model import Device
from anr_watch.states import POLICY, Follow, Reason

# No device is asked more often than this for word that it is back.
EDGE_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class DeviceWait:
    """How long a device waits and why."""

    until_s: float
    reason: Reason


class DeviceWaits:
    """The waits of all devices."""

    def __init__(self) -> None:
        self._waits: dict[Device, DeviceWait] = {}
        self._tries: dict[Device, dict[Reason, int]] = {}  # in a row, since the device last served a replay
        self._asked_s: dict[Device, float] = {}
        self._damper = Damper()

    def back(self, device: Device, source: str, now_s: float) -> None:
        """Note that a source says that the device is back."""
        self._damper.back(device, source, now_s)

    def gone(self, device: Device, source: str) -> None:
        """Note that the source says that the device is gone."""
        self._damper.gone(device, source)

    def asked(self, device: Device, now_s: float) -> None:
        """Note that the device is asked now."""
        self._asked_s[device] = now_s
        self._damper.tried(device)

    def ended(
        self, device: Device, reason: Reason, now_s: float, *, answered: bool, broke: bool, gained: bool
    ) -> None:
        """Take in how asking the device ended.

        Args:
            device: the device.
            reason: why the try ended.
            now_s: now.
            answered: it played something.
            broke: it broke off.
            gained: footage came.
        """
        if answered:
            self._waits.pop(device, None)
        if broke or reason is Reason.UNREACHABLE:
            self._damper.failed(device)
        elif answered:
            self._damper.worked(device)
        if answered and (gained or not broke):
            self._tries.pop(device, None)
        if POLICY[reason].follow is Follow.DEVICE_BACKOFF:
            self._step(device, reason, now_s)
        elif broke:
            # Whatever the gap waits for: the device went away, and its other gaps would find that out one by one.
            self._step(device, Reason.UNREACHABLE, now_s)

    def hold(self, device: Device, until_s: float, reason: Reason) -> None:
        """Leave the device alone until then, whatever happens."""
        self._waits[device] = DeviceWait(until_s, reason)

    def forget(self, device: Device | None = None) -> None:
        """End the wait of one device, or of all: a person asked."""
        if device is None:
            self._waits.clear()
        else:
            self._waits.pop(device, None)

    def until_s(self) -> dict[Device, float]:
        """Return when each device's wait ends."""
        return {device: self._until_s(device, wait) for device, wait in self._waits.items()}

    def _until_s(self, device: Device, wait: DeviceWait) -> float:
        if wait.reason is not Reason.UNREACHABLE:  # a busy device is not less busy for being back
            return wait.until_s
        earliest_s = self._asked_s.get(device, float("-inf")) + EDGE_RETRY_S
        return min(wait.until_s, max(self._damper.due_s(device), earliest_s))

    def _step(self, device: Device, reason: Reason, now_s: float) -> None:
        tries = self._tries.setdefault(device, {})
        tries[reason] = tries.get(reason, 0) + 1
        self._waits[device] = DeviceWait(now_s + POLICY[reason].delay_s(tries[reason]), reason)
