"""Searches every output of a world for its passwords: what was printed, processes, passing files, MQTT, tables, files.

Each secret has a core of letters and digits that no encoding of an URL, of JSON or of Python's `repr` changes, so a
search for the core finds all of those forms; base64 and hexadecimal digits are searched for in every alignment.
A new place where something could leak is one line in `PLACES`.
"""

import asyncio
import base64
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.broker import Observer
from tests.forms import forms
from tests.world import World

CAMERA_CORE, TEMPLATE_CORE, SEALED_CORE, MQTT_CORE = "Kx7qZw3mTb9e", "Vn4rLd8sQy2u", "Hj6wPc5kXf1a", "Rg3tNb7yMs0z"
CAMERA_PASSWORD = f"p@ss/w:rd %41\"'{CAMERA_CORE}#?&ü"
TEMPLATE_PASSWORD = f"t@/:% \"'{TEMPLATE_CORE}"
SEALED_PASSWORD = f"s@/:% \"'{SEALED_CORE}"
MQTT_PASSWORD = f"m@/:% \"'{MQTT_CORE}"
KEY = bytes(range(101, 133))
KEY_TEXT = base64.b64encode(KEY).decode()


def sealed(text: str) -> str:
    nonce = bytes(range(12))
    return "enc:v1:" + base64.b64encode(nonce + AESGCM(KEY).encrypt(nonce, text.encode(), None)).decode()


SECRETS = {
    "camera password": forms(CAMERA_CORE.encode()),
    "password in a template": forms(TEMPLATE_CORE.encode()),
    "sealed password": forms(SEALED_CORE.encode()),
    "sealed text": {sealed(SEALED_PASSWORD)[12:40].encode()},
    "MQTT password": forms(MQTT_CORE.encode()),
    "HELDAR_SECRET_KEY": {
        KEY_TEXT.rstrip("=").encode(),
        KEY,
        KEY.hex().encode(),
        quote(KEY_TEXT, safe="").encode()[:40],
    },
}


@dataclass
class Seen:
    """Everything that could hold a secret, as (where, bytes), collected while the world runs and afterwards."""

    world: World
    observer: Observer
    broker_folder: Path
    scratch: Path
    texts: list[tuple[str, bytes]] = field(default_factory=list)  # logs, and what commands printed
    sampled: dict[tuple[str, bytes], None] = field(default_factory=dict)  # processes and passing files
    workers: set[int] = field(default_factory=set)


Place = Callable[[Seen], Iterator[tuple[str, bytes]]]


def printed(seen: Seen) -> Iterator[tuple[str, bytes]]:
    yield from seen.texts


def processes_and_passing_files(seen: Seen) -> Iterator[tuple[str, bytes]]:
    yield from seen.sampled


def broker_traffic(seen: Seen) -> Iterator[tuple[str, bytes]]:
    for message in seen.observer.messages:
        yield (
            f"MQTT {message.topic}",
            message.topic.encode() + b" " + message.payload + repr(message.properties).encode(),
        )


def tables(seen: Seen) -> Iterator[tuple[str, bytes]]:
    """All but the kernel's `cameras`, which is where the secrets live; in a database of our own all of them."""
    with contextlib.closing(sqlite3.connect(seen.world.database)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "anr_attempts" in names
        assert "anr_outbox" in names
        for name in names:
            if name == "cameras" and not seen.world.standalone:
                continue
            for row in database.execute(f'SELECT * FROM "{name}"'):
                yield f"table {name}", b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in row)


def files(seen: Seen) -> Iterator[tuple[str, bytes]]:
    """Every file below the world's folder that others did not put there; names count like content."""
    world = seen.world
    for path in sorted(world.folder.rglob("*")):
        yield "file name", os.fsencode(path)
        if not path.is_file() or path == world.config or path.is_relative_to(seen.broker_folder):
            continue
        if not world.standalone and path.name.startswith(world.database.name):
            continue  # the kernel's cameras table is in it: see `tables`
        yield f"file {path}", path.read_bytes()


PLACES: tuple[Place, ...] = (printed, processes_and_passing_files, broker_traffic, tables, files)


def leaks(seen: Seen) -> list[str]:
    found = []
    for place in PLACES:
        for where, content in place(seen):
            found += [
                f"{name} in {where}: {content[:400]!r}"
                for name, texts in SECRETS.items()
                if any(text in content for text in texts)
            ]
    return sorted(set(found))


def descendants() -> dict[int, bytes]:
    """Return the command lines of all processes below this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    found = {}
    for pid in ours - {os.getpid()}:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def sample(seen: Seen) -> None:
    for pid, line in descendants().items():
        seen.sampled[("command line", line)] = None
        if b"anr_watch.replay.forkserver" in line:  # and its forks, the workers: the same line
            seen.workers.add(pid)
            # Everybody else's environment is that of the test: the daemon's holds what its owner put there.
            with contextlib.suppress(OSError):
                seen.sampled[("environment of a worker", Path(f"/proc/{pid}/environ").read_bytes())] = None
    for root in (seen.world.recordings / ".anr-watch", seen.scratch):
        for folder, _, names in os.walk(root):  # goes on where something vanishes
            for path in (Path(folder, name) for name in names):
                seen.sampled[("passing file name", os.fsencode(path))] = None
                with contextlib.suppress(OSError):
                    if path.stat().st_size < 65536:
                        seen.sampled[(f"passing file {path.suffix}", path.read_bytes())] = None


async def sampling(seen: Seen) -> None:
    while True:
        sample(seen)
        await asyncio.sleep(0.05)
