"""Live and replay of the simulated camera as PyAV and a bare client see them."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import av
import pytest
from camera_client import END, NOON, NOON_FRAME, START, BareClient, TestClock, count, play

from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.device import CameraSpec, Drop, Replay, SimulatedCamera
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.camera.kinds import AudioKind, VideoCodec

TEN_S = 150


def with_camera(body, spec=None, clock=None):
    """Run `body(camera)` beside a camera; its blocking players run in threads."""

    async def main():
        async with SimulatedCamera(spec, clock or TestClock()) as camera:
            return await body(camera)

    return asyncio.run(main())


async def played(camera, start=START, end=END, **options):
    return await asyncio.to_thread(play, camera.url_replay(start, end), **options)


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("audio", list(AudioKind))
def test_pyav_gets_exactly_the_window(codec, audio):
    async def body(camera):
        return await played(camera)

    got = with_camera(body, CameraSpec(film=FilmSpec(codec=codec), audio=audio))
    assert got.error is None
    assert got.numbers == count(NOON_FRAME, TEN_S)
    assert got.codecs[0] == {"h264": "h264", "h265": "hevc"}[codec]
    # The RTSP demuxer gives its first packet no pts; from the second on they are exact.
    assert got.pts[0] is None
    assert got.pts[1:] == [6000 * number for number in range(1, TEN_S)]
    packets = {AudioKind.NONE: 0, AudioKind.PCMA: 500, AudioKind.PCMU: 500, AudioKind.AAC: 157}[audio]
    assert len(got.sound) == packets
    if packets:
        assert got.codecs[1] == {"pcma": "pcm_alaw", "pcmu": "pcm_mulaw", "aac": "aac"}[audio]


def test_utc_of_each_packet_is_that_of_its_picture():
    async def body(camera):
        return await played(camera)

    spec = CameraSpec(clock_offset_s=0.0)
    got = with_camera(body, spec)
    expected = [spec.film.frame_us(number) for number in got.numbers]
    assert all(abs(is_us - should_us) <= 1 for is_us, should_us in zip(got.utc_us, expected, strict=True))
    ahead = with_camera(body, replace(spec, clock_offset_s=7.0))
    assert ahead.numbers == count(NOON_FRAME - 7 * 15, TEN_S), "it reads the query by its own clock"
    assert abs(ahead.utc_us[0] - NOON * 1_000_000) <= 1, "and writes reports by it"


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_b_frames_come_in_decoding_order_and_are_complete(codec):
    async def body(camera):
        return await played(camera)

    got = with_camera(body, CameraSpec(film=FilmSpec(codec=codec, b_frames=2)))
    assert got.numbers == count(NOON_FRAME, TEN_S)
    assert got.pts[1:] != sorted(got.pts[1:])


def test_a_window_starts_at_the_key_frame_before_it():
    async def body(camera):
        return await played(camera, "20260613T120001Z", "20260613T120003Z")

    got = with_camera(body, CameraSpec(film=FilmSpec(gop_frames=30)))
    assert got.numbers == count(NOON_FRAME, 45)


def test_large_pictures_come_in_fragments_and_are_whole():
    async def body(camera):
        return await played(camera, end="20260613T120002Z")

    got = with_camera(body, CameraSpec(film=FilmSpec(bitrate_bps=8_000_000)))
    assert got.numbers == count(NOON_FRAME, 30)
    assert got.video_bytes >= 2_000_000


def test_all_ways_to_write_the_window():
    async def body(camera):
        found = {}
        for way in (Replay.HIKVISION, Replay.DAHUA, Replay.UNIX):
            url = camera.url_replay_template(way)
            values = {
                "{start}": START,
                "{end}": END,
                "{start:%Y_%m_%d_%H_%M_%S}": "2026_06_13_14_00_00",  # the wall clock in Berlin
                "{end:%Y_%m_%d_%H_%M_%S}": "2026_06_13_14_00_10",
                "{start_unix}": str(NOON),
                "{end_unix}": str(NOON + 10),
            }
            for token, value in values.items():
                url = url.replace(token, value)
            found[way] = (await asyncio.to_thread(play, url)).numbers
        return found

    found = with_camera(body, CameraSpec(zone="Europe/Berlin"))
    assert all(numbers == count(NOON_FRAME, TEN_S) for numbers in found.values())


def test_live_shows_the_present_and_the_same_pictures_as_replay():
    async def body(camera):
        live = await asyncio.to_thread(play, camera.url_live(), packets=8)
        end = camera.journal.of_kind("first_byte")[0].utc
        return live, end, camera.film

    live, first_sent, film = with_camera(body, CameraSpec(film=FilmSpec(gop_frames=5)))
    assert live.numbers == count(live.numbers[0], len(live.numbers))
    assert live.numbers[0] % 5 == 0
    assert 0 <= first_sent.timestamp() - live.numbers[0] / 15 < 30, "no picture before it happened"
    assert film.gop(live.numbers[0] // 5) == Film(film.spec).gop(live.numbers[0] // 5)


def test_digest_refuses_a_wrong_password_and_the_journal_tells():
    async def body(camera):
        wrong = await asyncio.to_thread(play, camera.url_replay(START, END, password="wrong"))
        assert [entry.detail["status"] for entry in camera.journal.of_kind("status")] == [401, 401]
        assert not any("wrong" in str(entry) for entry in camera.journal.entries)
        return wrong

    assert isinstance(with_camera(body).error, av.HTTPUnauthorizedError)


@pytest.mark.parametrize("scheme", [AuthScheme.DIGEST_NO_QOP, AuthScheme.BASIC, AuthScheme.NONE])
def test_other_authentication_that_pyav_speaks(scheme):
    async def body(camera):
        return await played(camera, end="20260613T120001Z")

    assert with_camera(body, CameraSpec(auth=scheme)).numbers == count(NOON_FRAME, 15)


def test_sha256_digest_lets_a_client_in_that_speaks_it_but_not_ffmpeg():
    async def body(camera):
        client = await BareClient.connect(camera.rtsp_port)
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
        status, headers, text = await client.ask("DESCRIBE", url)
        await client.close()
        return status, headers, text, await played(camera)

    status, headers, text, got = with_camera(body, CameraSpec(auth=AuthScheme.DIGEST_SHA256))
    assert status == 200
    assert headers["content-base"].endswith(f"endtime={END}/")
    assert b"m=video 0 RTP/AVP 96" in text
    assert isinstance(got.error, av.HTTPUnauthorizedError)


def test_a_second_replay_gets_453_until_teardown_or_the_end_of_the_connection():
    async def body(camera):
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime={START}&endtime={END}"
        one, other = [await BareClient.connect(camera.rtsp_port) for _ in range(2)]
        setup, play_ = await one.start(url)
        assert (setup[0], play_[0], camera.active_replays) == (200, 200, 1)
        assert (await other.ask("DESCRIBE", url))[0] == 453
        assert (await other.start(url))[0][0] == 453
        live = await BareClient.connect(camera.rtsp_port)
        assert (await live.ask("DESCRIBE", camera.url_live()))[0] == 200, "live is not counted"
        await live.close()
        assert (await one.ask("TEARDOWN", url))[0] == 200
        assert camera.active_replays == 0
        assert (await other.start(url))[1][0] == 200
        await other.close()
        await camera.wait_for(lambda entry: entry.kind == "closed" and entry.detail["connection"] == 2, 5)
        assert (camera.active_replays, camera.peak_replays) == (0, 1)
        third = await BareClient.connect(camera.rtsp_port)
        assert (await third.start(url))[1][0] == 200
        await one.close()
        await third.close()

    with_camera(body)


def test_answers_to_play_say_where_it_starts():
    async def body(camera):
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101?starttime=20260613T120001Z&endtime={END}"
        client = await BareClient.connect(camera.rtsp_port)
        _, (status, headers, _) = await client.start(url)
        await client.rest()
        await client.close()
        return status, headers, client.interleaved

    status, headers, packets = with_camera(body, CameraSpec(film=FilmSpec(gop_frames=30)))
    assert status == 200
    assert headers["range"] == "clock=20260613T120000.000000Z-20260613T120010.000000Z"
    channel, report = packets[0]
    assert (channel, report[1]) == (1, 200), "a sender report comes before the first picture"
    first = packets[1][1]
    sequence, timestamp = int.from_bytes(first[2:4], "big"), int.from_bytes(first[4:8], "big")
    assert f"seq={sequence};rtptime={timestamp}" in headers["rtp-info"]
    assert int.from_bytes(report[16:20], "big") == timestamp
    assert sum(1 for channel, packet in packets if channel == 1) == 3, "0 s, 6 s (the key frame after 5 s), BYE"


def test_a_window_in_the_range_header():
    async def body(camera):
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/Streaming/tracks/101"
        client = await BareClient.connect(camera.rtsp_port)
        setup = await client.ask("SETUP", url + "/trackID=1", {"Transport": "RTP/AVP/TCP;interleaved=0-1"})
        session = {"Session": setup[1]["session"].split(";")[0]}
        without = (await client.ask("PLAY", url, session))[0]
        status, headers, _ = await client.ask("PLAY", url, session | {"Range": f"clock={START}-{END}"})
        await client.close()
        return without, status, headers["range"]

    assert with_camera(body) == (457, 200, "clock=20260613T120000.000000Z-20260613T120010.000000Z")


def test_requests_out_of_order_and_nonsense():
    async def body(camera):
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/live"
        client = await BareClient.connect(camera.rtsp_port)
        statuses = [
            (await client.ask(method, address, headers))[0]
            for method, address, headers in (
                ("OPTIONS", url, {}),
                ("PLAY", url, {}),
                ("DESCRIBE", url + "/nowhere", {}),
                ("DESCRIBE", url.replace("live", "Streaming/tracks/101?starttime=noon"), {}),
                ("SETUP", url + "/trackID=1", {"Transport": "RTP/AVP;unicast;client_port=5000-5001"}),
                ("SETUP", url + "/trackID=2", {"Transport": "RTP/AVP/TCP;interleaved=0-1"}),
                ("RECORD", url, {}),
                ("GET_PARAMETER", url, {}),
            )
        ]
        await client.close()
        for transport in ("RTP/AVP/TCP;interleaved=999-1000", "RTP/AVP/TCP;interleaved=" + "9" * 5000):
            client = await BareClient.connect(camera.rtsp_port)
            await client.ask("SETUP", url + "/trackID=1", {"Transport": transport})
            await client.close()
        for times in (
            "start_unix=1e300&end_unix=1e301",
            "start_unix=-5&end_unix=nan",
            "start_unix=1e13&end_unix=1e14",
        ):
            client = await BareClient.connect(camera.rtsp_port)
            statuses.append((await client.ask("DESCRIBE", url.replace("live", f"playback?{times}")))[0])
            await client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", camera.rtsp_port)
        writer.write(b"GET / HTTP/1.1 and more\r\n\r\n" + b"x" * 100_000)
        with contextlib.suppress(ConnectionResetError):  # refused the hard way, as it may
            assert await reader.read() == b""
        writer.close()
        return statuses

    assert with_camera(body) == [200, 454, 404, 400, 461, 404, 405, 200, 400, 400, 400]


def test_nothing_recorded_is_404():
    async def body(camera):
        return await played(camera, "20260613T140000Z", "20260613T140010Z")

    assert isinstance(with_camera(body).error, av.HTTPNotFoundError)


def test_offline_closes_the_port_and_online_opens_the_same():
    async def body(camera):
        port = camera.rtsp_port
        client = await BareClient.connect(port)
        await client.ask("OPTIONS", "*")
        for drop in (Drop.CLOSE, Drop.RST):
            await camera.go_offline(drop)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.ask("OPTIONS", "*")
            await camera.go_online()
            assert camera.rtsp_port == port
            await client.close()
            client = await BareClient.connect(port)
            assert (await client.ask("OPTIONS", "*"))[0] == 200
        await client.close()
        return await played(camera, end="20260613T120001Z")

    assert with_camera(body).numbers == count(NOON_FRAME, 15)


def test_a_pulled_cable_is_silence():
    async def body(camera):
        client = await BareClient.connect(camera.rtsp_port)
        url = f"rtsp://127.0.0.1:{camera.rtsp_port}/live"
        await client.start(url)
        await camera.wait_for("first_byte", 5)
        await camera.go_offline(Drop.SILENT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.ask("OPTIONS", url)
        assert not camera.journal.of_kind("closed"), "the camera has not let go"
        await client.close()
        closed = await camera.wait_for("closed", 5)
        last = camera.journal.of_kind("last_byte")[0]
        return closed.detail["bytes"], last.detail["reason"]

    sent_bytes, reason = with_camera(body, CameraSpec(film=FilmSpec(gop_frames=5)))
    assert sent_bytes > 0
    assert reason == "cancelled"


def test_replay_at_a_speed_sleeps_as_long_as_it_should():
    clock = TestClock(skip_sleep=True, still=True)

    async def body(camera):
        return await played(camera)

    with_camera(body, CameraSpec(replay_speed=4.0), clock)
    assert clock.slept_s == pytest.approx(sum(number / 15 / 4 for number in range(TEN_S)))


def test_the_film_is_the_same_in_another_process():
    spec = FilmSpec()
    code = (
        "import hashlib; from anr_watch.camera.film import Film, FilmSpec\n"
        f"gop = Film(FilmSpec()).gop({NOON})\n"
        "print(hashlib.sha256(b''.join(p.annexb() for p in gop.pictures)).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    gop = Film(spec).gop(NOON)
    assert run.stdout.strip() == hashlib.sha256(b"".join(p.annexb() for p in gop.pictures)).hexdigest()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program, which is optional")
def test_the_ffmpeg_program_agrees(tmp_path):
    out = tmp_path / "out.mp4"

    async def body(camera):
        command = ["ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-copyts", "-i", camera.url_replay(START, END)]
        environment = {"PATH": os.environ["PATH"]}
        await asyncio.to_thread(
            subprocess.run, [*command, "-c", "copy", "-f", "mp4", str(out)], check=True, timeout=30, env=environment
        )

    with_camera(body)
    assert play(str(out)).numbers == count(NOON_FRAME, TEN_S)
