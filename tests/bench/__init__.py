"""Measures the installed program against its limits and against the polling loop it replaces: `python -m tests.bench`."""
