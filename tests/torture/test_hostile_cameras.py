"""Cameras that mean harm against real workers: each replay ends, small, with an honest reason, and leads nowhere."""

import asyncio
import contextlib
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import Film
from anr_watch.model import Secret, Window
from anr_watch.replay.job import End, Ended, ReplayJob
from anr_watch.replay.process import Workers
from anr_watch.states import Reason
from tests.attacks import film_file, flip, http, http_attacks, rtsp_attacks, steady
from tests.fuzz.mutation import mutations
from tests.hostile_camera import FILM, Attack, Visit, canary, hostile, sdp_of
from tests.world import World, until

START = datetime(2025, 6, 13, 12, 5, 1, tzinfo=UTC)
ASKED = Window(START, START + timedelta(seconds=60))
pytestmark = pytest.mark.timeout(200)  # 3 s of work for each test, a minute at load 20
LONGEST_S = 90.0  # a busy machine; the worker's own bounds are below five seconds
MOST_MEMORY = 300 << 20
MOST_STAGED = 120 << 20
NAMES = re.compile(r"\d{4,8}\.(mp4|part|cut)")
# What a camera may be the reason of; a disk, a configuration or a stop of ours it is not.
HONEST = {
    *(Reason.BAD_MEDIA, Reason.STALLED, Reason.CUT_SHORT, Reason.NO_FOOTAGE, Reason.UNREACHABLE, Reason.BUSY),
    *(End.WINDOW, End.EOF),
}
# What any process has open, and what an interpreter and libav's random numbers read.
USUAL = ("socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/urandom", "/proc/", sys.prefix, sys.base_prefix)
# Where nothing else will do.
EXACTLY = {
    "redirect to another host": (Reason.BAD_MEDIA, "lead us to 127.0.0.2"),
    "redirect with a tunnel": (Reason.BAD_MEDIA, "lead us to 127.0.0.2"),
    "redirect to http": (Reason.BAD_MEDIA, "lead us to 127.0.0.2"),
    "redirect to https": (Reason.BAD_MEDIA, "may not be opened"),
    "redirect to file": (Reason.BAD_MEDIA, "may not be opened"),
    "redirect to a file": (Reason.BAD_MEDIA, "may not be opened"),
    "redirect to rtsp": (Reason.BAD_MEDIA, "may not be opened"),
    "endless headers": (Reason.STALLED, ""),
    "one byte at a time": (Reason.STALLED, ""),
    "new parameter sets with each picture": (Reason.BAD_MEDIA, "parameter sets change all the time"),
    "time stands still": (Reason.BAD_MEDIA, "stand still"),
    "time creeps": (Reason.BAD_MEDIA, "s of footage"),
}


@dataclass
class Outcome:
    """What became of one replay."""

    ended: Ended
    pid: int
    seconds: float
    memory: int
    staged: int
    opened: set[str] = field(default_factory=set)


def measure(pid: int) -> tuple[int, set[str]]:
    """Return resident bytes of a process and what it has open."""
    opened = set()
    try:
        memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                opened.add(str(entry.readlink()))
    except (FileNotFoundError, ProcessLookupError):  # it is over
        return 0, opened
    return memory, opened


async def visited(workers: Workers, attack: Attack, film: Film, staging: Path) -> Outcome:
    """Run one real worker against an attack and watch it."""
    staging.mkdir()
    scheme = "rtsp" if attack.http is None else "http"
    async with hostile(attack, film) as port:
        job = ReplayJob(
            url=Secret(f"{scheme}://admin:hunter2@127.0.0.1:{port}/x"),
            asked=ASKED,
            keep=ASKED,
            staging=staging,
            segment_s=10.0,
            connect_timeout_s=2.0,
            stall_timeout_s=attack.patience_s,
        )
        begin, memory, opened = time.monotonic(), 0, set()
        ended = None
        async with asyncio.timeout(LONGEST_S), workers.replay(job) as running:

            async def watch():
                nonlocal memory, opened
                while True:
                    if running.pid is not None:
                        now, files = measure(running.pid)
                        memory, opened = max(memory, now), opened | files
                    await asyncio.sleep(0.02)

            async with asyncio.TaskGroup() as group:
                watching = group.create_task(watch())
                async for event in running:
                    ended = event
                watching.cancel()
            pid = running.pid
        seconds = time.monotonic() - begin
    assert isinstance(ended, Ended)
    staged = sum(path.stat().st_size for path in staging.iterdir())
    return Outcome(ended, pid, seconds, memory, staged, opened)


