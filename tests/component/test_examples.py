"""The examples of the documentation run as they stand there."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker import Broker, Observer

from anr_watch.model import Attempt, Gap, Window
from anr_watch.mqtt.events import Announcer
from anr_watch.states import Reason

SUBSCRIBER = Path(__file__).parents[2] / "docs" / "examples" / "subscriber.py"
T0 = datetime(2026, 6, 13, 12, tzinfo=UTC)
WINDOW = Window(T0, T0 + timedelta(seconds=90))


def test_the_subscriber_prints_a_result_once(tmp_path):
    gap = Gap("gap_1", "gate", WINDOW, "", "")
    attempt = Attempt(
        id="a", gap_id="gap_1", camera_id="gate", number=1, window=WINDOW, started_at=T0, wanted_s=90.0, got_s=90.0,
        ended_at=T0, reason=Reason.FILLED,
    )  # fmt: skip
    (message,) = Announcer("box").fill_completed(gap, attempt, at=T0, filled=[WINDOW])

    async def main() -> bytes:
        with Broker(tmp_path) as broker:
            program = await asyncio.create_subprocess_exec(
                sys.executable, str(SUBSCRIBER), "127.0.0.1", str(broker.port), stdout=asyncio.subprocess.PIPE
            )
            async with Observer(broker.port) as other:
                # Until it has subscribed, nothing is heard; the same event may come as often as it likes.
                line = asyncio.ensure_future(program.stdout.readline())
                while not line.done():
                    await other.publish(message.topic, message.payload)
                    await asyncio.wait([line], timeout=0.2)
                program.terminate()
                await program.wait()
                return line.result() + await program.stdout.read()

    assert asyncio.run(asyncio.wait_for(main(), 30)) == b"completed gate 90 of 90 s\n"
