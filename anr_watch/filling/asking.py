"""Asks the camera for one piece of a gap: the sequence of requests, each as a job. Settles nothing.

While the camera shows other footage than what was recorded beside the piece, the next guess at its clock follows.
What a join says of that clock is kept for the next gap.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.filling.listening import Listening
from anr_watch.filling.placing import Placing
from anr_watch.filling.tools import Tools, Underway
from anr_watch.joins import approach, clocks, guesses
from anr_watch.model import Camera, DeviceClock, Window
from anr_watch.replay.job import End, Ended, ReplayJob
from anr_watch.replay.secrets import open_camera
from anr_watch.replay.urls import build_replay_request, device_of
from anr_watch.states import Reason
from anr_watch.verdict import ReplayEnd

LOG = logging.getLogger("anr_watch.fill")


class Asking:
    """All requests of one attempt.

    Args:
        tools: the rims.
        underway: the attempt.
        stopping: it was to be stopped before it began.

    Attributes:
        placing: what became of the segments that came.
        listening: what the last replay told.
    """

    def __init__(self, tools: Tools, underway: Underway, *, stopping: bool) -> None:
        self._tools, self._underway = tools, underway
        self.placing = Placing(tools, underway)
        self.listening = Listening(tools, underway, self.placing, stopping=stopping)

    async def ask(self) -> ReplayEnd:
        """Ask the camera and put what comes into place; every way it can go wrong becomes a reason.

        Raises:
            AnrWatchError: the database cannot be used, or no worker can be started.
        """
        tools = self._tools
        if self.listening.stopping:
            return ReplayEnd(Reason.INTERRUPTED, "stopped before it began")
        try:
            await asyncio.to_thread(tools.recordings.check_folder, self._underway.camera.id)
            room_mb = await asyncio.to_thread(tools.recordings.free_mb)
            if room_mb < tools.settings.recordings.min_free_mb:
                return ReplayEnd(
                    Reason.DISK_FULL,
                    f"{room_mb:.0f} MB free, {tools.settings.recordings.min_free_mb:.0f} MB must stay",
                )
            return await self._ask()
        except ReplayRefused as error:
            return ReplayEnd(Reason.NO_REPLAY_URL if error.missing else Reason.BAD_CONFIG, str(error))
        except StorageError as error:
            return ReplayEnd(Reason.DISK_FULL if error.full else Reason.STORAGE, str(error))

    async def _ask(self) -> ReplayEnd:
        """Ask the camera, and again with the next guess at its clock as long as it shows other footage."""
        tools, camera, listening = self._tools, self._underway.camera, self.listening
        opened = await asyncio.to_thread(open_camera, camera, tools.settings.secret_key)
        device = str(device_of(opened))
        clock = (await tools.store.clocks()).get(device)
        requests = await self._requests(clock)
        zones = any(request.guess.zone for request in requests)
        nothing: ReplayEnd | None = None  # the camera has no footage where it was asked first
        suspects = 0
        for number, request in enumerate(requests):
            if nothing is not None and not request.guess.zone:
                continue  # only a wrong zone asks for where there is nothing
            ended = await listening.run(await self._job(opened, request))
            if listening.measured_s is not None and not listening.stopping:
                again = approach.measured(request, listening.measured_s, camera.options)
                ended = await listening.run(await self._job(opened, again))
            if listening.stopping or not approach.goes_on(ended.cause, request, first=number == 0, zones=zones):
                await self._measure(device, clock, suspects)
                return self._end_of(ended)
            if ended.cause is End.SUSPECT:
                suspects += 1
            elif number == 0:
                nothing = self._end_of(ended)
                continue
            await self._rule_out(request.guess)
        if nothing is not None:
            return nothing
        return ReplayEnd(Reason.WRONG_FOOTAGE, "it does not show the pictures recorded beside the gap")

    async def _requests(self, clock: DeviceClock | None) -> tuple[approach.Request, ...]:
        """Return what to ask for, in order, with what is known of the device's clock."""
        tools, underway, options = self._tools, self._underway, self._underway.camera.options
        known_s = clock.offset_s if clock is not None and clock.samples else None
        start, comparable = underway.target.start, underway.sides.known
        return approach.requests(
            guesses.in_order(options.timezone, start, margin_s=options.margin_s, known_s=known_s),
            comparable=comparable,
            tried=await tools.store.guessed(underway.gap.id) if comparable else (),
            keep_unproved=tools.settings.fills.unproved == "keep",
            unmatched=approach.is_unmatched(clock, tools.clock.now()),
        )

    async def _job(self, opened: Camera, request: approach.Request) -> ReplayJob:
        """Return one request as the worker takes it."""
        tools, underway = self._tools, self._underway
        camera, fills, sides, guess = underway.camera, tools.settings.fills, underway.sides, request.guess
        options, shift = camera.options, timedelta(seconds=guess.shift_s)
        head, tail = bool(sides.head.prints), bool(sides.tail.prints)
        windows = approach.windows(
            underway.target,
            guess,
            options,
            comparable=head or tail,
            until=underway.until,
            now=tools.clock.now(),
        )
        on_camera = Window(windows.asked.start + shift, windows.asked.end + shift)
        asked = build_replay_request(opened, on_camera, password=opened.password)
        return ReplayJob(
            url=asked.url,
            asked=Window(asked.asked.start - shift, asked.asked.end - shift),
            keep=windows.keep,
            head=sides.head.prints,
            tail=sides.tail.prints,
            head_sizes=sides.head.sizes,
            tail_sizes=sides.tail.sizes,
            head_at=sides.head.at if head else None,
            tail_at=sides.tail.at if tail else None,
            shift_s=guess.shift_s,
            shift_known=guess.known,
            unproved=request.unproved,
            staging=(
                await asyncio.to_thread(tools.recordings.staging, underway.gap.id)
            ).absolute(),  # the worker has no folder of ours to start from
            segment_s=float(camera.segment_s),
            audio=camera.record_audio,
            connect_timeout_s=fills.connect_timeout_s,
            stall_timeout_s=fills.stall_timeout_s,
            max_bytes_s=options.max_mb_s * 1e6,
            transport=options.transport,
            tls_verify=options.tls_verify,
            tls_ca_file=options.tls_ca_file.absolute() if options.tls_ca_file else None,
        )

    def _end_of(self, ended: Ended) -> ReplayEnd:
        if ended.cause is End.STOPPED or self.listening.stopping:
            return ReplayEnd(Reason.INTERRUPTED, ended.detail or "stopped")
        if isinstance(ended.cause, Reason):
            return ReplayEnd(ended.cause, ended.detail)
        if self.placing.rejected:
            return ReplayEnd(Reason.BAD_MEDIA, self.placing.rejected)
        return ReplayEnd(None, ended.detail)

    async def _rule_out(self, guess: guesses.Guess) -> None:
        """Note that the footage found with a guess is not the right one."""
        camera_id, gap_id = self._underway.camera.id, self._underway.gap.id
        LOG.info(
            "not the footage that was recorded beside the gap",
            extra={"camera": camera_id, "gap": gap_id, "clock": guess.name, "shift_s": guess.shift_s},
        )
        await self._tools.store.note_guess(gap_id, guesses.key_of(guess))

    async def _measure(self, device: str, before: DeviceClock | None, suspects: int) -> None:
        """Keep what a join says of the device's clock, or that its storage cannot be compared."""
        tools, camera_id, joins = self._tools, self._underway.camera.id, self.listening.joins
        now = tools.clock.now()
        offset_s = approach.offset_of(joins)
        believed = before if before is not None and before.samples else None
        if offset_s is None:
            if suspects and believed is None and joins:
                clock = DeviceClock(device, 0.0, 0.0, now, 0, approach.UNMATCHED)
                await tools.insist(lambda: tools.store.save_clock(clock, camera_id))
            return
        self._underway.note(offset_ms=offset_s * 1000)
        measured = clocks.measured(believed, device, offset_s, at=now, source="join")
        news = clocks.is_news(believed, offset_s)
        if news:
            LOG.warning(
                "the camera's clock is off",
                extra={"camera": camera_id, "device": device, "by_s": round(offset_s, 3)},
            )
        announce = tools.announcements.clock_measured(
            camera_id, measured, before_s=(believed.offset_s if believed else 0.0) if news else None
        )
        await tools.insist(lambda: tools.store.save_clock(measured, camera_id, announce))
