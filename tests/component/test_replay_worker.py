"""The worker against a camera: every picture of the window once, in time and with its sound, whatever the camera does."""

import struct
from datetime import timedelta

import av
import pytest
from replaying import FIRST, FPS, GOP, KEY, START, check, job_for, numbers, replay

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.faults import Reports
from anr_watch.camera.film import FilmSpec, VideoCodec
from anr_watch.model import Window
from anr_watch.replay.job import End, TimeSource
from anr_watch.states import Reason


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("audio", [AudioKind.NONE, AudioKind.PCMA, AudioKind.AAC])
@pytest.mark.parametrize("codec", list(VideoCodec))
def test_every_picture_once(tmp_path, codec, audio, b_frames):
    film = FilmSpec(codec=codec, gop_frames=GOP, b_frames=b_frames)
    got = replay(lambda device: job_for(device, tmp_path), film=film, audio=audio)
    assert got.ended.cause is End.WINDOW, got.ended
    shown = check(tmp_path, got)
    # With reordering the last picture may need one or two from after the end.
    assert shown == list(range(KEY, KEY + len(shown)))
    assert 0 <= len(shown) - (FIRST - KEY + 9 * FPS) <= b_frames
    assert got.opened.codec == ("h264" if codec is VideoCodec.H264 else "hevc")
    assert got.opened.audio_codec == ("" if audio is AudioKind.NONE else "aac")
    assert {ready.clock for ready in got.segments} == {TimeSource.SENDER_REPORT}
    assert [ready.frames for ready in got.segments][:2] == [60, 60]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("audio", [AudioKind.NONE, AudioKind.PCMU, AudioKind.AAC])
@pytest.mark.parametrize("reports", [Reports.NOW, Reports.ABSENT])
def test_without_usable_reports_nothing_is_lost_either(tmp_path, reports, audio):
    """With two streams and reports that say now, libav runs pts back to almost zero at each report."""
    start = START - timedelta(seconds=1)  # a key frame: what was asked is what comes first
    got = replay(
        lambda device: job_for(device, tmp_path, start=start),
        audio=audio,
        faults={"reports": reports},
    )
    shown = check_frames(tmp_path, got)
    assert got.ended.cause is End.WINDOW
    assert shown == list(range(KEY, KEY + len(shown)))
    assert {ready.clock for ready in got.segments} == {TimeSource.ASKED}
    assert got.segments[0].window.start == start
    assert got.segments[-1].window.end == start + timedelta(seconds=9)
    assert not got.jumps


def check_frames(staging, got):
    return [number for ready in got.segments for number in numbers(staging / ready.file)]


def test_late_reports_name_what_came_before_them(tmp_path):
    got = replay(lambda device: job_for(device, tmp_path), faults={"reports": Reports.LATE})
    assert check(tmp_path, got) == list(range(KEY, FIRST + 9 * FPS))


@pytest.mark.parametrize("kind", [AudioKind.PCMA, AudioKind.AAC])
@pytest.mark.parametrize("codec", list(VideoCodec))
def test_sound_and_picture_belong_together(tmp_path, kind, codec):
    """The camera beeps at each full second: so must every file, by its own clock."""
    film = FilmSpec(codec=codec, gop_frames=GOP)
    got = replay(lambda device: job_for(device, tmp_path, segment_s=4), film=film, audio=kind)
    heard_s = 0.0
    for ready in got.segments:
        beeps, length_s = beeps_in(tmp_path / ready.file)
        heard_s += length_s
        seconds = int(ready.window.seconds)
        assert len(beeps) >= seconds - 1
        for at in beeps:
            if at < 0.15:
                continue  # the file begins within a beep
            # 40 ms: an AAC frame of 8 kHz is 128 ms long and smears an onset; a frame's shift would be 67 ms or more.
            assert abs(at - round(at)) < 0.04, (ready.file, beeps)
    assert heard_s == pytest.approx(sum(ready.window.seconds for ready in got.segments), abs=0.3)


