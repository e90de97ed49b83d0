"""Lanes, bars, axes and pictures: no time is told twice, nothing missing is hidden, marks are round in any zone."""

import itertools
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from anr_watch.drawing.axis import marks
from anr_watch.drawing.bar import bar, cells
from anr_watch.drawing.html import html
from anr_watch.drawing.lanes import LOOKS, NOTHING, Hole, Kind, Lane, Piece, lane
from anr_watch.drawing.scene import LANE_STEP, scene
from anr_watch.drawing.svg import svg
from anr_watch.model import Window, clip, merge, total_s

T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)
DAY = Window(T0, T0 + timedelta(hours=24))
BERLIN = ZoneInfo("Europe/Berlin")

windows = st.builds(
    lambda start, length: Window(T0 + timedelta(seconds=start), T0 + timedelta(seconds=start + length)),
    st.integers(-7200, 90_000),
    st.integers(1, 20_000),
)
lists = st.lists(windows, max_size=6)


@given(lists, lists, lists, st.booleans())
def test_pieces_do_not_overlap_and_add_up(recorded, filled, holes, lost):
    found = lane("gate", DAY, recorded, filled, [Hole(window, "why", lost) for window in holes])

    pieces = [piece.window for piece in found.pieces]
    assert pieces == sorted(pieces)
    assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))
    assert merge(pieces) == clip(DAY, [*recorded, *filled, *holes])
    assert found.seconds(Kind.RECORDED) == total_s(clip(DAY, recorded)), "the recorder's files win"


@given(lists, lists, st.integers(1, 100))
def test_no_hole_hides_in_a_cell(recorded, holes, count):
    found = lane("gate", DAY, recorded, [], [Hole(window, "", False) for window in holes])

    kinds = list(cells(found, DAY, count))

    assert len(kinds) == len(bar(found, DAY, count)) == count
    long_enough = [piece for piece in found.pieces if piece.kind is Kind.MISSING and piece.window.seconds > count * 2]
    assert (Kind.MISSING in kinds) >= bool(long_enough)
    if not found.pieces:
        assert bar(found, DAY, count) == NOTHING * count


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    st.integers(10, 90 * 86400),
    st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Kathmandu"), ZoneInfo("Australia/Lord_Howe")]),
)
def test_marks_rise_and_are_not_crowded(start, seconds, zone):
    window = Window(start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + timedelta(seconds=seconds))

    found = list(marks(window, zone, 12))

    assert len(found) <= 14
    assert all(a.at < b.at for a, b in itertools.pairwise(found))
    assert all(window.start <= mark.at < window.end for mark in found)
    assert all(mark.at.astimezone(zone).hour == 0 for mark in found if mark.day)


def test_midnight_stays_midnight_on_the_night_of_the_change():
    for day in (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)):
        texts = [mark.text for mark in marks(Window(day, day + timedelta(hours=22)), BERLIN, 12)]
        assert f"{day + timedelta(days=1):%d %b}" in texts
        assert len(texts) == len(set(texts))


def test_colours_and_letters_are_told_apart():
    assert len({look.colour for look in LOOKS.values()}) == len({look.glyph for look in LOOKS.values()}) == len(Kind)


def test_a_picture_holds_every_piece_and_no_foreign_markup():
    hostile = "<b>&\"'\x07"
    pieces = (
        Piece(Window(T0, T0 + timedelta(hours=5)), Kind.RECORDED),
        Piece(Window(T0 + timedelta(hours=5), T0 + timedelta(hours=5, seconds=1)), Kind.MISSING, hostile),
    )
    lanes = [Lane(hostile, pieces), Lane("x" * 80, ())]
    picture = scene(lanes, DAY, UTC, f"title {hostile}")

    root = ET.fromstring(svg(picture))

    boxes = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") == "missing"]
    assert len(boxes) == 2, "the piece and the legend"
    assert float(boxes[0].get("width")) >= 2, "a second of a day is seen"
    assert picture.height > 2 * LANE_STEP
    page = html(picture, lanes, UTC)
    assert "<b>" not in page
    assert "\x07" not in page
