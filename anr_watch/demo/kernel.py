"""A stand-in for the Heldar kernel as a process: recorders, indexer, camera status; it fills nothing.

What it does, and when, follows Heldar 0.5.0: a session that ends makes the camera `offline` with an event, the next
try sets `connecting` and at once `recording`, before any media flows (so while a camera is away its state flickers);
every pass of the indexer turns closed files into rows and notes gaps of more than 3 s. Old files are indexed too.

    python -m anr_watch.demo.kernel --database D --recordings R --cameras cameras.json

`cameras.json` is a list of objects with columns of `cameras` (id, name, address, rtsp_port, username, password, ...).
Commands come as JSON lines on stdin, `{"cmd": "index" | "status" | "stop"}`; what happens goes out as JSON lines on
stdout. It ends on `stop`, SIGTERM, Ctrl-C or the end of stdin, with all files closed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import quote

import av

from anr_watch.clock import Clock, SystemClock
from anr_watch.demo.recorder import NAME_FORMAT, FileOpened, Recorder, RecorderJob, RecorderState, StateChange
from anr_watch.demo.tables import SegmentFacts, Tables
from anr_watch.instants import format_instant
from anr_watch.model import Secret

QUIET_S = 15.0  # the newest file counts as closed after segment length plus this much quiet
HEALTH_EVERY_S = 15.0
_LIVE_PATHS = {"dahua": "/cam/realmonitor?channel=1&subtype=0"}
_DEFAULT_LIVE_PATH = "/Streaming/Channels/101"


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """What may be set; `gaps` and `status` off leave out that part, so one kind of event can be shown alone."""

    database: Path
    recordings: str  # text: stands in `segments.path` as given
    index_interval_s: float = 10.0
    gaps: bool = True
    status: bool = True
    io_timeout_s: float = 2.5
    last_retry_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Command:
    """A line from stdin; None when stdin ended."""

    text: str | None


def live_url(camera: Mapping[str, object]) -> Secret:
    """Return the URL of a camera's live main stream, built as the kernel builds it."""
    given = camera.get("main_stream_url")
    if given:
        return Secret(str(given))
    user, password = camera.get("username"), camera.get("password")
    credentials = ""
    if user:
        credentials = quote(str(user), safe="")
        credentials += f":{quote(str(password), safe='')}@" if password else "@"
    path = _LIVE_PATHS.get(str(camera.get("vendor")), _DEFAULT_LIVE_PATH)
    return Secret(f"rtsp://{credentials}{camera['address']}:{camera.get('rtsp_port', 554)}{path}")


def probe(path: Path, path_text: str) -> SegmentFacts | None:
    """Return what a closed file holds, or None if its name or content is not that of a segment."""
    try:
        start = datetime.strptime(path.name, NAME_FORMAT).replace(tzinfo=UTC)
        size_bytes = path.stat().st_size
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            if container.duration is None:
                return None
            codec = video.codec_context
            return SegmentFacts(
                path_text, start, container.duration / 1e6, codec.name, codec.width, codec.height, size_bytes
            )
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return None  # ffprobe fails on the same files, and the kernel then leaves them without a row


