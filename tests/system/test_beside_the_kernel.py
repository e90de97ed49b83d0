"""What the kernel does to its own rows beside us must not cost recovered time."""

import asyncio

from anr_watch.instants import parse_instant
from anr_watch.model import Window, subtract
from tests.world import World, until


def test_the_kernel_indexing_the_last_live_file_late_cuts_nothing_of_ours(tmp_path):
    """Its indexer cuts every row that began earlier back to the start of the file it inserts."""

    async def run():
        async with World(tmp_path) as world:
            world.record("gate", -130, -92)
            last = world.record("gate", -92, -90.3, rows=False)[-1]
            world.record("gate", -60.7, -40)
            start, end = world.at(-90.3), world.at(-61)
            world.kernel.add_gap("gate", start, end)
            async with world.daemon():
                await world.settled()
                named = world.at(-92)
                world.kernel.execute(
                    "UPDATE segments SET end_time = ? WHERE camera_id = 'gate' AND start_time < ? AND end_time > ?",
                    [f"{named:%Y-%m-%dT%H:%M:%S}+00:00"] * 3,
                )
                world.kernel.add_segment("gate", named, start, str(last))
                await until(lambda: len(world.kernel.segments("gate")) > 8, "rows")
            rows = [
                Window(parse_instant(row["start_time"]), parse_instant(row["end_time"]))
                for row in world.kernel.segments("gate")
            ]
            assert [p for p in subtract(Window(start, end), rows) if p.seconds > 1] == []
            assert world.prove().complete

    asyncio.run(run())


def test_a_row_deleted_and_a_camera_deleted_while_a_fill_runs_are_let_go(tmp_path):
    async def run():
        async with World(tmp_path) as world:
            world.outage()
            world.cameras["gate"].faults.update({"rate_bytes_s": 2000})
            async with world.daemon() as daemon:
                await until(lambda: "fill started" in daemon.log, "a fill")
                world.kernel.execute("DELETE FROM cameras WHERE id = 'gate'")
                await until(lambda: "let go" in daemon.log, "let go")
                await until(lambda: world.cameras["gate"].active_replays == 0, "the replay's end")
                assert daemon.process.returncode is None
            assert "Traceback" not in daemon.log

    asyncio.run(run())


def test_a_camera_disabled_while_its_fill_runs_is_let_go(tmp_path):
    async def run():
        async with World(tmp_path) as world:
            world.outage()
            world.cameras["gate"].faults.update({"rate_bytes_s": 2000})
            async with world.daemon() as daemon:
                await until(lambda: "fill started" in daemon.log, "a fill")
                world.kernel.execute("UPDATE cameras SET anr_enabled = 0")
                await until(lambda: world.attempts()[-1]["reason"] == "interrupted", "the end")
                assert world.states() == {"pending"}
                world.cameras["gate"].faults.clear()
                world.kernel.execute("UPDATE cameras SET anr_enabled = 1")
                await world.settled()
            assert world.prove().complete

    asyncio.run(run())
