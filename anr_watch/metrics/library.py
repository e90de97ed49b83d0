"""Says whether the library that `[metrics] listen` needs is installed, and in which words; it loads none of it."""

from __future__ import annotations

from importlib.util import find_spec

from anr_watch.errors import Problem

LIBRARY = "prometheus_client"


def needs(package: str) -> Problem:
    """Return what is wrong with the key `metrics.listen` as long as `package` is not installed."""
    fix = f"needs the package {package}, which is not installed: pip install '.[metrics]' in the checkout"
    return Problem("metrics.listen", "", fix)


def lacking(listen: str) -> Problem | None:
    """Return what would keep `anr-watch run` from offering metrics on `listen` (empty: none), or None."""
    return needs(LIBRARY) if listen and find_spec(LIBRARY) is None else None
