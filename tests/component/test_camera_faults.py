"""Each fault of the simulated camera can be seen at the client or in the journal."""

import asyncio
import contextlib
from itertools import pairwise

import av
import pytest
from camera_client import END, NOON_FRAME, START, BareClient, TestClock, count, play

from anr_watch.camera.device import CameraSpec, SimulatedCamera
from anr_watch.camera.faults import End, Hang, Reports, Scope
from anr_watch.camera.film import FilmSpec

TEN_S = 150


def replayed(clock=None, spec=None, *, read_timeout_s=3.0, storage=None, **faults):
    """Play ten seconds from a camera with faults; return what came and the journal."""

    async def main():
        async with SimulatedCamera(spec, clock or TestClock()) as camera:
            camera.faults.update(faults)
            for name, value in (storage or {}).items():
                setattr(camera.storage, name, value)
            got = await asyncio.to_thread(play, camera.url_replay(START, END), read_timeout_s=read_timeout_s)
            await camera.wait_for("closed", 5)
            return got, camera.journal

    return asyncio.run(main())


def on_the_wire(*, spec=None, **faults):
    """Play ten seconds with the bare client; return the client after the stream's end and the journal."""

    async def main():
        async with SimulatedCamera(spec, TestClock()) as camera:
            camera.faults.update(faults)
            client = await BareClient.connect(camera.rtsp_port)
            url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
            await client.start(url)
            ended = await camera.wait_for("last_byte", 5)
            with contextlib.suppress(ConnectionError):
                await client.ask("TEARDOWN", url)
            await client.close()
            return client, ended.detail["reason"]

    return asyncio.run(main())


def statuses(journal):
    return [(e.detail["method"], e.detail["status"]) for e in journal.of_kind("status") if e.detail["status"] != 401]


@pytest.mark.parametrize(
    ("fault", "method", "status", "error"),
    [
        ({"describe_status": 404}, "DESCRIBE", 404, av.HTTPNotFoundError),
        ({"describe_status": 453}, "DESCRIBE", 453, av.HTTPOtherClientError),
        ({"describe_status": 503}, "DESCRIBE", 503, av.HTTPServerError),
        ({"setup_status": 453}, "SETUP", 453, av.HTTPOtherClientError),
        ({"play_status": 457}, "PLAY", 457, av.FFmpegError),
    ],
)
def test_statuses(fault, method, status, error):
    got, journal = replayed(**fault)
    assert isinstance(got.error, error)
    assert statuses(journal)[0] == (method, status)
    assert not journal.of_kind("first_byte")


def test_a_status_for_the_next_requests_only():
    async def main():
        async with SimulatedCamera(clock=TestClock()) as camera:
            camera.faults.update({"describe_status": 453, "status_count": 2})
            client = await BareClient.connect(camera.rtsp_port)
            replay = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
            live = f"rtsp://127.0.0.1:{camera.rtsp_port}/live"
            answers = [(await client.ask("DESCRIBE", url))[0] for url in (live, replay, live, replay, replay)]
            await client.close()
            return answers

    assert asyncio.run(main()) == [200, 453, 200, 453, 200]


def test_unauthorized_whatever_the_password():
    got, _ = replayed(unauthorized=True)
    assert isinstance(got.error, av.HTTPUnauthorizedError)


def test_refuse():
    got, journal = replayed(refuse=True)
    assert got.error is not None
    assert {entry.kind for entry in journal.entries} == {"accept", "closed"}


@pytest.mark.parametrize("hang", [Hang.OPTIONS, Hang.DESCRIBE, Hang.SETUP, Hang.PLAY])
def test_hang(hang):
    async def main():
        async with SimulatedCamera(clock=TestClock()) as camera:
            camera.faults.hang = hang
            player = asyncio.to_thread(_open_and_fail, camera.url_replay(START, END))
            error = await player
            return error, [entry.kind for entry in camera.journal.entries]

    error, kinds = asyncio.run(main())
    assert isinstance(error, av.FFmpegError)
    assert hang.value in kinds
    assert "first_byte" not in kinds


def _open_and_fail(url):
    try:
        av.open(url, options={"rtsp_transport": "tcp"}, timeout=0.4).close()
    except av.FFmpegError as error:
        return error
    return None


def test_stall_keeps_the_connection_and_says_nothing():
    got, journal = replayed(stall_after_s=4, read_timeout_s=0.4)
    assert got.numbers == count(NOON_FRAME, 60)
    kinds = [entry.kind for entry in journal.entries]
    assert kinds.index("stall") < kinds.index("closed")
    assert "last_byte" in kinds


def test_cut_and_reset():
    got, journal = replayed(cut_after_s=4)
    assert got.numbers == count(NOON_FRAME, 60)
    assert journal.of_kind("last_byte")[0].detail["reason"] == "cut"
    got, journal = replayed(rst_after_s=4)
    assert len(got.numbers) <= 60
    assert got.numbers == count(NOON_FRAME, len(got.numbers))
    assert journal.of_kind("last_byte")[0].detail["reason"] == "rst"


