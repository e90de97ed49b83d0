"""Every reason in the table, provoked at the camera or the disk: row, attempt, event and the next time."""

import asyncio
import json
import os
import signal
from datetime import datetime

import pytest

from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import Replay
from anr_watch.camera.faults import Faults
from anr_watch.instants import parse_instant
from tests.torture.machine import workers_of
from tests.world import World, until

# A broker that is never there: what would go out stays in the outbox, where a test can read it.
NO_BROKER = '[mqtt]\nhost = "127.0.0.1"\nport = 9\nnode = "test"\n'
FAST = "[fills]\nsettle_s = 0.3\nstall_timeout_s = 1.0\nconnect_timeout_s = 1.0\nregister_gaps = false\n"


def events(world: World) -> list[dict]:
    rows = world.kernel.execute("SELECT CAST(payload AS TEXT) FROM anr_outbox WHERE topic LIKE '%/event' ORDER BY id")
    return [json.loads(row[0]) for row in rows]


def kinds(world: World) -> list[str]:
    return [event["type"].removeprefix("io.anr-watch.").removesuffix(".v1") for event in events(world)]


async def ended(world: World, reason: str, *, count: int = 1) -> dict:
    """Wait for the n-th try that ended for a reason and return it."""
    await until(lambda: _tried(world) and sum(a["reason"] == reason for a in world.attempts()) >= count, reason)
    return [a for a in world.attempts() if a["reason"] == reason][count - 1]


def _tried(world: World) -> bool:
    tables = world.kernel.execute("SELECT 1 FROM sqlite_master WHERE name = 'anr_attempts'")
    return bool(tables) and bool(world.attempts())


def wait_s(attempt: dict) -> float:
    return (parse_instant(attempt["next_at"]) - parse_instant(attempt["ended_at"])).total_seconds()


def row(world: World) -> dict:
    rows = world.kernel.gaps("gate")
    assert len(rows) == 1, rows
    return rows[0]


def provoke(tmp_path, scenario, *, settings=FAST, spec=None, **faults):
    """Run a scenario against a world with one outage and a camera with these faults."""

    async def run():
        async with World(tmp_path, spec or CameraSpec(name="gate"), settings=settings + NO_BROKER) as world:
            world.cameras["gate"].faults.update(faults)
            world.outage()
            await scenario(world)

    asyncio.run(run())


def clear(world: World) -> Faults:
    world.cameras["gate"].faults.clear()
    return world.cameras["gate"].faults


def test_unreachable_burns_nothing_and_ends_at_the_next_edge(tmp_path):
    async def scenario(world):
        await world.cameras["gate"].go_offline()
        world.kernel.set_status("gate", "offline")
        async with world.daemon():
            attempt = await ended(world, "unreachable")
            assert wait_s(attempt) == pytest.approx(2.0, abs=0.2)
            assert row(world)["fill_state"] == "pending"
            assert row(world)["fill_attempts"] == 0
            assert kinds(world)[-1] == "fill.failed"
            await world.cameras["gate"].go_online()
            world.kernel.set_status("gate", "recording")
            await world.settled()
        assert world.prove().complete

    provoke(tmp_path, scenario)


def test_unreachable_backs_off_without_an_edge_and_gets_there(tmp_path):
    async def scenario(world):
        await world.cameras["gate"].go_offline()
        async with world.daemon():
            await ended(world, "unreachable")
            await world.cameras["gate"].go_online()
            await world.settled()
            assert row(world)["fill_attempts"] == 1

    provoke(tmp_path, scenario)


@pytest.mark.parametrize("fault", [{"describe_status": 453}, {"describe_status": 503}, {"setup_status": 453}])
def test_busy_backs_off_and_burns_nothing(tmp_path, fault):
    async def scenario(world):
        async with world.daemon():
            attempt = await ended(world, "busy")
            assert wait_s(attempt) == pytest.approx(15.0, abs=0.2)
            assert row(world)["fill_state"] == "pending"
            assert row(world)["fill_attempts"] == 0
            clear(world)
            status, out, err = await world.command("retry", "--camera", "gate")
            assert status == 0, (out, err)
            await until(lambda: world.states() == {"filled"}, "filled at once", deadline_s=8)
        assert world.prove().complete

    provoke(tmp_path, scenario, **fault)


def test_unauthorized_parks_the_camera_until_its_row_changes(tmp_path):
    async def scenario(world):
        world.kernel.execute("UPDATE cameras SET password = 'wrong'")
        async with world.daemon() as daemon:
            attempt = await ended(world, "unauthorized")
            assert attempt["next_at"] is None
            await until(lambda: "camera.parked" in kinds(world), "parked")
            assert row(world)["fill_attempts"] == 1
            assert row(world)["fill_state"] == "pending"
            # Nothing but a change ends it: not an online edge, not a look at everything.
            world.kernel.set_status("gate", "offline")
            await until(lambda: "after=offline" in daemon.log, "offline")
            world.kernel.set_status("gate", "recording")
            await until(lambda: "before=offline after=online" in daemon.log, "online")
            assert len([a for a in world.attempts() if a["got_s"] == 0]) == 1
            world.kernel.execute("UPDATE cameras SET password = 'camera'")
            await world.settled()
            assert "camera.unparked" in kinds(world)
        assert world.prove().complete

    provoke(tmp_path, scenario)


