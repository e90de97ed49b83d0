"""The outbox to the broker: in row order, QoS 1, a row removed only after its PUBACK. It builds no message.

A row that is sent but not acknowledged when a connection ends is sent again on the next one, from a new client
object (an old one would send it a second time by itself). A row the broker acknowledged but that could not be
removed is remembered and not sent again in this run. What cannot be published at all is dropped with an error
line, because it would hold up everything behind it for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from anr_watch.clock import Clock
from anr_watch.errors import StoreUnavailable
from anr_watch.log import Repeated
from anr_watch.model import Message
from anr_watch.mqtt import packets
from anr_watch.mqtt.link import FAILURE, WINDOW, Link, LinkLost, Loss
from anr_watch.tasks import BalancedGroup

LOG = logging.getLogger("anr_watch.mqtt")
EVENT_TYPE = "application/cloudevents+json; charset=utf-8"  # CloudEvents' MQTT binding, structured mode
BATCH = 200  # rows read at once: one query per 10 windows
# An event comes with others: that a camera is back, what it missed, that it is asked. Together they take one read and
# one removal, and none of that while the camera waits to be asked.
GATHER_S = 0.02
RETRY_S = 1.0  # after the store could not be read or written
LAST_REMOVAL_S = 0.5  # a stop waits no longer for the store; what stays is sent again, under the same id
# A connection that breaks while the same row waits for its PUBACK may break because of that row. After this many
# times it is sent alone; if the broker then still hangs up each time, it is dropped.
SUSPECT_AFTER = 3
DROP_AFTER = 6
# PUBACK codes that stay what they are when the same message comes again (MQTT 5, 3.4.2.1).
_FINAL = frozenset({0x87, 0x90, 0x95, 0x99})  # not authorized, topic invalid, packet too large, payload format


class OutboxRow(Protocol):
    """One message that has to go out; rows go out in the order of `row_id`."""

    @property
    def row_id(self) -> int:
        """The row's number in the outbox."""
        ...

    @property
    def message(self) -> Message:
        """What is to be published."""
        ...


class Outbox(Protocol):
    """The store's side: both raise `StoreUnavailable` when the same call may work later."""

    async def outbox(self, after_id: int, limit: int) -> Sequence[OutboxRow]:
        """Return up to `limit` rows with a number above `after_id`, in order."""
        ...

    async def outbox_done(self, row_ids: Sequence[int]) -> None:
        """Remove rows for good; numbers that are gone already do no harm."""
        ...


@dataclass(slots=True)
class _Suspect:
    row_id: int = 0
    times: int = 0


