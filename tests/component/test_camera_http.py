"""Replay of the simulated camera over HTTP, as PyAV and a bare client see it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import av
import pytest
from camera_client import NOON, NOON_FRAME, TestClock, count, play

from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.device import CameraSpec, Replay, SimulatedCamera
from anr_watch.camera.film import FilmSpec
from anr_watch.camera.kinds import AudioKind, VideoCodec

VALUES = {
    "{start_rfc3339}": "2026-06-13T14:00:00%2B02:00",
    "{duration_s}": "10",
    "{start_unix}": str(NOON),
    "{end_unix}": f"{NOON + 10}.000",
}


def url_of(camera, way, **changes):
    url = camera.url_replay_template(way, **changes)
    for token, value in VALUES.items():
        url = url.replace(token, value)
    return url


def fetched(way=Replay.MEDIAMTX, *, spec=None, holes=(), read_timeout_s=3.0, **faults):
    async def main():
        async with SimulatedCamera(spec, TestClock()) as camera:
            camera.storage.holes = list(holes)
            camera.faults.update(faults)
            got = await asyncio.to_thread(play, url_of(camera, way), read_timeout_s=read_timeout_s)
            return got, camera.journal

    return asyncio.run(main())


def asked(*requests, spec=None, **faults):
    """Send raw requests over one connection; return the status lines and headers of the answers."""

    async def main():
        async with SimulatedCamera(spec or CameraSpec(auth=AuthScheme.NONE), TestClock()) as camera:
            camera.faults.update(faults)
            reader, writer = await asyncio.open_connection("127.0.0.1", camera.http_port)
            heads = []
            for request in requests:
                writer.write(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.close()
            return heads

    return asyncio.run(main())


@pytest.mark.parametrize("scheme", [AuthScheme.DIGEST, AuthScheme.BASIC, AuthScheme.NONE])
@pytest.mark.parametrize("way", [Replay.MEDIAMTX, Replay.FRIGATE])
def test_pyav_gets_exactly_the_window(way, scheme):
    got, journal = fetched(way, spec=CameraSpec(auth=scheme))
    assert got.error is None
    assert got.numbers == count(NOON_FRAME, 150)
    assert got.pts == [6000 * number for number in range(150)]
    assert journal.of_kind("last_byte")[0].detail["reason"] == "complete"


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("b_frames", [0, 2])
def test_both_codecs_with_sound(codec, b_frames):
    spec = CameraSpec(film=FilmSpec(codec=codec, b_frames=b_frames), audio=AudioKind.AAC)
    got, _ = fetched(spec=spec)
    assert got.numbers == count(NOON_FRAME, 150)
    assert got.codecs[1] == "aac"
    assert len(got.sound) == 157


def test_a_hole_ends_what_mediamtx_sends_and_vanishes_in_frigates_clip():
    hole = (datetime.fromtimestamp(NOON + 3, UTC), datetime.fromtimestamp(NOON + 5.5, UTC))
    got, _ = fetched(Replay.MEDIAMTX, holes=[hole])
    assert got.numbers == count(NOON_FRAME, 45)
    got, _ = fetched(Replay.FRIGATE, holes=[hole])
    assert got.numbers == count(NOON_FRAME, 45) + count(NOON_FRAME + 90, 60)
    assert got.pts == [6000 * number for number in range(105)]


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_statuses(status):
    expected = {401: av.HTTPUnauthorizedError, 404: av.HTTPNotFoundError}.get(status, av.HTTPServerError)
    got, journal = fetched(http_status=status)
    assert isinstance(got.error, expected)
    assert journal.of_kind("status")[-1].detail["status"] == status


def test_a_wrong_password_is_refused():
    async def main():
        async with SimulatedCamera(clock=TestClock()) as camera:
            return await asyncio.to_thread(play, url_of(camera, Replay.MEDIAMTX, password="no"))

    assert isinstance(asyncio.run(main()).error, av.HTTPUnauthorizedError)
    got, _ = fetched(unauthorized=True)
    assert isinstance(got.error, av.HTTPUnauthorizedError)


def test_a_cut_in_the_middle_leaves_a_short_file():
    got, journal = fetched(cut_after_s=5)
    assert 0 < len(got.numbers) <= 75
    assert got.numbers == count(NOON_FRAME, len(got.numbers))
    assert journal.of_kind("last_byte")[0].detail["reason"] == "cut"


def test_a_stall_in_the_middle_is_noticed_when_the_client_leaves():
    async def main():
        async with SimulatedCamera(replace(CameraSpec(), http_limit=1), TestClock()) as camera:
            camera.faults.stall_after_s = 5
            got = await asyncio.to_thread(play, url_of(camera, Replay.MEDIAMTX), read_timeout_s=0.4)
            await camera.wait_for(lambda entry: entry.kind == "last_byte", 5)
            camera.faults.clear()
            again = await asyncio.to_thread(play, url_of(camera, Replay.MEDIAMTX))
            return got, again

    got, again = asyncio.run(main())
    assert 0 < len(got.numbers) <= 75
    assert got.error is not None
    assert again.numbers == count(NOON_FRAME, 150), "the download was no longer counted"


def test_one_download_at_a_time():
    async def main():
        async with SimulatedCamera(CameraSpec(http_limit=1), TestClock()) as camera:
            camera.faults.stall_after_s = 1
            url = url_of(camera, Replay.MEDIAMTX)
            first = asyncio.create_task(asyncio.to_thread(play, url, read_timeout_s=0.5, open_timeout_s=0.5))
            await camera.wait_for("stall", 5)
            second = await asyncio.to_thread(play, url_of(camera, Replay.MEDIAMTX))
            await first
            return second

    assert isinstance(asyncio.run(main()).error, av.HTTPServerError)


def test_a_redirect_is_followed():
    async def main():
        clock = TestClock()
        spec = CameraSpec(auth=AuthScheme.NONE)
        other = replace(spec, film=FilmSpec(camera_number=2))
        async with SimulatedCamera(spec, clock) as one, SimulatedCamera(other, clock) as two:
            one.faults.http_redirect = url_of(two, Replay.MEDIAMTX)
            return await asyncio.to_thread(play, url_of(one, Replay.MEDIAMTX))

    got = asyncio.run(main())
    assert {mark.camera_number for mark in got.marks} == {2}


def test_an_empty_file_and_other_windows():
    got, _ = fetched(empty_window=True)
    assert got.numbers == []
    got, _ = fetched(short_window_s=4)
    assert got.numbers == count(NOON_FRAME, 90)


def test_requests_that_make_no_sense():
    heads = asked(
        "GET /nowhere",
        "POST /get",
        "GET /get",
        "GET /get?start=noon&duration=10",
        "GET /get?start=2026-06-13T12:00:00Z&duration=long",
        "GET /get?start=2026-06-13T12:00:00Z&duration=1e99",
        "GET /get?start=2030-01-01T00:00:00Z&duration=10",
        "GET /clip/cam/start/1893456000/end/1893456010/clip.mp4",
    )
    assert [int(head.split()[1]) for head in heads] == [404, 405, 400, 400, 400, 400, 404, 400]


def test_a_space_for_the_plus_of_an_offset_is_understood():
    (head,) = asked("GET /get?start=2026-06-13T14:00:00+02:00&duration=1")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "video/mp4" in head


def test_no_answer_at_all():
    async def main():
        async with SimulatedCamera(clock=TestClock()) as camera:
            camera.faults.update({"hang": "get"})
            with pytest.raises(av.FFmpegError):
                await asyncio.to_thread(av.open, url_of(camera, Replay.MEDIAMTX), timeout=0.3)
            await camera.wait_for("closed", 5)
            return [entry.kind for entry in camera.journal.entries]

    assert asyncio.run(main()) == ["accept", "get", "closed"]
