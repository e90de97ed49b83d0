"""`python -m anr_watch.camera`: the simulated camera without the rest of the program."""

from __future__ import annotations

import argparse
import sys

from anr_watch.camera.cli import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m anr_watch.camera")
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
