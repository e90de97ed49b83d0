"""Two of us: two daemons on one folder or one database, two nodes on one broker, a fill by hand beside a daemon."""

import asyncio
import contextlib
import json
import subprocess

from tests.broker import Broker, Observer
from tests.torture.machine import NO_BROKER, QUICK, needs_mount, over, plain, short_outage, stopped
from tests.world import World

SETTINGS = QUICK + NO_BROKER


async def refused(world: World, config: str, *words: str) -> None:
    """Start a second daemon with this configuration; it ends with 1 and one line that says why."""
    other = world.config.with_name("other.toml")
    other.write_text(config)
    first, world.config = world.config, other
    try:
        status, out, err = await world.command("run")
    finally:
        world.config = first
    assert status == 1, (status, err)
    assert out == ""
    plain(err)
    last = err.splitlines()[-1]
    assert all(word in last for word in (*words, "is in use by another anr-watch (pid ")), err


def plays(world: World) -> int:
    return sum(entry.kind == "play" for entry in world.cameras["gate"].journal.entries)


@needs_mount
def test_a_second_daemon_is_refused_and_a_fill_by_hand_does_no_double_work(tmp_path, tally):
    """By the same path, a link, another mount of the folder; with another database; with other recordings."""

    async def run():
        async with World(tmp_path, settings=SETTINGS) as world:
            gap = short_outage(world)
            world.kernel.execute("UPDATE recording_gaps SET fill_state = 'failed'")
            async with world.daemon() as daemon:
                own = world.config.read_text()
                link, mounted = tmp_path / "link", tmp_path / "mounted"
                link.symlink_to(world.recordings)
                mounted.mkdir()
                subprocess.run(["mount", "--bind", world.recordings, mounted], check=True)
                try:
                    other_data = own.replace("data/heldar.db", "data/other.db")
                    for path in (link, mounted):
                        await refused(world, other_data.replace(str(world.recordings), str(path)), str(path))
                        tally.faults += 1
                finally:
                    subprocess.run(["umount", "-l", mounted], check=True)
                (tmp_path / "elsewhere").mkdir()
                linked = tmp_path / "linked.db"
                linked.symlink_to(world.database)
                elsewhere = own.replace(str(world.recordings), str(tmp_path / "elsewhere"))
                await refused(world, elsewhere.replace(str(world.database), str(linked)), str(linked))
                tally.faults += 1
                assert not list((tmp_path / "elsewhere").rglob("*.mp4"))
                assert daemon.process.returncode is None

                # Two by hand at the same time, beside the daemon: one replay in all.
                window = (world.at(-70).isoformat(), world.at(-50).isoformat())
                done = await asyncio.gather(*(world.command("fill", "gate", *window, "--json") for _ in range(2)))
                for status, out, err in done:
                    assert status == 0, (out, err, daemon.log)
                assert plays(world) == 1, daemon.log
                tally.faults += 1
                tally.orphans += len(await stopped(daemon))
            assert gap in {row["id"] for row in world.kernel.gaps("gate")}
            over(world, tally, daemon.log)

    asyncio.run(run())


def test_two_nodes_on_one_broker_keep_apart(tmp_path, tally):
    """Commands reach the node they are for, states stand side by side, each may write below its own name only."""
    acl = "user watcher\ntopic read #\ntopic write anr-watch/+/cmd/#\n" + "".join(
        f"user {node}\ntopic readwrite anr-watch/{node}/#\n" for node in ("north", "south")
    )
    users = {"north": "n-pass", "south": "s-pass", "watcher": "w-pass"}

    def mqtt(broker: Broker, node: str) -> str:
        return (
            f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "{node}"\nusername = "{node}"\n'
            f'password = "{users[node]}"\n'
        )

    async def run():
        with Broker(tmp_path, users=users, acl=acl) as broker:
            async with contextlib.AsyncExitStack() as stack:
                seen = await stack.enter_async_context(
                    Observer(broker.port, "anr-watch/#", username="watcher", password="w-pass")
                )
                worlds, daemons = {}, {}
                for node in ("north", "south"):
                    worlds[node] = await stack.enter_async_context(
                        World(tmp_path / node, settings=QUICK + mqtt(broker, node))
                    )
                    short_outage(worlds[node])
                    worlds[node].kernel.execute("UPDATE recording_gaps SET fill_state = 'failed'")
                    daemons[node] = await stack.enter_async_context(worlds[node].daemon())
                gap = {node: worlds[node].kernel.gaps("gate")[0]["id"] for node in worlds}
                await seen.until(
                    lambda messages: {m.topic for m in messages} >= {f"anr-watch/{node}/info" for node in worlds}
                )
                # The gap of the other node is unknown here, the same camera id is another camera.
                await seen.publish("anr-watch/north/cmd/retry", json.dumps({"gap": gap["south"]}))
                await seen.until(lambda messages: any(m.topic == "anr-watch/north/reply/retry" for m in messages))
                await seen.publish("anr-watch/north/cmd/retry", json.dumps({"gap": gap["north"]}))
                await worlds["north"].settled()
                assert worlds["south"].states() == {"failed"}
                assert plays(worlds["south"]) == 0
                await seen.publish("anr-watch/south/cmd/retry", json.dumps({"camera": "gate"}))
                await worlds["south"].settled()
                await seen.until(
                    lambda messages: (
                        {
                            m.topic
                            for m in messages
                            if m.topic.endswith("/gate/event") and b"fill.completed" in m.payload
                        }
                        == {f"anr-watch/{node}/camera/gate/event" for node in worlds}
                    )
                )
                sources = {
                    (m.topic.split("/")[1], json.loads(m.payload)["source"])
                    for m in seen.messages
                    if m.topic.endswith("/event")
                }
                assert {source.strip("/").split("/")[1] == node for node, source in sources} == {True}, sources
                tally.faults += 2
                for node, world in worlds.items():
                    tally.orphans += len(await stopped(daemons[node]))
                    over(world, tally, daemons[node].log)

    asyncio.run(run())
