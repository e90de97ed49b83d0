"""The machine's clock is stepped by hours both ways, and the night in which summer time begins or ends."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.film import FilmSpec
from anr_watch.clock import SystemClock
from anr_watch.config.loading import load
from anr_watch.daemon import open_engine
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.model import ReplayOptions
from anr_watch.replay.process import Workers
from tests.outages import Site
from tests.torture.machine import QUICK, over, short_outage
from tests.world import World, until

# Few pictures: in autumn the digits of an hour say two hours, so an hour of footage is asked for.
FILM = FilmSpec(width=128, height=96, fps=5, gop_frames=10)
DAHUA = (
    "rtsp://{user}:{password}@{address}:{port}/cam/playback?channel=1&subtype=0"
    "&starttime={start:%Y_%m_%d_%H_%M_%S}&endtime={end:%Y_%m_%d_%H_%M_%S}"
)
NIGHTS = [datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)]  # when Berlin turns its clocks


class Stepped(SystemClock):
    """The machine's clock with a step; what is monotonic takes no part in it."""

    def __init__(self) -> None:
        self.step = timedelta()

    def now(self) -> datetime:
        return super().now() + self.step


class SteppedWorld(World):
    """A world whose cameras have the machine's clock, and whose footage lies before it."""

    def __init__(self, *arguments, clock: Stepped, **named) -> None:
        super().__init__(*arguments, **named)
        self.clock = clock

    async def __aenter__(self):
        await super().__aenter__()
        for spec in self.specs:
            camera = await self._stack.enter_async_context(SimulatedCamera(spec, self.clock))
            self.cameras[spec.name] = camera
            self.kernel.execute("UPDATE cameras SET rtsp_port = ? WHERE id = ?", [camera.rtsp_port, spec.name])
        return self

    def rebase(self) -> None:
        self.now = self.clock.now().replace(microsecond=0)


def busy(world: World) -> int:
    return sum(attempt["reason"] == "busy" for attempt in world.attempts())


def test_the_clock_is_stepped_by_hours(tmp_path, tally, rounds):
    """Forward, back, back beyond what is recorded: each outage is filled, waits are not stretched, no row lies."""

    async def one_day(folder, seed):
        chance = random.Random(seed)
        clock = Stepped()
        async with SteppedWorld(folder, CameraSpec(name="gate"), settings=QUICK, clock=clock) as world:
            settings = load(world.config)
            recordings = Recordings(world.recordings, NamePattern(settings.recordings.name_pattern), clock)
            short_outage(world)
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(recordings.lock())
                workers = await stack.enter_async_context(Workers())
                engine = await stack.enter_async_context(open_engine(settings, clock, recordings, workers))
                await world.settled()
                eras = [world.now]
                for hours in (5, -9, *([chance.uniform(-20, 20) for _ in range(3)] if rounds.long else [])):
                    world.cameras["gate"].faults.update({"describe_status": 503, "status_count": 1})
                    clock.step += timedelta(hours=hours)
                    world.rebase()
                    eras.append(world.now)
                    tally.faults += 1
                    world.record("gate", -80, -70)
                    world.record("gate", -50, -40)
                    world.kernel.add_gap("gate", world.at(-70), world.at(-50))
                    engine.coordinator.wake("database")
                    await until(lambda: busy(world) == len(eras) - 1, world.attempts)
                    engine.coordinator.scheduler.forget_waits()
                    engine.coordinator.look_again("command")
                    await world.settled()
            for era in eras:
                world.now = era
                over(world, tally)

    for seed in rounds(short=1, share=0.03):
        asyncio.run(one_day(tmp_path / str(seed), seed))


def test_an_outage_over_the_turn_of_the_clocks(tmp_path, tally, rounds):
    """Asked in local digits, of which an hour is missing (spring) or there twice (autumn, in the long form)."""

    async def night(folder, turn):
        options = ReplayOptions(timezone="Europe/Berlin")
        async with Site(folder, FILM, options=options, template=DAHUA, zone="Europe/Berlin") as site:
            first = FILM.key_frame_before(site.frame(turn - timedelta(seconds=17)))
            outage = await site.outage("cam0", first, first + 53, first + 120, first + 150)
            proof = site.prove(outage)
            tally.frames_missing += proof.missing_frames
            tally.frames_double += proof.double
            tally.faults += 1
            assert (proof.missing, proof.double, proof.outside) == ((), 0, 0), (outage, proof)

    for turn in NIGHTS if rounds.long else NIGHTS[:1]:
        asyncio.run(night(tmp_path / f"{turn:%B}", turn))
