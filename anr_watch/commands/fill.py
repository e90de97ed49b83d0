"""`anr-watch fill`: one window of one camera, now. It registers the gap, has it filled, and shows how far it is.

If an anr-watch runs on the recordings, that one fills and this command looks on; otherwise this process runs the same
engine for this gap alone, without watches and broker.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from anr_watch.clock import Clock, SystemClock
from anr_watch.commands.advice import in_words
from anr_watch.commands.following import Ending, Following, recorded
from anr_watch.commands.given import known_camera, parse_window
from anr_watch.commands.invocation import load_settings
from anr_watch.commands.opening import opened
from anr_watch.commands.progress import shown_progress
from anr_watch.commands.running import daemon_on
from anr_watch.commands.screen import clean, emit, instant, length, show, until
from anr_watch.config import Settings
from anr_watch.coverage import still_missing
from anr_watch.errors import StoreUnavailable
from anr_watch.model import Coverage, Gap, Window, total_s
from anr_watch.mqtt.events import Announcer
from anr_watch.states import FillState, Reason
from anr_watch.store import Origin, Store
from anr_watch.store.values import AnnounceGap

TERMINATED = 143  # 128 + SIGTERM
_STEP = timedelta(milliseconds=1)
_TAKEN_STARTS = 1000  # filled gaps in a row that begin exactly where this one would


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fill`."""
    parser.add_argument("camera", metavar="CAMERA", help="id of the camera")
    parser.add_argument("start", metavar="FROM", help="2026-06-13T12:00:00Z, or an age such as -10m, -2h")
    parser.add_argument("end", metavar="TO", help="the same, or now")


def run(args: argparse.Namespace) -> int:
    """Fill the window; 0 if all of it is recorded in the end."""
    settings, clock = load_settings(args), SystemClock()
    window = parse_window(args.start, args.end, clock.now())
    return asyncio.run(_until_terminated(_Filling(settings, clock, args.camera, window, as_json=args.json)))


