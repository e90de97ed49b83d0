"""Sets the stage of the demo: folders, files with settings, and the processes on it; it tells no story.

Nothing is special-cased for the program: it gets a config file such as anybody would write, the kernel's database
with the cameras in it, and a broker. What is shorter than usual (segments, settle time) stands in that file.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anr_watch.clock import Clock
from anr_watch.demo.children import Child, ChildFailedError, Children

_T = TypeVar("_T")

NODE = "demo"
GOP_FRAMES = 15
FPS = 15
SEGMENT_S = 5
INDEX_INTERVAL_S = 2.0
REPLAY_SPEED = 4.0
START_TIMEOUT_S = 20.0
CLOCKS_OFF_S = (-4.3, 7.6, 0.7, -8.2)  # cameras' clocks are never right
_BROKER_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_CONFIG = """# Written by `anr-watch demo`; only what differs from the defaults.

[database]
path = {database}

[recordings]
path = {recordings}
min_free_mb = 50

[fills]
settle_s = 4          # the default is 20; here segments are {segment_s} s long, not 60

[log]
level = "info"
"""
_MQTT_CONFIG = """
[mqtt]
host = "127.0.0.1"
port = {port}
node = {node}

[[mqtt.presence]]
name = "demo"
topic = "cameras/{{camera}}/status"
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """One simulated camera on the stage."""

    id: str
    number: int
    child: Child
    rtsp_port: int


class Stage:
    """The demo's folder, and how to start what plays in it."""

    def __init__(self, folder: Path, children: Children, clock: Clock) -> None:
        self.folder = folder
        self.database = folder / "kernel.db"
        self.recordings = folder / "recordings"
        self.config = folder / "config.toml"
        self._children = children
        self._clock = clock
        self._password = secrets.token_urlsafe(12)
        self._password_file = folder / "camera-password"

    def prepare(self) -> None:
        """Create the folders and the cameras' password.

        Raises:
            OSError: the folder cannot be written.
        """
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.recordings.mkdir(exist_ok=True)
        _write_private(self._password_file, self._password + "\n")

    async def start_camera(self, number: int) -> Actor:
        """Start one camera and return it when it listens."""
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def heard(child: Child, line: str) -> None:
            answer = json.loads(line)
            if not listening.done():
                listening.set_result(answer["rtsp_port"])
            else:
                child.answered(answer)

        camera_id = f"cam_{number}"
        program = [
            sys.executable, "-m", "anr_watch.camera", "--json", "--control", "--verbose", "--name", camera_id,
            "--camera-number", str(number), "--size", "640x360", "--fps", str(FPS), "--gop", str(GOP_FRAMES),
            "--speed", str(REPLAY_SPEED), "--password-file", str(self._password_file),
            "--clock-offset", str(CLOCKS_OFF_S[(number - 1) % len(CLOCKS_OFF_S)]),
        ]  # fmt: skip
        child = await self._children.start(camera_id, program, on_line=heard)
        port = await _soon(listening, f"{camera_id} does not listen", child)
        return Actor(camera_id, number, child, port)

    async def start_kernel(self, actors: list[Actor], on_event: Callable[[dict[str, Any]], None]) -> Child:
        """Start the stand-in kernel, which records the cameras; return when its tables are there."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rows = [
            {
                "id": actor.id,
                "name": f"Camera {actor.number}",
                "vendor": "hikvision",
                "address": "127.0.0.1",
                "rtsp_port": actor.rtsp_port,
                "username": "admin",
                "password": self._password,
                "segment_seconds": SEGMENT_S,
                "anr_enabled": 1,
            }
            for actor in actors
        ]
        _write_private(self.folder / "cameras.json", json.dumps(rows, indent=1) + "\n")

        def heard(child: Child, line: str) -> None:
            event = json.loads(line)
            if event["event"] == "reply":
                child.answered(event)
                return
            if event["event"] == "started" and not started.done():
                started.set_result(None)
            on_event(event)

        program = [
            sys.executable, "-m", "anr_watch.demo.kernel", "--database", str(self.database),
            "--recordings", str(self.recordings), "--cameras", str(self.folder / "cameras.json"),
            "--index-interval-s", str(INDEX_INTERVAL_S), "--last-retry-s", "2",
        ]  # fmt: skip
        child = await self._children.start("kernel", program, on_line=heard)
        await _soon(started, "the kernel does not start", child)
        return child

    async def start_broker(self) -> int | None:
        """Start mosquitto on a free loopback port and return the port; None if there is no mosquitto."""
        program = find_broker()
        if program is None:
            return None
        port = _free_port()
        settings = self.folder / "mosquitto.conf"
        text = f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        if os.geteuid() == 0:
            text += "user root\n"  # changing to its own user would take the leash off (prctl(2), PR_SET_PDEATHSIG)
        settings.write_text(text)
        child = await self._children.start("mosquitto", [program, "-c", str(settings)])
        end_s = self._clock.monotonic() + START_TIMEOUT_S
        while self._clock.monotonic() < end_s:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await self._clock.sleep(0.02)
                continue
            writer.close()
            return port
        raise ChildFailedError("the broker does not listen", child.tail())

    async def start_daemon(self, broker_port: int | None) -> Child:
        """Write the config file and start the program itself: `anr-watch --config FILE run`."""
        text = _CONFIG.format(database=_toml(self.database), recordings=_toml(self.recordings), segment_s=SEGMENT_S)
        if broker_port is not None:
            text += _MQTT_CONFIG.format(port=broker_port, node=_toml(NODE))
        self.config.write_text(text, encoding="utf-8")
        return await self._children.start(
            "anr-watch", [sys.executable, "-m", "anr_watch", "--config", str(self.config), "run"]
        )


async def _soon(future: asyncio.Future[_T], complaint: str, child: Child) -> _T:
    await asyncio.wait([future], timeout=START_TIMEOUT_S)
    if not future.done():
        future.cancel()
        raise ChildFailedError(complaint, child.tail())
    return future.result()


def find_broker() -> str | None:
    """Return the path of mosquitto, also where only root's PATH has it."""
    found = shutil.which("mosquitto")
    return found or shutil.which("mosquitto", path=os.pathsep.join(_BROKER_FOLDERS))


def _free_port() -> int:
    """Return a port nobody listens on now; mosquitto cannot choose one by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _toml(value: object) -> str:
    """Return a TOML basic string; its escapes are those of JSON as long as characters stay themselves."""
    return json.dumps(str(value), ensure_ascii=False)
