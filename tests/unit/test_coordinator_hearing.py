"""What a source repeats costs no pass over the database; what changes, and changes back at once, is heard whole."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

from anr_watch.config import Settings
from anr_watch.coordinator import Coordinator
from anr_watch.presence import Evidence, PresenceBook
from anr_watch.states import Presence

AT = datetime(2026, 6, 13, 12, tzinfo=UTC)
ON = Evidence("cam", "mqtt:frigate", Presence.ONLINE, retained=False, at=AT)
OFF = Evidence("cam", "mqtt:frigate", Presence.OFFLINE, retained=False, at=AT)


def test_a_word_that_is_said_every_second_wakes_nobody():
    async def main():
        book = PresenceBook(["cam"])
        clock = SimpleNamespace(monotonic=lambda: 0.0)
        tools = SimpleNamespace(settings=Settings(), store=None, recordings=None, announcements=None, clock=clock)
        coordinator = Coordinator(tools, book, None, None)
        hints = coordinator._hints
        coordinator.hear(ON)
        assert hints.evidence == [ON]
        coordinator._hints = hints = type(hints)()
        book.hear(ON)

        for _ in range(3600):
            coordinator.hear(ON)
        assert (hints.evidence, hints.trigger) == ([], None)

        for word in (OFF, ON, ON, OFF):
            coordinator.hear(word)
        assert hints.evidence == [OFF, ON, OFF], "a return between two passes is an edge"
        assert hints.trigger.source == "mqtt"
        coordinator._hints = later = type(hints)()  # a pass has taken them along, and has not weighed them yet
        coordinator.hear(ON)
        assert later.evidence == [ON]

    asyncio.run(main())
