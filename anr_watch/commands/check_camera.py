"""Checks how each camera would be asked, and asks it for a recorded minute. Credentials never leave this module.

The replay runs in a real worker, as in a fill, into a temporary folder; it is ended after a few seconds, because many
cameras replay no faster than they record.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from anr_watch.clock import Clock
from anr_watch.commands.advice import in_words
from anr_watch.commands.findings import Finding, Level, fail, ok, warn
from anr_watch.commands.screen import instant, length, size
from anr_watch.config import Settings
from anr_watch.errors import ReplayRefused
from anr_watch.model import Camera, Device, Window
from anr_watch.replay.job import End, Ended, Opened, Progress, ReplayJob, SegmentReady, TimeSource
from anr_watch.replay.process import Workers
from anr_watch.replay.running import Running
from anr_watch.replay.secrets import is_sealed, open_camera
from anr_watch.replay.urls import ReplayRequest, build_replay_request, mask_url
from anr_watch.states import Reason
from anr_watch.store import Parked

ASKED = timedelta(seconds=60)
LONGEST_S = 10.0  # of receiving; by then a camera at real time has sent ten seconds
SEGMENT_S = 5.0  # short ones, so that one is finished by then
FAR_OFF_S = 5.0  # footage that begins this far from what was asked: a wrong clock or a wrong time zone
AT_ONCE = 4  # cameras asked at the same time


@dataclass(slots=True)
class Answer:
    """What came back for the minute."""

    ended: Ended
    opened: Opened | None = None
    first: SegmentReady | None = None
    got_s: float = 0.0
    bytes: int = 0


async def check_cameras(
    cameras: Sequence[Camera],
    settings: Settings,
    clock: Clock,
    *,
    newest: Mapping[str, Window],
    parked: Mapping[str, Parked],
    busy: Collection[str],
    ask: bool,
    even_if_off: bool,
    tell: Callable[[Finding], None],
) -> None:
    """Check cameras and tell what was found in the order given; several are asked at the same time.

    Args:
        cameras: which.
        settings: all settings.
        clock: time.
        newest: per camera its newest footage.
        parked: cameras that are not asked at present.
        busy: cameras with a fill at work.
        ask: whether to ask them for footage at all.
        even_if_off: also those whose fills are switched off.
        tell: takes each finding.
    """
    lanes: dict[Device, asyncio.Lock] = {}
    limit = asyncio.Semaphore(AT_ONCE)
    async with Workers() as workers, asyncio.TaskGroup() as group:
        tasks = []
        for camera in cameras:
            check = _Check(
                camera, settings, clock, workers, newest=newest.get(camera.id), parked=parked.get(camera.id)
            )
            asked = ask and (camera.wants_fills or even_if_off)
            work = check.run(lanes, limit, ask=asked, busy=camera.id in busy)
            tasks.append(group.create_task(work, name=f"check:{camera.id}"))
        for task in tasks:
            for finding in await task:
                tell(finding)


class _Check:
    """One camera."""

    def __init__(
        self,
        camera: Camera,
        settings: Settings,
        clock: Clock,
        workers: Workers,
        *,
        newest: Window | None,
        parked: Parked | None,
    ) -> None:
        self._camera, self._settings, self._clock, self._workers = camera, settings, clock, workers
        self._newest, self._parked = newest, parked
        self._plays = asyncio.Event()
        self._about = f"camera {camera.id}"

    async def run(
        self, lanes: dict[Device, asyncio.Lock], limit: asyncio.Semaphore, *, ask: bool, busy: bool
    ) -> list[Finding]:
        """Return what was found, configuration first."""
        found = self._standing()
        window = self._window()
        try:
            opened = await asyncio.to_thread(open_camera, self._camera, self._settings.secret_key)
            lead_s, trail_s = opened.options.lead_s, opened.options.trail_s
            request = build_replay_request(opened, window.widened(lead_s, trail_s), password=opened.password)
        except ReplayRefused as error:
            reason = Reason.NO_REPLAY_URL if error.missing else Reason.BAD_CONFIG
            return [*found, fail(self._about, str(error), in_words(reason).do, reason=reason.value)]
        found.append(self._how(request))
        if ask:
            async with lanes.setdefault(request.device, asyncio.Lock()), limit:
                answer = await self._replay(request, window)
            found.append(self._judged(answer, window, busy=busy))
        return found

    def _standing(self) -> list[Finding]:
        camera, parked = self._camera, self._parked
        found: list[Finding] = []
        if not camera.wants_fills:
            which = "anr_enabled" if camera.enabled else "enabled"
            text = f"fills are off ({which} = 0): its gaps are left alone"
            found.append(warn(self._about, text, f"set {which} in the camera's row, if it has onboard storage"))
        elif not camera.records_always:
            why = f"record_mode = {camera.record_mode}" if camera.record_enabled else "record_enabled = 0"
            found.append(
                warn(self._about, f"not recorded continuously ({why}): only gaps that the recorder notes are filled")
            )
        if parked is not None:
            text = f"parked since {instant(parked.since)}: {parked.reason}: {parked.detail}"
            found.append(warn(self._about, text, f"when it is put right: anr-watch retry --camera {camera.id}"))
        return found

    def _window(self) -> Window:
        """Return the last minute that was recorded, or, if that is too long ago, one that a card should hold."""
        now = self._clock.now()
        if self._newest is not None and self._newest.end > now - timedelta(hours=self._settings.fills.max_gap_hours):
            end = min(self._newest.end, now)
        else:
            end = now - ASKED
        return Window(end - ASKED, end)

    def _how(self, request: ReplayRequest) -> Finding:
        """Say how the camera is asked; of the credentials only whether there are any."""
        stored = self._camera.password
        kind = "no password" if stored is None else "a sealed password, opened" if is_sealed(stored) else "a password"
        url = mask_url(request.url.reveal())
        return ok(self._about, f"asked with {url} ({kind})", url=url, device=str(request.device))

    async def _replay(self, request: ReplayRequest, window: Window) -> Answer:
        fills, options = self._settings.fills, self._camera.options
        with tempfile.TemporaryDirectory(prefix="anr-watch-check-") as folder:
            job = ReplayJob(
                url=request.url,
                asked=request.asked,
                keep=window,
                staging=Path(folder),
                segment_s=SEGMENT_S,
                audio=self._camera.record_audio,
                connect_timeout_s=fills.connect_timeout_s,
                stall_timeout_s=fills.stall_timeout_s,
                max_bytes_s=options.max_mb_s * 1e6,
                transport=options.transport,
                tls_verify=options.tls_verify,
                tls_ca_file=options.tls_ca_file.absolute() if options.tls_ca_file else None,
            )
            async with self._workers.replay(job) as running, asyncio.TaskGroup() as group:
                ending = group.create_task(self._end_in_time(running), name=f"check-end:{self._camera.id}")
                answer = await self._answer(running)
                ending.cancel()
        return answer

    async def _end_in_time(self, running: Running) -> None:
        # The camera gets all the time a fill gives it to begin: a stop before that would hide its answer.
        await self._plays.wait()
        await self._clock.sleep(LONGEST_S)
        await running.stop()

    async def _answer(self, running: Running) -> Answer:
        answer = Answer(Ended(Reason.INTERRUPTED))
        async for event in running:
            match event:
                case Opened():
                    answer.opened = event
                    self._plays.set()
                case SegmentReady():
                    answer.first = answer.first or event
                    answer.got_s += event.window.seconds
                case Progress():
                    answer.bytes = max(answer.bytes, event.bytes)
                case Ended():
                    answer.ended = event
                    answer.bytes = max(answer.bytes, event.bytes)
                case _:
                    continue  # a jump in time: what is covered tells more
        return answer

    def _judged(self, answer: Answer, window: Window, *, busy: bool) -> Finding:
        cause = answer.ended.cause
        if isinstance(cause, Reason):
            known = in_words(cause)
            text = f"{cause}: {known.words}" + (f" ({answer.ended.detail})" if answer.ended.detail else "")
            if cause is Reason.BUSY and busy:
                return warn(
                    self._about, f"{text}; a fill of it is at work", "check it again later", reason=cause.value
                )
            if answer.got_s == 0:
                return fail(self._about, text, known.do, reason=cause.value, status=answer.ended.status)
            text = f"{text}; {length(answer.got_s)} of footage came before that"
            return warn(self._about, text, known.do, reason=cause.value, got_s=round(answer.got_s, 1))
        if answer.first is None or answer.opened is None:
            known = in_words(Reason.NO_FOOTAGE)
            text = f"nothing came for {instant(window.start)} to {instant(window.end)}"
            return fail(self._about, text, known.do, reason=Reason.NO_FOOTAGE.value)
        return self._good(answer, answer.opened, answer.first, window)

    def _good(self, answer: Answer, opened: Opened, first: SegmentReady, window: Window) -> Finding:
        sound = f", {opened.audio_codec}" if opened.audio_codec else ""
        took_s = max(answer.ended.seconds, 0.001)
        reported = first.clock is TimeSource.SENDER_REPORT
        offset_s = (first.window.start - window.start).total_seconds()
        text = (
            f"answers for {instant(window.start)}: first packet after {opened.after_s * 1000:.0f} ms,"
            f" {opened.codec} {opened.width}x{opened.height}{sound},"
            f" {length(answer.got_s)} of footage in {length(took_s)} ({size(answer.bytes / took_s)}/s), "
        )
        # A camera that read the digits in another zone is hours off; the worker then does not trust its clock at all.
        text += (
            f"begins {offset_s:+.1f} s from the asked start by the camera's clock"
            if reported
            else ("the camera tells no time near the asked one, so the asked start is taken")
        )
        facts = {
            "first_byte_s": round(opened.after_s, 3),
            "codec": opened.codec,
            "width": opened.width,
            "height": opened.height,
            "audio_codec": opened.audio_codec or None,
            "got_s": round(answer.got_s, 1),
            "seconds": round(took_s, 3),
            "bytes": answer.bytes,
            "clock": first.clock.value,
            "offset_s": round(offset_s, 3) if reported else None,
        }
        if reported and abs(offset_s) > FAR_OFF_S:
            advice = "its storage may have a hole there; or check its clock, and `timezone` in [cameras.<id>]"
            return warn(self._about, text, advice, **facts)
        whole = answer.ended.cause is not End.STOPPED
        if whole and answer.got_s < ASKED.total_seconds() / 2:
            text += f"; it then ended, though {length(window.seconds)} were asked"
            return warn(self._about, text, in_words(Reason.CUT_SHORT).do, **facts)
        if reported:
            return ok(self._about, text, **facts)
        advice = "if the pictures show another hour, set `timezone` in [cameras.<id>]: how it reads the URL's digits"
        return Finding(Level.OK, self._about, text, advice, facts)
