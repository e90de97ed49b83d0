"""Shows figures: a table for a terminal, or the README's in Markdown. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = ("figure", "unit", "median", "p99", "max", "n", "budget", "", "peer", "ratio", "against")
MET = {True: "ok", False: "MISSED", None: ""}


def number(value: object) -> str:
    """Return a number as people read it; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}".replace(",", " ") if abs(float(value)) >= 1000 else f"{value:g}"


def rows(figures: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row of texts per figure."""
    return [
        (
            *(figure["name"], figure["unit"], number(figure["median"]), number(figure["p99"]), number(figure["max"])),
            *(str(figure["n"]), figure["budget"], MET[figure["met"]] if figure["budget"] else ""),
            *(number(figure["peer"]), number(figure["ratio"]), figure["peer_name"]),
        )
        for figure in figures
    ]


def plain(figures: Iterable[Mapping[str, Any]]) -> str:
    """Return the table as text: no colours, columns wide enough."""
    table = [COLUMNS, *rows(figures)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    left = {0, 1, 6, 7, 10}
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
