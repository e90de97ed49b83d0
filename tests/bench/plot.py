"""Draws "seconds of footage still missing over time" as an SVG; knows nothing of how it was measured.

No library: two axes, step lines, and above them what they are. Colours from Okabe and Ito's palette, told apart by dashes as
well, on no background; text and axes are of a grey that both light and dark pages show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 112, 48
GREY = "#7d8590"  # contrast of more than 3.5 with both white and GitHub's dark page


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (seconds, value), each value holds until the next."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""


def steps(longest: float, count: int = 8) -> list[float]:
    """Return round numbers from 0 up to `longest`."""
    for step in (1, 2, 5, 10, 20, 30, 50, 60, 100, 120, 200, 300, 500, 600, 1000, 2000, 5000):
        if longest / step <= count:
            return [step * number for number in range(int(longest // step) + 1)]
    return [0, longest]


def svg(title: str, lines: Sequence[Line], *, x_label: str, y_label: str, end_s: float) -> str:
    """Return the picture."""
    most = max(value for line in lines for _, value in line.points)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> str:
        return f"{LEFT + across * min(at, end_s) / end_s:.1f}"

    def y(value: float) -> str:
        return f"{TOP + up * (1 - value / (most * 1.05)):.1f}"

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13"',
        f' aria-label="{escape(title)}" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="20" font-size="15" fill="{GREY}">{escape(title)}</text>',
        f'<g stroke="{GREY}" stroke-width="1">',
        f'<line x1="{LEFT}" y1="{y(0)}" x2="{WIDTH - RIGHT}" y2="{y(0)}"/>',
        *(
            f'<line x1="{LEFT}" y1="{y(value)}" x2="{WIDTH - RIGHT}" y2="{y(value)}" opacity="0.25"/>'
            for value in steps(most, 5)[1:]
        ),
        "</g>",
        f'<g fill="{GREY}" text-anchor="end">',
        *(f'<text x="{LEFT - 8}" y="{float(y(value)) + 4:.1f}">{value:g}</text>' for value in steps(most, 5)),
        "</g>",
        f'<g fill="{GREY}" text-anchor="middle">',
        *(f'<text x="{x(at)}" y="{HEIGHT - BOTTOM + 18}">{at:g}</text>' for at in steps(end_s)),
        f'<text x="{LEFT + across / 2:.1f}" y="{HEIGHT - 8}">{escape(x_label)}</text>',
        "</g>",
        f'<text x="{LEFT}" y="{TOP - 8}" fill="{GREY}" font-size="12">{escape(y_label)}</text>',
    ]
    for number, line in enumerate(lines):
        path, before = [], None
        for at, value in line.points:
            if at > end_s:
                break
            path.append(f"M{x(at)} {y(value)}" if before is None else f"H{x(at)}V{y(value)}")
            before = value
        path.append(f"H{x(end_s)}")
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        out.append(
            f'<path d="{"".join(path)}" fill="none" stroke="{line.colour}" stroke-width="2.5"{dash}'
            ' stroke-linejoin="round"/>'
        )
        row = 42 + 18 * number
        out.append(
            f'<line x1="{LEFT}" y1="{row - 4}" x2="{LEFT + 36}" y2="{row - 4}"'
            f' stroke="{line.colour}" stroke-width="2.5"{dash}/>'
            f'<text x="{LEFT + 44}" y="{row}" fill="{GREY}">{escape(line.name)}</text>'
        )
    out.append("</svg>")
    return "\n".join(out) + "\n"
