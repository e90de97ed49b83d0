"""10 000 cameras on 200 nodes after a core switch failed: the real planner and scheduler in virtual time."""

import asyncio

from tests.bench.figures import Budget, Figure, Spec
from tests.bench.fleet_model import ORDERS, simulate

ORDER = 95

CAMERAS, NODES = 10_000, 200
COMPARED_CAMERAS, COMPARED_NODES = 1_000, 20  # for the other orders of the planner: the same mix, less waiting for it

COVERED = Spec("fleet_full_coverage_s", "s", "10 000 cameras come back: until nothing is missing any more")
OUTAGE = Spec("fleet_outage_p50_s", "s", "until half of the outage's footage is back")
WAIT = Spec("fleet_outage_wait_s", "s", "mean wait of a second of the outage; peer: the best other planner order")
NODE = Spec("fleet_peak_replays_node", "", "most replays of one node at a time", Budget(median_max=8))
DEVICE = Spec("fleet_peak_replays_device", "", "most replays that a device ever saw at a time", Budget(median_max=1))
MESSAGES = Spec("fleet_messages_peak_s", "1/s", "broker messages in the busiest second of the whole fleet")
FIGURES = (COVERED, OUTAGE, WAIT, NODE, DEVICE, MESSAGES)


async def measure(bench, wanted) -> list[Figure]:
    """Simulate the whole fleet with the default order, and a tenth of it with every order.

    Each run asserts that every missing second is filled once or given up as gone, and the limits of nodes and devices.
    """
    del bench, wanted
    whole = await asyncio.to_thread(simulate, "newest_fair", cameras=CAMERAS, nodes=NODES)
    compared = {
        order: await asyncio.to_thread(simulate, order, cameras=COMPARED_CAMERAS, nodes=COMPARED_NODES)
        for order in ORDERS
    }
    waits = {order: figures["outage_mean_wait_s"] for order, figures in compared.items()}
    best = min((order for order in waits if order != "newest_fair"), key=waits.__getitem__)
    orders = {
        order: {
            name: round(figures[name], 1)
            for name in ("outage_mean_wait_s", "mean_wait_s", "outage_p99_s", "outage_covered_s", "full_coverage_s")
        }
        for order, figures in compared.items()
    }
    return [
        Figure(COVERED, [whole["full_coverage_s"]], note=f"{whole['tries']} tries"),
        Figure(OUTAGE, [whole["outage_p50_s"]]),
        Figure(WAIT, [waits["newest_fair"]], peer=waits[best], peer_name=f"{best} first", extra={"orders": orders}),
        Figure(NODE, [whole["peak_replays_node"]]),
        Figure(DEVICE, [whole["peak_replays_device"]]),
        Figure(MESSAGES, [whole["messages_peak_s"]], note=f"mean {whole['messages_mean_s']:.1f}/s"),
    ]
