"""How fast messages that waited for a broker go out once it is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from tests.bench.figures import Budget, Figure, Spec
from tests.bench.running import Bench
from tests.bench.stage.stage import NODE, Stage

ORDER = 35
EVENTS, ROUNDS = 20_000, 3
BYTES, WINDOW = 390, 20
FIGURES = (Spec("outbox_events_s", "1/s", "outbox drained to a real mosquitto, QoS 1", Budget(median_min=3000)),)


async def measure(bench: Bench, wanted: frozenset[str]) -> list[Figure]:
    """Let events gather while the program is away, start it, and count them at a subscriber."""
    del wanted
    rates = []
    with bench.folder("outbox") as folder:
        async with Stage.opened(folder, count=8, cameras=False) as stage:
            await stage.children.stop(await stage.start_daemon())  # makes our tables
            bare = []
            for number in range(ROUNDS):
                gather(stage, number)
                async with counted(stage, f"ours{number}") as result:
                    daemon = await stage.start_daemon()
                rates.append(rate(result))
                await emptied(stage)
                await stage.children.stop(daemon)
                async with counted(stage, f"bare{number}") as result:
                    publisher = await stage.python(
                        f"publisher{number}", "tests.bench.stage.publisher", str(stage.broker.port),
                        f"anr-watch/{NODE}/camera/cam0/event", str(EVENTS), str(BYTES), str(WINDOW),
                    )  # fmt: skip
                    publisher.ending = True
                bare.append(rate(result))
    figure = Figure(FIGURES[0], rates, note=f"{EVENTS} events each")
    figure.peer, figure.peer_name = Figure(FIGURES[0], bare).median, f"bare paho, window {WINDOW}"
    return [figure]


@contextlib.asynccontextmanager
async def counted(stage: Stage, name: str) -> AsyncIterator[dict[str, float]]:
    """Count messages that are published because of what the block does; the value is filled when all have come."""
    result: dict[str, float] = {}
    started, ended = (asyncio.get_running_loop().create_future() for _ in range(2))

    def heard(_: object, text: str) -> None:
        line = json.loads(text)
        (ended if "distinct" in line else started).set_result(line)

    counter = await stage.python(
        f"counter-{name}", "tests.bench.stage.counter", str(stage.broker.port), f"anr-watch/{NODE}/camera/+/event",
        str(EVENTS), on_line=heard,
    )  # fmt: skip
    counter.ending = True
    await asyncio.wait_for(started, 30)
    yield result
    result |= await asyncio.wait_for(ended, 120)
    assert result["distinct"] == result["messages"] == EVENTS, result


def rate(result: dict[str, float]) -> float:
    """Return messages per second."""
    return (EVENTS - 1) / (result["last_s"] - result["first_s"])


def gather(stage: Stage, number: int) -> None:
    """Put events into the outbox as days without a broker leave them."""
    payload = json.dumps(
        {
            "specversion": "1.0",
            "type": "io.anr-watch.fill.progress.v1",
            "source": f"/anr-watch/{NODE}/camera/cam0",
            "time": "2026-06-13T12:00:00Z",
            "datacontenttype": "application/json",
            "data": {"gap": "gap_" + "0" * 32, "seconds": 12.5, "missing_s": 47.5, "bytes": 3125000, "files": 1},
        }
    ).encode()
    with stage.written() as db:
        db.executemany(
            "INSERT INTO anr_outbox (event_id, topic, payload, retain, created_at) VALUES (?, ?, ?, 0, ?)",
            [
                (
                    f"bench-{number}-{event}",
                    f"anr-watch/{NODE}/camera/{stage.names[event % stage.count]}/event",
                    payload[:-1] + f', "id": "bench-{number}-{event}"}}'.encode(),
                    "2026-06-13T12:00:00+00:00",
                )
                for event in range(EVENTS)
            ],
        )


async def emptied(stage: Stage) -> None:
    """Wait until what the broker has acknowledged is removed."""
    async with asyncio.timeout(30):
        while stage.reader().execute("SELECT count(*) FROM anr_outbox").fetchone()[0]:
            await asyncio.sleep(0.05)
