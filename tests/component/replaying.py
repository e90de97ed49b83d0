"""What the tests of the replay worker share: a camera with footage of a fixed day, jobs, and what came of them."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import av

from anr_watch.camera import barcode
from anr_watch.camera.audio import AudioKind
from anr_watch.camera.device import CameraSpec, SimulatedCamera
from anr_watch.camera.film import FilmSpec
from anr_watch.model import Secret, Window
from anr_watch.replay.job import Ended, Jump, Opened, ReplayJob, SegmentReady
from anr_watch.replay.process import Workers

FPS, GOP = 15, 30
START = datetime(2025, 6, 13, 12, 5, 1, tzinfo=UTC)  # in the middle of a group of pictures
FIRST = int(START.timestamp()) * FPS
KEY = FIRST - FIRST % GOP


_films: dict = {}
_tones: dict = {}


async def until(condition, deadline_s=15.0):
    """Wait for something that others bring about."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def camera(*, film=None, **spec):
    described = CameraSpec(film=film or FilmSpec(gop_frames=GOP), report_every_s=2, **spec)
    async with SimulatedCamera(described) as device:
        # The same film and sound for all tests: coding them anew took most of the time.
        device.core.film = _films.setdefault(described.film, device.core.film)
        device.core.tone = _tones.setdefault(described.audio, device.core.tone)
        yield device


def asked(length_s, start=START):
    return Window(start, start + timedelta(seconds=length_s))


def job_for(device, staging, length_s=9, *, start=START, **options):
    window = asked(length_s, start)
    digits = (f"{at:%Y%m%dT%H%M%SZ}" for at in (window.start, window.end))
    values = {
        "url": Secret(device.url_replay(*digits)),
        "asked": window,
        "keep": window,
        "staging": staging,
        "segment_s": 4.0,
        "audio": device.spec.audio is not AudioKind.NONE,
        "connect_timeout_s": 1.0,
        "stall_timeout_s": 1.0,
    }
    return ReplayJob(**(values | options))


@dataclass
class Got:
    """The events of one replay, sorted."""

    events: list = field(default_factory=list)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self):
        assert isinstance(self.events[-1], Ended)
        assert len(self.of(Ended)) == 1
        return self.events[-1]

    @property
    def segments(self):
        return self.of(SegmentReady)

    @property
    def opened(self):
        return self.of(Opened)[0]

    @property
    def jumps(self):
        return self.of(Jump)


async def run(workers, job):
    got = Got()
    async with workers.replay(job) as running:
        async for event in running:
            got.events.append(event)
    return got


def replay(job_of, *, faults=None, **spec):
    """Run one replay against a camera with faults; return what came and the camera's journal kinds."""

    async def main():
        async with camera(**spec) as device, Workers() as workers:
            device.faults.update(faults or {})
            return await run(workers, job_of(device))

    return asyncio.run(main())


def numbers(path: Path):
    """The frame numbers shown by a file, decoded, in order of presentation."""
    with av.open(str(path)) as container:
        return [barcode.read(frame).frame_number for frame in container.decode(video=0)]


def check(staging: Path, got: Got):
    """Check each staged file against what was said about it; return all frame numbers in order."""
    everything = []
    for ready in got.segments:
        path = staging / ready.file
        shown = numbers(path)
        everything += shown
        assert len(shown) == ready.frames
        assert path.stat().st_size == ready.bytes
        first, last = (timedelta(seconds=number / FPS) for number in (shown[0], shown[-1] + 1))
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        assert abs(ready.window.start - epoch - first) < timedelta(milliseconds=2)
        assert abs(ready.window.end - epoch - last) < timedelta(milliseconds=2)
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            assert (video.codec_context.name, video.width, video.height) == (ready.codec, ready.width, ready.height)
            assert video.codec_context.codec_tag == {"h264": "avc1", "hevc": "hvc1"}[ready.codec]
            times = sorted(packet.pts * video.time_base for packet in container.demux(video) if packet.size)
            steps = {round(float(after - before), 4) for before, after in pairwise(times)}
            assert steps <= {round(1 / FPS, 4)}
    return everything
