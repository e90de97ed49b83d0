"""Runs `python -m tests.fuzz` in a process of its own: libFuzzer ends the process it runs in."""

import subprocess
import sys
from pathlib import Path

from tests.fuzz.__main__ import COUNT

STARTING_S = 60.0  # imports with instrumentation, on a busy machine


def fuzzer(name: str, folder: Path, *, seed: int, cases: int, seconds: float | None = None) -> int:
    """Fuzz one target for `seconds`, or for so many cases; return how many there were.

    Raises:
        AssertionError: it found something; the text holds the end of what it said, the case lies in `folder`.
    """
    limit = ["--seconds", str(seconds)] if seconds else ["--cases", str(cases)]
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--folder", folder, "--seed", str(seed), *limit],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        timeout=STARTING_S + (seconds or 60),
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")[-3000:]
        found = {path.name: path.read_bytes().hex()[:4000] for path in folder.glob("*-*") if path.is_file()}
        raise AssertionError(f"{name}: {said}\n{found}")
    return int(COUNT.unpack((folder / "cases").read_bytes())[0])
