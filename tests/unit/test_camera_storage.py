"""What URLs ask for, and which pictures the card gives for it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.camera.faults import End, Faults, Hang, Reports, Scope
from anr_watch.camera.film import FilmSpec
from anr_watch.camera.kinds import VideoCodec
from anr_watch.camera.query import Target, Window, read_instant, read_range, read_url
from anr_watch.camera.storage import Run, Storage

NOON = 1_781_352_000  # 2026-06-13T12:00:00Z
NOW = datetime(2026, 6, 13, 13, tzinfo=UTC)
FILM = FilmSpec(gop_frames=30)  # 2 s
WINDOW = Window(NOON * 1_000_000, (NOON + 10) * 1_000_000)
BERLIN = ZoneInfo("Europe/Berlin")


class StoppedClock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0

    async def sleep(self, delay_s):
        raise AssertionError


def storage():
    return Storage(FILM, StoppedClock())


def at(seconds):
    return datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=seconds)


def window(start_s, end_s):
    return Window(round((NOON + start_s) * 1e6), round((NOON + end_s) * 1e6))


def runs(card, asked, faults=None):
    """Return runs as frames relative to noon."""
    zero = NOON * FILM.fps
    return [(run.first - zero, run.end - zero) for run in card.runs(asked, faults)]


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://h:554/Streaming/tracks/101?starttime=20260613T120000Z&endtime=20260613T120010Z",
        "rtsp://h/Streaming/tracks/101/?starttime=20260613t120000z&endtime=20260613t120010z",
        "rtsp://h/Streaming/tracks/101?starttime=20260613T120000Z&endtime=20260613T120010Z/",
        "rtsp://h/ISAPI/Streaming/tracks/101?starttime=2026-06-13T12:00:00Z&endtime=2026-06-13T12:00:10.000Z",
        "rtsp://h/playback?start_unix=1781352000&end_unix=1781352010.000",
        "rtsp://h/cam/playback?channel=1&subtype=0&starttime=2026_06_13_14_00_00&endtime=2026_06_13_14_00_10",
    ],
)
def test_all_ways_to_ask_for_a_window(url):
    assert read_url(url, device_zone=BERLIN) == Target(live=False, window=WINDOW)
    assert read_url(url.rstrip("/") + "/trackID=2", device_zone=BERLIN) == Target(False, WINDOW, 2)


def test_digits_that_say_utc_may_be_read_as_local_time():
    url = "rtsp://h/Streaming/tracks/101?starttime=20260613T140000Z&endtime=20260613T140010Z"
    assert read_url(url, device_zone=UTC, utc_read_as=BERLIN) == Target(live=False, window=WINDOW)


def test_live_and_unknown_paths():
    for path in ("/Streaming/Channels/101", "/live", "/live/", "/Streaming/Channels/101/trackID=1"):
        assert read_url("rtsp://h" + path, device_zone=UTC).live
    for path in ("", "/", "/other", "/Streaming/Channels", "/playback"):
        assert read_url("rtsp://h" + path, device_zone=UTC) is None
    assert read_url("rtsp://h/Streaming/tracks/101", device_zone=UTC) == Target(live=False)


@pytest.mark.parametrize(
    "query", ["starttime=noon", "starttime=20261313T120000Z", "starttime=20260613T120000Z&endtime=x"]
)
def test_times_that_cannot_be_read(query):
    with pytest.raises(ValueError, match=r".+"):
        read_url(f"rtsp://h/Streaming/tracks/101?{query}", device_zone=UTC)


def test_absolute_ranges():
    assert read_range("clock=20260613T120000Z-20260613T120010.000Z", UTC) == WINDOW
    assert read_range("clock=20260613T120000.000Z-", UTC) == Window(WINDOW.start_us)
    assert read_range("npt=0.000-", UTC) is None
    assert read_range(None, UTC) is None
    assert read_range(f"clock={WINDOW}", UTC) == WINDOW
    assert read_instant("20120915T123705Z", UTC) == 1_347_712_625_000_000


@given(
    st.sampled_from(["/Streaming/tracks/101?", "/cam/playback?channel=1&", "/playback?", "/live?", "/"]),
    st.lists(
        st.tuples(
            st.sampled_from(["starttime", "endtime", "start_unix", "end_unix"]),
            st.text(max_size=20) | st.from_regex(r"[0-9]{8}T[0-9]{6}Z", fullmatch=True) | st.floats().map(str),
        ),
        max_size=3,
    ),
    st.text(max_size=10),
)
def test_no_url_does_more_than_being_refused(path, query, tail):
    url = "rtsp://h" + path + "&".join(f"{name}={value}" for name, value in query) + tail
    try:
        target = read_url(url, device_zone=BERLIN, utc_read_as=BERLIN)
        read_range("clock=" + tail, BERLIN)
    except ValueError:
        return
    if target is not None and target.window is not None:
        str(target.window)
        storage().runs(target.window)


def test_a_window_begins_at_the_key_frame_before_it():
    assert runs(storage(), window(0, 10)) == [(0, 150)]
    assert runs(storage(), window(1.5, 10)) == [(0, 150)]
    assert runs(storage(), window(2, 2.01)) == [(30, 31)]


def test_nothing_after_now_before_retention_or_in_a_file_not_closed():
    card = storage()
    assert runs(card, window(3590, 3700)) == [(3590 * 15, 3600 * 15)]
    assert runs(card, Window((NOON + 3590) * 1_000_000)) == [(3590 * 15, 3600 * 15)]
    assert runs(card, window(3600, 3700)) == []
    card.closing_s = 4
    assert runs(card, window(3590, 3700)) == [(3590 * 15, 3596 * 15)]
    card.retention_s = 3600 - 5
    assert runs(card, window(0, 10)) == [(6 * 15, 150)], "the first key frame that is still there"


def test_holes_and_recorded_windows():
    card = storage()
    card.holes = [(at(3), at(4.5))]
    assert runs(card, window(0, 10)) == [(0, 45), (90, 150)]
    card.recorded = [(at(1), at(2.5)), (at(8), at(20))]
    assert runs(card, window(0, 10)) == [(30, 38), (120, 150)]
    card.recorded = []
    assert runs(card, window(0, 10)) == []


def test_the_cameras_clock_runs_ahead():
    card = storage()
    card.clock_offset_s = 2.0
    assert runs(card, window(2, 12)) == [(0, 150)]


def test_faults_move_the_ends():
    card = storage()
    assert runs(card, window(4, 10), Faults(early_start_s=3)) == [(0, 150)]
    assert runs(card, window(4, 10), Faults(late_start_s=2)) == [(90, 150)]
    assert runs(card, window(4, 10), Faults(short_window_s=3)) == [(60, 105)]
    assert runs(card, window(4, 10), Faults(overrun_s=3)) == [(60, 195)]
    assert runs(card, window(4, 10), Faults(hole=(1, 3))) == [(60, 75), (120, 150)]
    assert runs(card, window(4, 10), Faults(short_window_s=7)) == []


seconds = st.floats(-100, 3700).map(lambda value: round(value, 3))


@given(seconds, st.floats(0.001, 50), st.lists(st.tuples(seconds, st.floats(0.1, 30)), max_size=4))
def test_runs_are_in_order_start_at_key_frames_and_keep_out_of_holes(start, length, holes):
    card = storage()
    card.holes = [(at(hole), at(hole + size)) for hole, size in holes]
    asked = window(start, start + length)
    found = card.runs(asked)
    assert found == sorted(found, key=lambda run: run.first)
    for run in found:
        assert isinstance(run, Run)
        assert run.first % FILM.gop_frames == 0
        assert run.first < run.end
        assert FILM.frame_us(run.end - 1) < asked.end_us
        for number in (run.first, run.end - 1):
            instant = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=number * 1_000_000 / 15)
            assert not any(begin + timedelta(microseconds=1) <= instant < end for begin, end in card.holes)
    wanted = {
        n
        for n in range(FILM.first_frame_at(asked.start_us), FILM.first_frame_at(asked.end_us))
        if n * 1_000_000 < (NOON + 3600) * 15_000_000
    }
    if not holes:
        assert wanted <= {n for run in found for n in range(run.first, run.end)}


def test_faults_are_set_from_text_and_json_and_cleared():
    faults = Faults()
    faults.update(
        {
            "refuse": "true",
            "stall_after_s": "3",
            "hole": "1,2.5",
            "timestamp_jump": [12, 3600],
            "reports": "late",
            "end": "lone_bye",
            "hang": "describe",
            "scope": "both",
            "other_camera": "9",
            "local_time": "Europe/Berlin",
            "status_count": "2",
            "http_redirect": "http://h/x",
        }
    )
    assert (faults.refuse, faults.stall_after_s, faults.hole) == (True, 3.0, (1.0, 2.5))
    assert (faults.timestamp_jump, faults.reports, faults.end) == ((12.0, 3600.0), Reports.LATE, End.LONE_BYE)
    assert (faults.hang, faults.scope, faults.other_camera, faults.status_count) == (Hang.DESCRIBE, Scope.BOTH, 9, 2)
    same = Faults()
    same.update(faults.as_json())
    assert same == faults
    faults.clear()
    assert faults == Faults()
    assert faults.as_json() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"stal_after_s": 1},
        {"stall_after_s": "soon"},
        {"hole": "1"},
        {"end": "later"},
        {"refuse": "perhaps"},
        {"local_time": "Mars/Olympus"},
        {"status_count": None},
    ],
)
def test_faults_that_cannot_be_are_refused_and_change_nothing(wrong):
    faults = Faults(end=End.CLOSE)
    with pytest.raises(ValueError, match="fault"):
        faults.update({"end": "silent"} | wrong if "end" not in wrong else wrong)
    assert faults == Faults(end=End.CLOSE)


def test_texts_are_taken_for_words():
    faults = Faults(end="silent")
    faults.reports = "absent"
    assert (faults.end, faults.reports) == (End.SILENT, Reports.ABSENT)
    assert isinstance(faults.end, End)
    assert FilmSpec(codec="h265") == FilmSpec(codec=VideoCodec.H265)
    with pytest.raises(ValueError, match="no fault 'endd'"):
        faults.endd = "silent"


@pytest.mark.parametrize("times", [(-1, None), (0, 10**18), (10**18, None)])
def test_windows_stay_in_the_calendar(times):
    with pytest.raises(ValueError, match="outside 1970"):
        Window(*times)


def test_faults_hit_replay_unless_told_otherwise():
    assert [Faults().hits(live=live) for live in (False, True)] == [True, False]
    assert [Faults(scope=Scope.LIVE).hits(live=live) for live in (False, True)] == [False, True]
    assert [Faults(scope=Scope.BOTH).hits(live=live) for live in (False, True)] == [True, True]
