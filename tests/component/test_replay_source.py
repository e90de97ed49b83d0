"""The seam under the worker: HTTP, what may not be opened, and sources that no RTSP camera here can play."""

import asyncio
import errno
import io
import os
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import av
import pytest
from replaying import FIRST, FPS, GOP, KEY, START, Got, asked, camera, check, job_for, numbers, run

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.device import Replay as Way
from anr_watch.camera.film import Film, FilmSpec, VideoCodec
from anr_watch.model import Secret
from anr_watch.replay import muxer
from anr_watch.replay.job import End, ReplayJob
from anr_watch.replay.muxer import SegmentWriter, VideoFormat, format_of_sets
from anr_watch.replay.nalunits import look_into
from anr_watch.replay.process import Workers
from anr_watch.replay.replay import Replay
from anr_watch.replay.source import LibavSource, Playing, Redaction, SourceFailed
from anr_watch.replay.stamps import Unit
from anr_watch.replay.timeline import TICKS
from anr_watch.states import Reason


@asynccontextmanager
async def web(status=200, body=b"", headers=()):
    """A web server that gives one answer to everybody and counts them."""
    asked_for = []

    async def serve(reader, writer):
        asked_for.append(await reader.readuntil(b"\r\n\r\n"))
        lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", "Connection: close", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://admin:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}/get", asked_for
    finally:
        server.close()
        await server.wait_closed()


def web_replay(tmp_path, **answer):
    async def main():
        async with web(**answer) as (url, asked_for), Workers() as workers:
            window = asked(9)
            got = await run(workers, job(url, tmp_path, asked=window, keep=window))
            assert asked_for
            return got

    return asyncio.run(main())


def job(url, staging, **options):
    window = asked(9)
    values = {"url": Secret(url), "asked": window, "keep": window, "staging": staging, "segment_s": 4.0}
    return ReplayJob(**(values | {"connect_timeout_s": 1.0, "stall_timeout_s": 1.0} | options))


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, Reason.UNAUTHORIZED),
        (403, Reason.UNAUTHORIZED),
        (404, Reason.NO_FOOTAGE),
        (500, Reason.BUSY),
        (503, Reason.BUSY),
    ],
)
def test_http_statuses(tmp_path, status, cause):
    ended = web_replay(tmp_path, status=status).ended
    assert (ended.cause, ended.status) == (cause, status)
    assert "hunter2" not in ended.detail


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/hostname",
        "file:/etc/hostname",
        "/etc/hostname/../x",
        "concat:a|b",
        "data:,x",
        "ftp://127.0.0.1/x",
    ],
)
def test_a_redirect_leads_to_no_other_protocol(tmp_path, target):
    ended = web_replay(tmp_path, status=302, headers=[f"Location: {target}"]).ended
    assert ended.cause in {Reason.BAD_MEDIA, Reason.UNREACHABLE, Reason.NO_FOOTAGE}
    assert ended.bytes == 0
    assert not list(tmp_path.iterdir())


def test_a_playlist_opens_nothing(tmp_path):
    async def main():
        async with web(body=b"") as (second_url, second_asked):
            playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{second_url}/a.ts\n#EXT-X-ENDLIST\n"
            for body in (playlist.encode(), b"ffconcat version 1.0\nfile /etc/hostname\n"):
                async with web(body=body) as (url, _), Workers() as workers:
                    got = await run(workers, job(url + ".m3u8", tmp_path))
                assert got.ended.cause is Reason.BAD_MEDIA
            assert not second_asked

    asyncio.run(main())


def test_only_four_schemes_are_asked(tmp_path):
    for url in ("file:///etc/hostname", "/etc/hostname", "ftp://h/x", "pipe:0", "concat:http://h/a"):
        with pytest.raises(SourceFailed) as caught:
            LibavSource(job(url, tmp_path), time.monotonic).open()
        assert caught.value.failure.reason is Reason.BAD_CONFIG


def test_an_mp4_over_http_is_kept(tmp_path):
    async def main():
        film = FilmSpec(gop_frames=GOP)
        async with camera(film=film, audio=AudioKind.AAC, auth=AuthScheme.BASIC) as device, Workers() as workers:
            template = device.url_replay_template(Way.MEDIAMTX)
            url = template.replace("{start_rfc3339}", "2025-06-13T12:05:00Z").replace("{duration_s}", "10")
            window = asked(10, START.replace(second=0))
            return await run(workers, replace(job_for(device, tmp_path), url=Secret(url), asked=window, keep=window))

    got = asyncio.run(main())
    assert got.ended.cause is End.WINDOW
    assert check(tmp_path, got) == list(range(KEY, FIRST + 9 * FPS))
    assert got.opened.audio_codec == "aac"


def test_pictures_that_mp4_players_cannot_show_are_refused(tmp_path):
    body = io.BytesIO()
    with av.open(body, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=5, width=64, height=64, pix_fmt="yuvj420p")
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuvj420p")))
        container.mux(stream.encode(None))
    ended = web_replay(tmp_path, body=body.getvalue()).ended
    assert ended.cause is Reason.BAD_MEDIA
    assert "mjpeg" in ended.detail


