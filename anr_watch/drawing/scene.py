"""The lanes laid out as rectangles and labels in pixels, the same for every kind of picture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from anr_watch.drawing.axis import marks
from anr_watch.drawing.lanes import Kind, Lane, Piece
from anr_watch.model import Window, total_s

WIDTH = 1240
LANE_HEIGHT, LANE_STEP = 16, 24
LETTER = 7.2  # width of a letter of the labels, in pixels at 12 px
_TOP, _MARGIN, _LEGEND = 56, 16, 40
_NARROWEST = 2.0  # what is missing stays visible however short it is
_TOLD_APART = 0.5  # pixels between two pieces of a kind
_LONGEST_ID = 32


@dataclass(frozen=True, slots=True)
class Box:
    """One piece of a lane; `title` is what a pointer over it is told."""

    x: float
    y: float
    width: float
    kind: Kind | None  # None: the lane's own ground
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line of the time axis."""

    x: float
    top: float
    bottom: float
    day: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A text; `anchor` says which point of it stands at x: start, middle or end. `faint` for what explains."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the legend."""

    x: float
    y: float
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture's size and everything in it, in the order in which it is drawn."""

    width: int
    height: int
    title: str
    lines: tuple[Line, ...]
    boxes: tuple[Box, ...]
    labels: tuple[Label, ...]
    keys: tuple[Key, ...]


def scene(lanes: Sequence[Lane], window: Window, zone: tzinfo, title: str) -> Scene:
    """Return the picture of some cameras over one window; times are shown in `zone`."""
    title = plain(title)
    left = _MARGIN + LETTER * min(_LONGEST_ID, max((len(lane.camera_id) for lane in lanes), default=6)) + 12
    span = WIDTH - _MARGIN - left
    bottom = _TOP + LANE_STEP * len(lanes)

    def at(moment: datetime) -> float:
        return left + span * ((moment - window.start).total_seconds() / window.seconds)

    lines, labels = [], [Label(_MARGIN, 24, title)]
    free_from = 0.0
    for mark in marks(window, zone, int(span / 80)):
        x = at(mark.at)
        lines.append(Line(x, _TOP - 6, bottom, mark.day))
        half = len(mark.text) * LETTER / 2
        if x - half >= free_from and x + half <= WIDTH:
            labels.append(Label(x, _TOP - 12, mark.text, "middle", faint=True))
            free_from = x + half + LETTER
    boxes: list[Box] = []
    for row, lane in enumerate(lanes):
        y = _TOP + row * LANE_STEP
        name = plain(lane.camera_id)
        short = name if len(name) <= _LONGEST_ID else name[: _LONGEST_ID - 1] + "…"
        labels.append(Label(left - 12, y + LANE_HEIGHT - 4, short, "end"))
        boxes.append(Box(left, y, span, None, f"{name}: nothing recorded"))
        boxes += _boxes(lane, zone, y, at)
    keys, x = [], left
    for kind in Kind:
        keys.append(Key(x, bottom + _LEGEND / 2, kind, kind.value))
        x += 26 + LETTER * len(kind.value) + 20
    return Scene(
        WIDTH, int(bottom + _LEGEND + _MARGIN / 2), title, tuple(lines), tuple(boxes), tuple(labels), tuple(keys)
    )


def _boxes(lane: Lane, zone: tzinfo, y: float, at: Callable[[datetime], float]) -> Iterator[Box]:
    for kind in Kind:  # what is missing on top
        pieces = [piece for piece in lane.pieces if piece.kind is kind]
        narrowest = 0.5 if kind in (Kind.RECORDED, Kind.FILLED) else _NARROWEST
        for bunch in _bunches(pieces, at):
            whole, why = Window(bunch[0].window.start, bunch[-1].window.end), bunch[0].why
            if len(bunch) > 1:
                held = f"{len(bunch)} pieces, together {_length(total_s(piece.window for piece in bunch))}"
                why = f"{held}; {why}" if why else held
            x, end = at(whole.start), at(whole.end)
            yield Box(x, y, max(end - x, narrowest), kind, told(lane.camera_id, whole, kind, why, zone))


def _bunches(pieces: Sequence[Piece], at: Callable[[datetime], float]) -> Iterator[list[Piece]]:
    """Yield what is drawn as one box: pieces of one kind and reason with less than a half pixel between them.

    A camera that records on motion has thousands of files a day, and a month of it is 1 240 pixels.
    """
    bunch: list[Piece] = []
    for piece in pieces:
        if bunch and (piece.why != bunch[0].why or at(piece.window.start) - at(bunch[-1].window.end) >= _TOLD_APART):
            yield bunch
            bunch = []
        bunch.append(piece)
    if bunch:
        yield bunch


def told(camera_id: str, window: Window, kind: Kind, why: str, zone: tzinfo) -> str:
    """Return what a piece says of itself: camera, when, how long, what and why."""
    start, end = window.start.astimezone(zone), window.end.astimezone(zone)
    until = f"{end:%H:%M:%S}" if start.date() == end.date() else f"{end:%Y-%m-%d %H:%M:%S}"
    reason = f" ({why})" if why else ""
    return plain(
        f"{camera_id}  {start:%Y-%m-%d %H:%M:%S} to {until}, {_length(window.seconds)}: {kind.value}{reason}"
    )


def plain(text: str) -> str:
    """Return text without control characters, which no document may hold: ids and reasons come from outside."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _length(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