def judge(attack: Attack, outcome: Outcome, staging: Path) -> None:
    """Hold the promises against what happened."""
    ended = outcome.ended
    told = f"{attack.name}: {outcome}"
    cause, text = EXACTLY.get(attack.name, (ended.cause, ""))
    assert ended.cause in HONEST, told
    assert ended.cause is cause, told
    assert text in ended.detail, told
    assert "hunter2" not in ended.detail, told
    assert ended.detail.isprintable(), told
    assert outcome.memory < MOST_MEMORY, told
    assert outcome.staged < MOST_STAGED, told
    assert all(NAMES.fullmatch(path.name) and path.is_file() for path in staging.iterdir()), told
    foreign = {name for name in outcome.opened if not name.startswith((*USUAL, str(staging)))}
    assert not foreign, told
    assert not Path(f"/proc/{outcome.pid}").exists(), told


async def against(attacks: list[Attack], folder: Path, film: Film, tally, *, at_once: int = 6) -> None:
    """Run attacks, some at once, each with a worker of its own."""
    room = asyncio.Semaphore(at_once)

    async def one(number: int, attack: Attack) -> None:
        async with room:
            staging = folder / f"{number:05}"
            outcome = await visited(workers, attack, film, staging)
            judge(attack, outcome, staging)
            tally.cases += 1
            tally.faults += 1
            for path in staging.iterdir():
                path.unlink()

    async with Workers() as workers, asyncio.TaskGroup() as group:
        for number, attack in enumerate(attacks):
            group.create_task(one(number, attack))


@pytest.fixture(scope="module")
def film():
    made = Film(FILM)
    for index in (0, 1):
        made.gop(index)
    return made


def run(attacks_of: Callable[[Film, int], list[Attack]], film: Film, folder: Path, tally) -> None:
    async def main():
        async with canary() as (port, came):
            await against(attacks_of(film, port), folder, film, tally)
            assert not came, "a worker followed a camera to another machine"

    asyncio.run(main())


def test_no_attack_over_rtsp_hangs_grows_or_leads_away(film, tmp_path, tally):
    run(rtsp_attacks, film, tmp_path, tally)


def test_no_attack_over_http_hangs_grows_or_leads_away(film, tmp_path, tally):
    run(http_attacks, film, tmp_path, tally)


def test_random_damage_to_everything_a_camera_sends(film, tmp_path, tally, rounds):
    """Each round some cameras whose answers, frames, pictures or files are changed at random; all from one seed."""
    forms = {form: film_file(film, form) for form in ("mp4", "mpegts", "matroska", "flv", "avi")}
    for number in rounds(short=1, share=0.1):
        folder = tmp_path / str(number)
        folder.mkdir()
        dice = random.Random(number)
        attacks = [damaged(dice, film, forms) for _ in range(24 if rounds.long else 10)]
        run(lambda *_, kept=attacks: kept, film, folder, tally)


