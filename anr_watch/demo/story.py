"""The demo's story: record, cut, bring back, watch the gap close, prove; it draws and starts nothing itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiomqtt

from anr_watch.clock import Clock
from anr_watch.demo.children import Child, ChildFailedError, Children
from anr_watch.demo.proof import count_frames
from anr_watch.demo.rows import GapRow, Rows
from anr_watch.demo.show import Bar, Show
from anr_watch.demo.stage import INDEX_INTERVAL_S, NODE, START_TIMEOUT_S, Actor, Stage
from anr_watch.demo.telling import CameraResult, Happening, Summary, words_for
from anr_watch.demo.timeline import Cell, Folder, bar
from anr_watch.instants import parse_instant
from anr_watch.model import Window
from anr_watch.states import FillState

RECORD_S = 8.0
STAGGER_S = 2.0
SETTLE_TIMEOUT_S = 45.0
_TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class StoryOptions:
    """What a person may choose."""

    cameras: int = 2
    outage_s: float = 20.0
    keep: bool = False


@dataclass(slots=True)
class Role:
    """What the demo knows of one camera while the story runs."""

    actor: Actor
    folder: Folder
    recording: bool = False
    files: set[str] = field(default_factory=set)  # names of the files the recorder opened
    cut_s: float | None = None  # monotonic
    back_s: float | None = None
    published_s: float | None = None
    resumed: int = 0  # files the indexer took after the return
    quiet_since_s: float = 0.0  # since when nothing is pending


class Story:
    """One run of the demo."""

    def __init__(self, options: StoryOptions, stage: Stage, show: Show, clock: Clock) -> None:
        self._options, self._stage, self._show, self._clock = options, stage, show, clock
        self._began_s = clock.monotonic()
        self._began = clock.now()
        self._roles: dict[str, Role] = {}
        self._gaps: dict[str, GapRow] = {}
        self._rows: Rows | None = None
        self._joins: dict[str, tuple[tuple[str, ...], float | None]] = {}
        self._events = 0
        self._ready = asyncio.Event()
        self._settled = False

    async def run(self, children: Children) -> Summary:
        """Play the whole story and return what it showed.

        Raises:
            ChildFailedError: a process did not start, answer or stay.
            sqlite3.Error, OSError: the database or a file could not be read.
        """
        numbers = range(1, self._options.cameras + 1)
        count = f"{len(numbers)} camera" + ("s" if len(numbers) > 1 else "")
        self._tell(
            "start", f"{count} with onboard storage, a recorder, a broker, and anr-watch itself", cameras=len(numbers)
        )
        port = await self._stage.start_broker()
        if port is None:
            self._tell("no_broker", "no mosquitto found: goes on with the events of database and folder alone")
        actors = list(await asyncio.gather(*(self._stage.start_camera(number) for number in numbers)))
        self._roles = {actor.id: Role(actor, Folder(self._stage.recordings / actor.id)) for actor in actors}
        kernel = await self._stage.start_kernel(actors, self._kernel_said)
        self._rows = Rows(self._stage.database)
        try:
            async with self._mqtt(port) as client, _task(self._tick(), "demo-tick"):
                daemon = await self._stage.start_daemon(port)
                await self._until_all_record(kernel)
                if client is not None:
                    await self._until_ready(daemon)
                await self._clock.sleep(RECORD_S)
                async with asyncio.TaskGroup() as group:
                    for role in self._roles.values():
                        group.create_task(self._outage(role, client), name=f"outage {role.actor.id}")
                self._settled = await self._until_settled()
            self._look()
            self._joins = self._rows.joins()
            self._show.keep_bars()
        finally:
            self._rows.close()
        connects = {camera: await self._connect_ms(role) for camera, role in self._roles.items()}
        await children.stop(daemon)
        await children.stop(kernel)
        self._tell("proof", "recording stopped; every picture is decoded and its number read")
        results = await asyncio.gather(
            *(asyncio.to_thread(self._prove, role, connects[camera]) for camera, role in self._roles.items())
        )
        folder = str(self._stage.folder) if self._options.keep else None
        return Summary(tuple(results), self._events, self._settled, self._elapsed_s(), folder)

    # -- what happens ------------------------------------------------------------------------------------------

    async def _outage(self, role: Role, client: aiomqtt.Client | None) -> None:
        camera = role.actor.id
        await self._clock.sleep(min(STAGGER_S, self._options.outage_s / 4) * (role.actor.number - 1))
        await role.actor.child.ask(cmd="offline")
        role.cut_s = self._clock.monotonic()
        self._tell("cut", f"network cut for {self._options.outage_s:g} s; the camera records on to its card", camera)
        await _publish(client, camera, "offline")
        await self._clock.sleep(role.cut_s + self._options.outage_s - self._clock.monotonic())
        await role.actor.child.ask(cmd="online")
        role.back_s = self._clock.monotonic()
        role.published_s = role.back_s if client is not None else None
        await _publish(client, camera, "online")
        said = "; MQTT: cameras/" + camera + "/status online" if client is not None else ""
        self._tell("return", f"network back{said}", camera)

    def _kernel_said(self, event: dict[str, Any]) -> None:
        role = self._roles.get(str(event.get("camera")))
        if role is None:
            return
        camera = role.actor.id
        match event["event"]:
            case "file":
                role.files.add(Path(event["path"]).name)
            case "state" if event["state"] in {"recording", "offline"}:
                was, role.recording = role.recording, event["state"] == "recording"
                if was != role.recording:
                    self._tell("recorder", f"recorder: {event['state']}", camera, state=event["state"])
            case "segment" if role.back_s is not None and Path(event["path"]).name in role.files:
                age_s = (self._clock.now() - parse_instant(event["start"])).total_seconds()
                role.resumed += age_s < self._clock.monotonic() - role.back_s
            case "gap":
                note = "" if event["inserted"] else " (its row is there already)"
                times = {"start": event["start"], "end": event["end"]}
                self._tell("kernel_gap", f"the kernel's indexer notices the gap{note}", camera, **times)

    def _mqtt_said(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/status"):
            if payload == b"online":
                self._ready.set()
            return
        if not topic.endswith("/event"):
            return
        self._events += 1
        event = json.loads(payload)
        kind = event["type"].removeprefix("io.anr-watch.").removesuffix(".v1")
        self._tell(kind, words_for(event), event["data"]["camera"], cloudevent=event)

    # -- what is waited for ------------------------------------------------------------------------------------

    async def _until_all_record(self, kernel: Child) -> None:
        if not await self._until(lambda: all(role.recording for role in self._roles.values()), START_TIMEOUT_S):
            raise ChildFailedError("not every camera is recorded", kernel.tail())

    async def _until_ready(self, daemon: Child) -> None:
        if not await self._until(self._ready.is_set, START_TIMEOUT_S):
            raise ChildFailedError("anr-watch does not appear on MQTT", daemon.tail())
        self._tell("ready", "anr-watch is ready")

    async def _until_settled(self) -> bool:
        """Wait until recording went on, no gap is pending, and the indexer has had time to find another one."""
        return await self._until(self._is_settled, SETTLE_TIMEOUT_S)

    def _is_settled(self) -> bool:
        now_s = self._clock.monotonic()
        for role in self._roles.values():
            states = [gap.state for gap in self._gaps.values() if gap.camera == role.actor.id]
            if role.resumed < 1 or not states or set(states) != {FillState.FILLED}:
                role.quiet_since_s = now_s
        return all(now_s - role.quiet_since_s > INDEX_INTERVAL_S + 1 for role in self._roles.values())

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        end_s = self._clock.monotonic() + timeout_s
        while not condition():
            if self._clock.monotonic() >= end_s:
                return False
            await self._clock.sleep(0.05)
        return True

    # -- what is seen ------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self._look()
            await self._clock.sleep(_TICK_S)

    def _look(self) -> None:
        if self._rows is None:
            return
        gaps = self._rows.gaps()
        for gap in gaps.values():
            before = self._gaps.get(gap.id)
            if before is None or before.state != gap.state:
                seconds = (parse_instant(gap.end) - parse_instant(gap.start)).total_seconds()
                facts = {"gap": gap.id, "state": gap.state, "start": gap.start, "end": gap.end}
                text = f"row in recording_gaps: {seconds:.1f} s {gap.state}"
                self._tell("row", text, gap.camera, echo=self._ready.is_set(), **facts)
        self._gaps = gaps
        now = self._clock.now()
        self._show.bars([self._bar(role, now) for role in self._roles.values()], self._elapsed_s())

    def _bar(self, role: Role, now: datetime) -> Bar:
        footage = role.folder.footage(role.files, growing=role.recording, now=now)
        cells: list[Cell] = []
        if footage.recorded:
            cells = bar(footage, Window(min(footage.recorded).start, now), self._show.bar_width)
        pending = sum(gap.state == FillState.PENDING for gap in self._gaps.values() if gap.camera == role.actor.id)
        network = "network down" if role.cut_s is not None and role.back_s is None else "network up"
        words = ["recording" if role.recording else "not recording", network]
        words += [f"{pending} gap{'s' * (pending > 1)} open"] if pending else []
        return Bar(role.actor.id, cells, ", ".join(words))

    @asynccontextmanager
    async def _mqtt(self, port: int | None) -> AsyncIterator[aiomqtt.Client | None]:
        if port is None:
            yield None
            return
        async with aiomqtt.Client("127.0.0.1", port, identifier="demo-audience") as client:
            await client.subscribe(f"anr-watch/{NODE}/#", qos=1)
            async with _task(self._listen(client), "demo-mqtt"):
                yield client

    async def _listen(self, client: aiomqtt.Client) -> None:
        try:
            async for message in client.messages:
                self._mqtt_said(message.topic.value, bytes(message.payload))
        except aiomqtt.MqttError as error:
            raise ChildFailedError(f"the demo's own connection to the broker broke: {error}") from None

    # -- what is proved ----------------------------------------------------------------------------------------

    async def _connect_ms(self, role: Role) -> float | None:
        """Return the time from the MQTT message to the first replay connection, as the camera saw it."""
        journal = (await role.actor.child.ask(cmd="journal"))["journal"]
        playing = {e["connection"] for e in journal if e["kind"] == "playing" and not e["live"]}
        accepts: list[float] = [
            e["monotonic_s"] for e in journal if e["kind"] == "accept" and e["connection"] in playing
        ]
        if not accepts or role.published_s is None:
            return None
        return (min(accepts) - role.published_s) * 1000

    def _prove(self, role: Role, connect_ms: float | None) -> CameraResult:
        files = sorted((self._stage.recordings / role.actor.id).glob("*.mp4"))
        whole = count_frames(files, camera_number=role.actor.number)
        alone = count_frames(
            [path for path in files if path.name in role.files],
            first=whole.first,
            last=whole.last,
            camera_number=role.actor.number,
        )
        joins, offset_ms = self._joins.get(role.actor.id, ((), None))
        return CameraResult(
            camera=role.actor.id,
            proof=whole,
            recovered_frames=whole.present - alone.present,
            outage_s=(role.back_s or 0.0) - (role.cut_s or 0.0),
            online_to_connect_ms=connect_ms,
            joins=joins,
            offset_ms=offset_ms,
        )

    def _elapsed_s(self) -> float:
        return self._clock.monotonic() - self._began_s

    def _tell(self, kind: str, text: str, camera: str = "", *, echo: bool = False, **facts: object) -> None:
        role = self._roles.get(camera)
        ms = None if role is None or role.back_s is None else (self._clock.monotonic() - role.back_s) * 1000
        self._show.tell(Happening(kind, text, self._elapsed_s(), camera, ms, echo, facts))


async def _publish(client: aiomqtt.Client | None, camera: str, payload: str) -> None:
    if client is not None:
        await client.publish(f"cameras/{camera}/status", payload, qos=1)


@asynccontextmanager
async def _task(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run `work` beside the block; an error of it ends the block, the block's end cancels it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        yield
        task.cancel()
