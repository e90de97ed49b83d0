"""Footage names and instants are each other's inverse; patterns that cannot be that are refused in words."""

import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anr_watch.footage.names import NamePattern

PATTERNS = [
    "%Y%m%d_%H%M%S",
    "%Y-%m-%d/%H/%M-%S",
    "%Y%m%d/%H%M%S",
    "%F %T",
    "%s",
    "cam %% %Y.%j-%H%M%S",
    "%Y/%j/%H%M%S",
    "%H%M%S_%d-%m-%Y",
    "%Y%m%d/%Y%m%d_%H%M%S",
    "%Y/%m/%d/%H/%M/%S",
]
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(
    lambda t: t.replace(tzinfo=UTC, microsecond=0)
)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=40)
@given(start=INSTANTS, micros=st.integers(0, 999_999))
def test_a_name_gives_back_the_second_it_was_made_from(pattern, start, micros):
    names = NamePattern(pattern)
    assert names.parse(names.format(start + timedelta(microseconds=micros))) == start


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=40)
@given(text=st.text(alphabet=string.digits + "_-/. %cam" + "٣٤", max_size=30))
def test_what_parses_is_exactly_what_format_writes(pattern, text):
    names = NamePattern(pattern)
    for candidate in (text, text + ".mp4"):
        start = names.parse(candidate)
        assert start is None or names.format(start) == candidate


@pytest.mark.parametrize(
    "name",
    [
        "20260613_120000.mp4.part",
        "20260613_120000.MP4",
        "20261313_120000.mp4",
        "20260613_126000.mp4",
        "20260613_120060.mp4",
        "20260230_120000.mp4",
        "2026061\uff13_120000.mp4",
        "20260613_120000",
        " 20260613_120000.mp4",
        "20260613_120000.mp4\n",
        "x/20260613_120000.mp4",
        "",
    ],
)
def test_junk_is_no_footage_name(name):
    names = NamePattern("%Y%m%d_%H%M%S")
    assert names.parse(name) is None
    if "/" not in name:  # no file system has such a name
        assert list(names.starts("", [name])) == []


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty"),
        ("%Y%m%d", "%H, %M, %S missing"),
        ("%Y%m%d_%H%M", "%S missing"),
        ("%y%m%d_%H%M%S", "%y is not known"),
        ("%s_%Y", "only field"),
        ("%Y%j%m%d_%H%M%S", "not both"),
        ("/%Y%m%d_%H%M%S", "relative path"),
        ("../%Y%m%d_%H%M%S", "relative path"),
        (".anr-watch/%Y%m%d_%H%M%S", "dot"),
        ("%Y//%m%d_%H%M%S", "empty parts"),
        ("%H/%Y%m%d_%M%S", "coarse to fine"),
        ("%Y%m%d_%H%M%S%", "lone %"),
        ("%Y%m%d_%H%M%S\n", "control"),
    ],
)
def test_a_pattern_that_tells_no_instant_is_refused_in_words(pattern, says):
    with pytest.raises(ValueError, match=says):
        NamePattern(pattern)


def test_the_suffix_may_stand_in_the_pattern():
    assert NamePattern("%Y%m%d_%H%M%S.mp4").format(datetime(2026, 6, 13, tzinfo=UTC)) == "20260613_000000.mp4"


def test_names_are_utc_whatever_zone_the_time_carries():
    start = datetime(2026, 6, 13, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert NamePattern("%Y%m%d_%H%M%S").format(start) == "20260612_230000.mp4"
    with pytest.raises(ValueError, match="naive"):
        NamePattern("%s").format(datetime(2026, 6, 13))


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_whole_folder_is_read_as_its_names_one_by_one(pattern, data):
    names = NamePattern(pattern)
    around = data.draw(INSTANTS)
    folder = names.format(around).rpartition("/")[0]
    junk = st.text(alphabet=string.digits + "_-.mp4", max_size=24)
    near = st.integers(-90_000, 90_000).map(lambda s: names.format(around + timedelta(seconds=s)))
    if folder:
        near = near.map(lambda name: name.rpartition("/")[2])
    listed = data.draw(st.lists(junk | near, max_size=8, unique=True))
    prefix = f"{folder}/" if folder else ""
    expected = sorted(int(t.timestamp()) for n in listed if (t := names.parse(prefix + n)) is not None)
    assert list(names.starts(folder, listed)) == expected


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if "/" in p])
@settings(max_examples=40)
@given(one=INSTANTS, other=INSTANTS)
def test_folder_keys_sort_as_time_does(pattern, one, other):
    names = NamePattern(pattern)
    one, other = sorted((one, other))
    for level in range(names.depth):
        keys = []
        for instant in (one, other):
            folder = "/".join(names.format(instant).split("/")[: level + 1])
            assert names.folder_key(folder) == names.key_at(instant, level)
            keys.append(names.folder_key(folder))
        assert keys[0] <= keys[1]
