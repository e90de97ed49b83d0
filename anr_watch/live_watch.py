"""Looks at the live recordings of a device while it replays, and lets the fill give way when they falter.

Looks at files only while a replay runs, twice a second, because what it waits for is that nothing happens. What it
sees is judged in `live_first`; it changes nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.errors import AnrWatchError
from anr_watch.fill import Fill
from anr_watch.filling.tools import Tools
from anr_watch.footage.folder import FootageFile
from anr_watch.live_first import COME_BACK_S, Rhythm, Witness, was_interrupted
from anr_watch.model import Camera, Gap, Segment, Window

LOG = logging.getLogger("anr_watch.live")

LOOK_S = 0.5
# How far back the recorder's files tell how it records, and how many of them count.
_BACK = timedelta(minutes=15)
_COUNTED = 5
_AHEAD = timedelta(minutes=1)  # names later than this are a wrong clock's


@dataclass(slots=True)
class _Live:
    """One camera's live recording: what was seen of it last."""

    camera: Camera
    witness: Witness
    bytes_s: float | None
    path: Path | None  # the file that may grow
    size_bytes: int


class LiveWatch:
    """The eyes of one fill on what its device records live. `run` ends with the fill, cancelled.

    Args:
        tools: the rims.
        fill: it is told to give way.
        cameras: gives the cameras of the device that record always, at the first look.
    """

    def __init__(self, tools: Tools, fill: Fill, cameras: Callable[[], Sequence[Camera]]) -> None:
        self._tools, self._fill, self._cameras = tools, fill, cameras
        self._began, self._began_s = tools.clock.now(), tools.clock.monotonic()
        self._since = self._began.replace(microsecond=0)  # names are a second coarse
        self._lives: dict[str, _Live] | None = None
        self._words: dict[str, tuple[float, str]] = {}
        self._first_byte_s: float | None = None

    def word(self, camera_id: str, why: str) -> None:
        """Somebody says that live recording of a camera is gone."""
        self._words.setdefault(camera_id, (self._tools.clock.monotonic(), why))

    def see_gaps(self, gaps: Sequence[Gap]) -> None:
        """Take gap rows that tell of an interruption after this fill began."""
        for gap in gaps:
            if was_interrupted(gap.window, camera_began=self._began):
                self.word(gap.camera_id, "live recording was interrupted")

    async def run(self) -> None:
        """Look until live falters or the task is cancelled."""
        while True:
            await self._tools.clock.sleep(LOOK_S)
            try:
                if self._fill.replayed_bytes and await self._gave_way():
                    return
            except AnrWatchError as error:  # the database is locked, the folder gone: the next look may see more
                LOG.debug("cannot look at live recording: %s", error)

    async def _gave_way(self) -> bool:
        now_s = self._tools.clock.monotonic()
        if self._first_byte_s is None:
            self._first_byte_s = now_s - LOOK_S / 2
        if self._lives is None:
            self._lives = await self._first_look()
        for live in self._lives.values():
            if await asyncio.to_thread(self._look, live):
                live.witness.alive(now_s)
        words, self._words = self._words, {}
        for camera_id, (at_s, why) in words.items():
            if camera_id in self._lives:
                self._lives[camera_id].witness.word(at_s, why)
        for live in self._lives.values():
            live.witness.replayed(now_s, self._fill.replayed_bytes)
            why = live.witness.verdict(now_s)
            if why:
                rate = self._fill.replayed_bytes / (now_s - self._first_byte_s)
                await self._fill.give_way(why, rate_bytes_s=rate, live_bytes_s=live.bytes_s)
                return True
        return False

    async def _first_look(self) -> dict[str, _Live]:
        now = self._tools.clock.now()
        around = Window(now - _BACK, now + _AHEAD)
        found: dict[str, _Live] = {}
        for camera in self._cameras():
            rows = await self._tools.store.segments(camera.id, around)
            found[camera.id] = await asyncio.to_thread(self._begin, camera, rows, around, now)
        return found

    def _begin(self, camera: Camera, rows: Sequence[Segment], around: Window, now: datetime) -> _Live:
        recordings = self._tools.recordings
        depth = recordings.pattern.depth + 1
        ours = {Path(row.path).parts[-depth:] for row in rows if row.ours}
        files = [file for file in recordings.files(camera.id, around) if file.path.parts[-depth:] not in ours]
        newest = files[-1] if files else None
        rhythm = self._rhythm(camera, [row for row in rows if not row.ours], files)
        silence_s = rhythm.silence_s(self._tools.settings.fills.live_silence_s)
        now_s = self._tools.clock.monotonic()
        still_s = now.timestamp() - newest.mtime_s if newest is not None else float("inf")
        gap_end = self._fill.gap.window.end
        # A file from before the gap says nothing: after a short outage its recorder is still on its way back.
        alive = newest is not None and newest.start >= gap_end.replace(microsecond=0) and still_s <= silence_s
        witness = Witness(
            silence_s,
            began_s=self._began_s,
            # Its silence counts from the begin: what it had before is not the replay's doing.
            alive_s=max(self._began_s, now_s - max(0.0, still_s)) if alive else None,
            expected=(self._began - gap_end).total_seconds() < COME_BACK_S,
        )
        LOG.debug(
            "watching live recording",
            extra={"camera": camera.id, "silence_s": round(silence_s, 1), "alive": alive},
        )
        return _Live(
            camera,
            witness,
            rhythm.bytes_s,
            None if newest is None else newest.path,
            0 if newest is None else newest.size_bytes,
        )

    def _rhythm(self, camera: Camera, rows: Sequence[Segment], files: Sequence[FootageFile]) -> Rhythm:
        """Return how the camera is recorded, from the last files; the scene decides, so the calmest counts."""
        depth = self._tools.recordings.pattern.depth + 1
        lengths_s = {Path(row.path).parts[-depth:]: row.window.seconds for row in rows}
        rates: list[float] = []
        group_s: float | None = None
        for file in files[-_COUNTED:]:
            facts = self._tools.recordings.facts(file) if file in files[-2:] else None
            length_s = facts.duration_s if facts is not None else lengths_s.get(file.path.parts[-depth:], 0.0)
            if length_s < 1:
                continue
            rates.append(file.size_bytes / length_s)
            if facts is not None and facts.fragments:
                group_s = max(group_s or 0.0, facts.duration_s / facts.fragments)
        return Rhythm(min(rates, default=None), group_s, float(camera.segment_s))

    def _look(self, live: _Live) -> bool:
        """Say whether the recording shows a sign of life it did not show before.

        Files of this fill are none: they never grow under their name, and their names lie before its begin.
        """
        recordings = self._tools.recordings
        now = max(self._tools.clock.now(), self._began)
        seen = live.path, live.size_bytes
        later = [
            file
            for file in recordings.files(live.camera.id, Window(self._since, now + _AHEAD))
            if file.start >= self._since
        ]
        if later:
            live.path = later[-1].path
        if live.path is not None:
            try:
                live.size_bytes = live.path.stat().st_size
            except OSError:  # retention took it
                live.path = None
        return live.path is not None and (live.path, live.size_bytes) != seen
