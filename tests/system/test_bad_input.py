"""Bad input of every kind: one clear line or a parked camera with a reason, and a healthy camera is filled meanwhile."""

import asyncio
import contextlib
import json
import os
import random
import socket
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from anr_watch.camera.core import CameraSpec
from tests.broker import Broker, Observer
from tests.fixtures_database import create_kernel_database, kernel_process, text
from tests.world import PROGRAM, Daemon, World, until

NO_BROKER = '[mqtt]\nhost = "127.0.0.1"\nport = 9\nnode = "test"\n'
QUIET = "[fills]\nregister_gaps = false\nsettle_s = 0.5\nstall_timeout_s = 1.0\nconnect_timeout_s = 1.0\n"
PAIR = (CameraSpec(name="gate"), CameraSpec(name="yard"))


def short_outage(world: World, name: str = "yard", *, before_s: float = -40, after_s: float = -25.7) -> str:
    """Record a little before and after a hole of some eight seconds and note it; return the gap's id."""
    world.record(name, before_s, before_s + 5.7)
    world.record(name, after_s, after_s + 5.7)
    return world.note_hole(name)


def sane(daemon: Daemon) -> None:
    """Nothing was a surprise to the program, and it still runs."""
    assert "Traceback" not in daemon.log, daemon.log
    assert "fault of ours" not in daemon.log, daemon.log
    assert daemon.process.returncode is None, daemon.log


def says(daemon: Daemon, *words: str) -> bool:
    return any(all(word in line for word in words) for line in daemon.lines)


async def said(daemon: Daemon, *words: str) -> None:
    await until(lambda: says(daemon, *words), lambda: f"{words} in:\n{daemon.log}")


async def one_line(world: World, command: list[str], *words: str, status: int = 1) -> None:
    """Run a command that must end with one line on stderr that holds these words."""
    got, out, err = await world.command(*command)
    assert got == status, (command, got, out, err)
    last = err.strip().splitlines()
    assert len([line for line in last if line.startswith("anr-watch:")]) == 1, (command, err)
    assert all(word in last[-1] for word in words), (command, err)
    assert "Traceback" not in err


