"""What people give: moments, windows, camera ids."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.commands.given import known_camera, parse_moment, parse_window
from anr_watch.errors import UsageError
from anr_watch.model import Window

NOW = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [("now", 0), ("-90s", 90), ("-10m", 600), ("-2h", 7200), ("-1.5d", 129600), (" -90s", 90), ("-0.25s", 0.25)],
)
def test_ages_count_back_from_now(text, ago_s):
    assert parse_moment(text, NOW) == NOW - timedelta(seconds=ago_s)


def test_instants_of_any_offset():
    assert parse_moment("2026-06-13T13:59:30+02:00", NOW) == NOW - timedelta(seconds=30)


@pytest.mark.parametrize(
    "text", ["", "-", "-90", "90s", "-90x", "yesterday", "2026-06-13", "2026-06-13T12:00:00", "-999999999d", "NOW"]
)
def test_nonsense_is_refused_with_what_would_be_right(text):
    with pytest.raises(UsageError, match=r"not a time: .* \(right: 2026-06-13T12:00:00Z, now, or an age"):
        parse_moment(text, NOW)


@given(st.text(max_size=30))
def test_no_text_does_more_than_be_refused(text):
    try:
        said = parse_moment(text, NOW).isoformat()
    except UsageError as error:
        said = str(error)
    assert said.isprintable()


def test_a_window_ends_now_at_the_latest():
    assert parse_window("-10m", "2030-01-01T00:00:00Z", NOW) == Window(NOW - timedelta(minutes=10), NOW)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("-10m", "-20m", "before it starts"),
        ("-10m", "-10m", "before it starts"),
        ("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z", "in the future"),
        ("now", "2030-01-02T00:00:00Z", "in the future"),
        ("1969-01-01T00:00:00Z", "now", "before 1970"),
        ("soon", "now", "not a time: 'soon'"),
        ("-10m", "later", "not a time: 'later'"),
    ],
)
def test_windows_that_make_no_sense(start, end, said):
    with pytest.raises(UsageError, match=said):
        parse_window(start, end, NOW)


@pytest.mark.parametrize(
    ("asked", "known", "said"),
    [
        ("cam_yrad", ["cam_yard", "cam_door"], "no camera 'cam_yrad': did you mean cam_yard?"),
        ("zzz", ["cam_yard", "cam_door"], "no camera 'zzz': there are cam_door, cam_yard"),
        ("zzz", [f"c{n}" for n in range(9)], "c7, ..."),
        ("zzz", [], "the database holds no cameras"),
        ("../../etc", ["cam"], "no camera '../../etc'"),
        ("a\x1b[2J", ["a\x1b[2Jb"], "did you mean a\\x1b[2Jb?"),
    ],
)
def test_unknown_cameras(asked, known, said):
    with pytest.raises(UsageError) as error:
        known_camera(asked, known)
    assert said in str(error.value)
    assert str(error.value).isprintable()


def test_a_known_camera():
    assert known_camera("cam", ["cam", "cam2"]) == "cam"