@pytest.mark.parametrize("fault", [{"describe_status": 404}, {"play_status": 457}, {"empty_window": True}])
def test_no_footage_counts_and_waits(tmp_path, fault):
    async def scenario(world):
        async with world.daemon():
            attempt = await ended(world, "no_footage")
            assert wait_s(attempt) == pytest.approx(30.0, abs=0.2)
            assert row(world)["fill_attempts"] == 1
            assert row(world)["fill_state"] == "pending"
            assert row(world)["last_attempt_at"] is not None

    provoke(tmp_path, scenario, **fault)


def test_a_camera_that_ends_the_replay_because_it_goes_away_has_not_answered(tmp_path):
    """Its connection is closed first; that it is gone is said a moment later."""

    async def scenario(world):
        async with world.daemon():
            await world.cameras["gate"].wait_for("closed", 20)
            await world.cameras["gate"].go_offline()
            world.kernel.set_status("gate", "offline")
            await ended(world, "interrupted")
            assert row(world)["fill_attempts"] == 0
            clear(world)
            await world.cameras["gate"].go_online()
            world.kernel.set_status("gate", "recording")
            await world.settled()
        assert world.prove().complete

    provoke(tmp_path, scenario, cut_after_s=0.0)


def test_a_restart_ends_the_wait_for_a_worker_that_died(tmp_path):
    async def scenario(world):
        seen = 0
        async with world.daemon() as daemon:
            for count in (1, 2):
                await world.cameras["gate"].wait_for("first_byte", 20, since=seen)
                seen = len(world.cameras["gate"].journal.entries)
                os.kill(workers_of(daemon.process.pid)[0], signal.SIGKILL)  # the one that stood by before
                attempt = await ended(world, "interrupted", count=count)
            assert wait_s(attempt) == pytest.approx(4.0, abs=0.2)
        async with world.daemon():
            await world.settled()
            asked = world.cameras["gate"].journal.of_kind("accept")[-1].utc
            assert asked < parse_instant(attempt["next_at"])
        assert world.prove().complete

    provoke(tmp_path, scenario, spec=CameraSpec(name="gate", replay_speed=4))


def test_no_footage_for_the_last_time_is_failed(tmp_path):
    async def scenario(world):
        world.kernel.execute("UPDATE recording_gaps SET fill_attempts = 2")
        async with world.daemon():
            await world.settled(state="failed")
            assert row(world)["fill_attempts"] == 3
            last = events(world)[-1]
            assert last["type"] == "io.anr-watch.fill.failed.v1"
            assert last["data"]["reason"] == "no_footage"
        kernel_rows = world.kernel.execute("SELECT event_type, severity FROM events WHERE event_type LIKE 'anr_%'")
        assert kernel_rows == [["anr_fill_failed", "critical"]]

    provoke(tmp_path, scenario, describe_status=404)


def test_a_hole_in_the_cameras_storage_stays_missing_and_the_rest_is_filled(tmp_path):
    async def scenario(world):
        async with world.daemon():
            await ended(world, "no_footage")
            rows = world.kernel.gaps("gate")
            missing = [r for r in rows if r["fill_state"] == "pending"]
            assert len(missing) == 1
            length_s = (parse_instant(missing[0]["gap_end"]) - parse_instant(missing[0]["gap_start"])).total_seconds()
            assert length_s == pytest.approx(8, abs=2.1)
            assert {r["fill_state"] for r in rows} == {"pending", "filled"}
            assert missing[0]["fill_attempts"] == 1
            partial = [e for e in events(world) if e["type"] == "io.anr-watch.fill.partial.v1"]
            assert len(partial) == 1
            assert len(partial[0]["data"]["missing"]) == 1

    provoke(tmp_path, scenario, hole=(20, 28))


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("stalled", {"stall_after_s": 20}),
        ("cut_short", {"cut_after_s": 20}),
        ("cut_short", {"rst_after_s": 20}),
        ("cut_short", {"short_window_s": 22}),
    ],
)
def test_what_came_short_is_kept_and_the_residual_gets_its_second_pass(tmp_path, reason, fault):
    async def scenario(world):
        async with world.daemon() as daemon:
            attempt = await ended(world, reason)
            clear(world)
            assert attempt["got_s"] > 0.5  # a reset throws away what was not read yet
            assert wait_s(attempt) == pytest.approx(0.3, abs=0.1)
            await until(lambda: world.states() == {"filled"}, "filled")
            rows = world.kernel.gaps("gate")
            assert len(rows) == 2
            assert all(r["fill_attempts"] <= 1 for r in rows), daemon.log
            assert "fill.partial" in kinds(world)
            assert kinds(world)[-1] == "fill.completed"
        assert world.prove().complete

    provoke(tmp_path, scenario, **fault)


def test_a_stall_without_gain_counts(tmp_path):
    async def scenario(world):
        async with world.daemon():
            await ended(world, "stalled")
            assert row(world)["fill_attempts"] == 1
            assert row(world)["fill_state"] == "pending"

    provoke(tmp_path, scenario, hang="describe")


