"""Lets `python -m anr_watch` be the same program as `anr-watch`; nothing else."""

import sys

from anr_watch.cli import main

if __name__ == "__main__":
    sys.exit(main())
