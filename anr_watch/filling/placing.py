"""Puts staged segments of one attempt into the recordings: checks, moves, writes the row. Never replaces a file.

Each segment goes its way alone (check -> move into place -> row), so footage appears while the fill goes on.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from pathlib import Path

from anr_watch.errors import ParseError
from anr_watch.filling.tools import Step, Tools, Underway
from anr_watch.footage.boxes import read_facts
from anr_watch.footage.folder import Between
from anr_watch.footage.mark import SIZE_BYTES
from anr_watch.model import Segment, Window
from anr_watch.replay.job import SegmentReady

LOG = logging.getLogger("anr_watch.fill")

# A segment whose file disagrees with what the worker said of it by more than this is not put into place.
LENGTH_TOLERANCE_S = 1.0
# Footage this far outside the asked window is not what was asked for (a camera's clock may be minutes off).
PLAUSIBLE = timedelta(minutes=5)


class Placing:
    """Where the segments of one attempt go.

    Attributes:
        placed: the windows that were put into place, or that a file of the recorder was found to cover.
        rejected: why the last segment that was not put into place was refused; empty if none was.
    """

    def __init__(self, tools: Tools, underway: Underway) -> None:
        self._tools, self._underway = tools, underway
        self._name_before: datetime | None = None  # of the file of ours that was placed last
        self.placed: list[Window] = []
        self.rejected = ""

    async def put(self, ready: SegmentReady, *, joined: bool) -> None:
        """Check a staged segment, move it to its name and write its row.

        Args:
            ready: what the worker says of it.
            joined: an exact join at the head proved that it is missing, so it gets a name between its neighbours.

        Raises:
            StorageError: the disk does not take it.
        """
        tools, underway = self._tools, self._underway
        camera_id, gap_id = underway.camera.id, underway.gap.id
        staged = await asyncio.to_thread(tools.recordings.staging, gap_id)
        staged /= ready.file
        tools.at_step(Step.STAGED)
        fault = await asyncio.to_thread(_fault_of, staged, ready, underway.gap.window)
        if fault:
            self.rejected = fault
            LOG.warning("segment rejected: %s", fault, extra={"camera": camera_id, "gap": gap_id})
            await asyncio.to_thread(staged.unlink, missing_ok=True)
            return
        tools.at_step(Step.CHECKED)
        between = self._between() if joined else None
        listed = self._listed(ready.window)
        path = await asyncio.to_thread(
            tools.recordings.place, staged, camera_id, ready.window, listed=listed, between=between
        )
        self.placed.append(ready.window)
        tools.at_step(Step.PLACED)
        if path is None:
            return  # a file of the recorder covers that time
        underway.note(
            files=underway.attempt.files + 1,
            got_s=underway.attempt.got_s + ready.window.seconds,
        )
        self._name_before = tools.recordings.start_of(path, camera_id)
        text = await tools.store.segment_path_text(camera_id, path, tools.recordings.root)
        segment = Segment(
            camera_id,
            text,
            ready.window,
            ready.bytes + SIZE_BYTES,
            ready.codec,
            ready.width,
            ready.height,
            ours=True,
            listed=listed,
        )
        announce = tools.announcements.fill_progress(underway.gap, underway.attempt)
        await tools.insist(lambda: tools.store.add_segment(segment, attempt=underway.attempt, announce=announce))
        tools.at_step(Step.ROW_WRITTEN)

    def _listed(self, window: Window) -> Window:
        """Return what the row says: never earlier than the live file in front of the gap.

        The margin may reach back before that file's start. When the kernel indexes it, it cuts every row that
        began earlier back to its start, and what of ours lies behind it would vanish from the timeline.
        """
        live_start = self._underway.live_start
        start = window.start if live_start is None else max(window.start, live_start)
        return Window(start, window.end) if start < window.end else window

    def _between(self) -> Between:
        """Return the names between which a file belongs that is proved to be missing."""
        sides, camera_id = self._underway.sides, self._underway.camera.id
        after, before = sides.head.path, sides.tail.path
        start_of = self._tools.recordings.start_of
        return Between(
            self._name_before or (start_of(after, camera_id) if after else None),
            start_of(before, camera_id) if before else None,
        )


def _fault_of(staged: Path, ready: SegmentReady, wanted: Window) -> str:
    """Return what is wrong with a staged file, or an empty text. The worker is not believed, the file is."""
    try:
        facts = read_facts(staged)
    except (ParseError, OSError) as error:
        return f"staged file is unreadable: {error}"
    if not facts.complete:
        return "staged file is cut off"
    if abs(facts.duration_s - ready.window.seconds) > LENGTH_TOLERANCE_S:
        return f"file holds {facts.duration_s:.1f} s, the worker said {ready.window.seconds:.1f} s"
    if facts.codec not in ("h264", "hevc") or not facts.first_is_key:
        return f"file does not begin with a key frame of a codec we keep ({facts.codec})"
    plausible = wanted.widened(PLAUSIBLE.total_seconds(), PLAUSIBLE.total_seconds())
    if not plausible.overlaps(ready.window):
        return f"footage of {ready.window.start:%Y-%m-%dT%H:%M:%SZ} was not asked for"
    return ""
