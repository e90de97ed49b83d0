"""The benchmarks, one module per subject; see `tests.bench.registry` for what a subject has to offer."""
