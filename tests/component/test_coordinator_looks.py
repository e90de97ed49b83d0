"""When the coordinator asks the database: not for a message or a file, as long as it is told of every commit."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from anr_watch.announcements import Announcements
from anr_watch.clock import SystemClock
from anr_watch.config import DatabaseSettings, Settings
from anr_watch.coordinator import Coordinator, fingerprint
from anr_watch.errors import StoreUnavailable
from anr_watch.filling.tools import Tools
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import NamePattern
from anr_watch.model import Window
from anr_watch.mqtt.events import Silent
from anr_watch.presence import Evidence, PresenceBook
from anr_watch.states import Presence, Reason
from anr_watch.store import open_store
from tests.fixtures_database import Kernel, create_kernel_database


class Started:
    """Stands where fills are started: notes whose gaps are seen, who is parked, and what made us look."""

    def __init__(self):
        self.seen = []

    def __call__(self, look, parked, trigger):
        self.seen.append(({gap.camera_id for gap in look.gaps}, set(parked), trigger.source))


@pytest.fixture
def world(tmp_path):
    database = create_kernel_database(tmp_path / "data" / "heldar.db")
    with Kernel(database) as kernel:
        kernel.add_camera("gate")
        yield tmp_path, database, kernel


def with_coordinator(world, act):
    folder, database, _ = world

    async def main():
        clock, book = SystemClock(), PresenceBook()
        (folder / "recordings").mkdir()
        async with open_store(DatabaseSettings(path=database), clock) as store, asyncio.TaskGroup() as group:
            tools = Tools(
                settings=Settings(),
                clock=clock,
                store=store,
                recordings=Recordings(folder / "recordings", NamePattern("%Y%m%d_%H%M%S"), clock),
                workers=SimpleNamespace(),
                announcements=Announcements(Silent(), book, clock),
            )
            coordinator = Coordinator(tools, book, group, None)
            started = coordinator.scheduler.start_due = Started()
            loop = group.create_task(coordinator.run())
            await passes(started, 1)
            await act(coordinator, started)
            loop.cancel()

    asyncio.run(main())


async def passes(started, count):
    async with asyncio.timeout(10):
        while len(started.seen) < count:
            await asyncio.sleep(0.001)


def word(presence):
    return Evidence("gate", "mqtt:cameras", presence, retained=False, at=datetime.now(UTC))


@pytest.mark.parametrize(("told", "seen"), [(True, set()), (False, {"gate"})])
def test_a_message_makes_us_look_only_where_nobody_tells_of_commits(world, told, seen):
    async def act(coordinator, started):
        coordinator.rows_are_told = lambda: told
        end = datetime.now(UTC) - timedelta(minutes=5)
        world[2].add_gap("gate", end - timedelta(minutes=1), end)
        coordinator.hear(word(Presence.OFFLINE))
        await passes(started, 2)
        assert started.seen[1] == (seen, set(), "mqtt")
        coordinator.wake("database")
        await passes(started, 3)
        assert started.seen[2] == ({"gate"}, set(), "database")

    with_coordinator(world, act)


def test_what_a_pass_wrote_before_it_failed_is_seen_by_the_next(world):
    async def act(coordinator, started):
        coordinator.rows_are_told = lambda: True
        find, end = coordinator._find, datetime.now(UTC) - timedelta(minutes=5)

        async def locked_behind_its_row(*looked):
            coordinator._find = find
            await coordinator._tools.store.register_gap("gate", Window(end - timedelta(minutes=1), end))
            raise StoreUnavailable("locked by another program")

        coordinator._find = locked_behind_its_row
        coordinator.hear(word(Presence.OFFLINE))
        await passes(started, 2)
        assert started.seen[1] == ({"gate"}, set(), "mqtt")

    with_coordinator(world, act)


def test_a_camera_that_was_parked_since_the_last_look_stays_parked(world):
    async def act(coordinator, started):
        coordinator.rows_are_told = lambda: True
        camera = coordinator.cameras["gate"]
        await coordinator._park(camera, Reason.UNAUTHORIZED, "wrong password")
        for count, presence in ((2, Presence.OFFLINE), (3, Presence.ONLINE)):
            coordinator.hear(word(presence))
            await passes(started, count)
        coordinator.wake("database")
        await passes(started, 4)
        assert [parked for _, parked, _ in started.seen] == [set(), {"gate"}, {"gate"}, {"gate"}]
        assert coordinator._parked["gate"].fingerprint == fingerprint(camera)

    with_coordinator(world, act)
