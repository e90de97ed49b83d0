"""Runs the replays of one attempt, one after the other, and takes what the worker tells. Chooses no request.

A replay whose first join shows that it was asked for at the wrong time ends at once: its measure is kept, its
segments are not, because the tail may lie outside of what was asked.
"""

from __future__ import annotations

import logging
from datetime import datetime

from anr_watch.filling.placing import Placing
from anr_watch.filling.tools import Tools, Underway
from anr_watch.joins.approach import tolerance_of
from anr_watch.replay.job import Ended, Joined, Jump, Opened, Progress, ReplayJob, SegmentReady, Side
from anr_watch.replay.running import Running

LOG = logging.getLogger("anr_watch.fill")


class Listening:
    """The daemon's ear for the replays of one attempt.

    Args:
        tools: the rims.
        underway: the attempt; bytes, times and joins are noted in it.
        placing: where segments go.
        stopping: it was to be stopped before it began.

    Attributes:
        stopping: no further replay is wanted.
        answered: the device played something.
        opened: what the device plays, None before it did.
        joins: what the last replay found beside the target.
        jumps: where the last replay's time was not continuous.
        measured_s: the camera's clock as a first join said it, where a request was too far off; None before.
    """

    def __init__(self, tools: Tools, underway: Underway, placing: Placing, *, stopping: bool) -> None:
        self._tools, self._underway, self._placing = tools, underway, placing
        self._running: Running | None = None
        self._shift_s = 0.0  # of the request that runs
        self._exact_enough_s: float | None = None
        self.stopping = stopping
        self.answered = False
        self.joins: dict[Side, Joined] = {}
        self.opened: Opened | None = None
        self.jumps: list[datetime] = []
        self.measured_s: float | None = None

    async def stop(self) -> None:
        """End the replay that runs, and the next one at its start."""
        self.stopping = True
        if self._running is not None:
            await self._running.stop()

    async def run(self, job: ReplayJob) -> Ended:
        """Run one replay to its end; what the replay before it told of joins and jumps is forgotten.

        Raises:
            StorageError: a segment could not be put into place.
        """
        self._shift_s = job.shift_s
        self._exact_enough_s = self._underway.camera.options.margin_s / 2 if self.measured_s is None else None
        self.joins.clear()
        self.jumps.clear()
        async with self._tools.workers.replay(job) as running:
            self._running = running
            try:
                if self.stopping:  # it came between the plan and the start of the worker
                    await running.stop()
                return await self._take(running)
            finally:
                self._running = None

    async def _take(self, running: Running) -> Ended:
        underway = self._underway
        about = {"camera": underway.camera.id, "gap": underway.gap.id}
        async for event in running:
            match event:
                case Opened():
                    self.answered, self.opened = True, event
                    underway.note(first_byte_s=event.after_s)
                case SegmentReady() if self._exact_enough_s is not None and self.measured_s is not None:
                    pass  # it may not reach the other side: all of it is asked for again, at the right time
                case SegmentReady():
                    await self._placing.put(event, joined=self._head_is_found())
                case Progress():
                    underway.note(bytes=event.bytes)
                case Joined():
                    self._take_join(event)
                    if self._is_far_off(event):
                        await running.stop()
                case Ended():
                    underway.note(bytes=max(event.bytes, underway.attempt.bytes))
                    return event
                case Jump():
                    self.jumps.append(event.at)
                    LOG.info("time jump", extra={**about, "at": event.at.isoformat(), "by_s": event.by_s})
        raise AssertionError("a replay always tells its end")

    def _take_join(self, joined: Joined) -> None:
        underway = self._underway
        self.joins[joined.side] = joined
        joins = self.joins.values()
        underway.note(tolerance_s=tolerance_of(joins), suspect=any(known.suspect for known in joins))
        if joined.side is Side.HEAD:
            underway.note(join_head=joined.kind.value)
        else:
            underway.note(join_tail=joined.kind.value)
        LOG.info(
            "joined",
            extra={
                "camera": underway.camera.id,
                "gap": underway.gap.id,
                "side": joined.side,
                "join": joined.kind,
                "pictures": joined.run,
                "offset_s": joined.offset_s,
                "tolerance_s": joined.tolerance_s,
                "detail": joined.detail,
            },
        )

    def _is_far_off(self, joined: Joined) -> bool:
        """Note the measured clock if the head lies so far off that the tail may lie outside of what was asked."""
        if joined.side is not Side.HEAD or joined.offset_s is None or self._exact_enough_s is None:
            return False
        if abs(joined.offset_s - self._shift_s) <= self._exact_enough_s:
            return False
        self.measured_s = joined.offset_s
        return True

    def _head_is_found(self) -> bool:
        head = self.joins.get(Side.HEAD)
        return head is not None and head.found
