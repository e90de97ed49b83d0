"""What libav says, and what it means."""

import errno

import pytest

from anr_watch.replay.failures import why
from anr_watch.replay.nalunits import as_annexb, is_annexb, look_into
from anr_watch.states import Reason


def failed(*lines, number=None, text="Invalid data found when processing input", connected=True, silent_s=0.0):
    return why(lines, error_number=number, text=text, connected=connected, silent_s=silent_s, patience_s=10)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.UNAUTHORIZED),
        (403, Reason.UNAUTHORIZED),
        (404, Reason.NO_FOOTAGE),
        (457, Reason.NO_FOOTAGE),
        (453, Reason.BUSY),
        (503, Reason.BUSY),
        (500, Reason.BAD_MEDIA),
        (461, Reason.BAD_MEDIA),
        (400, Reason.NO_FOOTAGE),
    ],
)
def test_rtsp_statuses(status, reason):
    failure = failed(f"method DESCRIBE failed: {status} (whatever)")
    assert (failure.reason, failure.status) == (reason, status)
    assert str(status) in failure.detail


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.UNAUTHORIZED),
        (404, Reason.NO_FOOTAGE),
        (500, Reason.BUSY),
        (503, Reason.BUSY),
        (400, Reason.NO_FOOTAGE),
    ],
)
def test_http_statuses(status, reason):
    failure = failed(f"HTTP error {status} Whatever")
    assert (failure.reason, failure.status) == (reason, status)


def test_a_refusal_is_named():
    assert "HTTP 400 (bad request: it has nothing of that time, or" in failed("HTTP error 400 Bad Request").detail
    assert "RTSP 461 (unsupported transport: see `transport`" in failed("method SETUP failed: 461 x").detail
    assert failed("HTTP error 418 I'm a teapot").detail.endswith("HTTP 418")


def test_a_status_counts_more_than_everything_else():
    failure = failed("method SETUP failed: 453 Not Enough Bandwidth", "Connection timed out", silent_s=99)
    assert failure.reason is Reason.BUSY


def test_without_a_connection_the_camera_is_unreachable():
    for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT, None):
        assert failed(number=number, connected=False).reason is Reason.UNREACHABLE
    assert failed("Failed to resolve hostname cam", number=errno.EIO, connected=False).reason is Reason.UNREACHABLE


def test_a_connection_that_is_closed_without_an_answer_is_none():
    assert failed("Failed reading RTSP data: Connection reset by peer").reason is Reason.UNREACHABLE
    assert failed("Failed reading RTSP data: End of file").reason is Reason.UNREACHABLE


def test_a_reset_is_a_reset_however_long_it_took():
    assert failed("Failed reading RTSP data: Connection reset by peer", silent_s=9.9).reason is Reason.UNREACHABLE
    assert failed(number=errno.EPIPE, silent_s=9.9).reason is Reason.UNREACHABLE


def test_silence_is_a_stall_although_libav_calls_it_invalid_data():
    assert failed(silent_s=9.5).reason is Reason.STALLED
    assert failed(number=errno.ETIMEDOUT).reason is Reason.STALLED
    assert failed("Failed reading RTSP data: Connection timed out").reason is Reason.STALLED


def test_the_rest_is_bad_media():
    assert failed().reason is Reason.BAD_MEDIA
    assert failed("Protocol 'file' not on whitelist 'http,tcp'!").reason is Reason.BAD_MEDIA
    assert failed("The certificate is not trusted").reason is Reason.UNREACHABLE


SPS, PPS, IDR, SLICE, SEI = b"\x67sps", b"\x68pps", b"\x65idr", b"\x41slice", b"\x06sei"


def stream(*units, code=b"\0\0\0\1"):
    return b"".join(code + unit for unit in units)


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_parameter_sets_and_kind_of_a_key_frame(code):
    front = look_into("h264", stream(SPS, PPS, SEI, IDR, SPS, code=code))
    assert front.sets == {7: (SPS,), 8: (PPS,)}
    assert front.clean
    assert not look_into("h264", stream(SEI, SLICE)).clean
    assert look_into("h264", stream(SPS, PPS)).sets == {7: (SPS,), 8: (PPS,)}
    assert look_into("h264", as_annexb(front.sets)).sets == front.sets


def test_h265_sets():
    vps, sps, pps, idr, cra = b"\x40\1v", b"\x42\1s", b"\x44\1p", b"\x26\1i", b"\x2a\1c"
    front = look_into("hevc", stream(vps, sps, pps, idr))
    assert (front.sets, front.clean) == ({32: (vps,), 33: (sps,), 34: (pps,)}, True)
    assert not look_into("hevc", stream(cra)).clean


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", b"\0\0\0\1", b"\xff" * 50, b"\0\0\1" * 20])
def test_nothing_in_there_is_no_error(data):
    for codec in ("h264", "hevc"):
        assert not look_into(codec, data).clean


def test_mp4_form_is_told_from_a_byte_stream():
    assert is_annexb(b"\0\0\0\1\x67")
    assert not is_annexb(b"\x01\x64\0\x1f")
