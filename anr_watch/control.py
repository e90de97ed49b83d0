"""Carries out what a person or a program asks for over MQTT. Parses nothing, replies in values."""

from __future__ import annotations

from datetime import timedelta

from anr_watch.coordinator import Coordinator
from anr_watch.errors import AnrWatchError
from anr_watch.filling.tools import Tools
from anr_watch.introducing import Introduction
from anr_watch.log import one_line
from anr_watch.model import Window
from anr_watch.mqtt.commands import Command, Reply, Verb
from anr_watch.states import FillState
from anr_watch.store import Origin

# A fill by command may be older than `max_gap_hours`, but a wrong year is refused instead of asked for: 1 TB holds 93
# days of 1 Mbit/s, so a year is more than the largest cards do. One row is one turn of a device, for hours, and rows
# that reach into a window are looked for among those that begin at most 32 days before it (store/reading.py).
OLDEST = timedelta(days=366)
LONGEST = timedelta(days=31)


class Control:
    """The verbs of the command topic, against a running coordinator."""

    def __init__(self, tools: Tools, coordinator: Coordinator, introduction: Introduction) -> None:
        self._tools, self._coordinator, self._introduction = tools, coordinator, introduction

    async def carry_out(self, command: Command) -> Reply:
        """Do what is asked; what cannot be done is said in one line, nothing is raised for it."""
        if command.camera_id is not None and command.camera_id not in self._coordinator.cameras:
            return Reply(error=f"no camera {one_line(command.camera_id, 80)!r}")
        try:
            match command.verb:
                case Verb.FILL:
                    return await self._fill(command)
                case Verb.RETRY:
                    return await self._retry(command)
                case Verb.CANCEL:
                    return await self._cancel(command)
                case Verb.RECHECK:
                    self._coordinator.look_again("command")
                    return Reply(data={})
                case Verb.PAUSE | Verb.RESUME:
                    return await self._pause(command.camera_id, pause=command.verb is Verb.PAUSE and command.on)
        except AnrWatchError as error:
            return Reply(error=str(error))

    async def _fill(self, command: Command) -> Reply:
        now = self._tools.clock.now()
        window, camera_id = command.window, command.camera_id
        if window is None or camera_id is None or window.start >= now:
            return Reply(error="fill takes camera, from and to, and begins in the past")
        window = Window(window.start, min(window.end, now))
        if window.start < now - OLDEST:
            return Reply(error=f"fill begins more than {OLDEST.days} days ago: no card reaches back that far")
        if window.seconds > LONGEST.total_seconds():
            return Reply(error=f"fill takes at most {LONGEST.days} days at once: ask for the rest after it")
        done = await self._tools.store.register_gap(
            camera_id,
            window,
            origin=Origin.COMMAND,
            announce=self._coordinator.announcements.gap_detected(Origin.COMMAND),
        )
        if done.gap is None:
            return Reply(error=f"no camera {one_line(camera_id, 80)!r}")
        if done.gap.state is not FillState.FILLED:
            # A row that was there already may be failed, waiting, or its camera parked.
            await self._tools.store.retry(gap_id=done.gap.id, announce=self._coordinator.announcements.state)
            self._coordinator.scheduler.forget_waits(done.gap.id)
        self._coordinator.wake("command")
        return Reply(data={"gap": done.gap.id, "registered": done.what.value, "state": done.gap.state.value})

    async def _retry(self, command: Command) -> Reply:
        store = self._tools.store
        if command.gap_id is not None and await store.gap(command.gap_id) is None:
            return Reply(error=f"no gap {one_line(command.gap_id, 80)!r}")
        count = await store.retry(
            gap_id=command.gap_id, camera_id=command.camera_id, announce=self._coordinator.announcements.state
        )
        if command.gap_id is not None:
            self._coordinator.scheduler.forget_waits(command.gap_id)
        else:
            self._coordinator.scheduler.forget_waits()
        self._coordinator.wake("command")
        return Reply(data={"gaps": count})

    async def _cancel(self, command: Command) -> Reply:
        scheduler = self._coordinator.scheduler
        chosen = [
            gap_id
            for gap_id, fill in scheduler.running.items()
            if command.gap_id == gap_id or command.camera_id == fill.camera.id
        ]
        for gap_id in chosen:
            await scheduler.cancel(gap_id)
        return Reply(data={"cancelled": chosen})

    async def _pause(self, camera_id: str | None, *, pause: bool) -> Reply:
        scheduler = self._coordinator.scheduler
        await self._introduction.pause(camera_id, on=pause)
        scheduler.pause(self._introduction.pauses)
        self._coordinator.wake("command")
        return Reply(data={"paused": scheduler.paused, "cameras": sorted(scheduler.paused_cameras)})