async def _until_terminated(filling: _Filling) -> int:
    """Let SIGTERM end the fill in order, as SIGINT does: what came so far is kept, the rest stays a gap."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    terminated = False

    def stop() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        return await filling.run()
    except asyncio.CancelledError:
        if not terminated:
            raise
        return TERMINATED
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@dataclass
class _Filling:
    """One call of the command."""

    settings: Settings
    clock: Clock
    camera_id: str
    window: Window
    as_json: bool

    async def run(self) -> int:
        """Do it and return the exit status.

        Raises:
            AnrWatchError: the database or the folder cannot be used, or there is no such camera.
        """
        async with opened(self.settings, self.clock, readonly=False) as store:
            cameras = (await store.look(now=self.clock.now())).cameras
            known_camera(self.camera_id, cameras)
            missing = still_missing(self.window, await recorded(store, self.camera_id, self.window))
        if not missing:
            return self._covered()
        daemon = daemon_on(self.settings.recordings.path)
        if daemon.running:
            async with opened(self.settings, self.clock, readonly=False) as store:
                gap = await self._registered(store, missing)
                self._tell(gap, missing, f"anr-watch ({daemon}) fetches it")
                return await self._follow(
                    store, gap, lambda: daemon_on(self.settings.recordings.path).running is True
                )
        from anr_watch.commands.one_gap import one_gap_engine  # noqa: PLC0415 - 100 ms that a running daemon has paid

        async with one_gap_engine(self.settings, self.clock, cameras) as engine:
            gap = await self._registered(engine.store, missing)
            self._tell(gap, missing, "no anr-watch is running: this process fetches it")
            engine.coordinator.wake("command")
            return await self._follow(engine.store, gap, lambda: True)

    async def _registered(self, store: Store, missing: Coverage) -> Gap:
        """Return the pending row for what is missing; it waits for nothing and its camera is not parked."""
        wanted = Window(missing[0].start, missing[-1].end)
        for _ in range(_TAKEN_STARTS):
            done = await store.register_gap(
                self.camera_id,
                wanted,
                origin=Origin.COMMAND,
                announce=_detected(self.settings, self.clock),
            )
            gap = done.gap
            if gap is None:
                raise StoreUnavailable(f"camera {clean(self.camera_id, 80)} was removed meanwhile")
            if gap.state is not FillState.FILLED:
                await store.retry(gap_id=gap.id)
                return await store.gap(gap.id) or gap
            # Once filled, and its footage is gone again: a row of its own, as close as its unique start allows.
            wanted = Window(wanted.start + _STEP, wanted.end)
        raise StoreUnavailable(f"too many gaps begin at {instant(missing[0].start)}")

    async def _follow(self, store: Store, gap: Gap, still_served: Callable[[], bool]) -> int:
        following = Following(store, self.clock, gap, self.window, still_served=still_served)
        await following.begin()
        with shown_progress(as_json=self.as_json, clock_s=self.clock.monotonic) as progress:
            ending = await following.until_settled(progress)
        return self._told(gap, ending)

    def _covered(self) -> int:
        if self.as_json:
            emit({"event": "ended", "ok": True, "reason": "covered", "covered_s": 0.0, "missing_s": 0.0})
        else:
            show("all of it is recorded already; nothing was fetched")
        return 0

    def _tell(self, gap: Gap, missing: Coverage, who: str) -> None:
        if self.as_json:
            emit(
                {
                    "event": "registered",
                    "gap": gap.id,
                    "camera": gap.camera_id,
                    "from": instant(self.window.start),
                    "to": instant(self.window.end),
                    "missing_s": round(total_s(missing), 3),
                }
            )
            return
        part = "" if total_s(missing) >= self.window.seconds else f" of {length(self.window.seconds)}"
        show(
            f"{clean(gap.camera_id)}: {length(total_s(missing))}{part} missing between"
            f" {instant(self.window.start)} and {instant(self.window.end)}; {who}"
        )

    def _told(self, gap: Gap, ending: Ending) -> int:
        last, reason = ending.last, ending.reason
        missing_s = max(0.0, last.wanted_s - last.covered_s)
        if self.as_json:
            emit(
                {
                    "event": "ended",
                    "ok": ending.ok,
                    "gap": gap.id,
                    "reason": reason,
                    "reason_text": in_words(reason).words if reason else None,
                    "detail": clean(ending.detail or ending.text),
                    "covered_s": round(last.covered_s, 3),
                    "missing_s": round(missing_s, 3),
                    "attempts": last.attempts,
                    "bytes": last.bytes,
                    "next_at": instant(ending.next_at) if ending.next_at and not ending.ok else None,
                }
            )
        elif ending.ok and reason is Reason.COVERED:
            show(in_words(reason).words)
        elif ending.ok:
            show(f"filled: {length(last.covered_s)} recovered")
        else:
            self._show_failure(ending, missing_s)
        return 0 if ending.ok else 1

    def _show_failure(self, ending: Ending, missing_s: float) -> None:
        advice = in_words(ending.reason) if ending.reason and not ending.text else None
        why = ending.text or (advice.words if advice else "the gap was given up")
        detail = f" ({clean(ending.detail)})" if ending.detail else ""
        show(f"not filled: {why}{detail}; {length(missing_s)} of {length(ending.last.wanted_s)} still missing")
        if advice is not None and advice.do:
            show(advice.do)
        if ending.next_at is not None:
            show(f"it stays a gap and is tried again {until(ending.next_at, self.clock.now())} if anr-watch runs")


def _detected(settings: Settings, clock: Clock) -> AnnounceGap | None:
    """Return what tells the broker of the gap, if there is one; a daemon, now or later, sends it."""
    if not settings.mqtt.host:
        return None
    announcer, at = Announcer(settings.mqtt.node, settings.mqtt.base), clock.now()
    return lambda gap, _: announcer.gap_detected(gap, at=at, origin=Origin.COMMAND)
