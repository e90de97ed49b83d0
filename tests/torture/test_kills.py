"""kill -9 everywhere: whoever dies wherever, afterwards every picture is there once, and nothing lies or is left over.

Daemons are started again and again on one world while outages are filled; where they stand they, their workers, the
parent of those, or all of them are killed. What is true in the end is told by files, rows, a real subscriber on a
real broker, and /proc.
"""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.film import FilmSpec
from tests.broker import Broker, Observer
from tests.torture import aftermath
from tests.torture.conductor import FILL, INDEXER, PUBLISHER, START, AtRandom, Conductor, Once, Target
from tests.torture.tally import Rounds, Tally
from tests.world import World, until

# Fifteen starts of the program one after the other: 10 s, on a machine that has ten times as much to do 100.
pytestmark = pytest.mark.timeout(200)
CORE = "Tq4vNz8cKd2w"
SPAN_S = (-150.0, -20.0)
DAEMON, WORKER, PARENT, ALL = Target.DAEMON, Target.WORKER, Target.PARENT, Target.ALL


def camera(number: int) -> CameraSpec:
    """A camera whose key frames are not on whole seconds, and whose replay takes a moment."""
    film = FilmSpec(camera_number=number, width=160, height=96, fps=10, gop_frames=8)
    return CameraSpec(name=f"cam{number}", film=film, password=f"p@/{CORE}", replay_speed=40)


def settings(broker: Broker) -> str:
    return (
        "[fills]\nsweep_s = 1\nsettle_s = 0.2\nstall_timeout_s = 3\nconnect_timeout_s = 2\n[replay]\nmargin_s = 4\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "test"\n[log]\nlevel = "info"\n'
    )


def holes(chance: random.Random, count: int) -> list[tuple[float, float]]:
    """Holes of 8 to 14 s anywhere, with recorded time between them."""
    step = (SPAN_S[1] - SPAN_S[0] - 10) / count
    found = []
    for number in range(count):
        start = SPAN_S[0] + 8 + number * step + chance.uniform(0, step / 4)
        found.append((start, start + chance.uniform(8, min(14, step * 0.6))))
    return found


async def day(
    folder: Path,
    plan: Once | AtRandom,
    chance: random.Random,
    tally: Tally,
    *,
    cameras: int,
    count: int,
    standalone: bool,
    random_kills: int = 0,
) -> Conductor:
    """Go through a day of outages and kills, and look what is left of it."""
    folder.mkdir()
    with Broker(folder) as broker:
        specs = [camera(number) for number in range(1, cameras + 1)]
        async with (
            World(folder, *specs, standalone=standalone, settings=settings(broker)) as world,
            Observer(broker.port, "anr-watch/test/#") as seen,
        ):
            for spec in specs:
                aftermath.outages(world, spec.name, holes=holes(chance, count), span_s=SPAN_S, segment_s=4)
            async with Conductor(world.config, folder, plan) as conductor:
                if isinstance(plan, Once):
                    await conductor.run_until(lambda: not plan.left, deadline_s=120)
                for _ in range(random_kills):
                    await conductor.one_kill(within_s=chance.uniform(0.05, 1.5), target=chance.choice(list(Target)))
                conductor.calm = True  # the database may not have been opened even once
                await conductor.run_until(lambda: conductor.reached["start:open"] > 0, deadline_s=60)
            tally.kills += conductor.kills
            assert set(conductor.exits) <= {-9}, f"{conductor.exits}\n" + "\n".join(conductor.lines[-60:])
            async with world.daemon(env=aftermath.family.marked(folder)) as daemon:
                for spec in specs:
                    await until(
                        lambda name=spec.name: world.states(name) == {"filled"}, lambda: daemon.log, deadline_s=60
                    )
                await until(lambda: not aftermath.waiting(world), "an empty outbox")
            assert await daemon.stop() == 0
            faults = await aftermath.left_processes(folder, tally)
            faults += aftermath.count_frames_of(world, tally)
            faults += aftermath.rows_against_files(world)
            faults += aftermath.gaps_against_files(world, tally)
            faults += aftermath.left_in_folders(world, tally)
            faults += aftermath.events_against_ledger(world, seen.messages, tally)
            faults += aftermath.fills_told_to_their_end(world, tally)
            faults += aftermath.states_are_true(world, seen.messages)
            outside = aftermath.everything_outside(world, [*conductor.lines, *daemon.lines], seen.messages)
            faults += aftermath.secrets_in(CORE, outside, tally)
            assert not faults, (
                "\n".join(faults) + "\n" + str(conductor.killed) + "\n" + "\n".join([*conductor.lines, *daemon.lines])
            )
            return conductor


def test_killed_at_each_step_of_a_fill_a_migration_and_a_publication(tmp_path: Path, tally: Tally):
    wanted = [("migration:1", DAEMON), ("migration:9", DAEMON), ("migration:end", DAEMON)]
    wanted += [(place, DAEMON) for place in FILL] + [(place, DAEMON) for place in PUBLISHER[:3]]
    wanted += [("fill:staged", WORKER), ("fill:checked", PARENT), ("fill:placed", ALL)]
    plan = Once(wanted)
    asyncio.run(day(tmp_path / "day", plan, random.Random(1), tally, cameras=2, count=3, standalone=False))
    assert tally.kills == len(wanted)


def test_killed_while_it_starts_and_while_it_indexes(tmp_path: Path, tally: Tally):
    wanted = [(place, DAEMON) for place in (*INDEXER, *START)] + [
        ("fill:placed", DAEMON),
        ("fill:attempt_written", ALL),
    ]
    plan = Once(wanted)
    asyncio.run(day(tmp_path / "day", plan, random.Random(2), tally, cameras=1, count=2, standalone=True))
    assert tally.kills == len(wanted)


def test_killed_anywhere_at_any_time(tmp_path: Path, tally: Tally, rounds: Rounds):
    size = (
        {"cameras": 3, "count": 4, "random_kills": 50}
        if rounds.long
        else {"cameras": 1, "count": 1, "random_kills": 4}
    )
    for seed in rounds(short=1, share=0.6):
        chance = random.Random(seed)
        print(f"seed {seed}")
        day_of = day(
            tmp_path / str(seed), AtRandom(chance, share=0.05), chance, tally, standalone=seed % 3 == 0, **size
        )
        asyncio.run(day_of)
        shutil.rmtree(tmp_path / str(seed))
