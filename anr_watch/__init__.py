"""anr-watch: fetches what a camera recorded while it was offline."""

__version__ = "0.1.0"
