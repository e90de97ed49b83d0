"""What the demo says: the words for each event of the program, the bars, and what the numbers mean."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from anr_watch.demo.proof import Proof
from anr_watch.demo.show import Bar, JsonShow, TextShow, verdict
from anr_watch.demo.telling import CameraResult, Happening, Summary, words_for
from anr_watch.demo.timeline import Cell, Footage, bar, runs
from anr_watch.model import Attempt, Gap, Window
from anr_watch.mqtt.events import Announcer
from anr_watch.states import Reason

T0 = datetime(2026, 6, 13, 12, 0, tzinfo=UTC)


def window(start_s, end_s):
    return Window(T0 + timedelta(seconds=start_s), T0 + timedelta(seconds=end_s))


GAP = Gap("gap_1", "cam_1", window(0, 20), "", "")
ATTEMPT = Attempt(
    "a1", "gap_1", "cam_1", 1, window(0, 20), T0, wanted_s=20.0, got_s=20.0, files=4, speed=4.0, reason=Reason.FILLED
)
PROOF = Proof(1, 15, 1, 900, 900, 900, (), 0, 0, 0, 0, 0, (), 12, 0.0, 0.0)
RESULT = CameraResult("cam_1", PROOF, 300, 20.0, 12.34, ("exact", "none", "exact"), -4300.0)
SUMMARY = Summary((RESULT,), 7, settled=True, took_s=50.0, folder=None)


def says():
    announcer = Announcer("demo")
    at = T0 + timedelta(seconds=30)
    yield announcer.gap_detected(GAP, at=at, origin="edge"), "gap found by edge: 20.0 s missing"
    yield announcer.fill_started(GAP, ATTEMPT, at=at), "the camera is asked for 20.0 s"
    yield (
        announcer.fill_progress(GAP, replace(ATTEMPT, files=1, got_s=5.0), at=at, step=1),
        "fill: 5.0 s in 1 file so far",
    )
    yield announcer.fill_completed(GAP, ATTEMPT, at=at, filled=[GAP.window]), "20.0 s in 4 files, 4.0 times real time"
    yield (
        announcer.fill_partial(
            GAP, replace(ATTEMPT, got_s=5.0, reason=Reason.CUT_SHORT), at=at, filled=[], missing=[GAP.window]
        ),
        "5.0 of 20.0 s (cut_short)",
    )
    yield (
        announcer.fill_failed(GAP, replace(ATTEMPT, got_s=0.0, reason=Reason.BUSY), at=at, missing=[GAP.window]),
        "nothing came (busy)",
    )
    yield announcer.camera_online("cam_1", at=at, source="mqtt:demo"), "believed online by mqtt:demo"
    yield (
        announcer.camera_parked("cam_1", at=at, reason=Reason.UNAUTHORIZED, detail="401"),
        "parked: unauthorized 401",
    )
    yield announcer.camera_unparked("cam_1", at=at), "camera.unparked"


@pytest.mark.parametrize(("messages", "words"), list(says()))
def test_each_event_of_the_program_has_words(messages, words):
    [message] = messages
    assert words in words_for(json.loads(message.payload))


def test_a_bar_shows_what_most_of_a_cell_is_and_recorded_hides_filled():
    footage = Footage((window(0, 3), window(8, 10)), (window(2, 6.4),))
    cells = bar(footage, window(0, 10), 20)
    assert runs(cells) == [(Cell.RECORDED, 3), (Cell.FILLED, 3), (Cell.MISSING, 2), (Cell.RECORDED, 2)]


@pytest.mark.parametrize("width", [1, 7, 10, 11])
def test_a_bar_fits_any_width(width):
    cells = bar(Footage((window(0, 60),)), window(0, 60), width)
    assert 0 < len(cells) <= width
    assert set(cells) == {Cell.RECORDED}


def test_the_last_json_line_has_the_promised_numbers():
    line = SUMMARY.as_json()
    promised = {
        "ok": True,
        "frames_expected": 900,
        "frames_missing": 0,
        "frames_double": 0,
        "joins": ["exact"],
        "outage_s": 20.0,
        "recovered_s": 20.0,
        "online_to_connect_ms": 12.3,
        "events": 7,
    }
    assert promised.items() <= line.items()
    assert "folder" not in line
    assert replace(SUMMARY, folder="/x").as_json()["folder"] == "/x"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"present": 899, "missing": ((5, 5),)}, "1 frames are missing"),
        ({"double": 1}, "1 frames are double"),
        ({"out_of_order": 2}, "2 out of order"),
        ({"broken": ("a.mp4",)}, "1 broken files"),
        ({"unreadable": 3}, "3 unreadable pictures"),
    ],
)
def test_what_is_wrong_is_said_and_fails(change, text):
    summary = replace(SUMMARY, cameras=(replace(RESULT, proof=replace(PROOF, **change)),))
    assert not summary.ok
    assert not summary.as_json()["ok"]
    assert text in "\n".join(verdict(summary))


def test_a_gap_that_stays_open_fails_even_if_all_frames_are_there():
    summary = replace(SUMMARY, settled=False)
    assert not summary.ok
    assert verdict(summary)[0] == "Not every gap was filled in time."


def test_good_news_are_said():
    assert SUMMARY.ok
    assert verdict(SUMMARY)[0] == "Nothing is missing, nothing is double, everything is in order."


@pytest.mark.parametrize(
    ("joins", "word"), [((), "none"), (("none",), "none"), (("exact", "none"), "exact"), (("exact", "time"), "time")]
)
def test_the_joins_in_one_word(joins, word):
    assert replace(RESULT, joins=joins).joined == word


def tell(show):
    show.say("Hello")
    show.tell(Happening("cut", "network cut", 1.25, "cam_1", facts={"x": 1}))
    show.tell(Happening("return", "network back", 2.25, "cam_1", 3.04))
    show.tell(Happening("row", "said already", 2.3, "cam_1", 60.0, echo=True))
    show.bars([Bar("cam_1", [Cell.RECORDED] * 3 + [Cell.MISSING] * 2 + [Cell.FILLED], "recording")], 2.5)
    show.keep_bars()
    show.summary(SUMMARY)
    show.close()


def test_without_a_terminal_the_lines_are_plain():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with redirect_stdout(out):
        tell(TextShow())
        out.flush()
    text = out.buffer.getvalue().decode()
    assert "\x1b" not in text
    assert "  2.2 s      +3 ms  cam_1  network back" in text
    assert "cam_1     ###..+\n" in text
    assert "### recorded" in text
    assert "12.3 ms" in text
    assert "said already" not in text


def test_json_lines_are_one_object_each(capsys):
    tell(JsonShow())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "cut", "t_s": 1.25, "camera": "cam_1", "x": 1}
    assert lines[1]["ms_since_return"] == 3.0
    assert lines[-1]["ok"]
    assert [line.get("event") for line in lines] == ["cut", "return", "row", None]
