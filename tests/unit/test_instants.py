"""Times as the kernel writes them: 0, 3, 6 or 9 digits, always +00:00, compared as text."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.errors import ParseError
from anr_watch.instants import format_instant, parse_instant

moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))


@given(moments)
def test_what_is_written_reads_back(moment):
    text = format_instant(moment)
    assert parse_instant(text) == moment
    assert text.endswith("+00:00")


@given(moments, moments)
def test_equally_precise_texts_sort_as_the_instants_do(one, other):
    one, other = one.replace(microsecond=0), other.replace(microsecond=0)
    assert (format_instant(one) < format_instant(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-06-13T12:00:00+00:00", 0),
        ("2026-06-13T12:00:00Z", 0),
        ("2026-06-13 12:00:00.5Z", 500_000),
        ("2026-06-13T12:00:00.123+00:00", 123_000),
        ("2026-06-13T12:00:00.123456+00:00", 123_456),
        ("2026-06-13T12:00:00.123456789+00:00", 123_456),
        ("2026-06-13T14:00:00+02:00", 0),
        ("2026-06-13T06:30:00-05:30", 0),
    ],
)
def test_every_form_of_the_same_instant(text, micros):
    assert parse_instant(text) == datetime(2026, 6, 13, 12, 0, 0, micros, UTC)


@pytest.mark.parametrize(
    ("micros", "digits"), [(0, ""), (500_000, ".500"), (123_000, ".123"), (123_456, ".123456"), (1, ".000001")]
)
def test_as_many_digits_as_needed_in_threes(micros, digits):
    assert format_instant(datetime(2026, 6, 13, 12, 0, 0, micros, UTC)) == f"2026-06-13T12:00:00{digits}+00:00"


def test_another_zone_is_written_as_utc():
    there = datetime(2026, 6, 13, 14, tzinfo=timezone(timedelta(hours=2)))
    assert format_instant(there) == "2026-06-13T12:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-06-13",
        "2026-06-13T12:00:00",
        "2026-13-13T12:00:00Z",
        "2026-06-13T25:00:00Z",
        "2026-06-13T12:00:00.1234567890Z",
        "٢٠٢٦-06-13T12:00:00Z",
        "0001-01-01T00:00:00+23:59",
        None,
        17,
        b"2026-06-13T12:00:00Z",
    ],
)
def test_anything_else_is_refused_with_the_right_form_named(text):
    with pytest.raises(ParseError, match="not a time"):
        parse_instant(text)


def test_a_leap_second_is_the_next_minute():
    assert parse_instant("2016-12-31T23:59:60Z") == datetime(2017, 1, 1, tzinfo=UTC)


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(ParseError):
        parse_instant(text)
