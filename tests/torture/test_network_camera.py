"""The camera's bad days on the network: one daemon, one camera per fault, all at the same time; then they behave.

Each camera has a hole in its recordings and a fault of its own. The first try at each has to end, in bounded time and
for an honest reason, without a worker or a staged file that stays; once the faults are gone, every hole is filled and
every picture is there once.
"""

import asyncio
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.film import FilmSpec
from anr_watch.model import Secret, Window
from anr_watch.replay import muxer
from anr_watch.replay.job import End, ReplayJob, SegmentReady
from anr_watch.replay.replay import Replay
from anr_watch.replay.source import LibavSource
from tests.broker import Broker, Observer
from tests.certificates import Authority
from tests.torture.machine import workers_of
from tests.world import World, until

FILM = FilmSpec(width=160, height=96)
SETTINGS = (
    "[fills]\nparallel = 64\nstall_timeout_s = 2.0\nconnect_timeout_s = 5.0\nregister_gaps = false\n"
    'kernel_events = false\nunproved = "refuse"\n'
)
MARGIN_S = 10.0  # what is asked for in front of a gap: the fault strikes behind it, in what is missing
BEFORE, LOST, BACK, AFTER = -40, -34.3, -25.7, -20
WORKER_MB = 150  # a worker's own memory at most, whatever the camera sends


@dataclass(frozen=True)
class Day:
    """One way to misbehave and the reasons that are honest for it; None: the hole is filled all the same."""

    reasons: set[str | None]
    faults: dict = field(default_factory=dict)
    says: str = ""  # in the attempt's detail
    scheme: str = "rtsp"
    gains: bool = False  # something of the hole is filled before the fault strikes


def days(seed: int) -> dict[str, Day]:
    """Return the faults; where one strikes in the middle, the seed says where."""
    chance = random.Random(seed)

    def amid() -> float:
        return MARGIN_S + chance.uniform(1.0, 6.0)

    states = ("options", "describe", "setup", "play")
    return {
        **{f"reset_in_{state}": Day({"unreachable"}, {"vanish": state}) for state in states},
        **{f"mute_in_{state}": Day({"stalled"}, {"hang": state}) for state in states},
        "reset_in_teardown": Day({None}, {"vanish": "teardown"}),
        "mute_in_teardown": Day({None}, {"hang": "teardown"}),
        "reset_in_the_middle": Day({"cut_short"}, {"rst_after_s": amid()}, gains=True),
        "closed_in_the_middle": Day({"cut_short"}, {"cut_after_s": amid()}, gains=True),
        "mute_in_the_middle": Day({"stalled"}, {"stall_after_s": amid()}, gains=True),
        "drips_its_answers": Day({"stalled"}, {"answer_bytes_s": 1}),
        "drips_its_footage": Day({"stalled"}, {"rate_bytes_s": 1}),
        "never_ends_the_window": Day({None}, {"overrun_s": 10**6}),
        "stands_still": Day({"bad_media"}, {"stuck_after_s": amid(), "overrun_s": 10**6}, "stand still", gains=True),
        "another_camera": Day({"wrong_footage"}, {"other_camera": 777}),
        "another_size": Day({None}, {"change_after_s": amid()}),
        "another_codec": Day({"bad_media"}, {"change_after_s": amid()}, "something else", gains=True),
        "refuses_by_http": Day({"no_footage"}, {"http_status": 400}, "HTTP 400 (bad request", "http"),
        "speaks_tls": Day({None}, scheme="rtsps"),
        "speaks_tls_of_another_name": Day({"unreachable"}, says="does not match hostname", scheme="rtsps"),
        "speaks_tls_of_a_stranger": Day({"unreachable"}, says="failed verification", scheme="rtsps"),
    }


CHANGED = {"another_size": {"width": 320, "height": 180}, "another_codec": {"codec": "h265"}}


def specs(names: list[str], certificates: dict[str, tuple[Path, Path]]) -> list[CameraSpec]:
    found = []
    for number, name in enumerate(names, 1):
        film = replace(FILM, camera_number=number)
        changed = replace(film, **CHANGED[name]) if name in CHANGED else None
        found.append(CameraSpec(name=name, film=film, changed_film=changed, tls=certificates.get(name)))
    return found