def test_noise_is_bad_media(tmp_path):
    assert web_replay(tmp_path, body=os.urandom(200_000)).ended.cause is Reason.BAD_MEDIA


def test_redaction_knows_all_forms_of_a_password():
    clean = Redaction("rtsp://admin:pa%40ss%2Fword@cam:554/x?y=1")
    for text in (
        "rtsp://admin:pa%40ss%2Fword@cam:554/x?y=1: timed out",
        "cannot open 'rtsp://admin:pa%40ss%2Fword@cam:554/other'",
        "auth admin pa@ss/word failed",
    ):
        assert "word" not in clean(text)
    assert clean("a\nb\x1b[0m") == "a\\x0ab\\x1b[0m"


class FilmSource:
    """A source without a network: the pictures of some films one after another, as units."""

    connected = True
    strayed = ""

    def __init__(self, *films, gops=2, tear=None):
        self._films = [(film, [film.gop(index) for index in range(gops)]) for film in films]
        self._tear = tear
        self.closed = threading.Event()

    def open(self):
        film, gops = self._films[0]
        codec = {"h264": "h264", "h265": "hevc"}[film.spec.codec]
        front = gops[0].pictures[0].annexb()
        self._format: VideoFormat = format_of_sets(codec, {}, front)
        return Playing(self._format, b"", annexb=True, audio=None, clock_rates=(TICKS, None))

    def units(self):
        at = 0
        for film, gops in self._films:
            codec = {"h264": "h264", "h265": "hevc"}[film.spec.codec]
            for gop in gops:
                for picture in gop.pictures:
                    packet = av.Packet(picture.annexb())
                    packet.is_keyframe = picture.key
                    unit = Unit(True, at, at, 6000, picture.key, packet.size, payload=packet)
                    if picture.key:
                        unit.front = look_into(codec, picture.annexb())
                        unit.clean = unit.front.clean
                    yield unit
                    at += 6000
        if self._tear is not None:
            raise SourceFailed(self._tear)

    def close(self):
        self.closed.set()


def play(source, staging, **options):
    got = Got()
    replay = Replay(
        job("rtsp://h/x", staging, **options),
        source,
        emit=got.events.append,
        stop=threading.Event(),
        monotonic=time.monotonic,
        wall_us=lambda: time.time_ns() // 1000,
    )
    got.events.append(replay.run())
    assert source.closed.wait(5)
    return got


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_another_picture_size_gets_a_file_with_its_own_header(tmp_path, codec):
    small, large = (Film(FilmSpec(codec=codec, width=w, height=h)) for w, h in ((320, 180), (480, 270)))
    got = play(FilmSource(small, large), tmp_path, asked=asked(4), keep=asked(4), segment_s=60.0)
    assert got.ended.cause is End.WINDOW
    assert [(ready.width, ready.height, ready.frames) for ready in got.segments] == [(320, 180, 30), (480, 270, 30)]
    for ready in got.segments:
        assert numbers(tmp_path / ready.file) == list(range(30))
        with av.open(str(tmp_path / ready.file)) as container:
            assert {(f.width, f.height) for f in container.decode(video=0)} == {(ready.width, ready.height)}
    assert got.segments[0].window.end == got.segments[1].window.start


def test_nothing_from_a_source_that_says_it_is_over(tmp_path):
    source = FilmSource(Film(FilmSpec()), gops=1)
    source.units = lambda: iter(())
    assert play(source, tmp_path).ended.cause is Reason.NO_FOOTAGE


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    written = []

    def full(fd, data):
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(data))
        return real(fd, data)

    real = os.write
    monkeypatch.setattr(muxer.os, "write", full)
    got = play(FilmSource(Film(FilmSpec()), gops=8), tmp_path, segment_s=60.0)
    assert got.ended.cause is Reason.DISK_FULL
    assert not got.segments
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.mp4"))


def test_a_failed_sync_is_no_finished_file(tmp_path, monkeypatch):
    def broken(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(muxer.os, "fsync", broken)
    got = play(FilmSource(Film(FilmSpec()), gops=4), tmp_path)
    assert got.ended.cause is Reason.STORAGE
    assert not list(tmp_path.glob("*.mp4"))


def test_pictures_with_one_time_stamp_are_all_kept(tmp_path):
    """GStreamer's server sends the first pictures of a cut with the same RTP time stamp."""
    film = Film(FilmSpec())
    pictures = [picture for index in range(2) for picture in film.gop(index).pictures]
    key = pictures[0].annexb()
    form = format_of_sets("h264", {}, key)
    writer = SegmentWriter(tmp_path, 7, form, None, 1000 * TICKS)
    for n, picture in enumerate(pictures):
        packet = av.Packet(picture.annexb())
        packet.is_keyframe = picture.key
        at = 1000 * TICKS + max(0, n - 10) * 6000
        writer.write(packet, video=True, pts=at, dts=at, duration=6000)
    done = writer.close()
    assert (done.file, done.frames) == ("0007.mp4", 30)
    assert numbers(tmp_path / "0007.mp4") == list(range(30))
    with av.open(str(tmp_path / "0007.mp4")) as container:
        assert container.streams.video[0].time_base == Fraction(1, TICKS)