def test_a_stall_of_a_camera_known_to_be_gone_is_an_interruption(tmp_path):
    async def scenario(world):
        async with world.daemon() as daemon:
            await until(lambda: "fill started" in daemon.log, "a fill")
            world.kernel.set_status("gate", "offline")
            attempt = await ended(world, "interrupted")
            assert attempt["detail"]
            assert row(world)["fill_attempts"] == 0
            clear(world)
            world.kernel.set_status("gate", "recording")
            await until(lambda: "filled" in world.states(), "filled")

    provoke(tmp_path, scenario, hang="play", settings=FAST.replace("stall_timeout_s = 1.0", "stall_timeout_s = 2.0"))


def test_bad_media_counts_and_waits(tmp_path):
    async def scenario(world):
        template = world.cameras["gate"].url_replay_template(Replay.MEDIAMTX)
        world.kernel.execute("UPDATE cameras SET anr_replay_url_template = ?", [template])
        async with world.daemon():
            attempt = await ended(world, "bad_media")
            assert wait_s(attempt) == pytest.approx(30.0, abs=0.2)
            assert row(world)["fill_attempts"] == 1
            assert row(world)["fill_state"] == "pending"

    provoke(tmp_path, scenario, http_status=406)


def test_our_own_stop_interrupts_and_the_next_start_goes_on(tmp_path):
    async def scenario(world):
        async with world.daemon() as daemon:
            await until(lambda: world.attempts() and world.attempts()[0]["files"] >= 1, "a first segment")
            assert await daemon.stop() == 0, daemon.log
        assert [a["reason"] for a in world.attempts()] == ["interrupted"]
        assert "pending" in world.states()
        assert not list((world.recordings / ".anr-watch").glob("gap*"))
        async with world.daemon():
            await world.settled()
        assert world.prove().complete

    provoke(tmp_path, scenario, spec=CameraSpec(name="gate", replay_speed=8))


def test_killed_in_the_middle_the_next_start_goes_on(tmp_path):
    async def scenario(world):
        async with world.daemon() as daemon:
            await until(lambda: world.attempts() and world.attempts()[0]["files"] >= 1, "a first segment")
            daemon.process.kill()
            await daemon.process.wait()
        async with world.daemon():
            await world.settled()
        assert world.attempts()[0]["reason"] == "interrupted"
        assert world.prove().complete

    provoke(tmp_path, scenario, spec=CameraSpec(name="gate", replay_speed=8))


def test_a_full_disk_stops_fills_and_burns_nothing(tmp_path):
    async def scenario(world):
        world.config.write_text(world.config.read_text().replace("min_free_mb = 1", "min_free_mb = 1e9"))
        async with world.daemon():
            attempt = await ended(world, "disk_full")
            assert wait_s(attempt) == pytest.approx(30.0, abs=0.2)
            assert row(world)["fill_attempts"] == 0
            assert row(world)["fill_state"] == "pending"
        assert not [e for e in world.cameras["gate"].journal.entries if e.kind == "accept"]

    provoke(tmp_path, scenario)


def test_a_folder_that_takes_no_files_stops_fills_and_burns_nothing(tmp_path):
    async def scenario(world):
        for path in world.files("gate"):
            path.unlink()
        (world.recordings / "gate").rmdir()
        (world.recordings / "gate").write_text("not a folder")
        async with world.daemon():
            attempt = await ended(world, "storage")
            assert wait_s(attempt) == pytest.approx(30.0, abs=0.2)
            assert row(world)["fill_attempts"] == 0
            assert row(world)["fill_state"] == "pending"

    provoke(tmp_path, scenario)


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("no_replay_url", "address = NULL"),
        ("bad_config", "anr_replay_url_template = 'file:///etc/passwd?{start}'"),
        ("bad_config", "anr_replay_url_template = 'gopher://127.0.0.1/{start}'"),
        ("bad_config", "anr_replay_url_template = 'rtsp://127.0.0.1/' || char(10) || '{start}'"),
        ("bad_config", "anr_replay_url_template = 'rtsp://127.0.0.1/{strat}'"),
        ("bad_config", "password = 'enc:v1:bm90IHNlYWxlZCBmb3IgdXM='"),
    ],
)
def test_nothing_to_ask_parks_the_camera_and_no_other_suffers(tmp_path, reason, change):
    async def run():
        specs = (CameraSpec(name="gate"), CameraSpec(name="yard"))
        async with World(tmp_path, *specs, settings=NO_BROKER) as world:
            world.outage("gate")
            world.outage("yard")
            world.kernel.execute(f"UPDATE cameras SET {change} WHERE id = 'gate'")
            async with world.daemon():
                await world.settled("yard")
                await until(lambda: "camera.parked" in kinds(world), "parked")
            gate = list(world.attempts("gate"))
            assert [a["reason"] for a in gate] == [reason]
            assert world.kernel.gaps("gate")[0]["fill_attempts"] == 0
            assert world.prove("yard").complete
            assert datetime.fromisoformat(gate[0]["ended_at"])

    asyncio.run(run())
