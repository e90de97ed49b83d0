"""Turns what is known into the text that Prometheus reads; the only module that names its library.

Names follow Prometheus' conventions: base units (seconds, bytes), `_total` for counters. It asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from anr_watch.metrics.figures import REACTION_BUCKETS_S, Figures
from anr_watch.states import FillState, Presence, Reason
from anr_watch.store import Measures

# Any Prometheus since 0.x reads it, and nothing of ours needs the later forms.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the running engine knows without asking the database.

    Attributes:
        presences: what is believed of each camera.
        parked: why cameras are not asked any more.
        running: fills at this moment.
        is_paused: a person has paused everything.
        is_held: the recordings cannot be used, so that no fill runs.
        is_connected: the broker is there; None: none is configured.
    """

    presences: Mapping[str, Presence]
    parked: Mapping[str, Reason]
    running: int
    is_paused: bool
    is_held: bool
    is_connected: bool | None


def exposition(
    figures: Figures, engine: Engine | None, measures: Measures | None, *, version: str, mode: str
) -> bytes:
    """Return everything as text.

    Args:
        figures: the counters of this process.
        engine: what the engine knows; None: it waits for the database.
        measures: what the database says; None: it could not be asked.
        version: of the program.
        mode: whose database it is; empty: not known yet.
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)  # memory, CPU, descriptors under the names that all programs use
    registry.register(_Collected([*_build(version, mode), *_counted(figures), *_state(engine, measures)]))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"anr_watch_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"anr_watch_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _build(version: str, mode: str) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "anr_watch_build", "The running program.", value={"version": version, "mode": mode or "unknown"}
    )


def _counted(figures: Figures) -> Iterator[Metric]:
    fills = CounterMetricFamily("anr_watch_fills", "Fills that ended, by reason.", labels=["reason"])
    for reason in Reason:  # all of them from the start: a rate needs a value before the first one
        fills.add_metric([reason.value], figures.fills[reason])
    yield fills
    yield CounterMetricFamily(
        "anr_watch_recovered_seconds", "Seconds of footage that fills recovered.", value=figures.recovered_s
    )
    yield CounterMetricFamily(
        "anr_watch_recovered_bytes", "Bytes of the files that fills put into place.", value=figures.recovered_bytes
    )
    yield CounterMetricFamily(
        "anr_watch_recovered_files", "Files that fills put into place.", value=figures.recovered_files
    )
    bounds = [*(f"{bound:g}" for bound in REACTION_BUCKETS_S), "+Inf"]
    yield HistogramMetricFamily(
        "anr_watch_reaction_seconds",
        "From the sign that set a fill off until the camera is asked.",
        buckets=list(zip(bounds, map(float, accumulate(figures.reactions)), strict=True)),
        sum_value=figures.reaction_s,
    )


def _state(engine: Engine | None, measures: Measures | None) -> Iterator[Metric]:
    yield _gauge("ready", "1: at work; 0: waiting for the database.", engine is not None)
    yield _gauge("database_up", "1: the database answered this scrape.", measures is not None)
    if engine is not None:
        levels = [*engine.presences.values()]
        yield _labelled(
            "cameras",
            "Cameras by what is believed of them.",
            "presence",
            {level: levels.count(level) for level in Presence},
        )
        reasons = [*engine.parked.values()]
        yield _labelled(
            "parked_cameras",
            "Cameras that are not asked until somebody changes something, by reason.",
            "reason",
            {reason: reasons.count(reason) for reason in sorted({*reasons, Reason.UNAUTHORIZED})},
        )
        yield _gauge("running_fills", "Fills at this moment.", engine.running)
        yield _gauge("paused", "1: a person has paused all fills.", engine.is_paused)
        yield _gauge("held", "1: no fill runs, as the recordings cannot be used.", engine.is_held)
        if engine.is_connected is not None:
            yield _gauge("broker_connected", "1: connected to the broker.", engine.is_connected)
    if measures is not None:
        yield _labelled(
            "gaps",
            "Rows of gaps by state, of any age.",
            "state",
            {state: measures.gaps.get(state, 0) for state in FillState},
        )
        yield _labelled(
            "pending_gaps",
            "Gaps that are wanted and not filled yet.",
            "camera",
            {camera_id: missing.gaps for camera_id, missing in measures.missing.items()},
        )
        yield _labelled(
            "missing_seconds",
            "Seconds of footage that are wanted and missing, overlaps once.",
            "camera",
            {camera_id: missing.seconds for camera_id, missing in measures.missing.items()},
        )
        yield _gauge("outbox_messages", "Messages that wait for the broker.", measures.outbox)
        yield CounterMetricFamily(
            "anr_watch_outbox_dropped",
            "Messages that were dropped for want of room, in the life of the database.",
            value=measures.dropped,
        )