def put_database(source: Path, target: Path) -> None:
    """Put a consistent copy of a database in use at a path in one step, over what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name("part.db")
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(part)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode = wal")
    for suffix in ("-wal", "-shm"):  # a log of another database would be played into this one
        part.with_name(part.name + suffix).unlink(missing_ok=True)
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    part.replace(target)


def states_in(database: Path, name: str) -> set[str]:
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as db:
        return {row[0] for row in db.execute("SELECT fill_state FROM recording_gaps WHERE camera_id = ?", (name,))}


# -- the database -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["data", "not/yet/there"])
def test_a_missing_database_is_waited_for(tmp_path, folder):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            short_outage(world)
            late = tmp_path / folder / "late.db"
            world.config.write_text(world.config.read_text().replace(str(world.database), str(late)))
            async with world.daemon(ready=False) as daemon:
                await said(daemon, "waiting for the database", "not there yet")
                for command in (["status"], ["gaps"], ["retry", "--camera", "yard"], ["fill", "yard", "-1m", "-30s"]):
                    await one_line(world, command, str(late))
                assert not late.exists()
                put_database(world.database, late)
                await daemon.ready()
                await until(lambda: states_in(late, "yard") == {"filled"}, lambda: daemon.log)
                sane(daemon)
            assert world.prove("yard").complete

    asyncio.run(run())


def broken_in_the_middle(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = delete")
    data = bytearray(path.read_bytes())
    page = 4096
    data[page:] = random.Random(1).randbytes(len(data) - page)  # the first page, with the schema, stays
    path.write_bytes(data)


def no_sqlite(path: Path) -> None:
    path.write_bytes(random.Random(2).randbytes(20_000))


def cut_off(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, 4096 * 2)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY, sum REAL)")


def without_a_column(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE recording_gaps DROP COLUMN last_attempt_at")


def without_a_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE segments")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_in_the_middle, ("corrupt",)),
        (cut_off, ("corrupt",)),
        (no_sqlite, ("is not an SQLite database",)),
        (foreign, ("another program's database", "invoices")),
        (without_a_column, ("column recording_gaps.last_attempt_at is missing",)),
        (without_a_table, ("table segments is missing",)),
        (a_folder, ("is a folder",)),
        (a_pipe, ("not a regular file",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_database_that_cannot_be_worked_with_is_told_in_one_line(tmp_path, spoil, words):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard")) as world:
            path = tmp_path / "spoilt" / "heldar.db"
            create_kernel_database(path)
            spoil(path)
            before = path.read_bytes() if path.is_file() else None
            world.config.write_text(world.config.read_text().replace(str(world.database), str(path)))
            for command in (["run"], ["status"], ["gaps", "--json"], ["retry", "--camera", "yard"]):
                await one_line(world, command, str(path), *words)
            status, out, err = await world.command("check")
            assert status == 1, (out, err)
            assert all(word in out for word in words), (out, err)
            assert "Traceback" not in err
            assert before is None or path.read_bytes() == before  # and nothing was written to it

    asyncio.run(run())


def test_a_database_locked_while_a_fill_runs_loses_nothing(tmp_path):
    """The writer of the other side holds its lock for 8 s, many times our patience."""

    async def run():
        specs = (CameraSpec(name="gate", replay_speed=8), CameraSpec(name="yard"))
        async with World(tmp_path, *specs) as world:
            written = world.config.read_text().replace("[recordings]", "busy_timeout_s = 0.5\n[recordings]")
            world.config.write_text(written + QUIET)
            short_outage(world, "gate")
            async with world.daemon() as daemon:
                await until(lambda: world.attempts("gate"), "an attempt")
                world.kernel.execute("BEGIN IMMEDIATE")
                began = time.monotonic()
                await said(daemon, "database does not take a result", "locked by another program")
                await until(lambda: time.monotonic() - began > 8, "8 s")
                assert world.states("gate") == {"pending"}
                sane(daemon)
                world.kernel.execute("COMMIT")
                await world.settled("gate")
                short_outage(world, "yard")
                await world.settled("yard")
                sane(daemon)
            assert [(a["reason"], a["number"]) for a in world.attempts("gate")] == [("filled", 1)]
            assert world.prove("gate").complete
            assert world.prove("yard").complete

    asyncio.run(run())


def test_a_lock_met_before_the_claim_delays_a_gap_only_shortly(tmp_path):
    """The gap becomes due by the clock alone, while the other side holds its lock."""

    async def run():
        async with World(tmp_path, CameraSpec(name="yard")) as world:
            world.config.write_text(
                world.config.read_text().replace("[recordings]", "busy_timeout_s = 0.3\n[recordings]") + QUIET
            )
            async with world.daemon() as daemon:
                start_s = world.elapsed_s() + 2
                world.kernel.add_gap("yard", world.at(start_s), world.at(start_s + 2))
                await said(daemon, "presence", "camera=yard")
                world.kernel.execute("BEGIN IMMEDIATE")
                await said(daemon, "fill could not go on", "locked by another program")
                world.kernel.execute("COMMIT")
                await until(lambda: world.attempts("yard"), lambda: daemon.log, deadline_s=15)
                sane(daemon)

    asyncio.run(run())


def test_a_database_locked_at_the_start_is_waited_for(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard")) as world:
            world.config.write_text(
                world.config.read_text().replace("[recordings]", "busy_timeout_s = 0.5\n[recordings]") + QUIET
            )
            short_outage(world)
            world.kernel.execute("BEGIN IMMEDIATE")
            async with world.daemon(ready=False) as daemon:
                await said(daemon, "waiting for the database", "locked by another program")
                await one_line(world, ["retry", "--camera", "yard"], "locked by another program")
                world.kernel.execute("COMMIT")
                await world.settled("yard")
                sane(daemon)

    asyncio.run(run())


@pytest.mark.parametrize("settings", [QUIET, QUIET + "[watch]\ndatabase = false\n"], ids=["watched", "unwatched"])
def test_a_database_replaced_by_another_is_gone_on_with(tmp_path, settings):
    async def run():
        async with World(
            tmp_path, CameraSpec(name="gate", replay_speed=4), CameraSpec(name="yard"), settings=settings
        ) as world:
            short_outage(world, "gate")
            copy = tmp_path / "copy" / "heldar.db"
            put_database(world.database, copy)  # the same cameras and gap, nothing of ours
            async with world.daemon() as daemon:
                await until(lambda: world.attempts("gate") and world.attempts("gate")[0]["bytes"] >= 0, "a fill")
                world.kernel.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                for suffix in ("-wal", "-shm"):
                    world.database.with_name(world.database.name + suffix).unlink(missing_ok=True)
                copy.replace(world.database)
                await said(daemon, "the database was replaced")
                with kernel_process(world.database) as kernel:
                    world.kernel = kernel
                    await world.settled("gate")
                    short_outage(world, "yard")
                    kernel.set_status("yard", "recording")
                    await world.settled("yard")
                    sane(daemon)
                    # What the lost database left on the task must not make the first stop look like a second one.
                    assert await daemon.stop() == 0, daemon.log
            assert world.prove("gate").complete
            assert world.prove("yard").complete

    asyncio.run(run())


def test_a_deleted_database_is_waited_for(tmp_path):
    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world, "gate")
            async with world.daemon() as daemon:
                await world.settled("gate")
                copy = tmp_path / "copy" / "heldar.db"
                short_outage(world, "yard")
                put_database(world.database, copy)
                for suffix in ("-wal", "-shm", ""):
                    world.database.with_name(world.database.name + suffix).unlink()
                await said(daemon, "waiting for the database", "not there yet")
                assert not world.database.exists()
                put_database(copy, world.database)
                await until(lambda: states_in(world.database, "yard") == {"filled"}, lambda: daemon.log)
                sane(daemon)

    asyncio.run(run())


def test_a_database_that_becomes_corrupt_ends_the_program_in_one_line(tmp_path):
    """Going on beside a corrupt file could only make it worse; the exit status lets the supervisor tell."""

    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            short_outage(world)
            async with world.daemon() as daemon:
                await world.settled("yard")
                world.kernel.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                with world.database.open("r+b") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(4096)
                    file.write(random.Random(3).randbytes(size - 4096))
                # A commit on the page that is left: what was read before stays in everybody's cache until then.
                world.kernel.execute("PRAGMA application_id = 1")
                await asyncio.wait_for(daemon.process.wait(), 30)
                await until(lambda: says(daemon, "anr-watch:", "corrupt"), lambda: daemon.log)
                assert daemon.process.returncode == 1
                assert "Traceback" not in daemon.log

    asyncio.run(run())


# -- rows ---------------------------------------------------------------------------------------------------------


def test_times_in_every_form_are_read(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            world.record("yard", -150, -144.3)
            world.record("yard", -25, -20)
            base = world.at(-140)
            forms = ["+00:00", ".5+00:00", ".250+00:00", ".250000+00:00", ".250000000+00:00", "Z", ".5Z"]
            for number, form in enumerate(forms):
                start, end = (base + timedelta(seconds=10 * number + at) for at in (0, 4))
                world.kernel.add_gap("yard", f"{start:%Y-%m-%dT%H:%M:%S}{form}", f"{end:%Y-%m-%dT%H:%M:%S}{form}")
            east = base + timedelta(seconds=80, hours=2)
            world.kernel.add_gap(
                "yard", f"{east:%Y-%m-%dT%H:%M:%S}+02:00", f"{east + timedelta(seconds=4):%Y-%m-%dT%H:%M:%S}+02:00"
            )
            asked = {row["id"]: row["gap_start"] for row in world.kernel.gaps("yard")}
            assert len(asked) == 8
            async with world.daemon() as daemon:
                await world.settled("yard")
                sane(daemon)
            rows = {row["id"]: row["gap_start"] for row in world.kernel.gaps("yard")}
            assert rows == asked  # settled, none split, and no text was written anew

    asyncio.run(run())


def test_rows_that_make_no_sense_are_told_and_left_alone(tmp_path):
    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world, "yard")
            at = world.at
            # A kernel of another time may lack the NOT NULL.
            world.kernel.execute("PRAGMA writable_schema = on")
            world.kernel.execute(
                "UPDATE sqlite_master SET sql = replace(replace(sql, 'gap_start TEXT NOT NULL', 'gap_start TEXT'),"
                " 'gap_end TEXT NOT NULL', 'gap_end TEXT') WHERE name = 'recording_gaps'"
            )
            world.kernel.execute("PRAGMA writable_schema = reset")
            junk = {
                "garbage": ("yesterday", "today"),
                "empty": ("", ""),
                "null_end": (text(at(-900)), None),
                "null": (None, None),
                "number": (1781352000, 1781352060),
                "no_zone": ("2026-06-13T12:00:00", "2026-06-13T12:01:00"),
                "no_such_day": ("2026-02-30T12:00:00Z", "2026-02-31T12:00:00Z"),
                "negative": (text(at(-600)), text(at(-660))),
                "no_length": (text(at(-500)), text(at(-500))),
                "far": ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59.5+00:00"),
                "far_future": ("9000-01-01T00:00:00+00:00", "9000-01-01T00:01:00+00:00"),
                "long_ago": ("0001-01-01T00:00:00+00:00", "0001-01-01T00:01:00+00:00"),
                "blob\n\x1b[31mid": ("\x1b[2J", "\n\n"),
                "endless": ("x" * 100_000, "y"),
            }
            for name, (start, end) in junk.items():
                world.kernel.execute(
                    "INSERT INTO recording_gaps (id, camera_id, gap_start, gap_end, gap_seconds, created_at)"
                    " VALUES (?, 'gate', ?, ?, 0, ?)",
                    [name, start, end, text(at(0))],
                )
            odd = "UPDATE recording_gaps SET {} WHERE id = ?"
            for change in ("fill_state = 'lost'", "fill_attempts = 'many'", "fill_attempts = -5"):
                gap = world.kernel.add_gap("gate", at(-300 - len(change)), at(-290))
                world.kernel.execute(odd.format(change), [gap])
            before = world.kernel.execute(
                "SELECT * FROM recording_gaps WHERE camera_id = 'gate' AND id NOT LIKE 'gap_%'"
            )
            async with world.daemon() as daemon:
                await until(lambda: world.states("yard") == {"filled"}, lambda: daemon.log[:20_000])
                await said(daemon, "row ignored", "garbage")
                await said(daemon, "row ignored", "null")
                await said(daemon, "row ignored", "negative", "not after its start")
                for command in (
                    ["gaps"],
                    ["gaps", "--json"],
                    ["status"],
                    ["check", "--no-replay"],
                    ["retry", "--camera", "gate"],
                ):
                    status, out, err = await world.command(*command)
                    assert status == 0, (command, out, err)
                    assert "\x1b[2J" not in out + err + daemon.log
                sane(daemon)
            after = world.kernel.execute(
                "SELECT * FROM recording_gaps WHERE camera_id = 'gate' AND id NOT LIKE 'gap_%'"
            )
            assert after == before
            assert world.prove("yard").complete

    asyncio.run(run())


def test_cameras_and_segments_that_make_no_sense_leave_the_others_alone(tmp_path):
    cameras = {
        "rtsp_port = 99999": "rtsp_port",
        "rtsp_port = 'many'": "rtsp_port",
        "segment_seconds = -1": "segment_seconds",
        "segment_seconds = 1e300": "segment_seconds",
        "anr_enabled = 'maybe'": "anr_enabled",
        "password = x'00ff'": "password",
        "anr_replay_url_template = 5.5": "",  # text affinity makes a text of it
        "address = 'a b'": "",
        "address = 'http://127.0.0.1/'": "",
        "address = printf('%.*c', 100000, 'x')": "",
        "username = CAST(x'fffe' AS TEXT)": "username",
        "record_stream = 'third'": "",
        "record_mode = char(10)": "",
        "vendor = char(27) || '[2J'": "",
        "name = CAST(x'fffe' AS TEXT)": "",
        "name = ''": "",
    }

    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world)
            for number, change in enumerate(cameras):
                world.kernel.add_camera(f"odd{number}", rtsp_port=9, segment_seconds=10)
                world.kernel.execute(f"UPDATE cameras SET {change} WHERE id = 'odd{number}'")
                world.kernel.add_gap(f"odd{number}", world.at(-30), world.at(-25))
            world.kernel.execute("UPDATE camera_status SET state = char(27) || '[2Jlost' WHERE camera_id = 'odd0'")
            world.kernel.execute("DELETE FROM camera_status WHERE camera_id = 'odd1'")
            times = [
                ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.9Z"),
                ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
                ("", ""),
                ("x", text(world.at(0))),
                (text(world.at(-30)), text(world.at(-40))),
                (text(world.at(3600)), text(world.at(7200))),
            ]
            for camera in ("yard", "gate"):
                for number, (start, end) in enumerate(times):
                    world.kernel.add_segment(camera, start, end, f"../../{camera}/{number}.mp4")
            world.kernel.execute("UPDATE segments SET path = CAST(x'fffe' AS TEXT) WHERE path = '../../gate/0.mp4'")
            world.kernel.execute(
                "UPDATE segments SET size_bytes = 'big', duration_s = 'long' WHERE path LIKE '../../gate%'"
            )
            async with world.daemon() as daemon:
                await until(lambda: world.states("yard") == {"filled"}, lambda: daemon.log[:20_000])
                for number, column in enumerate(cameras.values()):
                    if column:
                        await said(daemon, "row ignored", f"row=odd{number}", column)
                for command in (["status"], ["gaps", "--json"], ["check", "--no-replay"], ["check", "--json"]):
                    status, out, err = await world.command(*command)
                    assert status in (0, 1), (command, out, err)
                    assert "Traceback" not in err
                    assert "\x1b[2J" not in out + err + daemon.log
                world.kernel.set_status("gate", "offline")
                world.kernel.set_status("gate", "recording")
                await one_pass(world)
                sane(daemon)
            assert world.prove("yard").complete

    asyncio.run(run())


def test_overlapping_gaps_are_fetched_once(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            short_outage(world)  # -34.3 to -25.7
            for start, end in ((-33, -30), (-31, -27), (-34.1, -26)):
                world.kernel.add_gap("yard", world.at(start), world.at(end))
            async with world.daemon() as daemon:
                await world.settled("yard")
                sane(daemon)
            proof = world.prove("yard")
            assert proof.complete, proof
            fetched = sum(a["got_s"] for a in world.attempts())
            assert fetched < 8.6 + 3 * 4.5, world.attempts()  # the margins of each, but no footage twice

    asyncio.run(run())


def test_gaps_of_the_future_and_of_thirty_days(tmp_path):
    async def run():
        specs = (*PAIR, CameraSpec(name="month"), CameraSpec(name="soon"))
        async with World(tmp_path, *specs, settings=QUIET) as world:
            short_outage(world)
            world.kernel.add_gap("gate", world.at(3600), world.at(7200))
            world.record("soon", -40, -34.3)
            running_on = world.kernel.add_gap("soon", world.at(-30), world.at(3600))
            world.cameras["month"].faults.update({"describe_status": 404})
            month = world.kernel.add_gap("month", world.at(-30 * 86400), world.at(-60))
            async with world.daemon() as daemon:
                await world.settled("yard")
                await until(lambda: world.attempts("month"), lambda: daemon.log)
                await until(lambda: any(a["ended_at"] for a in world.attempts("soon")), lambda: daemon.log)
                sane(daemon)
            urls = [e.detail["url"] for e in world.cameras["month"].journal.entries if "url" in e.detail]
            assert urls
            for url in urls:
                query = parse_qs(urlsplit(url).query)
                start, end = (
                    datetime.strptime(query[key][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                    for key in ("starttime", "endtime")
                )
                assert end - start <= timedelta(seconds=3610)
                assert start >= world.at(-24 * 3600 - 10)
            assert [row["id"] for row in world.kernel.gaps("month")].count(month) == 1
            assert not [e for e in world.cameras["gate"].journal.entries if e.kind == "accept"]
            assert world.states("gate") == {"pending"}
            # What has not happened yet cannot be fetched: that part of the row stays pending.
            assert "pending" in world.states("soon")
            assert running_on in {row["id"] for row in world.kernel.gaps("soon")}

    asyncio.run(run())


IDS = [
    "../../etc",
    "..",
    ".",
    "/abs",
    "a b",
    "a/b",
    "x\ny",
    "x\0y",
    "\x1b[31mred",
    "x" * 300,
    "ü" * 200,
    ".anr-watch",
    "~",
    "-rf",
    "%2e%2e%2f",
    "#",
    "+",
    "gate/+/#",
    "\u2028",
    "Kamera Süd",
]
FINE = {"a b", "~", "-rf", "%2e%2e%2f", "Kamera Süd", "#", "+"}  # harmless as names of folders


def test_camera_ids_that_try_to_leave_the_recordings(tmp_path):
    home = tmp_path / "home"
    home.mkdir()

    async def run():
        settings = QUIET
        with Broker(tmp_path) as broker:
            settings += f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "test"\n'
            async with World(home, *PAIR, settings=settings) as world:
                world.kernel.execute("DELETE FROM cameras WHERE id = 'gate'")
                short_outage(world)
                for number, camera_id in enumerate(IDS):
                    # Hosts of their own on loopback, so that each has a lane of its own.
                    world.kernel.add_camera(
                        camera_id,
                        address=f"127.0.1.{number + 1}",
                        rtsp_port=world.cameras["gate"].rtsp_port,
                        username="admin",
                        password="camera",
                        segment_seconds=10,
                        anr_replay_url_template=f"rtsp://{{user}}:{{password}}@127.0.0.1:{world.cameras['gate'].rtsp_port}"
                        "/Streaming/tracks/101?starttime={start}&endtime={end}",
                    )
                    world.kernel.add_gap(camera_id, world.at(-34), world.at(-30))
                before = outside(tmp_path, world)
                async with Observer(broker.port, "#") as seen, world.daemon() as daemon:
                    await world.settled("yard")
                    await until(
                        lambda: {i for i in IDS if world.states(i) == {"filled"}} >= FINE, lambda: states(world)
                    )
                    await until(lambda: parked(world) >= set(IDS) - FINE, lambda: (parked(world), daemon.log))
                    for command in (
                        ["status"],
                        ["status", "--json"],
                        ["gaps"],
                        ["gaps", "--json"],
                        ["check", "--no-replay"],
                    ):
                        status, out, err = await world.command(*command)
                        assert status in (0, 1), (command, out, err)
                        assert "Traceback" not in err, (command, err)
                        assert "\x1b[31m" not in out, command
                        assert "x\ny" not in out, command
                    for camera_id in IDS[::4]:
                        status, out, err = await world.command("fill", camera_id.replace("\0", ""), "-33s", "-31s")
                        assert status in (0, 1, 2), (camera_id, out, err)
                        assert "Traceback" not in err
                    await seen.publish("anr-watch/test/cmd/recheck", '{"transaction": 1}')
                    await seen.until(lambda messages: any(m.topic.endswith("/reply/recheck") for m in messages))
                    sane(daemon)
                assert states(world).keys() >= set(IDS)
                assert {i for i in IDS if "filled" in world.states(i)} == FINE
                assert outside(tmp_path, world) == before
                folders = {path.name for path in world.recordings.iterdir()}
                assert folders <= FINE | {"yard", ".anr-watch"}, folders
                assert not {
                    m.topic for m in seen.messages if m.topic.startswith("anr-watch/") and "camera" not in m.topic
                } - {f"anr-watch/test/{name}" for name in ("status", "info", "check", "reply/recheck", "cmd/recheck")}

    def states(world):
        return {i: world.states(i) for i in IDS}

    def parked(world):
        return {row[0] for row in world.kernel.execute("SELECT camera_id FROM anr_parked")}

    asyncio.run(run())


def outside(folder: Path, world: World) -> set[str]:
    """Return every path below a folder but those of the recordings, the database and the broker."""
    return {
        str(path)
        for path in folder.rglob("*")
        if not path.is_relative_to(world.recordings)
        and not path.is_relative_to(world.database.parent)
        and "broker" not in str(path.relative_to(folder))
    }


# -- MQTT ---------------------------------------------------------------------------------------------------------


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_payloads_of_every_kind_change_nothing(tmp_path):
    payloads = [
        b"",
        b"\xff\xfe\x00\x01binary\x80",
        b"\0" * 100,
        random.Random(5).randbytes(1 << 20),
        b"[" * 100_000,
        deep(50_000),
        b'{"camera": 5}',
        b'{"camera": null}',
        b'{"camera": ["gate"]}',
        b'{"camera": {"id": "gate"}}',
        b'{"camera": "nobody"}',
        b'{"camera": "../../etc"}',
        b'{"camera": "gate", "from": 5, "to": true}',
        b'{"camera": "gate", "from": "2026-06-13T12:00:00Z", "to": "2026-06-13T11:00:00Z"}',
        b'{"camera": "gate", "from": "3026-06-13T12:00:00Z", "to": "3026-06-13T13:00:00Z"}',
        b'{"camera": "gate", "from": "0001-01-01T00:00:00Z", "to": "0001-01-01T00:01:00Z"}',
        b'{"camera": "gate", "gap": "gap_x"}',
        b'{"gap": 17}',
        b'{"gap": "gap_nobody"}',
        b'{"transaction": {"x": 1}}',
        b'{"transaction": 123456789012345678901234567890}',
        b"true",
        b"1e999",
        b"NaN",
        b'"online"',
        b"online\0",
        "önline".encode("utf-16"),
    ]
    verbs = ["fill", "retry", "cancel", "recheck", "pause", "resume", "explode", "", "fill/extra", "x" * 1000]

    async def run():
        with Broker(tmp_path) as broker:
            settings = (
                f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "test"\n'
                '[[mqtt.presence]]\nname = "plain"\ntopic = "cameras/{camera}/status"\n'
                '[[mqtt.presence]]\nname = "json"\ntopic = "json/{camera}"\njson = "a.a.state"\n'
            )
            async with World(tmp_path, *PAIR, settings=QUIET + settings) as world:
                async with Observer(broker.port, "anr-watch/test/reply/#") as seen:
                    # Retained commands wait for the program on every connection.
                    for verb in ("pause", "fill"):
                        await seen.publish(f"anr-watch/test/cmd/{verb}", b'{"camera": "yard"}', retain=True)
                    await seen.publish("cameras/nobody/status", b"online", retain=True)
                    async with world.daemon() as daemon:
                        await said(daemon, "connected to the broker")
                        await said(daemon, "retained message", "cmd/pause")
                        for payload in payloads:
                            for topic in ("cameras/gate/status", "cameras/nobody/status", "json/gate", "json/nobody"):
                                await seen.publish(topic, payload)
                            for verb in verbs:
                                if verb == "recheck" or (verb in ("pause", "resume") and not payload.strip()):
                                    continue  # a whole and valid command
                                await seen.publish(f"anr-watch/test/cmd/{verb}", payload)
                        await seen.publish("anr-watch/test/cmd/recheck", b'{"transaction": "last"}')
                        await seen.until(lambda all_: any(b'"last"' in m.payload for m in all_))
                        for message in seen.messages[:-1]:
                            answer = json.loads(message.payload)
                            assert answer["status"] in ("ok", "error")
                            assert answer["status"] == "ok" or answer["error"], answer
                            assert "internal error" not in (answer["error"] or "")
                        sane(daemon)
                        await seen.publish("anr-watch/test/cmd/resume", b"{}")
                        short_outage(world)
                        await world.settled("yard")
                        sane(daemon)
                assert not [e for e in world.cameras["gate"].journal.entries if e.kind == "accept"]

    asyncio.run(run())


# -- the recordings folder ----------------------------------------------------------------------------------------


def test_a_recordings_folder_that_is_missing_is_made(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            world.recordings.rmdir()
            async with world.daemon() as daemon:
                short_outage(world)
                await world.settled("yard")
                sane(daemon)

    asyncio.run(run())


@pytest.mark.parametrize("where", ["recordings", "above"])
def test_a_file_where_the_recordings_folder_should_be(tmp_path, where):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world:
            in_the_way = tmp_path / "in-the-way"
            in_the_way.write_text("a file")
            root = in_the_way if where == "recordings" else in_the_way / "recordings"
            world.config.write_text(world.config.read_text().replace(str(world.recordings), str(root)))
            await one_line(world, ["run"], str(root))
            status, out, err = await world.command("check", "--no-replay")
            assert status == 1, (out, err)
            assert str(root) in out
            assert "Traceback" not in err
            assert in_the_way.read_text() == "a file"

    asyncio.run(run())


def test_a_recordings_folder_deleted_and_made_again_while_running(tmp_path):
    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world, "gate")
            async with world.daemon() as daemon:
                await world.settled("gate")
                away = tmp_path / "away"
                world.recordings.rename(away)
                await said(daemon, "missing")
                world.recordings.mkdir()
                short_outage(world, "yard")
                await world.settled("yard")
                sane(daemon)
            assert world.prove("yard").complete

    asyncio.run(run())


def test_recordings_that_are_gone_burn_no_tries(tmp_path):
    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world, "gate")
            async with world.daemon() as daemon:
                await world.settled("gate")
                away = tmp_path / "away"
                world.recordings.rename(away)
                world.kernel.add_gap("yard", world.at(-34), world.at(-30))
                await until(lambda: [a["reason"] for a in world.attempts("yard")] == ["storage"], lambda: daemon.log)
                assert world.kernel.gaps("yard")[0]["fill_attempts"] == 0
                assert not world.recordings.exists()  # an unmounted disk must not be filled under its mount point
                away.rename(world.recordings)
                status, out, err = await world.command("retry", "--camera", "yard")
                assert status == 0, (out, err)
                await world.settled("yard")
                sane(daemon)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_one_cameras_folder_that_takes_no_files_does_not_stop_the_others(tmp_path, kind):
    """Newest first: the camera with the bad folder comes first."""

    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir()
            if kind == "file":
                (world.recordings / "gate").write_text("not a folder")
            else:
                (world.recordings / "gate").symlink_to(elsewhere)
            world.kernel.add_gap("gate", world.at(-20), world.at(-10))
            async with world.daemon() as daemon:
                await until(lambda: [a["reason"] for a in world.attempts("gate")] == ["storage"], lambda: daemon.log)
                short_outage(world)
                await until(lambda: world.states("yard") == {"filled"}, lambda: daemon.log, deadline_s=10)
                sane(daemon)
            assert world.kernel.gaps("gate")[0]["fill_attempts"] == 0
            assert world.states("gate") == {"pending"}
            assert not list(elsewhere.iterdir())

    asyncio.run(run())


def test_a_folder_full_of_junk(tmp_path):
    async def run():
        async with World(tmp_path, *PAIR, settings=QUIET) as world:
            short_outage(world, "yard")
            good = world.files("yard")[0].read_bytes()
            outside_ = tmp_path / "outside"
            outside_.mkdir()
            (outside_ / "secret.mp4").write_bytes(good)

            def name(seconds: float) -> str:
                return f"{world.at(seconds):%Y%m%d_%H%M%S}.mp4"

            folder = world.recordings / "gate"
            short_outage(world, "gate")
            sockets = []
            for camera in (folder, world.recordings / "yard", world.recordings / "unknown"):
                camera.mkdir(exist_ok=True)
                (camera / name(-33)).write_bytes(b"")
                (camera / name(-32)).write_bytes(good[:100])
                (camera / name(-31)).write_bytes(good[: len(good) // 2])
                (camera / name(-30)).write_bytes(random.Random(7).randbytes(5000))
                (camera / name(-29)).mkdir()
                (camera / name(-28)).symlink_to(outside_ / "secret.mp4")
                (camera / name(-27)).symlink_to("/dev/zero")
                (camera / name(-500)).symlink_to(tmp_path / "nowhere")
                os.mkfifo(camera / name(-501))
                sockets.append(socket.socket(socket.AF_UNIX))
                os.chdir(camera)
                sockets[-1].bind(name(-502))
                for junk in (
                    "x.mp4",
                    "20261399_250000.mp4",
                    "99991231_235959.mp4",
                    "00000000_000000.mp4",
                    "20260613_120000.mp4.part",
                    "20260613_120000.MP4",
                    "-20260613_120000.mp4",
                    "\x1b[31m.mp4",
                    "a\nb.mp4",
                    "é" * 100 + ".mp4",
                ):
                    (camera / junk).write_bytes(good[:50])
                Path(os.fsdecode(os.fsencode(camera) + b"/\xff\xfe_1200.mp4")).write_bytes(b"junk")
                (camera / "loop").symlink_to(camera)
            Path(os.fsdecode(os.fsencode(world.recordings) + b"/\xff\xfe")).mkdir()
            (world.recordings / "loop").symlink_to(world.recordings)
            (world.recordings / name(-10)).write_bytes(good)
            before = {p: p.read_bytes() for p in world.recordings.rglob("*") if p.is_file() and not p.is_symlink()}
            async with world.daemon() as daemon:
                await world.settled("yard")
                await world.settled("gate")
                (world.recordings / "unknown" / name(-5)).write_bytes(b"")  # and while it watches
                (folder / name(-6)).write_bytes(b"")
                (folder / name(-7)).write_bytes(good[:300])
                status, out, err = await world.command("check", "--no-replay")
                assert status == 0, (out, err)
                await one_pass(world)
                sane(daemon)
            for one in sockets:
                one.close()
            assert all(path.read_bytes() == content for path, content in before.items())
            assert sorted(p.name for p in outside_.iterdir()) == ["secret.mp4"]
            for camera in ("gate", "yard"):
                for path in world.files(camera):
                    if path not in before and path.is_file() and not path.is_symlink() and path.stat().st_size > 300:
                        assert path.stat().st_nlink == 1

    here = Path.cwd()
    try:
        asyncio.run(run())
    finally:
        os.chdir(here)


async def one_pass(world: World) -> None:
    """Wait until the program has looked at the database once more: a hole noted now is filled."""
    gap = world.kernel.add_gap("yard", world.at(-39), world.at(-38))  # recorded long since
    await until(
        lambda: {r["fill_state"] for r in world.kernel.gaps("yard") if r["id"] == gap} == {"filled"}, "a pass"
    )


# -- configuration and a second one -------------------------------------------------------------------------------


def test_five_mistakes_in_the_configuration_are_told_at_once(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard")) as world:
            world.config.write_text(
                f'[database]\npath = "{world.database}"\nbusy_timeout_s = "long"\n'
                f'[recordings]\npath = "{world.recordings}"\nmin_fre_mb = 1\n'
                "[fills]\nparallel = 0\n"
                '[mqtt]\nversion = "4"\n'
                '[log]\nlevel = "loud"\n'
            )
            for command in (["run"], ["check"], ["status", "--json"], ["fill", "yard", "-1m", "now"]):
                status, out, err = await world.command(*command)
                assert status == 2, (command, out, err)
                lines = err.strip().splitlines()
                assert len(lines) == 5, err
                for key in (
                    "database.busy_timeout_s",
                    "recordings.min_fre_mb",
                    "fills.parallel",
                    "mqtt.version",
                    "log.level",
                ):
                    assert sum(key in line for line in lines) == 1, (key, err)
                assert "min_free_mb" in err  # what was meant
                assert out == ""

    asyncio.run(run())


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"[fills\nparallel = 1",
        b"\0" * 1000,
        b"fills = 5",
        b"[[fills]]\nparallel = 1",
        b"a = " + b"[" * 5000,
    ],
    ids=["binary", "no-toml", "zeros", "no-table", "list", "deep"],
)
def test_a_configuration_that_is_none(tmp_path, content):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard")) as world:
            world.config.write_bytes(content)
            status, out, err = await world.command("run")
            assert status == 2, (out, err)
            assert str(world.config) in err
            assert "Traceback" not in err

    asyncio.run(run())


def test_a_second_program_on_the_same_recordings_is_refused(tmp_path):
    async def run():
        async with World(tmp_path, CameraSpec(name="yard"), settings=QUIET) as world, world.daemon() as first:
            await one_line(world, ["run"], str(world.recordings), str(first.process.pid))
            short_outage(world)
            await world.settled("yard")
            sane(first)
            assert PROGRAM.exists()

    asyncio.run(run())
