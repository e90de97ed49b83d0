"""The times of a request as the device reads them: its zone, its resolution, its doubtful hour. Pure.

Camera-local time exists only here and in `urls.py`. A request may ask for more than the window, never for
less: what the digits cannot express is rounded outwards, and digits that stand twice on the device's clock
(the hour that repeats in autumn) are moved outwards until every reading of them covers the window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from anr_watch.errors import ReplayRefused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)

# Directive -> the finest step it can express. `%-d` and the like print without leading zeros (some Dahua
# firmware takes nothing else). Left out on purpose: everything that depends on the locale or prints blanks.
_STEPS: dict[str, timedelta] = (
    dict.fromkeys("YymdjbBaAuwUWVGFDC%", _DAY)
    | dict.fromkeys("HIp", timedelta(hours=1))
    | dict.fromkeys("MR", timedelta(minutes=1))
    | dict.fromkeys("STs", _SECOND)
    | {"f": _MICROSECOND, "z": _DAY}
)
_DIRECTIVE = re.compile(r"%(-?)(.?)", re.DOTALL)
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}", re.ASCII)
_UNAMBIGUOUS = frozenset("zs")  # %z and %s say which of two readings is meant


def zone_named(name: str) -> tzinfo | None:
    """Return the zone for `utc`, `local` (None: the machine's own) or an IANA name.

    Raises:
        ReplayRefused: there is no such zone on this machine.
    """
    if name.lower() in ("utc", "z"):
        return UTC
    if name.lower() == "local":
        return None
    try:
        if _ZONE.fullmatch(name):  # anything else would be looked for as a module, level by level
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a zone's name, or a folder of zones ("Europe")
        pass
    raise ReplayRefused("the time zone is unknown (right: utc, local, or a name such as Europe/Berlin)")


def _offset(zone: tzinfo | None, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    return offset if offset is not None else timedelta()  # astimezone always gives an aware time


@dataclass(frozen=True, slots=True)
class Edge:
    """One end of what is asked for: the instant meant, and the device's zone to print it in."""

    instant: datetime
    zone: tzinfo | None

    def text(self, form: str) -> str:
        """Return the local digits in a strftime-like form whose directives `step_of` accepted."""
        local = self.instant.astimezone(self.zone)

        def one(match: re.Match[str]) -> str:
            letter = match[2]
            if letter == "s":
                text = str(whole(self.instant, _SECOND))
            elif letter == "Y":  # strftime does not pad years on every platform
                text = f"{local.year:04}"
            elif letter == "z":  # a bare + in a query means a blank
                text = local.strftime("%z").replace("+", "%2B")
            else:
                text = local.strftime(f"%{letter}")
            return (text.lstrip("0") or "0") if match[1] else text

        return _DIRECTIVE.sub(one, form).replace(" ", "%20")

    def rfc3339(self) -> str:
        """Return the instant with its offset; `+` percent-encoded, since a query turns it into a blank."""
        local = self.instant.astimezone(self.zone)
        return local.isoformat().replace("+00:00", "Z").replace("+", "%2B")


def step_of(form: str) -> timedelta:
    """Return the finest step a form can express.

    Raises:
        ReplayRefused: a directive is unknown, or depends on the locale.
    """
    steps = []
    for match in _DIRECTIVE.finditer(form):
        if match[2] not in _STEPS:
            raise ReplayRefused(
                "a time form holds an unknown % directive (right: %Y %m %d %H %M %S and the like; a plain % is %%)"
            )
        steps.append(_STEPS[match[2]])
    if not steps:
        raise ReplayRefused("a time form holds no % directive (right: {start:%Y%m%dT%H%M%SZ})")
    return min(steps)


def is_unambiguous(form: str) -> bool:
    """Say whether the form itself tells the two passes of a repeated hour apart."""
    return any(match[2] in _UNAMBIGUOUS for match in _DIRECTIVE.finditer(form))


def whole(instant: datetime, unit: timedelta, *, up: bool = False) -> int:
    """Return the whole `unit`s from 1970 to `instant`, rounded down, or up. Exact: no floating point."""
    return -((EPOCH - instant) // unit) if up else (instant - EPOCH) // unit


def twin(instant: datetime, zone: tzinfo | None) -> datetime | None:
    """Return the other instant with the same digits, if the clock shows them twice."""
    digits = instant + _offset(zone, instant)
    for near in (instant - _DAY, instant + _DAY):
        other = digits - _offset(zone, near)
        if other != instant and other + _offset(zone, other) == digits:
            return other
    return None


def _change_between(zone: tzinfo | None, before: datetime, after: datetime) -> datetime:
    """Return the first whole second after `before` that no longer has its offset; `after` is such a one."""
    old = _offset(zone, before)
    low, high = 0, (after - before) // _SECOND
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, before + middle * _SECOND) == old else (low, middle)
    return before + high * _SECOND


def edge(instant: datetime, zone: tzinfo | None, step: timedelta, *, is_end: bool, doubt: bool) -> Edge:
    """Return the edge to ask for: never inside the window, expressible in `step`, and of one meaning.

    `doubt` says that the digits alone go out, so a repeated hour must be minded. A start inside it moves to
    the last `step` before it: read the other way it would lose footage, or date it an hour wrong. An end in
    the second pass moves behind the hour; one in the first stays, since misread it only asks for more.
    """
    for _ in range(4):  # each turn can move the edge over one change of the clock; two are never so close
        over = (instant + _offset(zone, instant) - EPOCH) % step
        if over:
            instant += (step - over) if is_end else -over
            continue
        other = twin(instant, zone) if doubt else None
        if other is None or (is_end and other > instant):
            break
        first, second = sorted((instant, other))
        change, by = _change_between(zone, first, second), second - first
        instant = change + by if is_end else change - by - min(max(step, _SECOND), timedelta(hours=1))
    return Edge(instant, zone)