def template(world: World, name: str, scheme: str) -> str | None:
    """Return how a camera is asked that is not asked in the usual way."""
    if scheme == "rtsp":
        return None
    way = "{user}:{password}@{address}:"
    if scheme == "rtsps":
        return f"rtsps://{way}{{port}}/Streaming/tracks/101?starttime={{start}}&endtime={{end}}"
    return f"http://{way}{world.cameras[name].http_port}/get?path=cam&start={{start_rfc3339}}&duration={{duration_s}}"


def first_ends(world: World) -> dict[str, dict]:
    """Return the first try of each camera that has ended."""
    found: dict[str, dict] = {}
    if world.kernel.execute("SELECT 1 FROM sqlite_master WHERE name = 'anr_attempts'"):
        for attempt in world.attempts():
            if attempt["ended_at"] is not None:
                found.setdefault(attempt["camera_id"], attempt)
    return found


def own_mb(pid: int) -> float:
    """Return the memory of a process that it shares with nobody, at its peak so far; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


async def watched(pid: int, peaks: dict[int, float]) -> None:
    """Note the memory of every worker as long as nobody cancels it."""
    while True:
        for worker in await asyncio.to_thread(workers_of, pid):
            peaks[worker] = max(peaks.get(worker, 0.0), await asyncio.to_thread(own_mb, worker))
        await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
def test_whatever_a_camera_does_ends_and_is_made_good(tmp_path, tally, rounds):
    home, stranger = Authority(tmp_path / "tls", "home"), Authority(tmp_path / "tls", "stranger")
    certificates = {
        "speaks_tls": home.issue("127.0.0.1"),
        "speaks_tls_of_another_name": home.issue("camera.lan"),
        "speaks_tls_of_a_stranger": stranger.issue("127.0.0.1"),
    }

    async def one(seed: int, folder: Path) -> None:
        plan = days(seed)
        names = list(plan)
        with Broker(folder) as broker:
            settings = f'{SETTINGS}[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "test"\n'
            settings += f'[replay]\ntls_verify = true\ntls_ca_file = "{home.file}"\n'
            async with World(folder, *specs(names, certificates), settings=settings) as world:
                prepare(world, plan)
                async with world.daemon() as daemon, Observer(broker.port, "anr-watch/test/reply/#") as observer:
                    peaks: dict[int, float] = {}
                    watching = asyncio.ensure_future(watched(daemon.process.pid, peaks))
                    await until(
                        lambda: first_ends(world).keys() == plan.keys(), lambda: daemon.log[-4000:], deadline_s=90
                    )
                    judge(world, plan)
                    tally.faults += len(plan)
                    await behave(world, certificates["speaks_tls"])
                    for name in names:
                        await observer.publish("anr-watch/test/cmd/retry", json.dumps({"camera": name}))
                    filled = await settled(world, names)
                    tally.gaps_lost += len(names) - len(filled)
                    await until(
                        lambda: len(workers_of(daemon.process.pid)) <= 1, lambda: workers_of(daemon.process.pid)
                    )
                    watching.cancel()
                    assert max(peaks.values()) < WORKER_MB, peaks
                    assert daemon.process.returncode is None
                    log = daemon.log
                left = set(names) - filled
                tries = [attempt for attempt in world.attempts() if attempt["camera_id"] in left]
                assert not left, (tries, [line for line in log.splitlines() if any(name in line for name in left)])
                assert "Traceback" not in log
                assert list((world.recordings / ".anr-watch").iterdir()) == [world.recordings / ".anr-watch/lock"]
                for name in names:
                    count(world, name, tally)

    for seed in rounds(short=1, share=0.1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        asyncio.run(one(seed, folder))


def prepare(world: World, plan: dict[str, Day]) -> None:
    for name, day in plan.items():
        asked = template(world, name, day.scheme)
        world.kernel.execute("UPDATE cameras SET anr_replay_url_template = ? WHERE id = ?", [asked, name])
        world.record(name, BEFORE, LOST)
        core = world.cameras[name].core
        film = core.film
        if name == "another_size":
            core.film = core.changed_film  # what it records and what it sends live change at the same time
        world.record(name, BACK, AFTER)
        core.film = film
        world.cameras[name].faults.update(day.faults)
        world.note_hole(name)


def judge(world: World, plan: dict[str, Day]) -> None:
    """Check the reason, the words and the gain of each first try."""
    for name, attempt in first_ends(world).items():
        day = plan[name]
        reason = None if attempt["reason"] == "filled" else attempt["reason"]
        assert reason in day.reasons, (name, attempt)
        assert day.says in attempt["detail"], (name, attempt)
        assert (attempt["got_s"] > 0) == (day.gains or reason is None), (name, attempt)


async def behave(world: World, good: tuple[Path, Path]) -> None:
    """End every fault; a camera with a wrong certificate gets a right one."""
    for camera in world.cameras.values():
        camera.faults.clear()
        if camera.spec.tls is not None and camera.spec.tls != good:
            camera.core.spec = replace(camera.spec, tls=good)
            await camera.go_offline()
            await camera.go_online()


# The back-offs (20 s and more) keep the second try from coming before the faults are gone.
async def settled(world: World, names: list[str]) -> set[str]:
    """Wait until every gap is filled, and return the cameras whose gaps are."""

    def filled() -> set[str]:
        return {name for name in names if world.states(name) == {"filled"}}

    try:
        await until(lambda: filled() == set(names), "filled", deadline_s=90)
    except AssertionError:
        return filled()
    return set(names)


def count(world: World, name: str, tally) -> None:
    proof = world.prove(name)
    tally.frames_missing += proof.missing_frames
    tally.frames_double += proof.double
    assert proof.complete, (name, proof)
    assert proof.double == 0, (name, proof)


DISK_MB_S, SENT_MB = 25, 75
BETWEEN_MB = (
    32  # our queue of 8 MB, one fragment being written, and what sockets hold on both sides (6 and 4 MB and more)
)


def test_a_camera_much_faster_than_the_disk_waits_for_it(tmp_path, monkeypatch, tally):
    """It sends ten times as fast as the disk takes it: what is on its way stays bounded, and all of it arrives."""
    film = FilmSpec(width=160, height=96, padding_bytes=SENT_MB * 1_000_000 // 300)
    now = datetime.now(UTC).replace(microsecond=0)
    window = Window(now - timedelta(seconds=60), now - timedelta(seconds=40))
    real, written, apart = os.write, [0], [0]

    async def main():
        async with SimulatedCamera(CameraSpec(film=film)) as camera:

            def slow(fd: int, data) -> int:
                time.sleep(len(data) / (DISK_MB_S * 1e6))
                written[0] += len(data)
                sent = sum(connection.sent_bytes for connection in list(camera._rtsp._connections))
                apart[0] = max(apart[0], sent - written[0])
                return real(fd, data)

            await camera.film.gop_soon(0)
            monkeypatch.setattr(muxer.os, "write", slow)
            digits = (f"{at:%Y%m%dT%H%M%SZ}" for at in (window.start, window.end))
            job = ReplayJob(
                url=Secret(camera.url_replay(*digits)),
                asked=window,
                keep=window,
                staging=tmp_path,
                stall_timeout_s=2.0,
            )
            events = []
            replay = Replay(
                job,
                LibavSource(job, time.monotonic),
                emit=events.append,
                stop=threading.Event(),
                monotonic=time.monotonic,
                wall_us=lambda: time.time_ns() // 1000,
            )
            ended = await asyncio.to_thread(replay.run)
            monkeypatch.undo()
            return ended, [event for event in events if isinstance(event, SegmentReady)]

    ended, segments = asyncio.run(main())
    tally.faults += 1
    assert ended.cause is End.WINDOW, ended
    assert sum(segment.frames for segment in segments) == 300
    assert written[0] > SENT_MB * 0.9e6
    assert apart[0] < BETWEEN_MB * 1e6, f"{apart[0] / 1e6:.1f} MB on their way"
