"""How a replay ends: by itself, by a failure named for what it is, or because we stop it; and its limits."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from replaying import FIRST, FPS, GOP, KEY, START, asked, camera, check, job_for, numbers, replay, run, until

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.faults import End as Ending
from anr_watch.camera.film import FilmSpec
from anr_watch.model import Secret
from anr_watch.replay.job import End, Progress
from anr_watch.replay.process import Workers
from anr_watch.states import Reason


@pytest.mark.parametrize("ending", list(Ending))
def test_every_way_a_camera_ends_is_an_end(tmp_path, ending):
    got = replay(lambda device: job_for(device, tmp_path), faults={"end": ending})
    assert got.ended.cause is End.WINDOW, got.ended
    shown = check(tmp_path, got)
    # libav's parser keeps the last picture back while the camera says nothing.
    assert shown == list(range(KEY, KEY + len(shown)))
    assert FIRST + 9 * FPS - KEY - len(shown) <= 1


@pytest.mark.parametrize(
    ("faults", "cause", "status"),
    [
        ({"describe_status": 404}, Reason.NO_FOOTAGE, 404),
        ({"play_status": 457}, Reason.NO_FOOTAGE, 457),
        ({"empty_window": True}, Reason.NO_FOOTAGE, None),
        ({"describe_status": 453}, Reason.BUSY, 453),
        ({"setup_status": 453}, Reason.BUSY, 453),
        ({"describe_status": 503}, Reason.BUSY, 503),
        ({"unauthorized": True}, Reason.UNAUTHORIZED, 401),
        ({"describe_status": 403}, Reason.UNAUTHORIZED, 403),
        ({"describe_status": 500}, Reason.BAD_MEDIA, 500),
        ({"refuse": True}, Reason.UNREACHABLE, None),
        ({"hang": "options"}, Reason.STALLED, None),
        ({"hang": "describe"}, Reason.STALLED, None),
        ({"hang": "play"}, Reason.STALLED, None),
    ],
)
def test_failures_are_named_for_what_they_are(tmp_path, faults, cause, status):
    got = replay(lambda device: job_for(device, tmp_path), faults=faults)
    assert (got.ended.cause, got.ended.status) == (cause, status), got.ended
    assert len(got.events) == 1
    assert not list(tmp_path.iterdir())


def test_wrong_password_and_no_trace_of_it(tmp_path):
    def with_wrong_password(device):
        digits = [f"{at:%Y%m%dT%H%M%SZ}" for at in (asked(9).start, asked(9).end)]
        return job_for(device, tmp_path, url=Secret(device.url_replay(*digits, password="correct horse")))

    got = replay(with_wrong_password)
    assert got.ended.cause is Reason.UNAUTHORIZED
    assert "horse" not in repr(got.events)


@pytest.mark.parametrize(
    ("faults", "cause", "least"),
    [
        ({"stall_after_s": 5}, Reason.STALLED, 5 * FPS - 1),
        ({"cut_after_s": 5}, End.EOF, 5 * FPS),
        ({"rst_after_s": 5}, End.EOF, 1),
        ({"short_window_s": 3}, End.EOF, 7 * FPS),
    ],
)
def test_what_came_before_it_broke_is_kept(tmp_path, faults, cause, least):
    got = replay(lambda device: job_for(device, tmp_path), faults=faults)
    assert got.ended.cause is cause
    shown = check(tmp_path, got)
    assert shown == list(range(KEY, KEY + len(shown)))
    assert least <= len(shown) <= 7 * FPS
    assert abs(got.ended.until - got.segments[-1].window.end) < timedelta(milliseconds=1)


def test_a_stop_during_a_stall_does_not_wait_for_it(tmp_path):
    async def main():
        async with camera() as device, Workers() as workers:
            device.faults.stall_after_s = 5
            async with workers.replay(job_for(device, tmp_path, stall_timeout_s=60)) as running:
                async for event in running:
                    if isinstance(event, Progress) and event.until and event.until > START + timedelta(seconds=1):
                        await running.stop()
                    last = event
            return last

    async def bounded():
        async with asyncio.timeout(20):
            return await main()

    ended = asyncio.run(bounded())
    assert ended.cause is End.STOPPED
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4"}
    shown = [number for path in sorted(tmp_path.iterdir()) for number in numbers(path)]
    assert shown == list(range(KEY, KEY + len(shown)))


def test_leaving_early_frees_the_cameras_session_at_once(tmp_path):
    async def main():
        async with camera(replay_speed=1.0) as device, Workers() as workers:
            async with workers.replay(job_for(device, tmp_path, stall_timeout_s=60)) as running:
                await anext(running)
                assert device.active_replays == 1
            await device.wait_for("teardown", 10)
            await until(lambda: device.active_replays == 0)
            assert device.peak_replays == 1
            assert (await run(workers, job_for(device, tmp_path / "none"))).ended.cause is Reason.STORAGE

    asyncio.run(main())


def test_sound_that_is_not_wanted_is_not_even_set_up(tmp_path):
    async def main():
        async with camera(audio=AudioKind.PCMA) as device, Workers() as workers:
            await run(workers, job_for(device, tmp_path, audio=False))
            return len(device.journal.of_kind("setup"))

    assert asyncio.run(main()) == 1


def test_the_byte_rate_is_capped(tmp_path):
    film = FilmSpec(gop_frames=GOP, padding_bytes=20_000)
    cap = 2_000_000.0
    got = replay(lambda device: job_for(device, tmp_path, max_bytes_s=cap, stall_timeout_s=5), film=film)
    assert got.ended.cause is End.WINDOW
    assert got.ended.bytes > 2.5e6
    assert got.ended.seconds > 0.8 * got.ended.bytes / cap
    assert check(tmp_path, got) == list(range(KEY, FIRST + 9 * FPS))


def test_staging_that_is_not_there_is_a_matter_of_storage(tmp_path):
    got = replay(lambda device: job_for(device, tmp_path / "missing"))
    assert got.ended.cause is Reason.STORAGE


def test_files_belong_to_us_alone(tmp_path):
    got = replay(lambda device: job_for(device, tmp_path))
    modes = {Path(tmp_path / ready.file).stat().st_mode & 0o777 for ready in got.segments}
    assert modes == {0o600}
