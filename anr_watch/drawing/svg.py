"""A scene as an SVG document, readable on a light and on a dark ground. Pure text; draws what the scene says."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from anr_watch.drawing.lanes import LOOKS, Kind
from anr_watch.drawing.scene import LANE_HEIGHT, Scene

_STYLE = """
  :root { color-scheme: light dark }
  svg { --ink: #1a1a1a; --faint: #5a5a5a; --ground: #ffffff; --lane: #ececec }
  @media (prefers-color-scheme: dark) { svg { --ink: #e8e8e8; --faint: #a8a8a8; --ground: #17191c; --lane: #2b2f33 } }
  text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--ink) }
  .faint { fill: var(--faint) }
  .line { stroke: var(--faint); stroke-opacity: .25 }
  .day { stroke-opacity: .7 }
  .lane { fill: var(--lane) }
"""


def svg(scene: Scene, *, alone: bool = True) -> str:
    """Return the document; `alone` gives it a size of its own and a ground, for a file of its own."""
    return "\n".join(_parts(scene, alone=alone)) + "\n"


def _parts(scene: Scene, *, alone: bool) -> Iterator[str]:
    size = f'width="{scene.width}" height="{scene.height}" ' if alone else ""
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}viewBox="0 0 {scene.width} {scene.height}" role="img"'
        f" aria-label={quoteattr(scene.title)}>"
    )
    yield f"<style>{_STYLE}"
    for kind in Kind:
        yield f"  .{kind.name.lower()} {{ fill: {LOOKS[kind].colour} }}"
    yield "</style>"
    # Hatching: what was given up is told from what is still to come without its colour.
    yield (
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="{LOOKS[Kind.LOST].colour}"/>'
        '<rect width="2.4" height="6" fill="#ffffff" fill-opacity=".75"/></pattern></defs>'
    )
    yield f'<rect width="{scene.width}" height="{scene.height}" style="fill: var(--ground)"/>'
    for line in scene.lines:
        style = "line day" if line.day else "line"
        yield f'<path class="{style}" d="M{line.x:.1f} {line.top:.1f}V{line.bottom:.1f}"/>'
    for box in scene.boxes:
        yield _box(box.x, box.y, box.width, box.kind, box.title)
    for key in scene.keys:
        yield _box(key.x, key.y - LANE_HEIGHT + 4, 20, key.kind, "")
        yield f'<text x="{key.x + 26:.1f}" y="{key.y:.1f}">{escape(key.text)}</text>'
    for label in scene.labels:
        style = ' class="faint"' if label.faint else ""
        yield (
            f'<text x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}"{style}>'
            f"{escape(label.text)}</text>"
        )
    yield "</svg>"


def _box(x: float, y: float, width: float, kind: Kind | None, title: str) -> str:
    style = kind.name.lower() if kind else "lane"
    # Footage is lower than what is missing: the height tells them apart, too.
    inset = 3.0 if kind in (Kind.RECORDED, Kind.FILLED) else 0.0
    fill = ' style="fill: url(#hatch)"' if kind is Kind.LOST else ""
    place = f'x="{x:.2f}" y="{y + inset:.1f}" width="{width:.2f}" height="{LANE_HEIGHT - 2 * inset:.1f}"'
    if not title:
        return f'<rect class="{style}" {place}{fill}/>'
    return f'<rect class="{style}" {place}{fill}><title>{escape(title)}</title></rect>'