@pytest.mark.parametrize(
    ("faults", "first", "number"),
    [
        ({"short_window_s": 4}, 0, 90),
        ({"overrun_s": 3}, 0, 195),
        ({"early_start_s": 2.5}, -45, 195),
        ({"late_start_s": 6}, 90, 60),
    ],
)
def test_another_window_than_asked(faults, first, number):
    got, _ = replayed(**faults)
    assert got.error is None
    assert got.numbers == count(NOON_FRAME + first, number)
    assert abs(got.utc_us[0] - (NOON_FRAME + first) * 1_000_000 // 15) <= 1, "UTC tells the truth"


def test_a_hole_shows_in_pts_and_utc():
    got, journal = replayed(hole="3,5.5")
    missing = count(NOON_FRAME, 45) + count(NOON_FRAME + 90, 60)  # from the next key frame, at 6 s
    assert got.numbers == missing
    assert got.pts[45] - got.pts[44] == 46 * 6000
    assert abs(got.utc_us[-1] - got.numbers[-1] * 1_000_000 // 15) <= 1
    assert len(journal.of_kind("playing")[0].detail["runs"]) == 2


def test_a_timestamp_jump_leaves_utc_true():
    got, _ = replayed(timestamp_jump="4,3600")
    assert got.numbers == count(NOON_FRAME, TEN_S)
    assert got.pts[60] - got.pts[59] == 6000 + 3600 * 90_000
    expected = [number * 1_000_000 // 15 for number in got.numbers]
    assert all(abs(a - b) <= 1 for a, b in zip(got.utc_us, expected, strict=True))


def test_sender_reports_absent_late_and_now():
    got, _ = replayed(reports=Reports.ABSENT)
    assert got.utc_us == [None] * TEN_S
    got, _ = replayed(reports=Reports.LATE, reports_late_s=3)
    assert got.numbers == count(NOON_FRAME, TEN_S)
    expected = [number * 1_000_000 // 15 for number in got.numbers]
    assert got.utc_us[:44] == [None] * 44
    # FFmpeg's parser hands a picture on when the next one begins, and by then the report is there: the first
    # UTC it ever gives for a stream that had none belongs to the picture after.
    assert got.utc_us[44] == expected[45]
    assert all(abs(a - b) <= 1 for a, b in zip(got.utc_us[45:], expected[45:], strict=True))
    got, _ = replayed(reports=Reports.NOW)
    assert got.utc_us[0] > (NOON_FRAME // 15 + 3599) * 1_000_000, "the test's present is an hour later"


def test_ends_on_the_wire():
    client, reason = on_the_wire(end=End.BYE)
    assert reason == "bye"
    assert client.interleaved[-1][1][-8:-4] == b"\x81\xcb\x00\x01"
    assert len(client.interleaved[-1][1]) > 12
    client, _ = on_the_wire(end=End.LONE_BYE)
    assert len(client.interleaved[-1][1]) == 8
    client, _ = on_the_wire(end=End.SILENT)
    assert client.interleaved[-1][0] == 0
    client, _ = on_the_wire(end=End.TEARDOWN)
    assert client.requests == ["TEARDOWN * RTSP/1.0"]
    client, _ = on_the_wire(end=End.ANNOUNCE)
    assert client.requests == ["ANNOUNCE * RTSP/1.0"]
    _, reason = on_the_wire(end=End.CLOSE)
    assert reason == "close"


@pytest.mark.parametrize("end", [End.LONE_BYE, End.SILENT, End.ANNOUNCE])
def test_ends_that_ffmpeg_does_not_see(end):
    got, _ = replayed(end=end, read_timeout_s=0.4)
    assert got.numbers == count(NOON_FRAME, TEN_S)
    assert got.error is not None, "it waited for its timeout"


def test_an_empty_window_is_answered_and_sends_nothing():
    got, journal = replayed(empty_window=True, read_timeout_s=0.4)
    assert got.numbers == []
    assert not statuses(journal)
    assert journal.of_kind("last_byte")[0].detail == {
        "connection": 1,
        "live": False,
        "reason": "bye",
        "pictures": 0,
        "bytes": 0,
    }


def test_a_rate_cap_waits_for_each_byte():
    clock = TestClock(skip_sleep=True, still=True)
    got, journal = replayed(clock, rate_bytes_s=10_000)
    assert got.numbers == count(NOON_FRAME, TEN_S)
    sent_bytes = journal.of_kind("last_byte")[0].detail["bytes"]
    assert sent_bytes > 50_000
    # Time stands still, so each piece waits for all before it: the last one for the whole.
    assert clock.slept_s > sent_bytes / 10_000


def test_damaged_packets_damage_pictures_and_never_give_a_wrong_number():
    got, _ = replayed(corrupt=0.2, corrupt_seed=5)
    assert len(got.numbers) > 50
    good = [number for number in got.numbers if number is not None]
    assert set(good) < set(count(NOON_FRAME, TEN_S))
    assert {mark.camera_number for mark in got.marks if mark} == {1}


def test_lost_packets_are_missing():
    client, _ = on_the_wire(lose=0.1, corrupt_seed=2)
    numbers = [int.from_bytes(packet[2:4], "big") for channel, packet in client.interleaved if channel == 0]
    assert any((b - a) % 65536 > 1 for a, b in pairwise(numbers))


def test_another_cameras_film():
    got, _ = replayed(other_camera=9)
    assert got.numbers == count(NOON_FRAME, TEN_S)
    assert {mark.camera_number for mark in got.marks} == {9}


def test_digits_read_as_local_time_give_other_footage():
    got, _ = replayed(local_time="Europe/Berlin")
    assert got.numbers == count(NOON_FRAME - 2 * 3600 * 15, TEN_S)


def test_a_session_left_without_teardown_lingers():
    class Clock(TestClock):
        ahead_s = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead_s

    async def main():
        clock = Clock()
        async with SimulatedCamera(clock=clock) as camera:
            camera.faults.session_linger_s = 60
            url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
            client = await BareClient.connect(camera.rtsp_port)
            await client.start(url)
            await client.close()
            await camera.wait_for("closed", 5)
            client = await BareClient.connect(camera.rtsp_port)
            busy = (await client.ask("DESCRIBE", url))[0]
            clock.ahead_s = 61
            free = (await client.ask("DESCRIBE", url))[0]
            await client.close()
            return busy, free

    assert asyncio.run(main()) == (453, 200)


def test_faults_of_live_leave_replay_alone():
    async def main():
        async with SimulatedCamera(CameraSpec(film=FilmSpec(gop_frames=3)), TestClock()) as camera:
            camera.faults.update({"scope": Scope.LIVE, "cut_after_s": 0.4})
            replay = await asyncio.to_thread(play, camera.url_replay(START, END))
            live = await asyncio.to_thread(play, camera.url_live())
            return replay, live

    replay, live = asyncio.run(main())
    assert replay.numbers == count(NOON_FRAME, TEN_S)
    assert live.numbers == count(live.numbers[0], 6)


def test_waiting_for_what_never_happens_ends():
    async def main():
        async with SimulatedCamera(clock=TestClock()) as camera:
            with pytest.raises(TimeoutError):
                await camera.wait_for("play", 0.05)

    asyncio.run(main())


def test_an_error_of_the_body_stays_what_it_is():
    async def main():
        async with SimulatedCamera(clock=TestClock()):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(main())


class Strained:
    """A camera with live and replay viewers of half a second of footage at a time, 250 kB/s, replayed at 8x."""

    SPEC = CameraSpec(film=FilmSpec(bitrate_bps=2_000_000), replay_speed=8.0)

    @staticmethod
    async def watch_both(camera, live_s):
        """Watch live while a replay plays; return the numbers of live pictures and whether live was cut."""
        client = await BareClient.connect(camera.rtsp_port)
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
        since = len(camera.journal)
        await client.start(url)
        await camera.wait_for("suffers", live_s, since=since)
        return client


def test_live_is_cut_and_refused_while_a_replay_is_too_fast():
    async def main():
        async with SimulatedCamera(Strained.SPEC, TestClock()) as camera:
            camera.faults.update({"live_suffers": "drop", "live_limit_bytes_s": 100_000})
            live = asyncio.ensure_future(asyncio.to_thread(play, camera.url_live(), read_timeout_s=3.0))
            await camera.wait_for(lambda entry: entry.kind == "first_byte" and entry.detail["live"], 20)
            client = await Strained.watch_both(camera, 20)
            ended = await camera.wait_for(lambda entry: entry.kind == "last_byte" and entry.detail["live"], 20)
            refused = await asyncio.to_thread(play, camera.url_live(), read_timeout_s=1.0)
            await client.close()
            await live
            return ended.detail["reason"], refused.error

    reason, error = asyncio.run(main())
    assert reason == "suffers"
    assert isinstance(error, av.HTTPServerError)


def test_live_falters_from_any_replay_and_goes_on_after_it():
    async def main():
        async with SimulatedCamera(Strained.SPEC, TestClock()) as camera:
            camera.faults.update({"live_suffers": "falter"})
            live = asyncio.ensure_future(
                asyncio.to_thread(play, camera.url_live(), read_timeout_s=5.0, packets=15 * 4)
            )
            await camera.wait_for(lambda entry: entry.kind == "first_byte" and entry.detail["live"], 20)
            client = await Strained.watch_both(camera, 20)
            await client.close()
            await camera.wait_for("recovers", 20)
            return await live

    got = asyncio.run(main())
    lost = [b - a - 1 for a, b in pairwise(got.numbers) if b - a > 1]
    assert len(lost) == 1
    assert len(got.numbers) > 15
