"""Many simulated cameras in one process of their own; tells at once, on stdout, what happens at them. Measures nothing.

    python -m tests.bench.stage.cameras --count 8 [--shared] [--size 160x96] [--fps 10] [--speed 8] ...

The first line has the ports. Then each event is a line `{"event": kind, "camera": index, "at": seconds, ...}`, stamped
with the clock that all processes here share, and each command on stdin gets an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys

from anr_watch.camera import rtsp
from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import SimulatedCamera
from anr_watch.camera.film import Film, FilmSpec, Picture
from anr_watch.camera.rtp import RtpTrack
from anr_watch.camera.sender import Sender

TOLD = frozenset({"accept", "playing", "last_byte", "closed", "status"})


def tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def teller(index: int, camera: SimulatedCamera):
    """Return what passes a camera's journal on."""

    def told(_: str) -> None:
        entry = camera.journal.entries.pop()  # nobody else reads it, and it would grow for the whole run
        if entry.kind in TOLD:
            detail = {name: value for name, value in entry.detail.items() if isinstance(value, str | int | float)}
            tell({"event": entry.kind, "camera": index, "at": entry.monotonic_s, **detail})

    return told


def can() -> None:
    """Keep the packets of every window that is sent, so that the camera in Python is not what limits a replay.

    Streams then begin with the same numbers, and those of one window are equal byte for byte.
    """
    plain, kept = Sender._packets, {}

    def packets(sender: Sender, position: int, picture: Picture) -> bytes:
        key = (sender._runs[0].first, position, sender._tracks.video._channel)
        if key not in kept:
            kept[key] = plain(sender, position, picture)
        return kept[key]

    Sender._packets = packets
    rtsp.RtpTrack = lambda **given: RtpTrack(**{**given, "ssrc": 1, "timestamp_offset": 0})


async def obey(cameras: list[SimulatedCamera], command: dict) -> dict[str, object]:
    chosen = [cameras[index] for index in command.get("which", range(len(cameras)))]
    match command["cmd"]:
        case "offline":
            for camera in chosen:
                await camera.go_offline()
        case "online":
            for camera in chosen:
                await camera.go_online()
        case "film":  # code what will be asked for, so that coding takes no time later
            for film in {id(camera.film): camera.film for camera in chosen}.values():
                gop = film.spec.gop_frames
                for number in range(command["first"] // gop, command["stop"] // gop + 1):
                    await asyncio.to_thread(film.gop, number)
        case "status":
            return {"peaks": [camera.peak_replays for camera in chosen]}
    return {}


async def serve(cameras: list[SimulatedCamera]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for index, camera in enumerate(cameras):
            camera.journal.echo = teller(index, camera)
            await stack.enter_async_context(camera)
        tell({"ports": [camera.rtsp_port for camera in cameras]})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            tell({"answer": True, **await obey(cameras, json.loads(line))})


def main() -> None:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--count", type=int, required=True)
    add("--size", default="160x96")
    add("--fps", type=int, default=10)
    add("--gop", type=int, default=10)
    add("--bitrate", type=int, default=0)
    add("--speed", type=float, default=0.0)
    add("--mtu", type=int, default=1400)
    add("--replay-limit", type=int, default=1)
    add("--cached-gops", type=int, default=400)
    add("--canned", action="store_true", help="a window asked for again is sent without packing it anew")
    add("--shared", action="store_true", help="all cameras show the film of camera 1, coded once")
    chosen = parser.parse_args()
    if chosen.canned:
        can()
    width, height = map(int, chosen.size.split("x"))
    films: dict[int, Film] = {}
    cameras = []
    for index in range(chosen.count):
        number = 1 if chosen.shared else index + 1
        film = FilmSpec(
            camera_number=number,
            width=width,
            height=height,
            fps=chosen.fps,
            gop_frames=chosen.gop,
            bitrate_bps=chosen.bitrate,
        )
        camera = SimulatedCamera(
            CameraSpec(
                name=f"cam{index}",
                film=film,
                replay_speed=chosen.speed,
                mtu_bytes=chosen.mtu,
                replay_limit=chosen.replay_limit,
            )
        )
        shown = films.setdefault(number, Film(film, cached_gops=chosen.cached_gops))
        camera.core.film = camera.core._stored_film = shown
        cameras.append(camera)
    asyncio.run(serve(cameras))


if __name__ == "__main__":
    main()
