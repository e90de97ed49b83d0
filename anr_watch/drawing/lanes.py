"""One camera's time as pieces of one kind each: recorded, filled, missing, lost. Pure; draws nothing.

The kinds and their colours are the same on the terminal and in every picture. The colours are four of Okabe and Ito's
palette, which people with any of the common colour deficiencies can tell apart; no kind is shown by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from anr_watch.model import Coverage, Window, clip, merge, near, subtract, total_s


class Kind(Enum):
    """What a piece of time is; later ones hide earlier ones where one cell has to stand for several."""

    RECORDED = "recorded"
    FILLED = "filled by anr-watch"
    LOST = "lost: given up"
    MISSING = "still missing"


@dataclass(frozen=True, slots=True)
class Look:
    """How a kind looks: the letter of a terminal's bar, and its colour (Okabe and Ito, as #rrggbb)."""

    glyph: str
    colour: str


LOOKS = {
    Kind.RECORDED: Look("█", "#0072B2"),
    Kind.FILLED: Look("▓", "#56B4E9"),
    Kind.LOST: Look("x", "#D55E00"),
    Kind.MISSING: Look("!", "#E69F00"),
}
NOTHING = "·"  # no footage, and nobody misses it


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one camera's time. `why` says in words why it is missing; empty for footage."""

    window: Window
    kind: Kind
    why: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One camera: its id and its pieces by start, which do not overlap."""

    camera_id: str
    # asyncio.run makes the text of a result, which nobody sees: 0.8 s of a month.
    pieces: tuple[Piece, ...] = field(repr=False)

    def seconds(self, kind: Kind) -> float:
        """Return how much time is of a kind."""
        return total_s(piece.window for piece in self.pieces if piece.kind is kind)


@dataclass(frozen=True, slots=True)
class Hole:
    """A gap row that is not filled: when, why, and whether it is given up."""

    window: Window
    why: str
    lost: bool


def lane(
    camera_id: str, window: Window, recorded: Iterable[Window], filled: Iterable[Window], holes: Sequence[Hole]
) -> Lane:
    """Return a camera's lane over `window`; footage wins over a hole, the recorder's files over ours."""
    recorder: Coverage = clip(window, recorded)
    ours = _without(clip(window, filled), recorder)
    footage = merge([*recorder, *ours])
    pieces = [Piece(part, Kind.RECORDED) for part in recorder] + [Piece(part, Kind.FILLED) for part in ours]
    told = window.start  # of the time from a hole's start on, earlier holes have all up to here
    for hole in sorted(holes, key=lambda hole: hole.window):
        start, end = max(hole.window.start, told), min(hole.window.end, window.end)
        if start >= end:
            continue
        told = end
        parts = subtract(rest := Window(start, end), near(rest, footage))
        pieces += [Piece(part, Kind.LOST if hole.lost else Kind.MISSING, hole.why) for part in parts]
    return Lane(camera_id, tuple(sorted(pieces, key=lambda piece: piece.window)))


def _without(windows: Coverage, others: Coverage) -> Coverage:
    return tuple(part for window in windows for part in subtract(window, near(window, others)))
