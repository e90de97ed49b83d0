"""Live comes first: cameras whose live stream suffers from replays, recorded live in real time while a gap is filled.

The detection time is what a healthy live file may stand still, plus a look, plus the end of the replay. What live
loses is counted by decoding the recorder's own files.
"""

import asyncio
import json

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from anr_watch.demo.proof import count_frames
from anr_watch.live_first import UNDER_WAY_S, Rhythm
from anr_watch.live_watch import LOOK_S
from tests.broker import Broker, Observer
from tests.world import World, until

pytestmark = pytest.mark.timeout(180)  # 10 to 25 s each on a machine with nothing else to do

LIVE_BYTES_S = 250_000
FPS = 15
SEGMENT_S = 2.0
# From "stop" to the last byte from the camera: the worker looks 10 times a second and closes its segment first.
END_S = 0.7
# The recorder's own way back: its wait before the next try, the new session, the next key frame.
BACK_S = 1.0 + 0.7 + 1.0
# The camera's own way back: half a second, then the next key frame.
RECOVERS_S = 0.5 + 1.0 + 0.3
SILENCE_S = Rhythm(LIVE_BYTES_S, 1.0, SEGMENT_S).silence_s(1.0)
STOOD_STILL_S = SILENCE_S + LOOK_S + END_S
WORD_S = UNDER_WAY_S + 2 * LOOK_S + END_S


def settings(port: int = 0) -> str:
    mqtt = f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\n' if port else ""
    return f"[fills]\nlive_silence_s = 1.0\nlive_wait_s = 2.0\nregister_gaps = false\nsettle_s = 1.0\n[replay]\nmargin_s = 2.0\n{mqtt}"


def camera() -> CameraSpec:
    return CameraSpec(name="gate", film=FilmSpec(bitrate_bps=LIVE_BYTES_S * 8), replay_speed=8.0)


def of(world: World, kind: str, *, live: bool | None = None):
    entries = world.cameras["gate"].journal.of_kind(kind)
    return [entry for entry in entries if live is None or entry.detail["live"] is live]


def live_lost_s(world: World, since) -> float:
    """Decode the live files that began after `since` and return the seconds of pictures they lack inside."""
    names = [path for path in world.live_files() if path.stem >= since.strftime("%Y%m%d_%H%M%S")]
    proof = count_frames(names, camera_number=1)
    return proof.missing_frames / FPS


async def stopped(world: World) -> dict:
    """Wait for the end of the first try and return it."""
    await until(lambda: [row for row in world.attempts() if row["ended_at"]], world.attempts)
    return world.attempts()[0]


