"""Whether the recordings take files: why all fills wait, and when that is looked at again. Starts and stops nothing.

A disk that is full or does not take files is everybody's trouble, so no fill runs until it is over. Looking costs a
`statvfs`, or a file of 4 KB where the disk took none, so it is done every 2 s; a camera is asked only when it helps.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from anr_watch.errors import StorageError
from anr_watch.filling.tools import Tools
from anr_watch.states import POLICY, Reason

LOOK_S: Final = 2.0


@dataclass(slots=True)
class _Trouble:
    """What the disk answered: until when fills wait at the most, and whether looking can end that sooner."""

    reason: Reason
    detail: str
    until_s: float
    look_s: float
    telling: bool  # the trouble shows when we look, so that its end does, too; a used-up quota does not


class Room:
    """What the recordings' disk said last.

    Attributes:
        absent: why the recordings folder itself cannot be used (gone, not mounted); empty if it can.
        renewed: how often the folder came back or another came to stand in its place.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._trouble: _Trouble | None = None
        self.absent = ""
        self.renewed = 0

    @property
    def why(self) -> str:
        """Why no fill runs, in one line; empty if nothing speaks against it."""
        if self.absent or self._trouble is None:
            return self.absent
        return f"{self._trouble.reason}: {self._trouble.detail}"

    @property
    def until_s(self) -> float | None:
        """Until when (monotonic) all fills wait; None: they do not."""
        return self._trouble.until_s if self._trouble is not None else None

    async def failed(self, reason: Reason, detail: str, delay_s: float) -> None:
        """Note that a fill found the disk full or not taking files."""
        now_s = self._tools.clock.monotonic()
        telling = not await self._takes_files(reason)
        self._trouble = _Trouble(reason, detail, now_s + delay_s, now_s + LOOK_S, telling)

    def forget(self) -> None:
        """Wait no longer: a person says so."""
        self._trouble = None

    async def look(self) -> float | None:
        """Look whether the trouble is over; return when to look next, None if there is none."""
        trouble, now_s = self._trouble, self._tools.clock.monotonic()
        if trouble is None:
            return None
        if trouble.look_s <= now_s:
            trouble.look_s = now_s + LOOK_S
            if not await self._takes_files(trouble.reason):
                trouble.telling = True
                trouble.until_s = now_s + POLICY[trouble.reason].delay_s(1)
            elif trouble.telling or trouble.until_s <= now_s:
                self._trouble = None
                return None
        return trouble.look_s

    async def _takes_files(self, reason: Reason) -> bool:
        recordings, least_mb = self._tools.recordings, self._tools.settings.recordings.min_free_mb
        if reason is Reason.STORAGE:
            return await asyncio.to_thread(recordings.takes_files)
        try:
            return await asyncio.to_thread(recordings.free_mb) >= least_mb
        except StorageError:
            return False
