"""Outages in one process: a recorder's files around a hole, a simulated camera that has the hole, and one fill of it.

The recorder stores the camera's own film, cut off anywhere, under names that are a second coarse; the camera's clock is
off. The fill is the program's: its database, its worker processes, its own files; only the daemon's loop is left out.
"""

import contextlib
import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anr_watch.announcements import Announcements
from anr_watch.camera.audio import Tone
from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.film import Film, FilmSpec, VideoCodec
from anr_watch.camera.mp4 import FragmentedMp4
from anr_watch.clock import SystemClock
from anr_watch.config.settings import CameraSettings, DatabaseSettings, RecordingsSettings, Settings
from anr_watch.demo.proof import Proof, count_frames
from anr_watch.fill import Fill, Outcome
from anr_watch.filling.tools import Tools, Trigger
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.model import Attempt, DeviceClock, ReplayOptions, Secret, Segment, Window
from anr_watch.mqtt.events import Announcer, Silent
from anr_watch.presence import PresenceBook
from anr_watch.replay.process import Workers
from anr_watch.states import Presence
from anr_watch.store import Store, open_store

DAY = datetime(2025, 6, 13, 12, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PATTERN = "%Y%m%d_%H%M%S"
FFMPEG = shutil.which("ffmpeg")


@dataclass
class Outage:
    """Frames `first` to `last` were filmed; those from `lost` on, up to `back`, were not recorded."""

    name: str
    first: int
    lost: int
    back: int
    last: int
    outcome: Outcome | None = None
    attempt: Attempt | None = None

    @property
    def joins(self) -> tuple[str | None, str | None]:
        return (self.attempt.join_head, self.attempt.join_tail) if self.attempt else (None, None)


class Site:
    """One camera with many names, so that every outage has a folder of its own. Use as `async with`."""

    def __init__(
        self,
        root: Path,
        film: FilmSpec,
        *,
        names: int = 1,
        options: ReplayOptions | None = None,
        audio: str = "none",
        unproved: str = "keep",
        template: str = "",
        messages: bool = False,
        **spec: object,
    ) -> None:
        self.root, self.film_spec = root, film
        self.spec = CameraSpec(film=film, audio=audio, report_every_s=2, **spec)
        self.names = [f"cam{number}" for number in range(names)]
        self.options = options or ReplayOptions()
        self.unproved, self.messages, self.template = unproved, messages, template
        self.live = Film(film, cached_gops=100_000)
        self.outages: list[Outage] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        self.root.mkdir(parents=True, exist_ok=True)
        self.camera = await self._stack.enter_async_context(SimulatedCamera(self.spec))
        if self.spec.stored_film is None:  # coded once, for live and replay
            self.camera.core.film = self.camera.core._stored_film = self.live
        self.workers = await self._stack.enter_async_context(Workers())
        configured = tuple(
            CameraSettings(
                id=name,
                address="127.0.0.1",
                rtsp_port=self.camera.rtsp_port,
                username=self.spec.username,
                password=Secret(self.spec.password),
                segment_s=10,
                record_audio=self.spec.audio.value != "none",
                options=self.options,
                replay_url_template=Secret(self.template) if self.template else None,
            )
            for name in self.names
        )
        base = Settings()
        self.settings = replace(
            base,
            database=DatabaseSettings(path=self.root / "own.db", mode="standalone"),
            recordings=RecordingsSettings(path=self.root / "recordings", min_free_mb=0),
            fills=replace(base.fills, unproved=self.unproved, stall_timeout_s=3.0),
            replay=self.options,
            cameras=configured,
        )
        self.settings.recordings.path.mkdir(exist_ok=True)
        clock = SystemClock()
        self.store: Store = await self._stack.enter_async_context(
            open_store(
                self.settings.database,
                clock,
                cameras=configured,
                overrides={},
                replay=self.options,
                max_gap_hours=24,
            )
        )
        self.recordings = Recordings(self.settings.recordings.path, NamePattern(PATTERN), clock)
        announcer = Announcer("test") if self.messages else Silent()
        self.tools = Tools(
            settings=self.settings,
            clock=clock,
            store=self.store,
            recordings=self.recordings,
            workers=self.workers,
            announcements=Announcements(announcer, PresenceBook(), clock),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.__aexit__(*error)

    # -- what is recorded -------------------------------------------------------------------------------------

    def frame(self, instant: datetime) -> int:
        return self.film_spec.first_frame_at((instant - EPOCH) // timedelta(microseconds=1))

    def instant(self, frame: int) -> datetime:
        return EPOCH + timedelta(microseconds=self.film_spec.frame_us(frame))

    def record(self, name: str, first: int, stop: int, *, segment_s: int = 10, late_s: float = 0.0) -> list[Segment]:
        """Write frames as a recorder does: from a key frame on, files cut at key frames, named by the second."""
        assert first % self.film_spec.gop_frames == 0
        written = []
        step = max(1, segment_s * self.film_spec.fps // self.film_spec.gop_frames) * self.film_spec.gop_frames
        while first < stop:
            until = min(stop, first + step)
            written.append(self._file(name, first, until, late_s))
            first = until
        return written

    def _file(self, name: str, first: int, stop: int, late_s: float) -> Segment:
        mp4 = FragmentedMp4(self.live, Tone(self.spec.audio))
        data = bytearray()
        for position, picture in self._decoded(first, stop):
            data += mp4.add(position, picture)
        data += mp4.close()
        named = (self.instant(first) + timedelta(seconds=late_s)).replace(microsecond=0)
        path = self.settings.recordings.path / name / f"{named.strftime(PATTERN)}.mp4"
        path.parent.mkdir(exist_ok=True)
        assert not path.exists()
        path.write_bytes(data)
        end = named + timedelta(seconds=(stop - first) / self.film_spec.fps)
        codec = "hevc" if self.film_spec.codec is VideoCodec.H265 else "h264"
        return Segment(name, str(path), Window(named, end), len(data), codec, ours=False)

    def _decoded(self, first: int, stop: int):
        """Yield what a recorder got that was cut off at `stop`: by then that much was decoded, not presented."""
        gop = self.film_spec.gop_frames
        for start in range(first, stop, gop):
            pictures = self.live.gop(start // gop).pictures
            turns = sorted(picture.number for picture in pictures)
            yield from ((turn, picture) for turn, picture in zip(turns, pictures, strict=True) if turn < stop)

    def is_torn(self, stop: int) -> bool:
        """Say whether a recorder cut off at `stop` has a picture that is presented after one that it lacks."""
        first = self.film_spec.key_frame_before(stop)
        return any(picture.number >= stop for _, picture in self._decoded(first, stop))

    # -- one outage -------------------------------------------------------------------------------------------

    async def outage(
        self, name: str, first: int, lost: int, back: int, last: int, *, segment_s: int = 10, late_s: float = 0.0
    ) -> Outage:
        """Record around a hole, note the hole as the recorder would, and fill it."""
        before = self.record(name, first, lost, segment_s=segment_s, late_s=late_s)
        after = self.record(name, back, last, segment_s=segment_s, late_s=late_s)
        await self.store.add_segments([*before, *after[:-1]])
        start, end = before[-1].window.end, after[0].window.start
        hole = Window(start, end) if end > start else Window(end - timedelta(milliseconds=300), end)
        done = Outage(name, first, lost, back, last)
        done.outcome, done.attempt = await self.fill(name, hole)
        self.outages.append(done)
        return done

    async def fill(self, name: str, hole: Window) -> tuple[Outcome | None, Attempt | None]:
        registered = await self.store.register_gap(name, hole)
        look = await self.store.look(now=self.tools.clock.now())
        fill = Fill(
            self.tools,
            registered.gap,
            look.cameras[name],
            trigger=Trigger("test", self.tools.clock.monotonic()),
            forced=True,
            tries=0,
            last_reason=None,
            presence_of=lambda _camera: Presence.ONLINE,
        )
        outcome = await fill.run()
        tries = await self.store.attempts(registered.gap.id)
        return outcome, tries[-1] if tries else None

    async def clock(self) -> DeviceClock | None:
        return (await self.store.clocks()).get(f"127.0.0.1:{self.camera.rtsp_port}")

    # -- proof ------------------------------------------------------------------------------------------------

    def files(self, name: str) -> list[Path]:
        return sorted((self.settings.recordings.path / name).glob("*.mp4"))

    def prove(self, outage: Outage) -> Proof:
        return count_frames(
            self.files(outage.name),
            first=outage.first,
            last=outage.last - 1,
            camera_number=self.film_spec.camera_number,
        )

    def requests(self) -> int:
        return sum(entry.kind == "play" for entry in self.camera.journal.entries)


def ffmpeg_counts(paths: list[Path]) -> list[int]:
    """Return how many pictures the ffmpeg command presents of each file."""
    arguments = [FFMPEG, "-v", "error", "-nostdin", "-threads", "1"]
    for path in paths:
        arguments += ["-i", str(path)]
    for number in range(len(paths)):
        arguments += ["-map", f"{number}:v:0"]
    arguments += ["-fps_mode", "passthrough", "-f", "framecrc", "-"]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True)
    counts = [0] * len(paths)
    for line in said.stdout.splitlines():
        if not line.startswith("#"):
            counts[int(line.split(",")[0])] += 1
    return counts


def story_of(site: Site, outage: Outage) -> tuple[object, ...]:
    """Return what one wants to read of an outage that went wrong."""
    return outage, f"clock {site.camera.storage.clock_offset_s:+.3f} s", site.prove(outage)


async def one_at_random(
    site: Site,
    name: str,
    chance: random.Random,
    *,
    at: datetime | None = None,
    beside_s: tuple[int, int, int, int] = (2, 9, 2, 5),
) -> Outage:
    """Make one outage: 4 to 15 s lost (shorter ones are none for a recorder), `beside_s` recorded before and after."""
    film = site.film_spec
    at = at or DAY + timedelta(seconds=chance.uniform(0, 20))
    first = film.key_frame_before(site.frame(at))
    lost = first + chance.randrange(beside_s[0] * film.fps, beside_s[1] * film.fps)
    while site.is_torn(lost):
        lost += 1
    back = film.key_frame_before(lost + chance.randrange(4 * film.fps + film.gop_frames, 15 * film.fps))
    last = back + chance.randrange(beside_s[2] * film.fps, beside_s[3] * film.fps)
    while site.is_torn(last):
        last += 1
    return await site.outage(
        name, first, lost, back, last, segment_s=chance.choice([4, 10, 60]), late_s=chance.uniform(0, 0.9)
    )
