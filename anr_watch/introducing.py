"""Says on the broker what this node is and who its cameras are, and takes back what it said of cameras that are gone.

Retained: the node's `info` and, where wanted, Home Assistant's discovery. Which cameras were introduced, and how, is
noted in the database: one that left the configuration while nothing ran is taken back as well, and so is what was
said in another way than today's. It fills nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from anr_watch import __version__
from anr_watch.announcements import Announcements
from anr_watch.clock import Clock
from anr_watch.config import MqttSettings
from anr_watch.errors import StoreUnavailable
from anr_watch.model import Camera, Message
from anr_watch.mqtt.announced import Announced, noted, read, taken_back
from anr_watch.mqtt.events import Announcer
from anr_watch.mqtt.homeassistant import HomeAssistant
from anr_watch.store import Store

LOG = logging.getLogger("anr_watch.introducing")
INTRODUCED, DISCOVERED, PAUSED = "introduced", "discovered", "paused"  # keys of notes in the database
# After Home Assistant's birth message: not at the same moment as everybody else on the broker.
_AFTER_BIRTH_S = 5.0
# Home Assistant removes entities in its own time and would read the empty state of one that is still there: a dozen
# errors in its log for each camera that goes.
_AFTER_REMOVAL_S = 1.0
_CAPABILITIES = ("fill", "retry", "cancel", "recheck", "pause", "resume")


@dataclass(slots=True)
class Pauses:
    """What a person has paused: everything, or single cameras. Survives a restart."""

    everything: bool
    cameras: set[str]

    def noted(self) -> str:
        """Return it as it stands in the database."""
        return orjson.dumps({"all": self.everything, "cameras": sorted(self.cameras)}).decode()

    @staticmethod
    def of(noted: str | None) -> Pauses:
        """Return what was noted; what cannot be read is nothing."""
        try:
            found = orjson.loads(noted or "{}")
        except orjson.JSONDecodeError:
            found = {}
        cameras = found.get("cameras") if isinstance(found, dict) else None
        known = {str(camera) for camera in cameras} if isinstance(cameras, list) else set()
        return Pauses(bool(isinstance(found, dict) and found.get("all")), known)


class Introduction:
    """See the module.

    Args:
        settings: the broker and the node's name.
        store: notes and the outbox.
        announcements: for the cameras' states.
        clock: time.
        boot_id: of this run.
        started_at: of this run.
    """

    def __init__(
        self,
        settings: MqttSettings,
        store: Store,
        announcements: Announcements,
        clock: Clock,
        *,
        boot_id: str,
        started_at: datetime,
    ) -> None:
        self._store, self._announcements, self._clock = store, announcements, clock
        self._announcer = Announcer(settings.node, settings.base)
        self._boot_id, self._started_at = boot_id, started_at
        self._version = __version__
        self._home = HomeAssistant(
            self._announcer.topics, self._version, settings.discovery, settings.discovery_prefix
        )
        self._discovers = settings.discovery != "off"
        self._announced = Announced(settings.discovery, settings.discovery_prefix, settings.base, settings.node)
        self._cameras: Mapping[str, Camera] = {}
        self._told: object = None
        self._born = asyncio.Event()
        self._noting = asyncio.Lock()  # over reading and writing which cameras were introduced
        self._left = asyncio.Event()  # cameras are gone whose states still stand on the broker
        self._chance = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self.pauses = Pauses(everything=False, cameras=set())

    @property
    def listens(self) -> tuple[str, ...]:
        """The topics on which we are asked to introduce ourselves again."""
        return (self._home.birth_topic,) if self._discovers else ()

    def heard(self, payload: bytes, *, retained: bool) -> None:
        """Home Assistant said something of itself; only that it has just started matters."""
        if payload == b"online" and not retained:
            self._born.set()

    def info(self) -> tuple[Message, ...]:
        """Return the node's description as it is now."""
        return self._announcer.info(
            version=self._version,
            boot_id=self._boot_id,
            started_at=self._started_at,
            cameras=[(camera.id, camera.name) for camera in self._cameras.values()],
            capabilities=_CAPABILITIES,
            paused=self.pauses.everything,
        )

    async def restore(self) -> None:
        """Take over what was paused before a restart.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        self.pauses = Pauses.of(await self._store.noted(PAUSED))
        self._announcements.note_paused(self.pauses.cameras)

    async def pause(self, camera_id: str | None, *, on: bool) -> None:
        """Note and tell that a camera, or everything, is paused or goes on.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        if camera_id is None:
            self.pauses.everything = on
        elif on:
            self.pauses.cameras.add(camera_id)
        else:
            self.pauses.cameras.discard(camera_id)
        self._announcements.note_paused(self.pauses.cameras)
        await self._store.note(PAUSED, self.pauses.noted())
        await self._store.put(self.info())
        if camera_id is not None:
            await self._store.tell([camera_id], self._announcements.state)

    async def cameras_are(self, cameras: Mapping[str, Camera]) -> None:
        """Introduce the cameras if they changed since the last call, and take back those that are gone.

        Raises:
            StoreUnavailable: the database cannot be used; call again.
        """
        now = [(camera.id, camera.name, camera.vendor) for camera in cameras.values()]
        if now == self._told:
            return
        async with self._noting:
            self._cameras = cameras
            known = _ids(await self._store.noted(INTRODUCED))
            await self._store.note(INTRODUCED, orjson.dumps(sorted(known | cameras.keys())).decode())
            gone = known - cameras.keys()
            before, told = await self._told_before(known), self._announced.of(cameras)
            await self._store.note(DISCOVERED, noted([*before, told]))
            await self._store.put([*self.info(), *self._gone(gone), *taken_back(before, told), *self._discovery()])
            await self._store.note(DISCOVERED, noted([told]))
            await self._store.tell(list(cameras), self._announcements.state)
            if gone and self._discovers:
                self._left.set()  # noted until their states are cleared as well
            else:
                await self._store.note(INTRODUCED, orjson.dumps(sorted(cameras)).decode())
        self._told = now

    async def run(self) -> None:
        """Introduce everything again when Home Assistant has started, clear what cameras left; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._introduce_again(), name="introduction:again")
            group.create_task(self._clear_states(), name="introduction:states")

    async def _clear_states(self) -> None:
        while True:
            await self._left.wait()
            await self._clock.sleep(_AFTER_REMOVAL_S)
            self._left.clear()
            try:
                async with self._noting:
                    left = _ids(await self._store.noted(INTRODUCED)) - self._cameras.keys()
                    gone = [message for one in sorted(left) for message in self._announcer.no_camera(one)]
                    await self._store.put(gone)
                    await self._store.note(INTRODUCED, orjson.dumps(sorted(self._cameras)).decode())
            except StoreUnavailable as error:
                LOG.warning("states of cameras that are gone are cleared later: %s", error)
                self._left.set()

    async def _introduce_again(self) -> None:
        while True:
            await self._born.wait()
            await self._clock.sleep(self._chance.uniform(0.0, _AFTER_BIRTH_S))
            self._born.clear()
            LOG.info("Home Assistant has started: entities and states are sent again")
            try:
                await self._store.put([*self.info(), *self._discovery()])
                await self._store.tell(list(self._cameras), self._announcements.state)
            except StoreUnavailable as error:
                LOG.warning("Home Assistant is told later: %s", error)
                self._born.set()

    async def _told_before(self, known: set[str]) -> list[Announced]:
        """Return what Home Assistant was told; earlier versions noted of whom, but not in which way."""
        text = await self._store.noted(DISCOVERED)
        if text is not None or not self._discovers:
            return read(text)
        return [replace(self._announced.of(known), mode=mode) for mode in ("entities", "device")] if known else []

    def _discovery(self) -> list[Message]:
        if not self._discovers:
            return []
        found = self._home.node()
        for camera in self._cameras.values():
            found += self._home.camera(camera)
        return found

    def _gone(self, camera_ids: Iterable[str]) -> list[Message]:
        """Return what clears the states of cameras that are not ours any more; with entities they follow later."""
        found: list[Message] = []
        for camera_id in sorted(camera_ids):
            LOG.info("taken back from the broker: the camera is gone", extra={"camera": camera_id})
            found += () if self._discovers else self._announcer.no_camera(camera_id)
        return found


def _ids(noted: str | None) -> set[str]:
    try:
        found = orjson.loads(noted or "[]")
    except orjson.JSONDecodeError:
        return set()
    return {str(camera) for camera in found} if isinstance(found, list) else set()
