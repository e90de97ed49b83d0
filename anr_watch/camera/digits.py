"""A 5 x 7 bitmap font for the time in a picture; it makes lines of luma and knows no picture."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

CELL_WIDTH: Final = 6
CELL_HEIGHT: Final = 9
_INK: Final = 235
_PAPER: Final = 16

# Seven lines of five pixels, most significant bit left.
_GLYPHS: Final[dict[str, tuple[int, ...]]] = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "-": (0, 0, 0, 31, 0, 0, 0),
    ":": (0, 4, 4, 0, 4, 4, 0),
    ".": (0, 0, 0, 0, 0, 4, 4),
    "#": (10, 10, 31, 10, 31, 10, 10),
    "Z": (31, 1, 2, 4, 8, 16, 31),
    " ": (0, 0, 0, 0, 0, 0, 0),
}


@lru_cache(maxsize=256)
def _cell(character: str, scale: int) -> tuple[bytes, ...]:
    glyph = (0, *_GLYPHS[character], 0)
    pixels = (bytes([_PAPER]) * scale, bytes([_INK]) * scale)
    return tuple(b"".join(pixels[row >> (4 - x) & 1] for x in range(5)) + pixels[0] for row in glyph)


def text_lines(text: str, scale: int) -> list[bytes]:
    """Return the lines of luma that show `text` (digits and `-:.#Z `), unscaled in height.

    Raises:
        KeyError: a character the font does not have.
    """
    cells = [_cell(character, scale) for character in text]
    return [b"".join(cell[row] for cell in cells) for row in range(CELL_HEIGHT)]
