"""How the demo looks: as JSON lines, as plain lines, or live on a terminal; it only prints what it is given.

Three characters and three colours stand for what is on disk. The colours are those of Okabe and Ito, which people
with any colour vision can tell apart; the characters do without colours (NO_COLOR, pipes).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from anr_watch.demo.telling import Happening, Summary
from anr_watch.demo.timeline import Cell, runs

_STYLES = {Cell.RECORDED: "#56b4e9", Cell.MISSING: "bold #d55e00", Cell.FILLED: "#f0e442"}
_SIGNS = {Cell.RECORDED: "█", Cell.MISSING: "·", Cell.FILLED: "▒"}
_ASCII_SIGNS = {Cell.RECORDED: "#", Cell.MISSING: ".", Cell.FILLED: "+"}
_LABEL_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """One camera's second by second, and a word about how it is doing."""

    camera: str
    cells: Sequence[Cell]
    state: str


class Show(Protocol):
    """Where the demo goes."""

    @property
    def bar_width(self) -> int:
        """How many cells a bar may have."""
        ...

    def say(self, text: str) -> None:
        """Show a line of introduction or explanation."""
        ...

    def tell(self, happening: Happening) -> None:
        """Show that something happened."""
        ...

    def bars(self, bars: Sequence[Bar], t_s: float) -> None:
        """Show what is on disk now."""
        ...

    def keep_bars(self) -> None:
        """Let the bars as they are now stay on the screen."""
        ...

    def summary(self, summary: Summary) -> None:
        """Show the proof."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class JsonShow:
    """One JSON object per line on stdout; the last is the summary."""

    @property
    def bar_width(self) -> int:
        """Nothing is drawn, so any number does."""
        return 60

    def say(self, text: str) -> None:
        """Say nothing: programs need no introduction."""

    def tell(self, happening: Happening) -> None:
        """Print the happening."""
        _print(happening.as_json())

    def bars(self, bars: Sequence[Bar], t_s: float) -> None:
        """Print nothing: the bars repeat what the events say."""

    def keep_bars(self) -> None:
        """Keep nothing."""

    def summary(self, summary: Summary) -> None:
        """Print the last line."""
        _print(summary.as_json())

    def close(self) -> None:
        """Own no terminal."""


class TextShow:
    """Lines for people; on a terminal the bars stay at the bottom and fill while the lines run above them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False, markup=False)
        encoding = (self._console.encoding or "").lower().replace("-", "")
        self._signs = _SIGNS if encoding.startswith("utf") else _ASCII_SIGNS
        self._shown: Group | None = None
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    @property
    def bar_width(self) -> int:
        """How many cells of a bar fit."""
        return max(10, min(self._console.width - _LABEL_COLUMNS - 1, 100))

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._console.print(text, soft_wrap=self._live is None)

    def tell(self, happening: Happening) -> None:
        """Print one line: seconds since the start, milliseconds since the return, camera, text."""
        if happening.echo:
            return
        since = "" if happening.ms is None else f"+{happening.ms:,.0f} ms"
        line = Text(f"{happening.t_s:5.1f} s", style="dim")
        line.append(f"{since:>11}  ", style="bold")
        line.append(f"{happening.camera:<7}", style="cyan")
        if self._live is None:  # a file or a pipe: whoever reads it wraps as they like
            self._console.print(line + Text(happening.text), soft_wrap=True)
            return
        grid = Table.grid(padding=0)
        grid.add_column(no_wrap=True)
        grid.add_column()
        grid.add_row(line, happening.text)
        self._console.print(grid)

    def bars(self, bars: Sequence[Bar], t_s: float) -> None:
        """Redraw the bars, if there is a terminal to draw on; remember them otherwise."""
        lines = []
        for bar in bars:
            line = Text(f"{bar.camera:<{_LABEL_COLUMNS}}", style="cyan", no_wrap=True, overflow="crop")
            for cell, count in runs(bar.cells):
                line.append(self._signs[cell] * count, style=_STYLES[cell])
            lines += [line, Text(" " * _LABEL_COLUMNS + bar.state, style="dim", no_wrap=True, overflow="ellipsis")]
        legend = Text(f"{t_s:5.1f} s    ", style="dim")
        for cell in Cell:
            legend.append(self._signs[cell] * 3, style=_STYLES[cell])
            legend.append(f" {cell.value}   ")
        self._shown = Group(*lines, legend)
        if self._live is not None:
            self._live.update(self._shown, refresh=True)

    def keep_bars(self) -> None:
        """Stop drawing and print the bars once more as lines that stay."""
        self.close()
        if self._shown is not None:
            self._console.print(self._shown)

    def summary(self, summary: Summary) -> None:
        """Print the proof as a table and what it means."""
        self.close()
        self._console.print()
        table = Table(title="Every recorded picture decoded and its number read", box=None, title_justify="left")
        for name in ("camera", "frames", "missing", "double", "filled", "joins", "clock", "connect"):
            table.add_column(name, justify="left" if name == "camera" else "right")
        for result in summary.cameras:
            proof = result.proof
            connect = result.online_to_connect_ms
            table.add_row(
                result.camera,
                f"{proof.expected}",
                Text(f"{proof.missing_frames}", style="bold #d55e00" if proof.missing_frames else ""),
                f"{proof.double}",
                f"{result.recovered_s:.1f} s",
                result.joined,
                "-" if result.offset_ms is None else f"{result.offset_ms:+,.0f} ms",
                "-" if connect is None else f"{connect:.1f} ms",
            )
        self._console.print(table)
        self._console.print()
        self.say("frames: expected from the first to the last recorded one; filled: brought by anr-watch alone;")
        self.say("joins: edges proved by the pictures on both sides; clock: the camera's against the recorder's;")
        self.say("connect: from the MQTT message to the camera's accept of the replay connection")
        self._console.print()
        for line in verdict(summary):
            self.say(line)

    def close(self) -> None:
        """Stop drawing; the bars vanish, the lines stay."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def verdict(summary: Summary) -> list[str]:
    """Return what the numbers mean."""
    lines = []
    missing = sum(result.proof.missing_frames for result in summary.cameras)
    double = sum(result.proof.double for result in summary.cameras)
    disordered = sum(result.proof.out_of_order for result in summary.cameras)
    if not summary.settled:
        lines.append("Not every gap was filled in time.")
    for result in summary.cameras:
        proof = result.proof
        if proof.broken or proof.unreadable or proof.other_camera:
            lines.append(
                f"{result.camera}: {len(proof.broken)} broken files, {proof.unreadable} unreadable pictures,"
                f" {proof.other_camera} of another camera."
            )
    if missing:
        lines.append(f"FAILED: {missing} frames are missing.")
    elif double or disordered:
        lines.append(f"FAILED: {double} frames are double, {disordered} out of order.")
    elif summary.ok:
        lines.append("Nothing is missing, nothing is double, everything is in order.")
    lines.append(f"{summary.events} events on MQTT, {summary.took_s:.0f} s in all.")
    if summary.folder:
        lines.append(f"Everything is left in {summary.folder}")
    return lines


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
