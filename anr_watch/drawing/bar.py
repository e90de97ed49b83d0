"""A lane as a line of a terminal: one letter per stretch of time. Pure; knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from anr_watch.drawing.lanes import LOOKS, NOTHING, Kind, Lane
from anr_watch.model import Window, clip, near, total_s

# A stretch counts as recorded when half of it is; of a hole any piece longer than this shows.
_SHARE = 0.5
_NOTICED_S = 1.0


def cells(lane: Lane, window: Window, count: int) -> Iterator[Kind | None]:
    """Yield the kind of each of `count` equal stretches of `window`; None where nothing is recorded or missed.

    What is missing wins over what is lost, that over footage of ours, and that over the recorder's: a hole of some
    seconds must not vanish in an hour of footage.
    """
    step = timedelta(seconds=window.seconds / count)
    kinds = {kind: tuple(piece.window for piece in lane.pieces if piece.kind is kind) for kind in Kind}
    for index in range(count):
        cell = Window(window.start + index * step, window.start + (index + 1) * step)
        held = {kind: total_s(clip(cell, near(cell, windows))) for kind, windows in kinds.items()}
        yield next(
            (
                kind
                for kind in reversed(Kind)
                if held[kind] > (_SHARE * cell.seconds if kind is Kind.RECORDED else _NOTICED_S)
            ),
            None,
        )


def bar(lane: Lane, window: Window, count: int) -> str:
    """Return the lane as `count` letters, without colours."""
    return "".join(LOOKS[kind].glyph if kind else NOTHING for kind in cells(lane, window, count))


def legend() -> str:
    """Return what the letters mean, in one line."""
    return "  ".join([*(f"{LOOKS[kind].glyph} {kind.value}" for kind in Kind), f"{NOTHING} nothing recorded"])
