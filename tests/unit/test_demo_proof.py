"""The proof counts what a viewer would see: holes, doubles, order, foreign pictures, hidden lead-ins, sound."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.camera.audio import AudioKind, Tone
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.demo import proof
from anr_watch.demo.proof import Numbers, count_frames

SPEC = FilmSpec(width=128, height=96, fps=10, gop_frames=10)
FIRST = 17_000_000_000  # a key frame in the year 2023
FILM = Film(SPEC)


def record(
    path, first, end, *, film=FILM, hidden=0, movflags="frag_keyframe+empty_moov+default_base_moof", tone=None
):
    """Write frames `first` (a key frame) to `end` (not included) as a recorder would; `hidden` by an edit list."""
    gop = film.spec.gop_frames
    pictures = [
        p for index in range(first // gop, -(-end // gop)) for p in film.gop(index).pictures if p.number < end
    ]
    with (
        av.open(io.BytesIO(pictures[0].annexb()), format="h264") as template,
        av.open(str(path), "w", format="mp4", options={"movflags": movflags} if movflags else {}) as out,
    ):
        video = out.add_stream_from_template(template.streams.video[0])
        sound = None
        if tone is not None:
            sound = out.add_stream("aac", rate=tone.rate, layout="mono")
            sound.codec_context.extradata = bytes.fromhex("1408")
        for position, picture in enumerate(pictures):
            packet = av.Packet(picture.annexb())
            packet.time_base = Fraction(1, film.spec.fps)
            packet.pts = packet.dts = position - hidden
            packet.duration = 1
            packet.is_keyframe = picture.key
            packet.stream = video
            out.mux(packet)
            if sound is not None:
                at = Fraction(picture.number, film.spec.fps)
                for block in tone.between(at, at + Fraction(1, film.spec.fps)):
                    packet = av.Packet(block.data)
                    packet.time_base = Fraction(1, tone.rate)
                    packet.pts = packet.dts = block.ticks - first * tone.rate // film.spec.fps
                    packet.duration = tone.block_samples
                    packet.stream = sound
                    out.mux(packet)
    return path


def test_every_frame_once_is_complete(tmp_path):
    files = [record(tmp_path / f"{n}.mp4", FIRST + 20 * n, FIRST + 20 * n + 20) for n in range(3)]
    seen = count_frames(files, first=FIRST, last=FIRST + 59)
    assert (seen.expected, seen.present, seen.missing, seen.double, seen.out_of_order) == (60, 60, (), 0, 0)
    assert seen.complete
    assert (seen.camera_number, seen.fps, seen.files) == (1, 10, 3)


def test_holes_doubles_and_limits_are_counted(tmp_path):
    files = [
        record(tmp_path / "a.mp4", FIRST, FIRST + 15),
        record(tmp_path / "b.mp4", FIRST + 10, FIRST + 20),
        record(tmp_path / "c.mp4", FIRST + 30, FIRST + 40),
    ]
    seen = count_frames(files, first=FIRST + 5, last=FIRST + 44)
    assert seen.missing == ((FIRST + 20, FIRST + 29), (FIRST + 40, FIRST + 44))
    assert (seen.expected, seen.present, seen.missing_frames, seen.double, seen.outside) == (40, 25, 15, 5, 5)
    assert not seen.complete


def test_wrong_file_order_is_not_a_double(tmp_path):
    files = [record(tmp_path / "a.mp4", FIRST + 10, FIRST + 20), record(tmp_path / "b.mp4", FIRST, FIRST + 10)]
    seen = count_frames(files)
    assert (seen.first, seen.last, seen.double, seen.out_of_order) == (FIRST, FIRST + 19, 0, 10)


def test_another_camera_and_no_mark_are_told_apart(tmp_path):
    files = [
        record(tmp_path / "a.mp4", FIRST, FIRST + 10),
        record(
            tmp_path / "b.mp4",
            FIRST + 10,
            FIRST + 20,
            film=Film(FilmSpec(2, width=128, height=96, fps=10, gop_frames=10)),
        ),
        unmarked(tmp_path / "c.mp4"),
    ]
    seen = count_frames(files)
    assert (seen.present, seen.other_camera, seen.unreadable) == (10, 10, 5)
    assert not seen.complete


def unmarked(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame(128, 96, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_what_an_edit_list_hides_is_not_counted(tmp_path, movflags):
    seen = count_frames([record(tmp_path / "a.mp4", FIRST, FIRST + 30, hidden=17, movflags=movflags)])
    assert (seen.first, seen.last, seen.present) == (FIRST + 17, FIRST + 29, 13)


def test_a_torn_file_counts_up_to_its_last_whole_fragment(tmp_path):
    path = record(tmp_path / "a.mp4", FIRST, FIRST + 40)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    seen = count_frames([path], first=FIRST, last=FIRST + 39)
    assert seen.present in range(20, 40)
    assert seen.missing == ((FIRST + seen.present, FIRST + 39),)


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"not a film " * 1000)
    seen = count_frames([tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "gone.mp4"])
    assert seen.broken == ("empty.mp4", "text.mp4", "gone.mp4")
    assert (seen.expected, seen.first, seen.camera_number, seen.complete) == (0, None, None, False)


def test_sound_is_measured_across_files(tmp_path):
    tone = Tone(AudioKind.AAC)
    files = [
        record(tmp_path / "a.mp4", FIRST, FIRST + 20, tone=tone),
        record(tmp_path / "b.mp4", FIRST + 20, FIRST + 40, tone=tone),
    ]
    whole = count_frames(files)
    assert whole.audio_largest_hole_s == 0
    assert whole.audio_seconds == pytest.approx(4, abs=0.15)
    files.append(record(tmp_path / "c.mp4", FIRST + 60, FIRST + 70, tone=tone))
    holed = count_frames(files)
    assert holed.audio_largest_hole_s == pytest.approx(2, abs=0.15)
    assert holed.audio_seconds == pytest.approx(5, abs=0.2)


def test_the_command_prints_one_object_and_says_by_status_whether_all_is_there(tmp_path, capsys):
    files = [
        str(record(tmp_path / "b.mp4", FIRST + 10, FIRST + 20)),
        str(record(tmp_path / "a.mp4", FIRST, FIRST + 10)),
    ]
    assert proof.main([*files, "--first", str(FIRST), "--last", str(FIRST + 19)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["present"], answer["missing_frames"], answer["out_of_order"], answer["complete"]) == (
        20,
        0,
        0,
        True,
    )
    assert proof.main([files[0], "--first", str(FIRST)]) == 1
    assert json.loads(capsys.readouterr().out)["missing"] == [[FIRST, FIRST + 9]]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=30))
def test_numbers_are_a_set(ranges):
    numbers, plain = Numbers(), set()
    for first, more in ranges:
        new = set(range(first, first + more + 1))
        assert numbers.add_range(first, first + more) == (not new <= plain)
        plain |= new
    assert {n for low, high in numbers for n in range(low, high + 1)} == plain
    holes = {n for low, high in numbers.holes(3, 30) for n in range(low, high + 1)}
    assert holes == set(range(3, 31)) - plain
    assert numbers.count(3, 30) == len(plain & set(range(3, 31)))
    pieces = list(numbers)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(pieces))
