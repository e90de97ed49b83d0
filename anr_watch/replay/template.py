"""The tokens of a replay URL template: finding them, and the texts of those that tell times. Pure.

Texts of errors never quote the template: a password may stand anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from anr_watch.errors import ReplayRefused
from anr_watch.model import Window
from anr_watch.replay.device_time import EPOCH, Edge, edge, is_unambiguous, step_of, whole, zone_named

HIKVISION_FORM = "%Y%m%dT%H%M%SZ"
TOKENS = (
    *("start", "start_unix", "start_ms", "start_rfc3339", "end", "end_unix", "end_ms", "end_rfc3339", "duration_s"),
    *("channel", "address", "port", "user", "password"),
)
_EXACT = {"unix": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "rfc3339": timedelta(microseconds=1)}


@dataclass(frozen=True, slots=True)
class Token:
    """One `{name}` or `{name:form}`."""

    name: str
    form: str = ""


def parsed(template: str) -> list[str | Token]:
    """Split a template into literals and tokens.

    Raises:
        ReplayRefused: a brace stands alone, a token is unknown, or has a form it cannot have.
    """
    parts: list[str | Token] = []
    at = 0
    for match in re.finditer(r"\{([^{}]*)\}|[{}]", template):
        if match[1] is None:
            raise ReplayRefused(
                f"the replay URL template has a lone brace at character {match.start() + 1} (literal: %7B, %7D)"
            )
        name, colon, form = match[1].partition(":")
        if name not in TOKENS:
            near = get_close_matches(name, TOKENS, n=1)
            hint = (
                f"did you mean {{{near[0]}}}?" if near else "known: " + " ".join(f"{{{token}}}" for token in TOKENS)
            )
            raise ReplayRefused(
                f"the replay URL template has an unknown token at character {match.start() + 1}; {hint}"
            )
        if colon and (name not in ("start", "end") or not form):
            raise ReplayRefused(f"the token {{{name}}} takes no such form (right: {{start:%Y%m%d}}, {{end:%H%M%S}})")
        parts += [template[at : match.start()], Token(name, form)]
        at = match.end()
    return [*parts, template[at:]]


@dataclass(frozen=True, slots=True)
class Times:
    """The instants that go out: `start` and `end` as digits, the exact ones in other tokens, and what they mean."""

    window: Window
    start: Edge
    end: Edge
    asked: Window

    @classmethod
    def of(cls, parts: Sequence[str | Token], window: Window, timezone: str) -> Times:
        """Return what the tokens of a template say about `window` to a device in `timezone`.

        Raises:
            ReplayRefused: no token tells the start, a form is unusable, or the zone is unknown.
        """
        tokens = [part for part in parts if isinstance(part, Token)]
        if not any(token.name.startswith("start") for token in tokens):
            raise ReplayRefused(
                "the replay URL template has no start token, so every window would get the same footage"
            )
        zone = zone_named(timezone)
        edges: dict[str, Edge] = {}
        asked: dict[str, datetime] = {}
        for name, instant, is_end in (("start", window.start, False), ("end", window.end, True)):
            forms = [token.form or HIKVISION_FORM for token in tokens if token.name == name]
            exact = [unit for suffix, unit in _EXACT.items() if Token(f"{name}_{suffix}") in tokens]
            # All tokens of one edge tell it together: a date and a time of day, or a date and a unix time.
            step = min([step_of(form) for form in forms] + exact, default=_EXACT["rfc3339"])
            doubt = bool(forms) and not exact and not any(is_unambiguous(form) for form in forms)
            try:
                edges[name] = edge(instant, zone, step, is_end=is_end, doubt=doubt)
            except (OverflowError, OSError, ValueError):
                raise ReplayRefused("the window cannot be told in the camera's time zone") from None
            told = [edges[name].instant]
            told += [EPOCH + whole(instant, unit, up=is_end) * unit for unit in exact]
            asked[name] = max(told) if is_end else min(told)
        return cls(window, edges["start"], edges["end"], Window(asked["start"], asked["end"]))

    def value(self, token: Token) -> str | None:
        """Return the text of a time token, or None for another one."""
        if token.name == "duration_s":  # from the start that is sent to the end that is wanted, in whole ms
            ms = -(-(self.window.end - self.asked.start) // _EXACT["ms"])
            return f"{ms // 1000}" if ms % 1000 == 0 else f"{ms / 1000:.3f}".rstrip("0")
        which, _, kind = token.name.partition("_")
        if which not in ("start", "end"):
            return None
        is_end = which == "end"
        instant = self.window.end if is_end else self.window.start
        digits = self.end if is_end else self.start
        if kind == "rfc3339":
            return Edge(instant, digits.zone).rfc3339()
        if kind:
            return str(whole(instant, _EXACT[kind], up=is_end))
        return digits.text(token.form or HIKVISION_FORM)
