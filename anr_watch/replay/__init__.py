"""Replays: what URL to ask, the worker process that fetches, and the side that starts it; it decides no fill."""
