"""The optional endpoint for Prometheus: what it counts, how it is written, and the small server. Off by default."""
