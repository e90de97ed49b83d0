"""A scene as a PNG picture, for messengers and mails that show no SVG; needs Pillow (the extra `png`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from anr_watch.drawing.lanes import LOOKS, Kind
from anr_watch.drawing.scene import LANE_HEIGHT, Scene
from anr_watch.errors import UsageError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SCALE = 2  # pixels per unit: sharp on the screens of telephones
_INK, _FAINT, _GROUND, _LANE = "#1a1a1a", "#5a5a5a", "#ffffff", "#ececec"


def png(scene: Scene) -> bytes:
    """Return the picture, twice as many pixels as the scene's units.

    Raises:
        UsageError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - 10 MB that only this command needs
    except ImportError:
        raise UsageError(
            "a PNG needs Pillow: pip install '.[png]' in the checkout (SVG and HTML need nothing)"
        ) from None
    image = Image.new("RGB", (scene.width * _SCALE, scene.height * _SCALE), _GROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12 * _SCALE)
    for line in scene.lines:
        points = [(line.x * _SCALE, line.top * _SCALE), (line.x * _SCALE, line.bottom * _SCALE)]
        draw.line(points, fill="#9a9a9a" if line.day else "#dddddd", width=_SCALE)
    for box in scene.boxes:
        _box(draw, box.x, box.y, box.width, box.kind)
    for key in scene.keys:
        _box(draw, key.x, key.y - LANE_HEIGHT + 4, 20, key.kind)
        draw.text(((key.x + 26) * _SCALE, key.y * _SCALE), key.text, fill=_INK, font=font, anchor="ls")
    for label in scene.labels:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[label.anchor]
        place = (label.x * _SCALE, label.y * _SCALE)
        draw.text(place, label.text, fill=_FAINT if label.faint else _INK, font=font, anchor=anchor)
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def _box(draw: ImageDraw, x: float, y: float, width: float, kind: Kind | None) -> None:
    inset = 3.0 if kind in (Kind.RECORDED, Kind.FILLED) else 0.0
    left, top = x * _SCALE, (y + inset) * _SCALE
    right, bottom = max(left, (x + width) * _SCALE - 1), (y + LANE_HEIGHT - inset) * _SCALE - 1
    draw.rectangle((left, top, right, bottom), fill=LOOKS[kind].colour if kind else _LANE)
    if kind is Kind.LOST:  # hatched, as in the SVG: told apart without its colour
        at = left - LANE_HEIGHT * _SCALE
        while at < right:
            start, end = max(at, left), min(at + (bottom - top), right)
            if start < end:
                draw.line((start, bottom - (start - at), end, bottom - (end - at)), fill="#ffffff", width=_SCALE)
            at += 6 * _SCALE
