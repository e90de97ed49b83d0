"""`python -m tests.fuzz TARGET`: feeds one target for ever, or for so many cases or seconds; see `--help`.

With atheris (no wheels for arm64) libFuzzer chooses what to change by what it reaches; without,
real inputs are changed blindly. The number of cases is kept in a file, which survives whatever ends the process.
"""

import argparse
import importlib.util
import mmap
import os
import struct
import sys
from pathlib import Path

COUNT = struct.Struct("=Q")


class Counter:
    """A number in a file that is right at any time."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(COUNT.pack(0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), COUNT.size)
        self.number = 0

    def one_more(self) -> None:
        self.number += 1
        COUNT.pack_into(self._map, 0, self.number)


def main() -> int:
    """Fuzz; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/fuzz"), help="corpus, findings, the number of cases"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=0, help="0: no limit")
    parser.add_argument("--seconds", type=float, default=0, help="0: no limit")
    parser.add_argument("--blind", action="store_true", help="do not use atheris")
    args = parser.parse_args()
    corpus = args.folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    counter = Counter(args.folder / "cases")
    if args.blind or importlib.util.find_spec("atheris") is None:
        return blind(args, counter)
    return guided(args, corpus, counter)


def blind(args: argparse.Namespace, counter: Counter) -> int:
    """Change real inputs without looking at what they reach."""
    from tests.fuzz import watched

    done = watched.run(args.target, seed=args.seed, cases=args.cases or 1 << 62, seconds=args.seconds or float("inf"))
    for _ in range(done):
        counter.one_more()
    return 0


def guided(args: argparse.Namespace, corpus: Path, counter: Counter) -> int:
    """Let libFuzzer do it. It ends this process itself when it is done or has found something."""
    import atheris

    with atheris.instrument_imports(include=["anr_watch"], enable_loader_override=False):
        from tests.fuzz import targets
    target = targets.TARGETS[args.target]
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    words = args.folder / "words"
    words.write_text("".join(_dictionary_line(word) for word in target.words))

    def one(data: bytes) -> None:
        counter.one_more()
        target.feed(data)

    options = [
        f"-seed={args.seed % (1 << 31)}",
        f"-artifact_prefix={args.folder}/",
        f"-dict={words}",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-max_len=65536",
        "-print_final_stats=0",
        "-verbosity=0",
    ]
    options += [f"-runs={args.cases}"] if args.cases else []
    options += [f"-max_total_time={max(1, round(args.seconds))}"] if args.seconds else []
    atheris.Setup([sys.argv[0], *options, os.fspath(corpus)], one)
    atheris.Fuzz()
    return 0


def _dictionary_line(word: bytes) -> str:
    coded = "".join(f"\\x{byte:02x}" for byte in word[:60])
    return f'"{coded}"\n'


if __name__ == "__main__":
    sys.exit(main())
