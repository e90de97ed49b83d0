"""What a check found, as values: a level, what it is about, what was seen, what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARN = "warn"  # works, but perhaps not as meant
    FAIL = "FAIL"  # a fill could not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check. `facts` are for programs and hold only what JSON has."""

    level: Level
    about: str  # config, database, recordings, broker, camera <id>
    text: str
    advice: str = ""
    facts: dict[str, object] = field(default_factory=dict)


def ok(about: str, text: str, **facts: object) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, about, text, facts=facts)


def warn(about: str, text: str, advice: str = "", **facts: object) -> Finding:
    """Return a finding that something may not be as meant."""
    return Finding(Level.WARN, about, text, advice, facts)


def fail(about: str, text: str, advice: str = "", **facts: object) -> Finding:
    """Return a finding that a fill could not work."""
    return Finding(Level.FAIL, about, text, advice, facts)
