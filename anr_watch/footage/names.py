"""File names of footage to UTC instants and back. Pure; touches no disk and knows no camera.

Recorders name a segment by the strftime text of its start (`%Y%m%d_%H%M%S`, UTC, whole seconds), some with a
folder per day or hour (`%Y-%m-%d/%H/%M-%S`). Both directions live here so that they stay each other's inverse:
a name that `format` would not write is not a name of ours, whatever numbers it holds.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

SUFFIX: Final = ".mp4"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86400
_EXPANDED: Final = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S"}
_WIDTH: Final = {"Y": 4, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}
_TOKEN: Final = re.compile(r"%(.)|([^%]+)", re.DOTALL)
_CHUNK: Final = 20_000  # names per regular expression call: about 5 ms with the interpreter lock held

Key = tuple[int, ...]  # year, month, day, hour, ... (or year, day of year, ...) as far as a folder tells


class NamePattern:
    """One setting such as `%Y%m%d_%H%M%S`: where a segment's file stands below its camera's folder.

    Allowed: `%Y %m %d %j %H %M %S %F %T %s %%`, literal text and `/`. The whole has to tell an instant to the
    second; folders have to go from coarse to fine, so that the neighbour in time is found without a full walk.

    Raises:
        ValueError: the pattern cannot give back an instant; the text says what is missing or not allowed.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        body = pattern.removesuffix(SUFFIX)
        for short, full in _EXPANDED.items():
            body = body.replace(short, full)
        _check_text(pattern, body)
        self._levels = [_tokens(pattern, level) for level in body.split("/")]
        used = [field for level in self._levels for field, _ in level if field]
        _check_fields(pattern, used)
        self._order = "s" if "s" in used else "YjHMS" if "j" in used else "YmdHMS"
        self.depth = len(self._levels) - 1
        known: set[str] = set()
        self._known: list[int] = []  # how many fields of the order the first 1, 2, ... folders tell
        for level in self._levels[:-1]:
            known |= {field for field, _ in level if field}
            if known != set(self._order[: len(known)]):
                raise ValueError(f"{pattern!r}: folders must go from coarse to fine (year, month, day, hour)")
            self._known.append(len(known))
        self._regexes = [
            re.compile(_regex(self._levels[: n + 1]) + (re.escape(SUFFIX) if n == self.depth else ""), re.ASCII)
            for n in range(self.depth + 1)
        ]
        self._spans = _spans(self._levels[0]) if self.depth == 0 else None

    def __repr__(self) -> str:
        return f"NamePattern({self.pattern!r})"

    def parse(self, relative: str) -> datetime | None:
        """Return the UTC start that a path below the camera's folder tells, or None if it is no footage name."""
        match = self._regexes[-1].fullmatch(relative)
        if match is None:
            return None
        fields = {name: int(text) for name, text in match.groupdict().items()}
        try:
            if "s" in fields:
                return _EPOCH + timedelta(seconds=fields["s"])
            clock = fields["H"], fields["M"], fields["S"]
            if "j" not in fields:
                return datetime(fields["Y"], fields["m"], fields["d"], *clock, tzinfo=UTC)
            start = datetime(fields["Y"], 1, 1, *clock, tzinfo=UTC) + timedelta(days=fields["j"] - 1)
        except (ValueError, OverflowError):
            return None
        return start if start.year == fields["Y"] else None  # day 000, or 366 of a common year

    def format(self, start: datetime) -> str:
        """Return the path below the camera's folder for footage that starts at `start` (fractions are cut off).

        Raises:
            ValueError: the time is naive.
        """
        if start.tzinfo is None:
            raise ValueError("naive time")
        return "/".join(_written(level, start.astimezone(UTC)) for level in self._levels) + SUFFIX

    def folder_key(self, relative: str) -> Key | None:
        """Return what a folder below the camera's folder tells of the time, coarse first; None: not ours."""
        level = relative.count("/")
        match = self._regexes[level].fullmatch(relative) if level < self.depth else None
        return None if match is None else tuple(int(match[field]) for field in self._order[: self._known[level]])

    def key_at(self, instant: datetime, level: int) -> Key:
        """Return the `folder_key` of the folder at `level` (0: the outermost) that holds `instant`."""
        utc = instant.astimezone(UTC)
        return tuple(_value(utc, field) for field in self._order[: self._known[level]])

    def starts(self, folder: str, names: list[str]) -> array[int]:
        """Return the sorted starts (epoch seconds) of all footage names among the `names` inside one folder.

        A start is all that is kept of a name, 8 bytes: `format` gives the name back. 500 000 names of a flat
        folder take about 0.5 s, in steps that let other threads run.
        """
        by_day: dict[int, list[int]] = defaultdict(list)
        if self._spans is None:
            prefix = f"{folder}/" if folder else ""
            for name in names:
                start = self.parse(prefix + name)
                if start is not None:
                    second = (start - _EPOCH) // timedelta(seconds=1)
                    by_day[second // _DAY_S].append(second)
        else:
            days: dict[str, tuple[int, list[int]] | None] = {}
            clocks: dict[str, int | None] = {}
            for at in range(0, len(names), _CHUNK):
                self._scan(names[at : at + _CHUNK], by_day, days, clocks)
        found = array("q")
        for day in sorted(by_day):
            found.extend(sorted(by_day[day]))
        return found

    def _scan(
        self,
        names: Iterable[str],
        by_day: dict[int, list[int]],
        days: dict[str, tuple[int, list[int]] | None],
        clocks: dict[str, int | None],
    ) -> None:
        """Sort the starts of flat names into days: one regular expression, then one look-up per date and time."""
        assert self._spans is not None  # noqa: S101 - the caller has asked
        regex, date_first = self._spans
        # A name holds neither "/" nor NUL, so "/" is the one separator that no junk name can imitate.
        for found in regex.findall("/".join(names)):
            day_text, clock_text = found if date_first else found[::-1]
            if day_text not in days:
                days[day_text] = self._day(day_text, by_day)
            if clock_text not in clocks:
                hour, minute, second = self._numbers(clock_text, "HMS")
                valid = hour < 24 and minute < 60 and second < 60
                clocks[clock_text] = hour * 3600 + minute * 60 + second if valid else None
            day, clock = days[day_text], clocks[clock_text]
            if day is not None and clock is not None:
                day[1].append(day[0] + clock)

    def _day(self, text: str, by_day: dict[int, list[int]]) -> tuple[int, list[int]] | None:
        numbers = self._numbers(text, self._order[:-3])
        try:
            if len(numbers) == 3:
                date = datetime(*numbers, tzinfo=UTC)
            else:
                date = datetime(numbers[0], 1, 1, tzinfo=UTC) + timedelta(days=numbers[1] - 1)
        except (ValueError, OverflowError):
            return None
        if date.year != numbers[0]:
            return None
        second = (date - _EPOCH) // timedelta(seconds=1)
        return second, by_day[second // _DAY_S]

    def _numbers(self, text: str, fields: str) -> tuple[int, ...]:
        """Return the numbers of `fields` out of a stretch of a flat name that `_spans` has matched."""
        at: dict[str, int] = {}
        position = 0
        inside = False
        for field, literal in self._levels[0]:
            if field in fields and field:
                inside = True
                at[field] = int(text[position : position + _WIDTH[field]])
                position += _WIDTH[field]
            elif inside:
                position += len(literal)
        return tuple(at[field] for field in fields)


def _check_text(pattern: str, body: str) -> None:
    if not body:
        raise ValueError("the name pattern is empty")
    if any(ord(char) < 32 or ord(char) == 127 for char in body):
        raise ValueError(f"{pattern!r}: control characters are not allowed in file names")
    for part in body.split("/"):
        if not part or part.startswith("."):
            raise ValueError(
                f"{pattern!r}: must be a relative path without empty parts or names that start with a dot"
            )


def _tokens(pattern: str, text: str) -> list[tuple[str, str]]:
    """Split one level into (field, "") and ("", literal)."""
    if text.replace("%%", "").endswith("%"):
        raise ValueError(f"{pattern!r}: ends in a lone %")
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(text):
        field, literal = match[1], match[2]
        if field == "%":
            field, literal = None, "%"
        if field is not None and field not in _WIDTH and field != "s":
            raise ValueError(f"{pattern!r}: %{field} is not known (known: %Y %m %d %j %H %M %S %F %T %s %%)")
        tokens.append((field or "", literal or ""))
    return tokens


def _check_fields(pattern: str, used: list[str]) -> None:
    if "s" in used:
        if len(used) > 1:
            raise ValueError(f"{pattern!r}: %s is the whole instant and must be the only field")
        return
    if "j" in used and ("m" in used or "d" in used):
        raise ValueError(f"{pattern!r}: use %j or %m and %d, not both")
    missing = [f"%{field}" for field in ("YjHMS" if "j" in used else "YmdHMS") if field not in used]
    if missing:
        raise ValueError(f"{pattern!r}: does not tell a full instant, {', '.join(missing)} missing")


def _regex(levels: list[list[tuple[str, str]]]) -> str:
    seen: set[str] = set()
    parts = []
    for level in levels:
        text = ""
        for field, literal in level:
            if not field:
                text += re.escape(literal)
            elif field in seen:
                text += f"(?P={field})"
            else:
                text += f"(?P<{field}>{_digits(field)})"
                seen.add(field)
        parts.append(text)
    return "/".join(parts)


def _digits(field: str) -> str:
    return r"0|[1-9]\d{0,11}" if field == "s" else rf"\d{{{_WIDTH[field]}}}"


def _spans(level: list[tuple[str, str]]) -> tuple[re.Pattern[str], bool] | None:
    """Return a pattern with one group for the date and one for the time of day, and whether the date is first.

    None where the name has another shape (fields mixed, given twice, or `%s`): such names are parsed one by one.
    """
    fields = "".join(field for field, _ in level)
    kinds = "".join("t" if field in "HMS" else "d" for field in fields)
    if "s" in fields or len(set(fields)) != len(fields) or not re.fullmatch(r"d+t+|t+d+", kinds):
        return None
    text, previous = "", ""
    remaining = {"d": kinds.count("d"), "t": kinds.count("t")}
    for field, literal in level:
        if not field:
            text += re.escape(literal)
            continue
        kind = "t" if field in "HMS" else "d"
        text += ("(" if kind != previous else "") + _digits(field)
        remaining[kind] -= 1
        text += ")" if remaining[kind] == 0 else ""
        previous = kind
    return re.compile(rf"(?<![^/]){text}{re.escape(SUFFIX)}(?![^/])", re.ASCII), kinds[0] == "d"


def _written(level: list[tuple[str, str]], utc: datetime) -> str:
    return "".join(f"{_value(utc, field):0{_WIDTH.get(field, 1)}d}" if field else literal for field, literal in level)


def _value(utc: datetime, field: str) -> int:
    if field == "s":
        return (utc - _EPOCH) // timedelta(seconds=1)
    if field == "j":
        return utc.timetuple().tm_yday
    names = {"Y": utc.year, "m": utc.month, "d": utc.day, "H": utc.hour, "M": utc.minute, "S": utc.second}
    return names[field]
