"""A scene as one HTML page that needs nothing else: the picture, what the pointer is over, and a table. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from html import escape

from anr_watch.drawing.lanes import Kind, Lane
from anr_watch.drawing.scene import Scene, told
from anr_watch.drawing.svg import svg

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ margin: 1rem; font: 14px system-ui, sans-serif; background: Canvas; color: CanvasText }}
  svg {{ width: 100%; height: auto; max-width: 1600px; display: block }}
  #told {{ min-height: 1.5em; font-family: ui-monospace, monospace }}
  table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .2em .8em .2em 0; vertical-align: top }}
</style></head><body>
<p id="told">Point at a piece to read what it is.</p>
{picture}
<h2>{heading}</h2>
{table}
<script>{script}</script>
</body></html>
"""
_SCRIPT = """
addEventListener("pointerover", event => {
  const title = event.target.querySelector && event.target.querySelector(":scope > title");
  if (title) document.getElementById("told").textContent = title.textContent;
});
"""


def html(scene: Scene, lanes: Sequence[Lane], zone: tzinfo) -> str:
    """Return the page; below the picture stands a table of everything that is missing, newest first."""
    import base64  # noqa: PLC0415 - only this kind of picture needs it
    import hashlib  # noqa: PLC0415 - only this kind of picture needs it

    holes = [(piece, lane) for lane in lanes for piece in lane.pieces if piece.kind in (Kind.MISSING, Kind.LOST)]
    holes.sort(key=lambda hole: hole[0].window, reverse=True)
    rows = "".join(
        f"<tr><td>{escape(told(lane.camera_id, piece.window, piece.kind, piece.why, zone))}</td></tr>"
        for piece, lane in holes
    )
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return _PAGE.format(
        hash=digest,
        title=escape(scene.title),
        picture=svg(scene, alone=False),
        heading=f"Missing: {len(holes)} pieces" if holes else "Nothing is missing",
        table=f"<table>{rows}</table>" if rows else "",
        script=_SCRIPT,
    )
