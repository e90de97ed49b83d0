"""Commands as JSON objects that drive a running camera from another process; it reads no stream itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.listener import Drop
from anr_watch.errors import ParseError
from anr_watch.instants import parse_instant

Answer = dict[str, Any]


class Control:
    """Executes commands: offline, online, faults, storage, journal, wait, status, stop.

    Every answer has `ok`; one that is refused says why in `error` and has changed nothing.
    """

    def __init__(self, camera: SimulatedCamera) -> None:
        self._camera = camera
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[Answer]]] = {
            "offline": self._offline,
            "online": self._online,
            "faults": self._faults,
            "storage": self._storage,
            "journal": self._journal,
            "wait": self._wait,
            "status": self._status,
            "stop": self._stop,
        }
        self.stopped = asyncio.Event()

    async def execute(self, line: str | bytes) -> Answer:
        """Execute one JSON line and return the answer to it."""
        try:
            command = json.loads(line)
            if not isinstance(command, dict) or command.get("cmd") not in self._commands:
                return _refused(f'no such command (right: {{"cmd": one of {", ".join(self._commands)}}})')
            return {"ok": True, **await self._commands[command.pop("cmd")](command)}
        except (ValueError, TypeError, ParseError, OSError) as error:  # JSONDecodeError is a ValueError
            return _refused(str(error))

    async def _offline(self, command: dict[str, Any]) -> Answer:
        """`{"cmd": "offline", "drop": "close"|"rst"|"silent"}`."""
        await self._camera.go_offline(Drop(command.get("drop", "close")))
        return {}

    async def _online(self, _: dict[str, Any]) -> Answer:
        await self._camera.go_online()
        return {}

    async def _faults(self, command: dict[str, Any]) -> Answer:
        """`{"cmd": "faults", "clear": true, "stall_after_s": 3, ...}`: clears first, then sets."""
        clear = bool(command.pop("clear", False))
        faults = self._camera.faults.copy()
        if clear:
            faults.clear()
        faults.update(command)
        if clear:
            self._camera.faults.clear()
        self._camera.faults.update(command)
        return {"faults": faults.as_json()}

    async def _storage(self, command: dict[str, Any]) -> Answer:
        """`{"cmd": "storage", "holes": [[from, to]], "recorded": [...]|null, "retention_s": .., ...}`."""
        changes: dict[str, Any] = {}
        for name, value in command.items():
            if name in {"holes", "recorded"}:
                windows = None if value is None and name == "recorded" else value
                changes[name] = windows and [(parse_instant(start), parse_instant(end)) for start, end in windows]
            elif name in {"closing_s", "clock_offset_s"}:
                changes[name] = float(value)
            elif name == "retention_s":
                changes[name] = None if value is None else float(value)
            else:
                raise ValueError(f"the storage has no {name!r}")
        for name, value in changes.items():
            setattr(self._camera.storage, name, value if value is not None or name != "holes" else [])
        return {}

    async def _journal(self, command: dict[str, Any]) -> Answer:
        """`{"cmd": "journal", "since": 0}`: entries from that number on, and the number after the last."""
        entries = self._camera.journal.entries
        since = int(command.get("since", 0))
        return {"journal": [entry.as_json() for entry in entries[since:]], "next": len(entries)}

    async def _wait(self, command: dict[str, Any]) -> Answer:
        """`{"cmd": "wait", "kind": "play", "since": 0, "timeout_s": 5}`: the entry, or refused in time."""
        kind, timeout_s = str(command.get("kind", "")), float(command.get("timeout_s", 5.0))
        try:
            entry = await self._camera.wait_for(kind, timeout_s, since=int(command.get("since", 0)))
        except TimeoutError:
            raise ValueError(f"no {kind!r} within {timeout_s} s") from None
        return {"entry": entry.as_json()}

    async def _status(self, _: dict[str, Any]) -> Answer:
        camera = self._camera
        return {
            "rtsp_port": camera.rtsp_port,
            "http_port": camera.http_port,
            "active_replays": camera.active_replays,
            "peak_replays": camera.peak_replays,
            "faults": camera.faults.as_json(),
        }

    async def _stop(self, _: dict[str, Any]) -> Answer:
        self.stopped.set()
        return {}


def _refused(why: str) -> Answer:
    return {"ok": False, "error": why}
