"""The world around the program for demo, tests and benchmarks: recorder, kernel, proof; never part of a fill."""