def damaged(dice: random.Random, film: Film, forms: dict[str, bytes]) -> Attack:
    """One camera that sends real footage, damaged."""
    kind = dice.choice(("pictures", "frames", "description", "file", "file"))
    share, seed = dice.choice((0.0001, 0.001, 0.02)), dice.randrange(1 << 30)
    own = random.Random(seed)
    if kind == "description":
        sdp = next(islice(mutations([sdp_of(film)], [b"a=", b"\r\n", b";", b"=" * 5000], own), 9, None))
        return Attack(f"damaged description {seed}", sdp=sdp, stream=_film(film))
    if kind == "file":
        form = dice.choice(list(forms))
        body = next(islice(mutations([forms[form]], [b"\xff" * 8, b"\0" * 8], own), 9, None))
        return Attack(f"damaged {form} {seed}", http=http("200 OK\r\nConnection: close", body))

    async def stream(visit: Visit) -> None:
        if kind == "pictures":
            await visit.play(steady, lambda _, nals: [flip(nal, own, share) if nal else nal for nal in nals], 400)
            return
        for number, picture in zip(range(400), visit.pictures(), strict=False):
            await visit.send(flip(visit.track.h264(list(picture.nals), steady(number)), own, share))

    return Attack(f"damaged {kind} {seed}", stream=stream)


def _film(film: Film) -> Callable[[Visit], Awaitable[None]]:
    async def stream(visit: Visit) -> None:
        await visit.play(steady, count=100)

    return stream


def test_the_limits_of_a_worker_are_in_force(film, tmp_path, tally):
    """A camera that never answers keeps the worker waiting, so that its limits can be read."""

    async def main():
        silent = Attack("silent", describe=lambda visit: visit.reader.read())
        async with hostile(silent, film) as port, Workers() as workers:
            job = ReplayJob(url=Secret(f"rtsp://127.0.0.1:{port}/x"), asked=ASKED, keep=ASKED, staging=tmp_path)
            async with workers.replay(job) as running:
                await until(lambda: running.pid, "started")
                limits = Path(f"/proc/{running.pid}/limits")
                await until(lambda: "Max cpu time              180 " in limits.read_text(), limits.read_text)
                for line in (
                    "Max core file size        0 ",
                    "Max open files            64 ",
                    f"Max address space         {1 << 30} ",
                ):
                    assert line in limits.read_text()
                tally.cases += 1

    asyncio.run(main())


SETTINGS = (
    "[fills]\nsettle_s = 0.3\nstall_timeout_s = 15.0\nconnect_timeout_s = 5.0\nregister_gaps = false\nmax_attempts = 1\n"
    '[mqtt]\nhost = "127.0.0.1"\nport = 9\nnode = "test"\n'
)


def test_the_daemon_stays_well_and_says_why(film, tmp_path, tally):
    """A hostile camera beside an honest one: this gets its footage, that its reason, and its tries are bounded."""

    async def main():
        async with canary() as (port, came):
            attacks = {attack.name: attack for attack in [*rtsp_attacks(film, port), *http_attacks(film, port)]}
            chosen = {
                "web": ("http", attacks["redirect to file"], "may not be opened"),
                "still": ("rtsp", attacks["time stands still"], "stand still"),
            }
            names = ["gate", *chosen]
            async with World(tmp_path, *(CameraSpec(name=name) for name in names), settings=SETTINGS) as world:
                async with contextlib.AsyncExitStack() as stack:
                    for name, (scheme, attack, _) in chosen.items():
                        at = await stack.enter_async_context(hostile(attack, film))
                        template = f"{scheme}://127.0.0.1:{at}/x?starttime={{start}}&endtime={{end}}"
                        world.kernel.execute(
                            "UPDATE cameras SET rtsp_port = ?, anr_replay_url_template = ? WHERE id = ?",
                            [at, template, name],
                        )
                    for name in names:
                        world.outage(name)
                    async with world.daemon() as daemon:
                        await world.settled("gate")
                        for name, (_, _, text) in chosen.items():
                            await world.settled(name, "failed")
                            (attempt,) = world.attempts(name)
                            assert attempt["reason"] == "bad_media"
                            assert text in attempt["detail"]
                            tally.cases += 1
                        assert "Traceback" not in daemon.log
                        assert await daemon.stop() == 0
                assert world.prove("gate").complete
            assert not came

    asyncio.run(main())
