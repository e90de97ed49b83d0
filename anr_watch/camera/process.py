"""One simulated camera as a process: prints its URLs, obeys stdin, ends on a signal; arguments are cli's."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anr_watch.camera.control import Control
from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import Replay, SimulatedCamera
from anr_watch.camera.film import FilmSpec
from anr_watch.errors import ParseError
from anr_watch.instants import parse_instant
from anr_watch.log import redact


class _Refused(Exception):  # noqa: N818 - what the user asked for cannot be done; not an error of ours
    """An argument that cannot be used; the text says why."""


def run(args: argparse.Namespace) -> int:
    """Run the camera the arguments describe and return the exit status, see `cli.run`."""
    try:
        spec = _spec(args)
        camera = SimulatedCamera(spec)
        _prepare(camera, args)
    except _Refused as error:
        _tell(f"anr-watch camera: {redact(str(error))}", sys.stderr)
        return 2
    try:
        asyncio.run(_serve(camera, args))
    except OSError as error:
        _tell(f"anr-watch camera: cannot listen on {spec.host}: {error.strerror or error}", sys.stderr)
        return 1
    return 0


def _spec(args: argparse.Namespace) -> CameraSpec:
    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise _Refused(f"--size {args.size} is not a size (right: 320x180)")
    try:
        film = FilmSpec(
            camera_number=args.camera_number,
            codec=args.codec,
            width=int(width),
            height=int(height),
            fps=args.fps,
            gop_frames=args.gop,
            b_frames=args.b_frames,
            bitrate_bps=args.bitrate,
            quality=args.quality,
            drop_every=args.drop_every,
        )
        stored = None if args.stored_quality is None else replace(film, quality=args.stored_quality)
        ZoneInfo(args.zone)
    except ZoneInfoNotFoundError:
        raise _Refused(f"--zone {args.zone} is not a time zone (right: Europe/Berlin)") from None
    except ValueError as error:
        raise _Refused(str(error)) from None
    return CameraSpec(
        name=args.name,
        film=film,
        audio=args.audio,
        username=args.user,
        password=_password(args.password_file),
        auth=args.auth,
        host=args.host,
        rtsp_port=args.rtsp_port,
        http_port=args.http_port,
        replay_limit=args.replay_limit,
        http_limit=args.http_limit,
        replay_speed=args.speed,
        clock_offset_s=args.clock_offset,
        zone=args.zone,
        mtu_bytes=args.mtu,
        stored_film=stored,
    )


def _password(file: Path | None) -> str:
    if file is None:
        return os.environ.get("CAMERA_PASSWORD") or "camera"
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise _Refused(f"--password-file {file}: {error}") from None


def _prepare(camera: SimulatedCamera, args: argparse.Namespace) -> None:
    try:
        for hole in args.hole:
            start, _, end = hole.partition("/")
            camera.storage.holes.append((parse_instant(start), parse_instant(end)))
        camera.faults.update(dict(fault.partition("=")[::2] for fault in args.fault))
    except (ParseError, ValueError) as error:
        raise _Refused(str(error)) from None
    camera.storage.retention_s = args.retention
    camera.storage.closing_s = args.closing
    if args.verbose:
        camera.journal.echo = _to_stderr


def _to_stderr(text: str) -> None:
    _tell(redact(text), sys.stderr)


def _tell(text: str, stream: TextIO) -> None:
    """Write a line at once: another process waits for it."""
    stream.write(text + "\n")
    stream.flush()


async def _serve(camera: SimulatedCamera, args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    async with camera:
        control = Control(camera)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, control.stopped.set)
        if args.offline:
            await camera.go_offline()
        _announce(camera, as_json=args.json)
        async with asyncio.TaskGroup() as group:
            commands = group.create_task(_obey(control, ends=args.control), name="camera-control")
            await control.stopped.wait()
            commands.cancel()


def _announce(camera: SimulatedCamera, *, as_json: bool) -> None:
    facts: dict[str, str | int] = {"rtsp_port": camera.rtsp_port, "http_port": camera.http_port}
    facts["live"] = redact(camera.url_live())
    facts["replay"] = redact(camera.url_replay_template())
    facts["http_replay"] = redact(camera.url_replay_template(Replay.MEDIAMTX))
    text = json.dumps(facts) if as_json else "  ".join(f"{name} {value}" for name, value in facts.items())
    _tell(text, sys.stdout)


async def _obey(control: Control, *, ends: bool) -> None:
    async for line in _lines(sys.stdin):
        if line.strip():
            _tell(json.dumps(await control.execute(line)), sys.stdout)
    if ends:
        control.stopped.set()


async def _lines(stream: TextIO | None) -> AsyncIterator[bytes]:
    """Give the lines of stdin: a pipe, a terminal or a socket by events, a file as it is."""
    if stream is None or stream.closed:
        return
    mode = os.fstat(stream.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()):
        # A regular file or /dev/null cannot be waited for, and never lets anyone wait.
        for line in await asyncio.to_thread(stream.buffer.readlines):
            yield line
        return
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    while line := await reader.readline():
        yield line
