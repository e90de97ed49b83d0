"""What a camera's clock may be off by, in the order in which it is likely. Pure: it asks nobody.

`shift_s` is camera time minus recorder time: to get the recorder's window W, W + shift is asked for. The footage of a
wrong shift is recognised by its content, so a guess costs one short replay and can do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from anr_watch.replay.device_time import twin, zone_named

HOUR_S: Final = 3600.0  # summer time, forgotten or kept
WIDE_S: Final = (45.0, 150.0)  # clocks that are not set by NTP drift some seconds a day; the first costs a third
SAME_S: Final = 1.0  # shifts closer than this ask for the same seconds


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to ask. `margin_s` more footage is asked for on both sides; `known` says that it was measured."""

    name: str
    shift_s: float
    margin_s: float
    known: bool = False
    zone: bool = False  # a mistake of hours: the only one that can lead to where there is no footage at all
    reads: str = ""  # the zone in which it takes the digits, where a shift cannot name an hour that comes twice


def in_order(
    timezone: str, at: datetime, *, margin_s: float, known_s: float | None, until: datetime | None = None
) -> tuple[Guess, ...]:
    """Return the guesses for footage of about `at`, the most likely first, each shift once.

    Args:
        timezone: the zone in which the camera's digits are written (configured).
        at: when the footage was taken; a zone's offset depends on it.
        margin_s: asked for on both sides.
        known_s: the measured offset of the device.
        until: where it ends; `at` if None.

    Raises:
        ReplayRefused: there is no such zone.
    """
    written_s = _offset_s(timezone, at)
    wanted: list[Guess] = []
    if known_s is not None:
        wanted.append(Guess("measured", known_s, margin_s, known=True))
    wanted.append(Guess("as configured", 0.0, margin_s))
    # Digits written in one zone and read in another: between the configured one, UTC and the machine's own.
    for name, read_s in (("reads UTC", 0.0), ("reads local time", _offset_s("local", at))):
        wanted.append(Guess(name, read_s - written_s, margin_s, zone=True))
        wanted.append(Guess(f"{name}, other way", written_s - read_s, margin_s, zone=True))
    wanted.append(Guess("an hour ahead", HOUR_S, margin_s))
    wanted.append(Guess("an hour behind", -HOUR_S, margin_s))
    found: list[Guess] = []
    for guess in wanted:
        if all(abs(guess.shift_s - other.shift_s) >= SAME_S for other in found):
            found.append(guess)
    if timezone != "local" and any(twin(edge, zone_named("local")) for edge in (at, until or at)):
        # The digits of a shift stand for two hours: only a window around both passes of it is one thing.
        shift_s = _offset_s("local", at) - written_s
        found.append(
            Guess("reads local time, in an hour that comes twice", shift_s, margin_s, zone=True, reads="local")
        )
    found += [Guess("wide", 0.0, wide_s) for wide_s in WIDE_S if wide_s > margin_s + SAME_S]
    return tuple(found)


def key_of(guess: Guess) -> str:
    """Return what a guess is remembered by: a measured shift that moved a little is another guess."""
    return f"{guess.shift_s:+.0f}/{guess.margin_s:.0f}" + (f"/{guess.reads}" if guess.reads else "")


def _offset_s(timezone: str, at: datetime) -> float:
    offset = at.astimezone(zone_named(timezone)).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
