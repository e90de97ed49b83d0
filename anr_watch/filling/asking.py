"""Asks the camera for one piece of a gap: the sequence of requests, each as a job. Settles nothing.

While the camera shows other footage than what was recorded beside the piece, the next guess at its clock follows.
What a join says of that clock is kept for the next gap.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path

from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.filling.listening import Listening
from anr_watch.filling.pacing import cap_of
from anr_watch.filling.placing import Placing
from anr_watch.filling.tools import Tools, Underway
from anr_watch.joins import approach, clocks, guesses
from anr_watch.joins.matching import FEWEST
from anr_watch.model import Camera, DeviceClock, Gap, Window
from anr_watch.replay.job import End, Ended, ReplayJob, Unproved
from anr_watch.replay.secrets import open_camera
from anr_watch.replay.urls import ReplayRequest, build_replay_request, device_of
from anr_watch.states import Reason
from anr_watch.store import Learned
from anr_watch.verdict import ReplayEnd

LOG = logging.getLogger("anr_watch.fill")

# A camera's footage may end this long before the gap, because what it had not written yet was lost with its power.
BEFORE_GAP_S = 3.0


@dataclass(frozen=True, slots=True)
class Ready:
    """What the first request takes: the camera with its secrets opened, and where its footage goes first."""

    opened: Camera
    staging: Path


def get_ready(tools: Tools, camera: Camera, gap: Gap) -> Ready | ReplayEnd:
    """Look whether footage of a camera could be stored, and open its secrets; if not, say why. Blocks."""
    recordings, spare_mb = tools.recordings, tools.settings.recordings.min_free_mb
    try:
        recordings.check_folder(camera.id)
        opened = open_camera(camera, tools.settings.secret_key)
        room_mb = recordings.free_mb()
        if room_mb < spare_mb:
            return ReplayEnd(Reason.DISK_FULL, f"{room_mb:.0f} MB free, {spare_mb:.0f} MB must stay")
        # The worker has no folder of ours to start from.
        return Ready(opened, recordings.staging(gap.id).absolute())
    except (ReplayRefused, StorageError) as error:
        return _end_for(error)


def _end_for(error: ReplayRefused | StorageError) -> ReplayEnd:
    if isinstance(error, ReplayRefused):
        return ReplayEnd(Reason.NO_REPLAY_URL if error.missing else Reason.BAD_CONFIG, str(error))
    return ReplayEnd(Reason.DISK_FULL if error.full else Reason.STORAGE, str(error))


class Asking:
    """All requests of one attempt.

    Args:
        tools: the rims.
        underway: the attempt.
        ready: see `get_ready`.
        learned: what earlier fills have found out.
        stopping: it was to be stopped before it began.

    Attributes:
        placing: what became of the segments that came.
        listening: what the last replay told.
    """

    def __init__(
        self, tools: Tools, underway: Underway, ready: Ready | ReplayEnd, learned: Learned, *, stopping: bool
    ) -> None:
        self._tools, self._underway, self._ready, self._learned = tools, underway, ready, learned
        self._around = False  # the last request was for all readings of its digits: no measure of the clock
        self.placing = Placing(tools, underway)
        self.listening = Listening(tools, underway, self.placing, stopping=stopping)

    async def ask(self) -> ReplayEnd:
        """Ask the camera and put what comes into place; every way it can go wrong becomes a reason.

        Raises:
            AnrWatchError: the database cannot be used, or no worker can be started.
        """
        if self.listening.stopping:
            return ReplayEnd(Reason.INTERRUPTED, "stopped before it began")
        if isinstance(self._ready, ReplayEnd):
            return self._ready
        try:
            return await self._ask(self._ready)
        except (ReplayRefused, StorageError) as error:
            return _end_for(error)

    async def _ask(self, ready: Ready) -> ReplayEnd:
        """Ask the camera, and again with the next guess at its clock as long as it shows other footage."""
        camera, listening = self._underway.camera, self.listening
        device = str(device_of(ready.opened))
        clock = self._learned.clocks.get(device)
        requests = self._requests(clock)
        zones = any(request.guess.zone for request in requests)
        nothing: ReplayEnd | None = None  # the camera has no footage where it was asked first
        suspects = 0
        again_by_time: list[approach.Request] = []
        for number, request in enumerate(chain(requests, again_by_time)):
            if nothing is not None and not request.guess.zone:
                continue  # only a wrong zone asks for where there is nothing
            ended = await listening.run(self._job(ready.opened, ready.staging, request))
            if listening.measured_s is not None and not listening.stopping:
                again = approach.measured(request, listening.measured_s, camera.options)
                ended = await listening.run(self._job(ready.opened, ready.staging, again))
            if listening.stopping or not approach.goes_on(ended.cause, request, first=number == 0, zones=zones):
                if not self._around:
                    await self._measure(device, clock, suspects)
                return self._end_of(ended)
            if ended.cause is End.SUSPECT:
                suspects += 1
            elif number == 0:
                nothing = self._end_of(ended)
                continue
            if request.unproved is Unproved.PROVE and self._keeps_unproved and self._is_coded_otherwise():
                again_by_time.append(approach.with_doubt(request))
            else:
                await self._rule_out(request)
        if nothing is not None:
            return nothing
        return ReplayEnd(Reason.WRONG_FOOTAGE, "it does not show the pictures recorded beside the gap")

    @property
    def _keeps_unproved(self) -> bool:
        return self._tools.settings.fills.unproved == "keep"

    def _is_coded_otherwise(self) -> bool:
        """Say whether what the camera plays is of another kind than what is recorded: no picture can be equal."""
        played, sides = self.listening.opened, self._underway.sides
        if played is None:
            return False
        kind = (played.codec, played.width, played.height)
        return all(
            any(known is not None and known != other for known, other in zip(side.coded, kind, strict=True))
            for side in (sides.head, sides.tail)
        )

    def _requests(self, clock: DeviceClock | None) -> tuple[approach.Request, ...]:
        """Return what to ask for, in order, with what is known of the device's clock."""
        tools, underway, options = self._tools, self._underway, self._underway.camera.options
        known_s = clock.offset_s if clock is not None and clock.samples else None
        start, comparable = underway.target.start, underway.sides.known
        return approach.requests(
            guesses.in_order(
                options.timezone, start, margin_s=options.margin_s, known_s=known_s, until=underway.target.end
            ),
            comparable=comparable,
            both=min(map(len, (underway.sides.head.prints, underway.sides.tail.prints))) >= FEWEST,
            tried=self._learned.tried,
            keep_unproved=self._keeps_unproved,
            matched=self._learned.matched,
            unmatched=approach.is_unmatched(clock, tools.clock.now()),
        )

    def _job(self, opened: Camera, staging: Path, request: approach.Request) -> ReplayJob:
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
        cap = cap_of(tools, camera)
        asked = _all_readings(opened, guess, windows.asked)
        self._around = asked is not None
        if asked is not None:
            guess, shift = replace(guess, shift_s=0.0), timedelta()
            LOG.info("an hour that comes twice: asked around it", extra={"camera": camera.id, "clock": guess.name})
        else:
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
            staging=staging,
            segment_s=float(camera.segment_s),
            audio=camera.record_audio,
            connect_timeout_s=fills.connect_timeout_s,
            stall_timeout_s=fills.stall_timeout_s,
            max_bytes_s=cap,
            # Without TCP's window there is nothing that slows a camera down: what is not read would be lost.
            transport="tcp" if cap and options.transport == "udp" else options.transport,
            tls_verify=options.tls_verify,
            tls_ca_file=options.tls_ca_file.absolute() if options.tls_ca_file else None,
        )

    def _end_of(self, ended: Ended) -> ReplayEnd:
        if ended.cause is End.STOPPED or self.listening.stopping:
            return ReplayEnd(Reason.INTERRUPTED, ended.detail or "stopped")
        if isinstance(ended.cause, Reason):
            # A stall takes long enough for somebody to say that the camera is gone, if it is.
            reached = ended.cause is not Reason.CUT_SHORT or self._reached(ended)
            return ReplayEnd(ended.cause, ended.detail, reached=reached)
        if self.placing.rejected:
            return ReplayEnd(Reason.BAD_MEDIA, self.placing.rejected)
        if self.placing.placed and self._underway.attempt.suspect:
            return ReplayEnd(None, self._suspect_kept())
        if ended.cause is End.EOF and not self._reached(ended):
            return ReplayEnd(Reason.CUT_SHORT, f"{ended.detail} before the gap", reached=False)
        return ReplayEnd(None, ended.detail)

    def _reached(self, ended: Ended) -> bool:
        """Say whether the replay came to where footage is missing, or as near as a camera's last pictures may be."""
        if ended.played_until is None:
            return not ended.bytes
        near_s = min(BEFORE_GAP_S, self._underway.camera.options.margin_s / 2)
        return ended.played_until >= self._underway.target.start - timedelta(seconds=near_s)

    def _suspect_kept(self) -> str:
        """Say that footage was kept that is not proved to be the right one; return it in words."""
        underway, attempt = self._underway, self._underway.attempt
        text = "not proved: what came does not show the pictures recorded beside the gap; kept, cut by time"
        LOG.warning(
            text,
            extra={
                "camera": underway.camera.id,
                "gap": underway.gap.id,
                "join_head": attempt.join_head,
                "join_tail": attempt.join_tail,
                "tolerance_s": attempt.tolerance_s,
            },
        )
        return text

    async def _rule_out(self, request: approach.Request) -> None:
        """Note that the footage found with a guess is not the right one."""
        guess, camera_id, gap_id = request.guess, self._underway.camera.id, self._underway.gap.id
        LOG.info(
            "not the footage that was recorded beside the gap",
            extra={"camera": camera_id, "gap": gap_id, "clock": guess.name, "shift_s": guess.shift_s},
        )
        await self._tools.store.note_guess(gap_id, approach.noted(request))

    async def _measure(self, device: str, before: DeviceClock | None, suspects: int) -> None:
        """Keep what a join says of the device's clock, or that its storage cannot be compared."""
        tools, camera_id, joins = self._tools, self._underway.camera.id, self.listening.joins
        now = tools.clock.now()
        found = approach.offset_of(joins)
        believed = before if before is not None and before.samples else None
        if found is None:
            if suspects and joins and (believed is None or believed.source != approach.JOIN):
                nothing = DeviceClock(device, 0.0, 0.0, now, 0, approach.UNMATCHED)
                clock = nothing if believed is None else replace(believed, measured_at=now, source=approach.UNMATCHED)
                await tools.insist(lambda: tools.store.save_clock(clock, camera_id))
            return
        offset_s, source = found
        self._underway.note(offset_ms=offset_s * 1000)
        measured = clocks.measured(believed, device, offset_s, at=now, source=source)
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


def _all_readings(opened: Camera, guess: guesses.Guess, asked: Window) -> ReplayRequest | None:
    """Return a request in the zone that a guess reads, around both passes of an hour; None if it shifts."""
    if not guess.reads:
        return None
    reading = replace(opened, options=replace(opened.options, timezone=guess.reads))
    return build_replay_request(reading, asked, password=opened.password)
