"""What a person or a program can ask of the running daemon over MQTT, and what it answers."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from anr_watch.camera.core import CameraSpec
from tests.broker import Broker, Observer
from tests.world import World, until

BASE = "anr-watch/test"


def settings(port: int) -> str:
    return f'[fills]\nsweep_s = 0\nregister_gaps = false\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nnode = "test"\n'


class Asked:
    """A client that asks and waits for the answer of its own transaction."""

    def __init__(self, seen: Observer) -> None:
        self.seen, self.count = seen, 0

    async def __call__(self, verb: str, **fields: object) -> dict:
        self.count += 1
        mine = f"t{self.count}"
        await self.seen.publish(f"{BASE}/cmd/{verb}", json.dumps({**fields, "transaction": mine}))
        try:
            answers = await self.seen.until(lambda all_: [m for m in all_ if _answers(m, verb, mine)])
        except TimeoutError:
            raise AssertionError(f"no answer to {verb} {mine}: {self.seen.messages}") from None
        return next(json.loads(m.payload) for m in answers if _answers(m, verb, mine))


def _answers(message, verb: str, transaction: str) -> bool:
    return message.topic == f"{BASE}/reply/{verb}" and json.loads(message.payload)["transaction"] == transaction


def story(tmp_path, tell, *specs: CameraSpec):
    async def run():
        with Broker(tmp_path) as broker:
            async with World(tmp_path, *specs, settings=settings(broker.port)) as world:
                await tell(world, broker)

    asyncio.run(run())


def test_a_window_is_filled_on_demand_whatever_its_age(tmp_path):
    async def tell(world, broker):
        world.config.write_text(world.config.read_text().replace("sweep_s = 0", "sweep_s = 0\nmax_gap_hours = 0.01"))
        world.outage(gap=False)
        async with Observer(broker.port, f"{BASE}/#") as seen, world.daemon():
            ask = Asked(seen)
            await seen.until(lambda all_: any(m.topic == f"{BASE}/info" for m in all_))
            window = {"from": world.at(-91).isoformat(), "to": world.at(-60).isoformat()}
            answer = await ask("fill", camera="gate", **window)
            assert answer["status"] == "ok", answer
            assert answer["data"]["gap"].startswith("gap_")
            await world.settled()
            assert world.prove().complete
            again = await ask("fill", camera="gate", **window)
            assert again["data"]["state"] == "filled"

    story(tmp_path, tell)


def test_a_retry_while_a_try_runs_is_not_undone_by_its_end(tmp_path):
    async def tell(world, broker):
        camera = world.cameras["gate"]
        camera.faults.update({"describe_status": 453, "answer_bytes_s": 60.0})  # busy: 15 s until the next try
        world.outage()
        async with Observer(broker.port, f"{BASE}/#") as seen, world.daemon():
            ask = Asked(seen)
            await camera.wait_for("accept", 20)
            answer = await ask("retry", camera="gate")
            assert answer["status"] == "ok", answer
            await until(lambda: world.attempts() and world.attempts()[0]["ended_at"], "the end of the try")
            camera.faults.clear()
            await until(lambda: world.states() == {"filled"}, "filled at once", deadline_s=10)

    story(tmp_path, tell)


def test_bad_commands_are_answered_in_words(tmp_path):
    async def tell(world, broker):
        async with Observer(broker.port, f"{BASE}/#") as seen, world.daemon() as daemon:
            ask = Asked(seen)
            await seen.until(lambda all_: any(m.topic == f"{BASE}/info" for m in all_))
            future = {"from": world.at(500).isoformat(), "to": world.at(600).isoformat()}
            now = datetime.now(UTC)
            for days, long, why in (
                (400, 1, "no card reaches back"),
                (20000, 1, "366 days ago"),
                (40, 32, "31 days"),
            ):
                begin = now - timedelta(days=days)
                window = {"from": begin.isoformat(), "to": (begin + timedelta(days=long)).isoformat()}
                assert why in (await ask("fill", camera="gate", **window))["error"]
            for verb, fields in (
                ("fill", {"camera": "nobody", "from": world.at(-9).isoformat(), "to": world.at(-1).isoformat()}),
                ("fill", {"camera": "gate"}),
                ("fill", {"camera": "gate", **future}),
                ("retry", {"gap": "gap_none"}),
                ("retry", {}),
                ("pause", {"camera": "nobody"}),
                ("cancel", {"gap": 7}),
            ):
                answer = await ask(verb, **fields)
                assert answer["status"] == "error", (verb, fields, answer)
                assert answer["error"]
            assert world.kernel.gaps("gate") == []
            assert "Traceback" not in daemon.log

    story(tmp_path, tell)


def test_pause_holds_and_resume_lets_go(tmp_path):
    async def tell(world, broker):
        async with Observer(broker.port, f"{BASE}/#") as seen, world.daemon():
            ask = Asked(seen)
            await seen.until(lambda all_: any(m.topic == f"{BASE}/info" for m in all_))
            assert (await ask("pause"))["data"] == {"paused": True, "cameras": []}
            world.outage()
            assert (await ask("recheck"))["status"] == "ok"
            assert (await ask("pause", camera="gate"))["data"]["cameras"] == ["gate"]
            assert world.states() == {"pending"}
            assert not world.attempts()
            await ask("resume")
            assert not world.attempts()
            await ask("resume", camera="gate")
            await world.settled()

    story(tmp_path, tell)


def test_cancel_keeps_what_came_and_waits_for_a_retry(tmp_path):
    async def tell(world, broker):
        world.outage()
        async with Observer(broker.port, f"{BASE}/#") as seen, world.daemon():
            ask = Asked(seen)
            await until(lambda: world.attempts() and world.attempts()[0]["files"] >= 1, "a first segment")
            answer = await ask("cancel", camera="gate")
            assert len(answer["data"]["cancelled"]) == 1
            await until(lambda: world.attempts()[0]["reason"] == "interrupted", "the end")
            assert "pending" in world.states()
            assert (await ask("recheck"))["status"] == "ok"
            assert len(world.attempts()) == 1
            answer = await ask("retry", camera="gate")
            assert answer["data"]["gaps"] >= 1
            await world.settled()
            assert world.prove().complete

    story(tmp_path, tell, CameraSpec(name="gate", replay_speed=8))


def test_retained_and_repeated_commands_do_nothing_twice(tmp_path):
    async def tell(world, broker):
        world.outage(gap=False)
        window = {"from": world.at(-91).isoformat(), "to": world.at(-60).isoformat()}
        async with Observer(broker.port, f"{BASE}/#") as seen:
            await seen.publish(f"{BASE}/cmd/fill", json.dumps({"camera": "gate", **window}), retain=True)
            async with world.daemon() as daemon:
                await until(lambda: "a retained message" in daemon.log, "a word about the retained command")
                assert world.kernel.gaps("gate") == []
                ask = Asked(seen)
                answers = [await ask("fill", camera="gate", **window) for _ in range(3)]
                assert len({answer["data"]["gap"] for answer in answers}) == 1
                await world.settled()
            assert sum(entry.kind == "play" for entry in world.cameras["gate"].journal.entries) == 1

    story(tmp_path, tell)
