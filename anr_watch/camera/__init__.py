"""A simulated camera with onboard storage, for the demo, the tests and the benchmarks; never part of a fill."""
