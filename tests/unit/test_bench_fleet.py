"""The simulated fleet keeps the limits and loses nothing, with every order of the planner; runs repeat exactly."""

import pytest

from tests.bench.fleet_model import ORDERS, simulate


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_fills_everything(order):
    figures = simulate(order, nodes=2, cameras=40, seed=3)  # asserts the limits and the sums itself

    assert figures["full_coverage_s"] >= figures["outage_covered_s"] > 0
    assert figures["peak_replays_device"] == 1
    assert figures == simulate(order, nodes=2, cameras=40, seed=3)