def test_a_camera_that_cannot_bear_a_fast_replay(tmp_path, tally, rounds):
    """The kernel's word shows it (long: also only the files); the second try is as slow as live, and harmless."""

    async def run(folder, how):
        folder.mkdir()
        with Broker(folder) as broker:
            async with World(folder, camera(), settings=settings(broker.port)) as world:
                world.kernel.execute("UPDATE cameras SET segment_seconds = 2")
                world.outage(lost_s=(-150.3, -60.7))
                device = world.cameras["gate"]
                device.faults.update({"live_suffers": how, "live_limit_bytes_s": 2 * LIVE_BYTES_S})
                tally.faults += 1
                begun = world.at(world.elapsed_s())
                async with world.recorder(segment_s=SEGMENT_S, status=how == "drop"):
                    await asyncio.sleep(0.5)  # live, as it was before the fill
                    async with (
                        Observer(broker.port, "anr-watch/test/camera/gate/+") as seen,
                        world.daemon() as daemon,
                    ):
                        first = await stopped(world)
                        suffered = of(world, "suffers")[0].monotonic_s
                        assert first["reason"] == "live_faltered", (first, daemon.log)
                        assert world.kernel.gaps("gate")[0]["fill_attempts"] == 0
                        limit_s = WORD_S if how == "drop" else STOOD_STILL_S
                        ended = of(world, "last_byte", live=False)[0]
                        assert ended.monotonic_s - suffered <= limit_s, (ended.monotonic_s - suffered, limit_s)
                        await until(lambda: len(of(world, "first_byte", live=False)) >= 2, daemon.lines)
                        again = of(world, "first_byte", live=False)[1].monotonic_s
                        assert again - ended.monotonic_s >= 1.5  # it waited
                        await asyncio.sleep(60.0 if rounds.long else 3.0)  # slow, and live goes on
                        messages = await seen.until(lambda all_: any(b"camera.slowed" in m.payload for m in all_))
                        if rounds.long:
                            await until(lambda: world.states() == {"filled"}, daemon.log, deadline_s=150)
                    slow = of(world, "last_byte", live=False)[1]
                    rate = slow.detail["bytes"] / (slow.monotonic_s - again)
                    assert rate <= LIVE_BYTES_S * 1.3, rate
                    assert of(world, "suffers")[-1].monotonic_s < again  # not once more
                lost_s = live_lost_s(world, begun)
                print(
                    f"{how}: ended {ended.monotonic_s - suffered:.2f} s after live faltered (at most {limit_s:.2f} s), "
                )
                print(
                    f"{lost_s:.2f} s of live lost, then {rate / 1000:.0f} kB/s beside {LIVE_BYTES_S / 1000:.0f} kB/s of live"
                )
                assert 0 < lost_s <= limit_s + (BACK_S if how == "drop" else RECOVERS_S), (lost_s, limit_s)
                told = next(json.loads(m.payload)["data"] for m in messages if b"camera.slowed" in m.payload)
                assert told["max_bytes_s"] == pytest.approx(LIVE_BYTES_S, rel=0.2)
                status, out, _ = await world.command("status", "--json")
                assert (status, json.loads(out)["cameras"][0]["slowed"]["falters"] >= 0) == (0, True)
                if rounds.long:
                    proof = world.prove(start_s=-150.0, end_s=-61.0)
                    tally.frames_missing += proof.missing_frames
                    tally.frames_double += proof.double

    for how in ("drop", "falter") if rounds.long else ("drop",):
        asyncio.run(run(tmp_path / how, how))


def test_a_camera_that_cannot_replay_at_all_is_left_alone(tmp_path, tally):
    """After one detection time it is asked no more for a long while, also by the program's next run."""

    async def run():
        quiet = settings().replace("live_wait_s = 2.0", "live_wait_s = 60.0")
        async with World(tmp_path, camera(), settings=quiet) as world:
            world.kernel.execute("UPDATE cameras SET segment_seconds = 2")
            world.outage(lost_s=(-150.3, -60.7))
            world.cameras["gate"].faults.update({"live_suffers": "falter"})
            tally.faults += 1
            begun = world.at(world.elapsed_s())
            async with world.recorder(segment_s=SEGMENT_S):
                async with world.daemon() as daemon:
                    first = await stopped(world)
                    assert first["reason"] == "live_faltered", daemon.log
                    assert first["got_s"] > 5  # what was verified is kept
                async with world.daemon():
                    await asyncio.sleep(3)
                assert len(of(world, "play")) == 2  # the live stream and one replay
            assert 0 < live_lost_s(world, begun) <= STOOD_STILL_S + RECOVERS_S

    asyncio.run(run())


def test_no_false_alarm(tmp_path, tally):
    """A healthy camera in the rhythm of its files, that goes away in the middle of a replay and comes back."""

    async def run():
        async with World(tmp_path, camera(), settings=settings()) as world:
            world.kernel.execute("UPDATE cameras SET segment_seconds = 2")
            world.outage(lost_s=(-150.3, -60.7))
            device = world.cameras["gate"]
            async with world.daemon() as daemon:
                async with world.recorder(segment_s=SEGMENT_S, status=True) as states:
                    await until(lambda: of(world, "first_byte", live=False), "a replay")
                    await asyncio.sleep(4.5)
                    await device.go_offline()
                    tally.faults += 1
                    first = await stopped(world)
                    assert first["reason"] in {"interrupted", "cut_short", "no_footage"}, (first, daemon.log)
                    assert world.kernel.gaps("gate")[-1]["fill_attempts"] == 0
                    await until(lambda: "offline" in states, "the recorder's word")
                    await device.go_online()
                    await world.settled()
                assert "live comes first" not in daemon.log
            proof = world.prove(start_s=-150.0, end_s=-61.0)
            tally.frames_missing += proof.missing_frames
            tally.frames_double += proof.double

    asyncio.run(run())
