"""How values look, and that nothing from outside can play with the terminal or show a password."""

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.commands import screen
from anr_watch.commands.advice import ADVICE, in_words
from anr_watch.states import POLICY, Follow, Reason

AT = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (356400, "4 d 3 h"),
    ],
)
def test_lengths(seconds, text):
    assert screen.length(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, "-"),
        (AT, "2026-06-13T12:00:00Z"),
        (AT.astimezone(timezone(timedelta(hours=2))), "2026-06-13T12:00:00Z"),
        (AT.replace(microsecond=123456), "2026-06-13T12:00:00.123Z"),
    ],
)
def test_instants_are_utc_with_z(at, text):
    assert screen.instant(at) == text


def test_when_something_is_due():
    assert screen.until(None, AT) == "-"
    assert screen.until(AT, AT) == "now"
    assert screen.until(AT + timedelta(seconds=12), AT) == "in 12 s"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (12_345_678, "12.3 MB"), (5e14, "500.0 TB")]
)
def test_sizes(count, text):
    assert screen.size(count) == text


def test_a_table_is_as_wide_as_it_must_be():
    assert screen.table(("A", "LONG"), [("xyz", "1"), ("x", "22")]) == "A    LONG\nxyz  1\nx    22"


@given(st.text())
def test_nothing_from_outside_leaves_its_line(text):
    shown = screen.clean(text)
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 300


def test_no_credentials_are_shown():
    text = screen.clean("rtsp://admin:pa/ss@cam/x failed; http://cam/clip?user=a&password=hunter2")
    assert "pa/ss" not in text
    assert "hunter2" not in text


def test_json_lines_hold_utc_instants(capsys):
    screen.emit({"at": AT, "reason": Reason.BUSY, "n": 1.5})
    assert orjson.loads(capsys.readouterr().out) == {"at": "2026-06-13T12:00:00Z", "reason": "busy", "n": 1.5}


def test_json_survives_text_that_is_no_unicode(capsys):
    screen.emit({"name": "a\udcff", "list": ["\udcff"], "inner": {"x": "\udcff"}})
    assert orjson.loads(capsys.readouterr().out)["name"] == "a\\udcff"


def test_colours_only_for_a_terminal_that_wants_them(monkeypatch):
    assert screen.coloured("ok") == "ok"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert screen.coloured("ok") == "\x1b[32mok\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen.coloured("ok") == "ok"


def test_every_reason_has_words_and_what_a_person_can_act_on_has_advice():
    assert set(ADVICE) == set(Reason)
    for reason, advice in ADVICE.items():
        assert advice.words.isprintable()
        assert bool(advice.do) == (POLICY[reason].follow is not Follow.NOTHING), reason


def test_a_reason_of_a_later_version_speaks_for_itself():
    assert in_words("gremlins").words == "gremlins"
    assert in_words("busy") is ADVICE[Reason.BUSY]


def test_json_lines_turn_and_colour_nothing_and_lose_nothing(capsys):
    value = {"name": "a\x9b2J\u202eb\u2028\x1b[31m\n\x7f"}
    screen.emit(value)
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert not set("\x1b\x7f") & set(line)
    assert orjson.loads(line) == value