class Publisher:
    """Drains one outbox over one link after another; its owner never runs two drains at a time.

    `wake` is set by whoever committed rows.
    """

    def __init__(
        self, outbox: Outbox, wake: asyncio.Event, clock: Clock, *, answer_s: float, version_5: bool
    ) -> None:
        self._outbox, self._wake, self._clock, self._answer_s = outbox, wake, clock, answer_s
        self._event_properties = packets.of_publish(content_type=EVENT_TYPE) if version_5 else None
        self._state_properties = packets.of_publish(content_type="application/json") if version_5 else None
        self._in_flight: dict[int, float] = {}  # row -> monotonic seconds when it was sent, oldest first
        self._acknowledged: set[int] = set()  # not yet removed
        self._moved = asyncio.Event()  # a PUBACK came
        self._removable = asyncio.Event()
        self._idle = asyncio.Event()
        self._suspect = _Suspect()
        self._trouble = Repeated(LOG, "outbox")
        self._dropping = Repeated(LOG, "message dropped")
        self._lost: LinkLost | None = None

    async def flushed(self) -> None:
        """Wait until everything in the outbox is acknowledged and removed."""
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    async def drain(self, link: Link) -> None:
        """Publish rows as they come until cancelled.

        Raises:
            ExceptionGroup: of one `LinkLost`: no PUBACK in time, or a refusal for a reason that may pass.
        """
        self._in_flight.clear()
        self._lost = None
        if self._acknowledged:
            self._removable.set()
        try:
            async with BalancedGroup() as group:
                group.create_task(self._remove(), name="mqtt-outbox-remove")
                group.create_task(self._watch(), name="mqtt-outbox-watch")
                group.create_task(self._send(link), name="mqtt-outbox-send")
        finally:
            self._idle.clear()
            if self._acknowledged:
                with suppress(StoreUnavailable, TimeoutError):
                    async with asyncio.timeout(LAST_REMOVAL_S):
                        await self._remove_now()

    def link_lost(self, lost: LinkLost) -> bool:
        """Note how the connection of the last drain ended; say whether a message is suspected to have ended it."""
        first = next(iter(self._in_flight), None)
        self._in_flight.clear()  # the next connection may end before it sends anything
        if first is None or lost.loss is not Loss.CLOSED:
            return False
        times = self._suspect.times + 1 if first == self._suspect.row_id else 1
        self._suspect = _Suspect(first, times)
        if times >= DROP_AFTER:
            self._drop(first, "the broker ends the connection each time it is sent")
        return times > 1

    async def _send(self, link: Link) -> None:
        after_id = 0
        while True:
            self._wake.clear()
            leaving = frozenset(self._acknowledged)  # may be removed while we read, and read all the same
            rows = await self._read(after_id)
            for row in rows:
                after_id = row.row_id
                if row.row_id not in leaving and row.row_id not in self._acknowledged:
                    await self._send_one(link, row)
            if len(rows) == BATCH:
                continue
            if not (rows or self._in_flight or self._acknowledged):
                if after_id:
                    after_id = 0  # an empty table may number its rows from 1 again
                    continue
                self._idle.set()
            await self._wake.wait()
            await self._clock.sleep(GATHER_S)

    async def _send_one(self, link: Link, row: OutboxRow) -> None:
        careful = self._suspect.times >= SUSPECT_AFTER
        while len(self._in_flight) >= (1 if careful else WINDOW):
            self._moved.clear()
            await self._moved.wait()
        row_id, message = row.row_id, row.message
        limit = link.max_packet_bytes
        if limit is not None and len(message.payload) + len(message.topic.encode()) + 200 > limit:
            self._drop(row_id, f"{len(message.payload)} bytes are more than the broker takes ({limit})")
            return
        properties = self._state_properties if message.retain else self._event_properties
        self._in_flight[row_id] = self._clock.monotonic()
        try:
            link.send(message, lambda code: self._answered(row_id, message, code), properties=properties)
        except ValueError as error:
            self._in_flight.pop(row_id)
            self._drop(row_id, str(error))

    def _answered(self, row_id: int, message: Message, code: int) -> None:
        if code >= FAILURE:
            name = packets.reason_name(code)
            if code not in _FINAL:
                self._lost = LinkLost(f"the broker does not take messages at the moment: {name}", Loss.REFUSED)
                return
            self._drop(row_id, f"the broker refuses {message.topic}: {name}")
        self._in_flight.pop(row_id, None)
        self._acknowledged.add(row_id)
        if row_id == self._suspect.row_id:
            self._suspect = _Suspect()
        self._moved.set()
        self._removable.set()

    def _drop(self, row_id: int, why: str) -> None:
        self._dropping.failed(why, self._clock.monotonic())
        self._acknowledged.add(row_id)
        self._moved.set()
        self._removable.set()

    async def _read(self, after_id: int) -> Sequence[OutboxRow]:
        while True:
            try:
                rows = await self._outbox.outbox(after_id, BATCH)
            except StoreUnavailable as error:
                self._trouble.failed(error, self._clock.monotonic())
                await self._clock.sleep(RETRY_S)
            else:
                self._trouble.worked()
                return rows

    async def _remove(self) -> None:
        while True:
            await self._removable.wait()
            await self._clock.sleep(GATHER_S)
            self._removable.clear()
            try:
                await self._remove_now()
            except StoreUnavailable as error:
                self._trouble.failed(error, self._clock.monotonic())
                await self._clock.sleep(RETRY_S)
                self._removable.set()

    async def _remove_now(self) -> None:
        # While one removal commits, further PUBACKs gather: the batches size themselves.
        done = sorted(self._acknowledged)
        await self._outbox.outbox_done(done)
        self._acknowledged.difference_update(done)
        if not self._in_flight and not self._acknowledged:
            self._wake.set()

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(min(1.0, self._answer_s / 4))
            if self._lost is not None:
                raise self._lost
            oldest = next(iter(self._in_flight.values()), None)
            if oldest is not None and self._clock.monotonic() - oldest > self._answer_s:
                raise LinkLost(f"no PUBACK within {self._answer_s:g} s", Loss.SILENT)
