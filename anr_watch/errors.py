"""The errors this program raises on purpose, chosen by what the caller can do about them.

    AnrWatchError
    +-- ConfigError        the configuration cannot be used; carries every problem, not the first
    +-- ContractError      the database is not what we can work beside (missing column, foreign, corrupt)
    +-- StoreUnavailable   the database is locked, missing or replaced: try again later
    +-- StorageError       the recordings folder cannot take files (full, read-only, gone): stop fills, wait for room
    |   +-- InUse          another anr-watch works on the same recordings or database: this one has to go
    +-- ReplayRefused      nothing can be asked of this camera (no URL, bad template, sealed password): park it
    +-- ParseError         text that somebody else wrote does not have the form it must have
    +-- UsageError         what a person asked for makes no sense (unknown camera, window in the future)

Texts are one line, say what, where and what would be right, and never hold a secret.
"""

from __future__ import annotations

from dataclasses import dataclass


class AnrWatchError(Exception):
    """Base of everything raised on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the configuration: dotted key, the value (secrets masked), what would be right.

    No key: the whole file.
    """

    key: str
    value: str
    fix: str

    def __str__(self) -> str:
        """Return the line shown to a person."""
        at = f"{self.key} = {self.value}" if self.value else self.key
        return f"{at}: {self.fix}" if at else self.fix


class ConfigError(AnrWatchError):
    """The configuration cannot be used; `problems` holds all of them."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("; ".join(f"{source}: {problem}" for problem in problems))


class ContractError(AnrWatchError):
    """The database lacks what the contract needs, or is not a database at all."""


class StoreUnavailable(AnrWatchError):  # noqa: N818 - a state of the world, not a mistake
    """The database cannot be used at the moment; the same call may work later."""


class StorageError(AnrWatchError):
    """A file could not be written or moved; `reason` is `disk_full` or `storage`."""

    def __init__(self, text: str, *, full: bool = False) -> None:
        self.full = full
        super().__init__(text)


class InUse(StorageError):  # noqa: N818 - a state of the world, not a mistake
    """Another anr-watch holds the recordings or the database."""


class ReplayRefused(AnrWatchError):  # noqa: N818 - names what happened to the request
    """No replay can be asked of the camera; `reason` is `no_replay_url` or `bad_config`."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(text)


class ParseError(AnrWatchError):
    """A text from outside does not have the form it must have."""


class UsageError(AnrWatchError):
    """What a person asked for on the command line makes no sense; the text says what would."""
