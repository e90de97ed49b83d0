"""A mark comes back as it was painted, through every codec, or not at all."""

from fractions import Fraction

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anr_watch.camera import barcode
from anr_watch.camera.barcode import FrameMark

MARKS = st.builds(
    FrameMark,
    camera_number=st.integers(0, 0xFFFF),
    frame_number=st.integers(0, (1 << 64) - 1),
    fps=st.integers(1, 255),
)


def painted(mark, width=320, height=180):
    luma = bytearray(b"\x80" * (width * height))
    barcode.paint(memoryview(luma), width, width, mark)
    return luma


@given(MARKS)
def test_bytes_of_a_mark_give_the_mark(mark):
    assert barcode.decode_mark(barcode.encode_mark(mark)) == mark


@given(MARKS, st.integers(0, barcode.MARK_BYTES * 8 - 1))
def test_one_wrong_bit_is_refused(mark, bit):
    data = bytearray(barcode.encode_mark(mark))
    data[bit // 8] ^= 1 << bit % 8
    assert barcode.decode_mark(bytes(data)) is None


@given(st.binary(min_size=0, max_size=32))
def test_other_bytes_are_refused(data):
    assert barcode.decode_mark(data) is None


@settings(max_examples=25, deadline=None)
@given(MARKS, st.sampled_from([(128, 96), (200, 120), (320, 180), (640, 360), (1280, 720)]))
def test_a_painted_mark_is_read_at_every_size(mark, size):
    width, height = size
    assert barcode.read_luma(bytes(painted(mark, width, height)), width, width) == mark


def test_grey_blocks_and_short_planes_are_refused():
    assert barcode.read_luma(b"\x80" * (320 * 180), 320, 320) is None
    assert barcode.read_luma(b"\x10" * 100, 320, 320) is None
    assert barcode.read_luma(b"\x10" * (320 * 180), 320, 320) is None
    assert barcode.read_luma(bytes(painted(FrameMark(1, 2, 15))), 320, 64) is None


def test_half_of_one_picture_and_half_of_another_is_refused():
    one, other = painted(FrameMark(1, 1000, 15)), painted(FrameMark(2, 2001, 15))
    height = barcode.mark_height_px(320)
    torn = one[: 320 * height // 2] + other[320 * height // 2 :]
    assert barcode.read_luma(bytes(torn), 320, 320) is None


def test_a_picture_without_luma_in_front_is_refused():
    assert barcode.read(av.VideoFrame(320, 180, "rgb24")) is None


def test_utc_of_a_mark():
    assert FrameMark(camera_number=1, frame_number=15 * 1_781_352_300, fps=15).utc_us == 1_781_352_300_000_000
    assert FrameMark(camera_number=1, frame_number=1, fps=15).utc_us == 66_666


@pytest.mark.parametrize(("encoder_name", "quality"), [("libx264", "38"), ("libx265", "38")])
def test_marks_survive_coding_at_low_quality(encoder_name, quality):
    @settings(max_examples=6, deadline=None)
    @given(st.lists(MARKS, min_size=5, max_size=5))
    def check(marks):
        assert [barcode.read(frame) for frame in _coded_and_decoded(encoder_name, quality, marks)] == marks

    check()


def _coded_and_decoded(encoder_name, quality, marks):
    encoder = av.CodecContext.create(encoder_name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 180, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, 15), Fraction(15), 1
    quiet = {"x265-params": "log-level=none:pools=none:frame-threads=1"} if encoder_name == "libx265" else {}
    encoder.options = {"preset": "ultrafast", "crf": quality, "tune": "zerolatency", **quiet}
    decoder = av.CodecContext.create("h264" if encoder_name == "libx264" else "hevc", "r")
    decoder.thread_count = 1
    frames = []
    for number, mark in enumerate(marks):
        frame = av.VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(b"\x80" * plane.buffer_size)
        luma = frame.planes[0]
        barcode.paint(memoryview(luma).cast("B"), luma.line_size, 320, mark)
        frame.pts = number
        for packet in encoder.encode(frame):
            frames += decoder.decode(av.Packet(bytes(packet)))
    for packet in encoder.encode(None):
        frames += decoder.decode(av.Packet(bytes(packet)))
    return frames + decoder.decode(None)
