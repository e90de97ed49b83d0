"""A staged file cut to the picture: PyAV and the ffmpeg program present exactly the pictures that were meant."""

import io
import shutil
import struct
import subprocess
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from replaying import numbers

from anr_watch.camera import barcode
from anr_watch.camera.film import Film, FilmSpec, Gop, Picture, VideoCodec
from anr_watch.camera.nal import split_annexb
from anr_watch.footage.boxes import read_facts
from anr_watch.replay.exactcut import cut_file
from anr_watch.replay.fragments import BadFragments
from anr_watch.replay.muxer import SegmentWriter, format_of_sets
from anr_watch.replay.nalunits import look_into

FPS, GOP, COUNT = 15, 12, 48
STEP = 90_000 // FPS
FIRST = 1200 * GOP
RATE = 8000
FFMPEG = shutil.which("ffmpeg")


def staged(tmp_path, film, *, sound=None):
    """Write COUNT pictures as the worker stages them; return the file."""
    start = FIRST * STEP
    codec = "h264" if film.spec.codec is VideoCodec.H264 else "hevc"
    form, writer, position = None, None, 0
    for group in range(FIRST // GOP, (FIRST + COUNT) // GOP):
        for picture in film.gop(group).pictures:
            data = picture.annexb()
            if form is None:
                form = format_of_sets(codec, look_into(codec, data).sets, data)
                writer = SegmentWriter(tmp_path, 0, form, None if sound is None else sound.template, start)
            packet = av.Packet(data)
            packet.is_keyframe = picture.key
            dts = (FIRST + position - film.spec.b_frames) * STEP
            writer.write(packet, video=True, pts=picture.number * STEP, dts=dts, duration=STEP)
            position += 1
            while sound is not None and sound.until <= position * STEP:
                sound.write(writer, start)
    return tmp_path / writer.close().file


class Beeps:
    """AAC that is loud in the first tenth of every second."""

    def __init__(self, seconds):
        self._scratch = av.open(io.BytesIO(), "w", format="mp4")
        self.template = self._scratch.add_stream("aac", rate=RATE, layout="mono")
        self._scratch.start_encoding()
        self._packets = []
        wave = bytearray()
        for at in range(seconds * RATE):
            loud = at % RATE < RATE // 10
            wave += (9000 if loud and at // 10 % 2 else -9000 if loud else 0).to_bytes(2, "little", signed=True)
        for begin in range(0, len(wave), 2048):
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(wave[begin : begin + 2048]) // 2)
            frame.planes[0].update(bytes(wave[begin : begin + 2048]))
            frame.sample_rate, frame.pts, frame.time_base = RATE, begin // 2, Fraction(1, RATE)
            self._packets += self.template.encode(frame)
        self._packets = [packet for packet in self._packets if packet.pts is not None and packet.pts >= 0]
        self.until = 0

    def write(self, writer, start):
        packet = self._packets.pop(0)
        at = start + packet.pts * 90_000 // RATE
        length = 1024 * 90_000 // RATE
        writer.write(packet, video=False, pts=at, dts=at, duration=length)
        self.until = self._packets[0].pts * 90_000 // RATE if self._packets else 1 << 40


def by_ffmpeg(path):
    """The frame numbers that the ffmpeg program presents."""
    raw = subprocess.run(
        [FFMPEG, "-v", "error", "-i", path, "-an", "-fps_mode", "passthrough", "-f", "rawvideo", "-"],
        check=True,
        capture_output=True,
    )
    assert raw.stderr == b""
    size = 320 * 180 * 3 // 2
    shown = []
    for begin in range(0, len(raw.stdout), size):
        frame = av.VideoFrame(320, 180, "yuv420p")
        plane = frame.planes[0]
        data = raw.stdout[begin : begin + 320 * 180]
        lines = [data[y * 320 : y * 320 + 320].ljust(plane.line_size, b"\0") for y in range(180)]
        plane.update(b"".join(lines))
        shown.append(barcode.read(frame).frame_number)
    return shown


CUTS = [(0, 48), (0, 30), (1, 48), (5, 11), (12, 24), (13, 25), (23, 24), (23, 25), (11, 37), (40, 48), (47, 48)]


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("codec", list(VideoCodec))
def test_exactly_the_pictures_that_were_meant(tmp_path, codec, b_frames):
    film = Film(FilmSpec(codec=codec, fps=FPS, gop_frames=GOP, b_frames=b_frames))
    source = staged(tmp_path, film)
    lead = b_frames * STEP  # of decoding before the first picture is presented
    for first, end in CUTS:
        target = tmp_path / f"{first}-{end}.mp4"
        cut = cut_file(source, target, start=first * STEP + lead, end=end * STEP + lead, hide=True)
        wanted = list(range(FIRST + first, FIRST + end))
        assert (cut.start - lead, cut.end - lead, cut.frames) == (first * STEP, end * STEP, end - first)
        assert cut.bytes == target.stat().st_size
        assert numbers(target) == wanted
        facts = read_facts(target)
        assert facts.duration_s == pytest.approx((end - first) / FPS, abs=1e-4)
        assert facts.first_is_key
        assert facts.complete
        with av.open(str(target)) as container:
            times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        assert times == [Fraction(number, FPS) for number in range(end - first)]
        if FFMPEG:
            assert by_ffmpeg(target) == wanted


class OpenGroups:
    """Groups whose key frames are no clean start: pictures after them lean on the group before."""

    def __init__(self, codec):
        self.spec = FilmSpec(codec=codec, fps=FPS, gop_frames=GOP, b_frames=2)
        h264 = codec is VideoCodec.H264
        encoder = av.CodecContext.create("libx264" if h264 else "libx265", "w")
        encoder.width, encoder.height, encoder.pix_fmt = 320, 180, "yuv420p"
        encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, FPS), Fraction(FPS), 1
        common = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=2:b-adapt=0:open-gop=1"
        name, more = ("x264-params", "") if h264 else ("x265-params", ":pools=none:frame-threads=1:log-level=none")
        encoder.options = {"preset": "ultrafast", name: common + more}
        frame = av.VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        luma = memoryview(frame.planes[0]).cast("B")
        packets = []
        for number in range(FIRST, FIRST + COUNT):
            mark = barcode.FrameMark(camera_number=1, frame_number=number, fps=FPS)
            barcode.paint(luma, frame.planes[0].line_size, 320, mark)
            frame.pts = number - FIRST
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        self.pictures = [Picture(FIRST + it.pts, it.is_keyframe, tuple(split_annexb(bytes(it)))) for it in packets]

    def gop(self, index):
        begin = index * GOP - FIRST
        return Gop(begin, tuple(self.pictures[begin : begin + GOP]))


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_open_groups(tmp_path, codec):
    film = OpenGroups(codec)
    keys = [picture.number for picture in film.pictures if picture.key]
    assert len(keys) > 2
    assert any(b.number < a.number for a, b in pairwise(film.pictures) if a.key)
    source = staged(tmp_path, film)
    for first, end in [*CUTS, (keys[1] - FIRST - 1, 40), (keys[1] - FIRST, 40), (keys[1] - FIRST + 1, 40)]:
        target = tmp_path / f"{first}-{end}.mp4"
        cut = cut_file(source, target, start=(first + 2) * STEP, end=(end + 2) * STEP, hide=True)
        assert cut.frames == end - first
        assert numbers(target) == list(range(FIRST + first, FIRST + end))
        if FFMPEG:
            assert by_ffmpeg(target) == list(range(FIRST + first, FIRST + end))


def test_without_hiding_the_group_is_whole(tmp_path):
    source = staged(tmp_path, Film(FilmSpec(fps=FPS, gop_frames=GOP)))
    cut = cut_file(source, tmp_path / "cut.mp4", start=15 * STEP + 1, end=30 * STEP - 1, hide=False)
    assert (cut.start, cut.end, cut.frames) == (12 * STEP, 30 * STEP, 18)
    assert numbers(tmp_path / "cut.mp4") == list(range(FIRST + 12, FIRST + 30))


def test_nothing_left_is_no_file(tmp_path):
    source = staged(tmp_path, Film(FilmSpec(fps=FPS, gop_frames=GOP)))
    assert cut_file(source, tmp_path / "cut.mp4", start=COUNT * STEP, end=None, hide=True) is None
    assert cut_file(source, tmp_path / "cut.mp4", start=None, end=0, hide=True) is None
    assert not (tmp_path / "cut.mp4").exists()


@pytest.mark.parametrize(("first", "end"), [(1, 48), (7, 40), (20, 33)])
def test_sound_stays_with_its_picture(tmp_path, first, end):
    source = staged(tmp_path, Film(FilmSpec(fps=FPS, gop_frames=GOP)), sound=Beeps(4))
    target = tmp_path / "cut.mp4"
    cut_file(source, target, start=first * STEP, end=end * STEP, hide=True)
    assert numbers(target) == list(range(FIRST + first, FIRST + end))
    samples = {}
    with av.open(str(target)) as container:
        for frame in container.decode(audio=0):
            begin = round(frame.pts * frame.time_base * RATE)
            values = struct.unpack(f"<{frame.samples}f", bytes(frame.planes[0])[: frame.samples * 4])
            samples.update(zip(range(begin, begin + frame.samples), values, strict=True))
    assert min(samples) == pytest.approx(0, abs=1)
    assert max(samples) == pytest.approx((end - first) * RATE / FPS, abs=1025)
    loud = sorted(at for at, value in samples.items() if abs(value) > 0.15)
    onsets = [at for before, at in zip([-RATE, *loud], loud, strict=False) if at - before > RATE // 3]
    true = [first / FPS + at / RATE for at in onsets if at > RATE // 10]
    assert true
    assert all(abs(at - round(at)) < 0.03 for at in true), true


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x08free", b"\0\0\0\x10moov\0\0\0\x08trak", b"\0\0\0\x00moov"])
def test_what_the_muxer_did_not_write_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadFragments):
        cut_file(tmp_path / "x", tmp_path / "y", start=0, end=None, hide=True)
