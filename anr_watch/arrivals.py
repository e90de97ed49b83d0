"""Weighs what sources say about cameras, finds who came back, and tells what changed. It starts and fills nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from anr_watch.filling.tools import Tools
from anr_watch.hints import Hints
from anr_watch.model import Camera
from anr_watch.presence import Change, Evidence, PresenceBook
from anr_watch.states import Presence

LOG = logging.getLogger("anr_watch.coordinator")

_STATUS_LEVEL = {  # camera_status.state; `connecting` says nothing yet
    "recording": Presence.ONLINE,
    "offline": Presence.OFFLINE,
    "error": Presence.OFFLINE,
    "disabled": Presence.UNKNOWN,
    "unknown": Presence.UNKNOWN,
}


class Arrivals:
    """See the module.

    Args:
        tools: the rims; the store and the announcements are used.
        book: what is believed about the cameras.
        gone: called with a camera of which a source says that it is gone, and with that source.
    """

    def __init__(self, tools: Tools, book: PresenceBook, gone: Callable[[Camera, str], None]) -> None:
        self._tools, self._book, self._gone = tools, book, gone
        self._cameras: Mapping[str, Camera] = {}
        self._statuses: dict[str, str] = {}
        self._last_words: dict[tuple[str, str], Presence] = {}  # by camera and source
        self._untold: list[Change] = []
        self._told_online: set[str] = set()  # whose present time online began with an event, not with a seed

    @property
    def untold(self) -> bool:
        """Whether something changed that `tell` has not told."""
        return bool(self._untold)

    def presence(self, camera_id: str) -> Presence:
        """Return what is believed of a camera."""
        return self._book.presence(camera_id)

    def is_news(self, word: Evidence) -> bool:
        """Say whether a source says something else than before (Frigate says it every second)."""
        who = word.camera_id, word.source
        before, self._last_words[who] = self._last_words.get(who), word.level
        # The book alone does not do: a word that a pass has taken along is not in it yet.
        return not (before is word.level and self._book.level(*who) is word.level)

    def cameras_are(self, cameras: Mapping[str, Camera], now: datetime) -> list[Evidence]:
        """Take the cameras over; return what `camera_status` says that it did not say at the last look.

        At first sight that is only a level. At nearly every look the cameras are the very same objects as before.
        """
        if cameras == self._cameras:
            return []
        self._cameras = cameras
        self._book.set_cameras(cameras)
        self._statuses = {camera_id: s for camera_id, s in self._statuses.items() if camera_id in cameras}
        found: list[Evidence] = []
        for camera in cameras.values():
            level = _STATUS_LEVEL.get(camera.status)
            before = self._statuses.get(camera.id)
            if level is not None and camera.status != before:
                self._statuses[camera.id] = camera.status
                found.append(Evidence(camera.id, "database", level, retained=before is None, at=now))
        return found

    def weigh(self, hints: Hints) -> None:
        """Take evidence in and note the cameras that came online, and whether they were known to be offline.

        What was heard is heard once: a pass that fails later finds the edge among the hints, not the evidence.

        A source that turns to online is an edge even where another source never noticed the outage: the kernel's
        status may still say `recording` when the camera's own message says that it is back.
        """
        while hints.evidence:
            word = hints.evidence.pop(0)
            level, overall = self._book.level(word.camera_id, word.source), self._book.presence(word.camera_id)
            change, camera = self._book.hear(word), self._cameras.get(word.camera_id)
            edge = word.level is Presence.ONLINE and not word.retained and level is not Presence.ONLINE
            gone = word.level is Presence.OFFLINE and not word.retained and level is not Presence.OFFLINE
            if gone and camera is not None:
                self._gone(camera, word.source)
            if edge and change is None and camera is not None and camera.id not in self._told_online:
                change = Change(word.camera_id, overall, Presence.ONLINE, edge=True, source=word.source, at=word.at)
            if edge:
                offline = Presence.OFFLINE in (level, overall)
                hints.edges[word.camera_id] = hints.edges.get(word.camera_id, False) or offline
                hints.sources[word.camera_id] = word.source
            if change is not None:
                self._untold.append(change)
                if change.after is Presence.ONLINE and change.edge:
                    self._told_online.add(change.camera_id)
                else:
                    self._told_online.discard(change.camera_id)

    def records_again(self, camera: Camera, start: datetime) -> None:
        """A camera that had been silent began a file at `start`: that is what an online edge means."""
        if camera.id not in self._told_online:
            self._book.hear(Evidence(camera.id, "recordings", Presence.OFFLINE, retained=True, at=start))
            back = Evidence(camera.id, "recordings", Presence.ONLINE, retained=False, at=start)
            self.weigh(Hints(evidence=[back]))

    async def tell(self) -> None:
        """Tell what changed in what is believed; what could not be written down is told the next time.

        Raises:
            StoreUnavailable, StorageError: the database cannot be used.
        """
        while self._untold:
            change = self._untold[0]
            await self._tools.store.save_presence(
                change.camera_id, change.after, change.at, self._tools.announcements.presence(change)
            )
            del self._untold[0]
            LOG.info(
                "presence",
                extra={
                    "camera": change.camera_id,
                    "before": change.before,
                    "after": change.after,
                    "by": change.source,
                },
            )