def beeps_in(path):
    """When it becomes loud, in seconds since the first picture; and how much sound there is."""
    loud, was_loud, length_s = [], True, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            rate = frame.sample_rate
            data = bytes(frame.planes[0])[: frame.samples * 4]
            samples = struct.unpack(f"<{frame.samples}f", data)
            length_s += frame.samples / rate
            for begin in range(0, len(samples), rate // 100):
                part = samples[begin : begin + rate // 100]
                is_loud = max(map(abs, part)) > 0.15
                if is_loud and not was_loud:
                    loud.append(float(frame.pts * frame.time_base) + begin / rate)
                was_loud = is_loud
    return loud, length_s


@pytest.mark.parametrize("reports", [Reports.TRUE, Reports.ABSENT])
def test_a_hole_in_the_cards_footage_is_a_hole_between_files(tmp_path, reports):
    start = START - timedelta(seconds=1)
    got = replay(
        lambda device: job_for(device, tmp_path, 14, start=start),
        faults={"hole": (3.5, 8), "reports": reports},
    )
    shown = check(tmp_path, got)
    before, after = list(range(KEY, KEY + 5 * FPS)), list(range(KEY + 8 * FPS, KEY + 15 * FPS))
    assert {*before[:50], *after[:90]} <= set(shown)
    assert shown == sorted(set(shown))
    assert len(got.jumps) == 1
    assert got.ended.cause is End.WINDOW
    holes = [b.window.start - a.window.end for a, b in zip(got.segments, got.segments[1:], strict=False)]
    assert max(holes) == timedelta(seconds=got.jumps[0].by_s)
    assert max(holes) > timedelta(seconds=3)


@pytest.mark.parametrize("by_s", [3600, -50, 20000])
def test_a_jump_of_the_rtp_clock_alone_loses_nothing(tmp_path, by_s):
    got = replay(lambda device: job_for(device, tmp_path), faults={"timestamp_jump": (4, by_s)})
    assert check(tmp_path, got) == list(range(KEY, FIRST + 9 * FPS))
    assert got.ended.cause is End.WINDOW
    assert not got.jumps


@pytest.mark.parametrize("by_s", [3600, -3600])
def test_a_jump_that_nothing_explains_is_no_full_window(tmp_path, by_s):
    start = START - timedelta(seconds=1)
    got = replay(
        lambda device: job_for(device, tmp_path, start=start),
        faults={"timestamp_jump": (4, by_s), "reports": Reports.ABSENT},
    )
    assert check(tmp_path, got) == list(range(KEY, KEY + 4 * FPS))
    assert got.ended.cause is Reason.CUT_SHORT
    assert got.ended.detail.startswith("time stamps")


@pytest.mark.parametrize("faults", [{"early_start_s": 5}, {"late_start_s": 4}, {"overrun_s": 5}])
def test_footage_is_named_by_its_own_time(tmp_path, faults):
    got = replay(lambda device: job_for(device, tmp_path), faults=faults)
    shown = check(tmp_path, got)
    first = KEY + (2 * GOP if "late_start_s" in faults else 0)
    assert shown == list(range(first, FIRST + 9 * FPS))
    assert got.ended.cause is End.WINDOW


def test_less_can_be_kept_than_was_asked(tmp_path):
    keep = Window(START + timedelta(seconds=3.5), START + timedelta(seconds=6))
    got = replay(lambda device: job_for(device, tmp_path, keep=keep))
    assert check(tmp_path, got) == list(range(FIRST + 3 * FPS, FIRST + 6 * FPS))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("codec", list(VideoCodec))
def test_damaged_packets_end_in_files_that_can_be_read(tmp_path, codec, seed):
    film = FilmSpec(codec=codec, gop_frames=GOP)
    faults = {"corrupt": 0.1, "corrupt_seed": seed}
    got = replay(lambda device: job_for(device, tmp_path), film=film, audio=AudioKind.AAC, faults=faults)
    assert not got.ended.detail.startswith("worker died")
    for ready in got.segments:
        with av.open(str(tmp_path / ready.file)) as container:
            times = [packet.dts for packet in container.demux(video=0) if packet.size]
        assert len(times) == ready.frames
        assert times == sorted(set(times))