class Kernel:
    """The kernel's loop: one thread owns the database, recorders and stdin only put things into its queue."""

    def __init__(
        self, options: KernelOptions, cameras: Sequence[Mapping[str, object]], *, clock: Clock | None = None
    ) -> None:
        self._options = options
        self._clock: Clock = clock or SystemClock()
        self._inbox: SimpleQueue[StateChange | FileOpened | _Command] = SimpleQueue()
        self._tables = Tables(options.database)
        self._tables.migrated()
        self._cameras = {str(camera["id"]): camera for camera in cameras}
        self._online: set[str] = set()
        self._unreadable: set[tuple[str, int]] = set()
        for camera in cameras:
            self._tables.add_camera(camera, self._clock.now())
        self._recorders = [self._recorder(camera) for camera in cameras if camera.get("record_enabled", 1)]

    def _recorder(self, camera: Mapping[str, object]) -> Recorder:
        options = self._options
        job = RecorderJob(
            camera_id=str(camera["id"]),
            url=live_url(camera),
            recordings=Path(options.recordings),
            segment_s=float(str(camera.get("segment_seconds", 60))),
            audio=bool(camera.get("record_audio", 0)),
            io_timeout_s=options.io_timeout_s,
            last_retry_s=options.last_retry_s,
        )
        return Recorder(job, self._inbox.put, clock=self._clock)

    def command(self, text: str | None) -> None:
        """Hand in one line of JSON from any thread or signal handler; None means: end."""
        self._inbox.put(_Command(text))

    def run(self) -> None:
        """Record and index until told to end; closes files and database."""
        self._say("started", cameras=sorted(self._cameras), pid=os.getpid())
        for recorder in self._recorders:
            recorder.start()
        now_s = self._clock.monotonic()
        index_at_s, health_at_s = now_s + self._options.index_interval_s, now_s + HEALTH_EVERY_S
        try:
            while True:
                wait_s = max(0.0, min(index_at_s, health_at_s) - self._clock.monotonic())
                try:
                    item = self._inbox.get(timeout=wait_s)
                except Empty:
                    item = None
                if isinstance(item, StateChange):
                    self._state_changed(item)
                elif isinstance(item, FileOpened):
                    self._say("file", camera=item.camera_id, path=str(item.path))
                elif item is not None and not self._obey(item.text):
                    return
                now_s = self._clock.monotonic()
                if now_s >= index_at_s:
                    self.index()
                    index_at_s = now_s + self._options.index_interval_s
                if now_s >= health_at_s:
                    self._check_health()
                    health_at_s = now_s + HEALTH_EVERY_S
        finally:
            self._close()

    def _close(self) -> None:
        for recorder in self._recorders:
            recorder.stop()
        for recorder in self._recorders:
            recorder.join(3 * self._options.io_timeout_s)
        self._tables.close()
        self._say("stopped")

    def _obey(self, text: str | None) -> bool:
        if text is None:
            return False
        try:
            command = json.loads(text)["cmd"]
        except (ValueError, KeyError, TypeError):
            self._say("reply", error=f"not a command: {text[:80]}")
            return True
        if command == "index":
            segments, gaps = self.index()
            self._say("reply", cmd="index", segments=segments, gaps=gaps)
        elif command == "status":
            self._say("reply", cmd="status", recording=sorted(self._online))
        elif command != "stop":
            self._say("reply", error=f"unknown command {command!r}: index, status, stop")
        return bool(command != "stop")

    def _state_changed(self, change: StateChange) -> None:
        camera_id = change.camera_id
        detail = {"detail": change.detail} if change.detail else {}
        writes = self._options.status
        if change.state is RecorderState.CONNECTING and writes:
            self._tables.set_state(camera_id, "connecting", self._clock.now())
            self._tables.set_state(camera_id, "recording", self._clock.now())
        elif change.state is RecorderState.RECORDING:
            self._online.add(camera_id)
        elif change.state is RecorderState.OFFLINE:
            if writes:
                self._tables.set_state(camera_id, "offline", self._clock.now(), error=change.detail)
            if camera_id in self._online:
                self._tables.add_event(camera_id, "camera_offline", "warning", change.at, detail)
            self._online.discard(camera_id)
        # Told last: who reads this line finds the rows.
        self._say("state", camera=camera_id, state=change.state, at=format_instant(change.at), **detail)

    def index(self) -> tuple[int, int]:
        """Make one pass of the indexer over all cameras; return how many rows of segments and gaps are new."""
        segments = gaps = 0
        for camera_id in self._cameras:
            for facts in self._closed_files(camera_id):
                added, gap = self._tables.add_segment(
                    camera_id, facts, self._clock.now(), gaps=self._options.gaps, status=self._options.status
                )
                if not added:
                    continue
                segments += 1
                times = {"start": format_instant(facts.start), "end": format_instant(facts.end)}
                self._say("segment", camera=camera_id, path=facts.path, **times)
                if gap is not None:
                    gaps += gap.inserted
                    times = {"start": format_instant(gap.start), "end": format_instant(gap.end)}
                    self._say("gap", camera=camera_id, inserted=gap.inserted, **times)
        return segments, gaps

    def _closed_files(self, camera_id: str) -> list[SegmentFacts]:
        """Return the closed files of a camera that have no row; rows whose file changed are repaired on the way."""
        base = f"{self._options.recordings}/{camera_id}"
        folder = Path(base)
        names = sorted(path.name for path in folder.glob("*.mp4")) if folder.is_dir() else []
        known = self._tables.known_sizes(camera_id)
        fresh: list[SegmentFacts] = []
        for position, name in enumerate(names):
            path, text = folder / name, f"{base}/{name}"
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            segment_s = float(str(self._cameras[camera_id].get("segment_seconds", 60)))
            quiet_s = self._clock.now().timestamp() - facts.st_mtime
            if position == len(names) - 1 and quiet_s < segment_s + QUIET_S:
                continue
            if known.get(text) == facts.st_size or (text, facts.st_size) in self._unreadable:
                continue
            found = probe(path, text)
            if found is None:
                self._unreadable.add((text, facts.st_size))
                self._say("unreadable", camera=camera_id, path=text)
            elif text in known:
                self._tables.repair_segment(found)
                self._say("repaired", camera=camera_id, path=text)
            else:
                fresh.append(found)
        return fresh

    def _check_health(self) -> None:
        if self._options.status:
            for camera_id in self._tables.find_stale(self._clock.now()):
                self._say("stale", camera=camera_id)

    def _say(self, event: str, **facts: object) -> None:
        try:
            sys.stdout.write(json.dumps({"event": event} | facts) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self.command(None)  # nobody listens any more: end


def _read_commands(kernel: Kernel) -> None:
    """Hand in the lines of stdin, read unbuffered: a lock held by this thread would spoil the interpreter's end."""
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                kernel.command(line.decode(errors="replace"))
    kernel.command(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stand-in kernel until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m anr_watch.demo.kernel", description="A stand-in kernel.")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--cameras", type=Path, required=True, help="JSON list of camera rows")
    parser.add_argument("--index-interval-s", type=float, default=10.0)
    parser.add_argument("--last-retry-s", type=float, default=5.0, help="the longest wait before a reconnect")
    parser.add_argument("--no-gaps", dest="gaps", action="store_false", help="the indexer notes no gaps")
    parser.add_argument("--no-status", dest="status", action="store_false", help="camera_status never changes")
    chosen = parser.parse_args(argv)
    options = KernelOptions(
        chosen.database,
        chosen.recordings,
        chosen.index_interval_s,
        gaps=chosen.gaps,
        status=chosen.status,
        last_retry_s=chosen.last_retry_s,
    )
    kernel = Kernel(options, json.loads(chosen.cameras.read_text()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: kernel.command(None))
    Thread(target=_read_commands, args=(kernel,), name="commands", daemon=True).start()
    kernel.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
