"""What changed in what is believed is told once and in order, also when the database was locked meanwhile."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from anr_watch.arrivals import Arrivals
from anr_watch.errors import StoreUnavailable
from anr_watch.hints import Hints
from anr_watch.presence import Evidence, PresenceBook
from anr_watch.states import Presence

AT = datetime(2026, 6, 13, 12, tzinfo=UTC)


class Locked:
    """A store that is locked for its first writes."""

    def __init__(self, failures: int) -> None:
        self.failures, self.told = failures, []

    async def save_presence(self, camera_id, presence, since, announce):
        del since, announce
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("locked by another program")
        self.told.append((camera_id, presence))


def test_what_could_not_be_written_down_is_told_the_next_time_in_order():
    async def main():
        store = Locked(failures=1)
        tools = SimpleNamespace(store=store, announcements=SimpleNamespace(presence=lambda change: change))
        arrivals = Arrivals(tools, PresenceBook(["gate", "yard"]), lambda camera, source: None)
        hints = Hints(
            evidence=[Evidence(one, "mqtt", Presence.ONLINE, retained=False, at=AT) for one in ("gate", "yard")]
        )
        arrivals.weigh(hints)
        with pytest.raises(StoreUnavailable):
            await arrivals.tell()
        assert (hints.edges, hints.evidence) == ({"gate": False, "yard": False}, []), "the edges outlive the failure"
        arrivals.weigh(Hints(evidence=[Evidence("gate", "mqtt", Presence.OFFLINE, retained=False, at=AT)]))
        await arrivals.tell()
        await arrivals.tell()
        assert store.told == [
            ("gate", Presence.ONLINE),
            ("yard", Presence.ONLINE),
            ("gate", Presence.OFFLINE),
        ]

    asyncio.run(main())
