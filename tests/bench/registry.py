"""Finds the benchmarks: every module in `subjects/` is one. It runs nothing.

A subject has `FIGURES`, a tuple of `Spec`, and `async def measure(bench, wanted)`, which returns a `Figure` for each
name in `wanted` (a set of its own figures' names; it may return more). Its docstring's first line says what it is.
`ORDER`, a number, is its place in a whole run; 50 where it has none. Adding a subject is adding a file.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from tests.bench import subjects
from tests.bench.figures import Figure, Spec

if TYPE_CHECKING:
    from tests.bench.running import Bench

Measure = Callable[["Bench", frozenset[str]], Awaitable[list[Figure]]]


@dataclass(frozen=True)
class Subject:
    """One benchmark module."""

    name: str
    figures: tuple[Spec, ...]
    measure: Measure
    order: int
    says: str


class UnknownBenchmarkError(Exception):
    """There is no such benchmark; the text says which are near."""


def subjects_found() -> list[Subject]:
    """Return all subjects in the order of a whole run."""
    found = []
    for info in pkgutil.iter_modules(subjects.__path__):
        module = import_module(f"{subjects.__name__}.{info.name}")
        says = (module.__doc__ or "").partition("\n")[0]
        found.append(Subject(info.name, module.FIGURES, module.measure, getattr(module, "ORDER", 50), says))
    return sorted(found, key=lambda subject: (subject.order, subject.name))


def chosen(names: Iterable[str]) -> list[tuple[Subject, frozenset[str]]]:
    """Return the subjects that names of subjects or figures mean, with the wanted figures; no names: all.

    Raises:
        UnknownBenchmarkError: a name that is neither.
    """
    every = subjects_found()
    wanted = [name for name in names if name]
    if not wanted:
        return [(subject, frozenset(spec.name for spec in subject.figures)) for subject in every]
    known = {subject.name for subject in every} | {spec.name for subject in every for spec in subject.figures}
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(s.name for s in every)}"
            raise UnknownBenchmarkError(f"no benchmark {name!r}: {hint}")
    found = []
    for subject in every:
        own = {spec.name for spec in subject.figures}
        figures = own if subject.name in wanted else own & set(wanted)
        if figures:
            found.append((subject, frozenset(figures)))
    return found
