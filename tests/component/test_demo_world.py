"""Camera, stand-in kernel and proof together: what was received is on disk once, the hole is the cut, the rows say so."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import replace

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.device import CameraSpec, Drop, SimulatedCamera
from anr_watch.camera.film import FilmSpec, VideoCodec
from anr_watch.clock import SystemClock
from anr_watch.demo.kernel import live_url, probe
from anr_watch.demo.proof import count_frames
from anr_watch.demo.recorder import FileOpened, Recorder, RecorderJob, RecorderState
from anr_watch.demo.tables import SegmentFacts, Tables
from anr_watch.instants import parse_instant
from anr_watch.model import Secret

FILM = FilmSpec(camera_number=7, width=160, height=96, fps=30, gop_frames=10)


class Child:
    """The kernel process: its JSON lines so far, and a way to wait for one."""

    def __init__(self, process):
        self.process = process
        self.lines = []

    async def until(self, timeout_s=15, **wanted):
        async with asyncio.timeout(timeout_s):
            at = 0
            while True:
                for line in self.lines[at:]:
                    at += 1
                    if all(line.get(key) == value for key, value in wanted.items()):
                        return line
                text = await self.process.stdout.readline()
                assert text, f"ended before {wanted}: {self.lines}"
                self.lines.append(json.loads(text))

    async def ask(self, **command):
        self.lines.clear()
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.until(event="reply")


def row_of(camera, camera_id="gate", **more):
    return {
        "id": camera_id,
        "name": "Gate",
        "vendor": "hikvision",
        "address": "127.0.0.1",
        "rtsp_port": camera.rtsp_port,
        "username": "admin",
        "password": camera.spec.password,
        "segment_seconds": 1,
        "anr_enabled": 1,
    } | more


@asynccontextmanager
async def kernel(tmp_path, rows, *more):
    (tmp_path / "cameras.json").write_text(json.dumps(rows))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "anr_watch.demo.kernel", "--database", tmp_path / "k.db",
        "--recordings", tmp_path / "rec", "--cameras", tmp_path / "cameras.json", "--index-interval-s", "600", "--last-retry-s", "1", *more,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    child = Child(process)
    try:
        yield child
        process.stdin.close()
        await child.until(event="stopped")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process.stdin.close()
        process._transport.close()


def rows(tmp_path, text):
    with closing(sqlite3.connect(tmp_path / "k.db")) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(text)]


async def files_of(tmp_path, count, camera_id="gate"):
    """Wait until a camera has at least `count` files; return them."""
    folder = tmp_path / "rec" / camera_id
    async with asyncio.timeout(15):
        while len(found := sorted(folder.glob("*.mp4"))) < count:
            await asyncio.sleep(0.02)
    return found


def test_a_cut_is_the_only_hole_and_the_indexer_notes_it(tmp_path):
    async def story():
        async with (
            SimulatedCamera(CameraSpec(film=FILM)) as camera,
            SimulatedCamera(CameraSpec(film=FILM)) as other,
            kernel(tmp_path, [row_of(camera), row_of(other, "yard")]) as child,
        ):
            await child.until(event="state", camera="gate", state="recording")
            before = await files_of(tmp_path, 2)
            await files_of(tmp_path, 2, "yard")
            cut_us = camera.storage.now_us()
            await camera.go_offline()
            await child.until(event="state", camera="gate", state="offline")
            assert rows(tmp_path, "SELECT event_type FROM events") == [{"event_type": "camera_offline"}]
            # Not a wait for something to happen: this is how long the cut is. Over 3 s the kernel notes a gap.
            await asyncio.sleep(max(0, cut_us / 1e6 + 3.5 - camera.storage.now_us() / 1e6))
            back_us = camera.storage.now_us()
            await camera.go_online()
            after = await files_of(tmp_path, len(before) + 2)
            first_reply = await child.ask(cmd="index")
            second_reply = await child.ask(cmd="index")
            return cut_us, back_us, len(after), first_reply, second_reply

    cut_us, back_us, after, first_reply, second_reply = asyncio.run(story())
    files = sorted((tmp_path / "rec" / "gate").glob("*.mp4"))
    seen = count_frames(files)
    assert (seen.double, seen.out_of_order, seen.unreadable, seen.other_camera, seen.broken) == (0, 0, 0, 0, ())
    assert seen.camera_number == 7
    [(lost_from, lost_to)] = seen.missing
    # The last frame before the cut and the one in the air may go either way; live begins at a key frame.
    assert abs(lost_from - FILM.first_frame_at(cut_us)) <= 1
    assert FILM.first_frame_at(back_us) - 1 <= lost_to
    assert (lost_to + 1) % FILM.gop_frames == 0
    # The other camera never noticed.
    other = count_frames(sorted((tmp_path / "rec" / "yard").glob("*.mp4")))
    assert (other.missing, other.double) == ((), 0)

    [gap] = rows(tmp_path, "SELECT * FROM recording_gaps")
    newest = rows(tmp_path, "SELECT * FROM segments WHERE camera_id = 'gate' ORDER BY start_time")
    gap_at = [row["start_time"] for row in newest].index(gap["gap_end"])
    assert gap["gap_start"] == newest[gap_at - 1]["end_time"]
    [resumed] = [path for path in files if count_frames([path]).first == lost_to + 1]
    assert gap["gap_end"].endswith(":" + resumed.name[13:15] + "+00:00")
    assert (gap["camera_id"], gap["fill_state"], gap["fill_attempts"]) == ("gate", "pending", 0)
    assert gap["id"].startswith("gap_")
    length_s = (parse_instant(gap["gap_end"]) - parse_instant(gap["gap_start"])).total_seconds()
    assert gap["gap_seconds"] == int(length_s) > 3
    assert newest[0]["path"] == f"{tmp_path}/rec/gate/{files[0].name}"
    assert (newest[0]["codec"], newest[0]["width"], newest[0]["height"]) == ("h264", 160, 96)
    assert newest[0]["size_bytes"] == files[0].stat().st_size
    assert [row["event_type"] for row in rows(tmp_path, "SELECT * FROM events ORDER BY timestamp")] == [
        "camera_offline",
        "recording_gap",
    ]
    assert first_reply["gaps"] == 1
    assert first_reply["segments"] >= after  # every file but the open one, and some of the other camera
    assert second_reply["gaps"] == 0
    [status] = rows(tmp_path, "SELECT * FROM camera_status WHERE camera_id = 'gate'")
    assert (status["state"], status["last_segment_at"]) == ("recording", newest[-1]["end_time"])
    assert status["reconnect_count"] >= 1
    assert rows(tmp_path, "SELECT success FROM _sqlx_migrations") == [{"success": 1}]


def test_parts_can_be_switched_off_and_bad_commands_are_answered(tmp_path):
    async def story():
        async with (
            SimulatedCamera(CameraSpec(film=replace(FILM, codec=VideoCodec.H265))) as camera,
            kernel(tmp_path, [row_of(camera)], "--no-gaps", "--no-status") as child,
        ):
            await files_of(tmp_path, 2)
            await camera.go_offline(Drop.RST)
            await child.until(event="state", state="offline")
            assert (await child.ask(cmd="index"))["gaps"] == 0
            assert "not a command" in (await child.ask(nonsense=1))["error"]
            assert "unknown command" in (await child.ask(cmd="dance"))["error"]

    asyncio.run(story())
    [status] = rows(tmp_path, "SELECT * FROM camera_status")
    assert (status["state"], status["last_segment_at"], status["reconnect_count"]) == ("unknown", None, 0)
    assert {row["codec"] for row in rows(tmp_path, "SELECT codec FROM segments")} == {"hevc"}
    seen = count_frames(sorted((tmp_path / "rec" / "gate").glob("*.mp4")))
    assert (seen.missing, seen.double, seen.present > 30) == ((), 0, True)


def test_a_silent_camera_is_given_up_and_sound_is_kept_when_it_is_wanted(tmp_path):
    async def story():
        changes, loop = asyncio.Queue(), asyncio.get_running_loop()
        async with SimulatedCamera(CameraSpec(film=FILM, audio=AudioKind.AAC)) as camera:
            job = RecorderJob("gate", Secret(camera.url_live()), tmp_path, segment_s=1, audio=True, io_timeout_s=1.2)
            files = []

            def heard(news):
                if isinstance(news, FileOpened):
                    files.append(news.path)
                else:
                    loop.call_soon_threadsafe(changes.put_nowait, news)

            recorder = Recorder(job, heard)
            recorder.start()
            try:
                async with asyncio.timeout(15):
                    states = [(await changes.get()) for _ in range(2)]
                    while len(list((tmp_path / "gate").glob("*.mp4"))) < 3:
                        await asyncio.sleep(0.02)
                    await camera.go_offline(Drop.SILENT)
                    states.append(await changes.get())
            finally:
                recorder.stop()
                assert await asyncio.to_thread(recorder.join, 10)
            # Under load two short files can fall into one second and get one name, as with ffmpeg.
            assert sorted(set(files)) == sorted((tmp_path / "gate").glob("*.mp4"))
        return states

    states = asyncio.run(story())
    assert [change.state for change in states] == [
        RecorderState.CONNECTING,
        RecorderState.RECORDING,
        RecorderState.OFFLINE,
    ]
    assert "camera" not in states[-1].detail.replace("***", "")  # the password
    seen = count_frames(sorted((tmp_path / "gate").glob("*.mp4")))
    assert (seen.missing, seen.double, seen.unreadable) == ((), 0, 0)
    assert seen.audio_seconds > 1.5
    assert seen.audio_largest_hole_s < 0.2


def test_the_kernel_cuts_overlaps_back_and_leaves_known_gaps_and_paths_alone(tmp_path):
    now = SystemClock().now()
    tables = Tables(tmp_path / "k.db")
    with closing(tables):
        tables.add_camera({"id": "gate", "name": "Gate"}, now)

        def add(name, start, length_s, *, gaps=True):
            facts = SegmentFacts(f"rec/gate/{name}.mp4", parse_instant(start), length_s, "h264", 1, 1, 10)
            return tables.add_segment("gate", facts, now, gaps=gaps, status=True)

        assert add("a", "2026-06-13T12:00:00+00:00", 10.5) == (True, None)
        assert add("b", "2026-06-13T12:00:09+00:00", 10.25) == (True, None)
        assert add("b", "2026-06-13T12:00:09+00:00", 10.25) == (False, None)
        assert add("c", "2026-06-13T12:00:22+00:00", 5) == (True, None)  # 2.75 s are no gap
        added, gap = add("d", "2026-06-13T12:00:31+00:00", 5)
        assert added
        assert gap.inserted
        assert add("e", "2026-06-13T12:01:31+00:00", 5, gaps=False) == (True, None)
        # An old file that another program left there: indexed, and the newest times go back, as the kernel's do.
        assert add("old", "2026-06-13T11:00:00+00:00", 5) == (True, None)
    segments = rows(tmp_path, "SELECT start_time, end_time, duration_s FROM segments ORDER BY start_time")
    assert segments[1]["end_time"] == "2026-06-13T12:00:09+00:00"
    assert segments[1]["duration_s"] == 9
    assert segments[2]["end_time"] == "2026-06-13T12:00:19.250+00:00"
    [row] = rows(tmp_path, "SELECT gap_start, gap_end, gap_seconds FROM recording_gaps")
    assert row == {"gap_start": "2026-06-13T12:00:27+00:00", "gap_end": "2026-06-13T12:00:31+00:00", "gap_seconds": 4}
    [status] = rows(tmp_path, "SELECT last_segment_at, segments_written FROM camera_status")
    assert status == {"last_segment_at": "2026-06-13T11:00:05+00:00", "segments_written": 6}


def test_urls_are_built_as_the_kernel_does():
    row = {"address": "10.0.0.9", "rtsp_port": 8554, "username": "us er", "password": "p@ss:/", "vendor": "hikvision"}
    assert live_url(row).reveal() == "rtsp://us%20er:p%40ss%3A%2F@10.0.0.9:8554/Streaming/Channels/101"
    assert live_url({"address": "10.0.0.9"}).reveal() == "rtsp://10.0.0.9:554/Streaming/Channels/101"
    assert live_url(row | {"main_stream_url": "rtsp://x/y"}).reveal() == "rtsp://x/y"


def test_a_probe_takes_only_segments(tmp_path):
    (tmp_path / "20260613_120000.mp4").write_bytes(b"\0" * 28)
    assert probe(tmp_path / "20260613_120000.mp4", "x") is None
    assert probe(tmp_path / "20260613_120001.mp4", "x") is None
    assert probe(tmp_path / "snapshot.mp4", "x") is None
