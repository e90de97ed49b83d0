"""Whose database it is, what is wrong with it, what of ours is put into it, and that nothing else changes."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_database import FixedClock, Kernel, at, create_kernel_database, kernel_process

from anr_watch.config import CameraSettings, DatabaseSettings
from anr_watch.errors import AnrWatchError, ContractError, StorageError, StoreUnavailable
from anr_watch.model import Message, ReplayOptions, Secret, Window
from anr_watch.store import Mode, open_store, schema
from anr_watch.store.connection import Writer, connect

GATE = CameraSettings(id="gate", name="Gate", address="10.0.0.5", username="u", password=Secret("hush"))


def settings(path, mode="auto", busy_timeout_s=0.3):
    return DatabaseSettings(path=path, mode=mode, busy_timeout_s=busy_timeout_s)


def opened(path, *, mode="auto", clock=None, **more):
    """Open, do nothing, close; return the mode."""

    async def run():
        async with open_store(settings(path, mode), clock or FixedClock(), **more) as store:
            return store.mode

    return asyncio.run(run())


def definitions(path, like="%"):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE ?", (like,)).fetchall())


@pytest.fixture
def database(tmp_path):
    return create_kernel_database(tmp_path / "heldar.db")


# ---- modes


@pytest.mark.parametrize("mode", ["auto", "heldar"])
def test_a_kernel_database_is_recognised_even_if_cameras_are_configured(database, mode):
    assert opened(database, mode=mode, cameras=(GATE,)) is Mode.HELDAR


@pytest.mark.parametrize("prior", ["missing", "empty", "folder missing"])
@pytest.mark.parametrize("mode", ["auto", "standalone"])
def test_a_database_of_our_own_is_created_and_recognised_again(tmp_path, mode, prior):
    path = tmp_path / ("new/own.db" if prior == "folder missing" else "own.db")
    if prior == "empty":
        path.touch()
    assert opened(path, mode=mode, cameras=(GATE,)) is Mode.STANDALONE
    assert opened(path, mode="auto") is Mode.STANDALONE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_no_file_of_our_database_is_ever_anybody_elses(tmp_path):
    path = tmp_path / "new" / "own.db"

    async def main():
        async with open_store(settings(path, "standalone"), FixedClock(), cameras=(GATE,)):
            return {file.name: stat.S_IMODE(file.stat().st_mode) for file in [path.parent, *path.parent.iterdir()]}

    umask = os.umask(0)
    try:
        modes = asyncio.run(main())
    finally:
        os.umask(umask)
    assert modes == {"new": 0o700, "own.db": 0o600, "own.db-wal": 0o600, "own.db-shm": 0o600}


@pytest.mark.parametrize("mode", ["auto", "heldar"])
@pytest.mark.parametrize("prior", ["missing", "empty", "no tables"])
def test_a_database_that_is_not_there_yet_is_waited_for_not_made(tmp_path, mode, prior):
    path = tmp_path / "heldar.db"
    if prior == "empty":
        path.touch()
    if prior == "no tables":
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = wal")
    with pytest.raises(StoreUnavailable, match="there yet"):
        opened(path, mode=mode)
    assert path.exists() == (prior != "missing")


def test_heldar_mode_never_creates_even_with_cameras(tmp_path):
    with pytest.raises(StoreUnavailable, match="not there yet"):
        opened(tmp_path / "heldar.db", mode="heldar", cameras=(GATE,))


def test_a_kernel_that_is_still_making_its_tables_is_waited_for(tmp_path):
    path = tmp_path / "heldar.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY)")
    with pytest.raises(StoreUnavailable, match="has not made its tables yet"):
        opened(path, cameras=(GATE,))


def test_modes_that_contradict_the_file_are_refused(database, tmp_path):
    with pytest.raises(ContractError, match="belongs to Heldar"):
        opened(database, mode="standalone")
    own = tmp_path / "own.db"
    opened(own, cameras=(GATE,))
    with pytest.raises(ContractError, match="standalone mode"):
        opened(own, mode="heldar")


# ---- what is wrong, in one line


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(ContractError, match="is a folder"):
        opened(tmp_path)


def test_a_device_is_no_database(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContractError, match="not a regular file"):
        opened(tmp_path / "pipe")


def test_a_text_file_is_no_database(tmp_path):
    path = tmp_path / "heldar.db"
    path.write_text("this is not a database at all\n" * 100)
    with pytest.raises(ContractError, match="is not an SQLite database"):
        opened(path)


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "frigate.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recordings (id)")
    before = path.read_bytes()
    with pytest.raises(ContractError, match="another program's database"):
        opened(path, cameras=(GATE,))
    assert path.read_bytes() == before


def test_a_corrupt_database_is_named_corrupt(database):
    with Kernel(database) as kernel:
        for number in range(200):
            kernel.add_camera(f"cam{number}")
    raw = bytearray(database.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    database.write_bytes(raw)

    async def run():
        async with open_store(settings(database), FixedClock()) as store:
            await store.look(now=at(0))

    with pytest.raises(ContractError, match=r"corrupt|malformed"):
        asyncio.run(run())


def error_without_rights(path):
    """Return the text of the error that opening raises in a process that is not root."""
    if os.geteuid() != 0:
        with pytest.raises(AnrWatchError) as caught:
            opened(path)
        return f"{type(caught.value).__name__} {caught.value}"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            try:
                opened(path)
            except AnrWatchError as error:
                os.write(writing, f"{type(error).__name__} {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def open_folder():
    """A folder that every user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_folder_that_may_not_be_entered_is_said_so(open_folder):
    database = create_kernel_database(open_folder / "locked" / "heldar.db")
    database.parent.chmod(0o000)
    assert "ContractError" in error_without_rights(database)
    assert "permission denied" in error_without_rights(database)
    database.parent.chmod(0o755)


def test_a_database_that_may_not_be_written_is_said_so(open_folder):
    database = create_kernel_database(open_folder / "heldar.db")
    database.chmod(0o444)
    open_folder.chmod(0o555)
    assert "StorageError" in error_without_rights(database)
    assert "cannot be written" in error_without_rights(database)
    open_folder.chmod(0o755)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DROP TABLE recording_gaps", "table recording_gaps is missing"),
        ("DROP TABLE events", "table events is missing"),
        ("ALTER TABLE cameras RENAME COLUMN anr_enabled TO anr", "column cameras.anr_enabled is missing"),
        ("ALTER TABLE camera_status RENAME COLUMN state TO status", "column camera_status.state is missing"),
        ("ALTER TABLE segments RENAME COLUMN path TO file", "column segments.path is missing"),
    ],
)
def test_what_the_contract_needs_is_named_when_it_is_missing(database, change, says):
    with Kernel(database) as kernel:
        kernel.execute(change)
    with pytest.raises(ContractError, match=says):
        opened(database)
    assert definitions(database, "anr%") == {}


def test_a_column_that_must_be_given_and_is_unknown_is_refused(database):
    with Kernel(database) as kernel:
        kernel.execute("DROP TABLE segments")
        kernel.execute(
            "CREATE TABLE segments (id TEXT PRIMARY KEY, camera_id TEXT, path TEXT UNIQUE, start_time TEXT, end_time TEXT,"
            " duration_s REAL, codec TEXT, width INTEGER, height INTEGER, size_bytes INTEGER, container TEXT,"
            " created_at TEXT, checksum TEXT NOT NULL)"
        )
    with pytest.raises(ContractError, match=r"segments\.checksum must be given"):
        opened(database)


def test_a_lost_unique_key_is_refused(database):
    with Kernel(database) as kernel:
        kernel.execute("CREATE TABLE copy AS SELECT * FROM recording_gaps")
        kernel.execute("DROP TABLE recording_gaps")
        kernel.execute("ALTER TABLE copy RENAME TO recording_gaps")
    with pytest.raises(ContractError, match=r"recording_gaps has no unique key \(camera_id, gap_start\)"):
        opened(database)


def test_columns_the_kernel_gains_are_no_problem(database):
    with Kernel(database) as kernel:
        kernel.execute("ALTER TABLE cameras ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")
        kernel.execute("ALTER TABLE segments ADD COLUMN checksum TEXT")
    assert opened(database) is Mode.HELDAR


# ---- our tables


def test_the_kernels_tables_are_not_altered(database):
    before = definitions(database)
    opened(database)
    after = definitions(database)
    assert {name: sql for name, sql in after.items() if "anr_" not in name and name != "sqlite_sequence"} == before
    assert {name for name in after if name.startswith("anr_")} >= {"anr_meta", "anr_attempts", "anr_outbox"}


def test_a_database_of_a_newer_version_is_refused(database):
    opened(database)
    with Kernel(database) as kernel:
        kernel.execute("UPDATE anr_meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(ContractError, match="newer than this anr-watch knows"):
        opened(database)
    with pytest.raises(ContractError, match="newer than this anr-watch knows"):
        opened(database, readonly=True)


def migrated(path, own):
    async def run():
        async with connect(path, "rw", 1.0) as connection:
            writer = Writer(connection, path, 1.0)
            await writer.transact(lambda session: schema.migrate(session, Mode.HELDAR, path, own=own))

    asyncio.run(run())


def test_a_migration_interrupted_anywhere_leaves_the_file_as_it_was(database):
    second = (
        "CREATE TABLE anr_more (a TEXT)",
        "INSERT INTO anr_more VALUES ('kept')",
        "ALTER TABLE anr_presence ADD COLUMN more TEXT",
    )
    opened(database)
    before = definitions(database)
    for broken_at in range(1, len(second) + 1):
        with pytest.raises(ContractError, match="no_such_table"):
            migrated(database, (*schema.OWN_MIGRATIONS, (*second[:broken_at], "DELETE FROM no_such_table")))
        assert definitions(database) == before
        assert opened(database) is Mode.HELDAR
    migrated(database, (*schema.OWN_MIGRATIONS, second))
    migrated(database, (*schema.OWN_MIGRATIONS, second))
    with Kernel(database) as kernel:
        assert kernel.execute("SELECT a FROM anr_more") == [["kept"]]
        assert kernel.execute("SELECT value FROM anr_meta WHERE key = 'schema_version'") == [
            [str(len(schema.OWN_MIGRATIONS) + 1)]
        ]


def test_every_column_of_ours_says_what_it_holds():
    for statements in (*schema.OWN_MIGRATIONS, *schema.STANDALONE_MIGRATIONS):
        for statement in statements:
            if "CREATE TABLE" not in statement:
                continue
            lines = [line for line in statement.strip().splitlines()[1:-1] if not line.strip().startswith("UNIQUE")]
            assert all("--" in line or "REFERENCES" in line for line in lines), statement


def test_old_attempts_and_notes_on_lost_cameras_are_forgotten_at_start(database):
    opened(database)
    with Kernel(database) as kernel:
        for name, when in (("old", "2026-01-01T00:00:00+00:00"), ("new", "2026-06-01T00:00:00+00:00")):
            kernel.execute(
                "INSERT INTO anr_attempts (id, gap_id, camera_id, number, window_start, window_end, started_at, ended_at)"
                " VALUES (?, ?, 'gate', 1, ?, ?, ?, ?)",
                (name, name, when, when, when, when),
            )
        kernel.execute("INSERT INTO anr_presence VALUES ('gone', 'online', '2026-06-01T00:00:00+00:00')")
    opened(database)
    with Kernel(database) as kernel:
        assert kernel.execute("SELECT id FROM anr_attempts") == [["new"]]
        assert kernel.execute("SELECT * FROM anr_presence") == []


# ---- standalone cameras


def test_configured_cameras_are_rows_without_secrets_and_whole_when_looked_at(tmp_path):
    path = tmp_path / "own.db"
    options = ReplayOptions(timezone="local")
    camera = replace(GATE, options=options, replay_url_template=Secret("rtsp://u:hush@h/"))

    async def run():
        async with open_store(settings(path), FixedClock(), cameras=(camera,)) as store:
            await store.waits(now=at(0))  # looks at the same rows, and at nobody's secrets
            return (await store.look(now=at(0))).cameras

    seen = asyncio.run(run())["gate"]
    assert (seen.password, seen.username, seen.options) == (Secret("hush"), "u", options)
    assert seen.wants_fills
    assert seen.records_always
    assert all(b"hush" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_camera_that_left_the_configuration_is_disabled_with_its_rows_kept(tmp_path):
    path = tmp_path / "own.db"
    yard = replace(GATE, id="yard", name="")
    opened(path, cameras=(GATE, yard))
    with Kernel(path) as kernel:
        kernel.add_gap("yard", at(0), at(10))
    opened(path, cameras=(replace(GATE, address="10.0.0.6"),))
    with Kernel(path) as kernel:
        assert kernel.execute("SELECT id, name, address, enabled FROM cameras ORDER BY id") == [
            ["gate", "Gate", "10.0.0.6", 1],
            ["yard", "yard", "10.0.0.5", 0],
        ]
        assert len(kernel.gaps("yard")) == 1
    opened(path, cameras=(GATE, yard))
    with Kernel(path) as kernel:
        assert kernel.execute("SELECT count(*) FROM cameras WHERE enabled = 1") == [[2]]


# ---- beside others


def test_read_only_creates_nothing_and_says_that_our_tables_are_missing(database):
    with Kernel(database) as kernel:
        kernel.add_camera("gate")
        kernel.add_gap("gate", at(0), at(60))

        async def run():
            async with open_store(settings(database), FixedClock(at(100)), readonly=True) as store:
                assert not store.prepared
                (row,) = await store.status_rows()
                assert (row.camera.id, row.pending_gaps, row.missing_s, row.last) == ("gate", 1, 60.0, None)
                assert [found.gap.window for found in await store.gaps()] == [Window(at(0), at(60))]
                assert await store.attempts("x") == []
                assert await store.parked() == {}
                assert (await store.outbox_depth(), await store.outbox_dropped()) == (0, 0)
                with pytest.raises(StorageError, match="read only"):
                    await store.put([Message("e", "t", b"")])

        asyncio.run(run())
    assert definitions(database, "anr%") == {}


def test_read_only_works_beside_a_running_daemon_and_sees_its_commits(database):
    async def run():
        async with open_store(settings(database), FixedClock(at(100))) as daemon:
            with Kernel(database) as kernel:
                kernel.add_camera("gate")
            async with open_store(settings(database), FixedClock(at(100)), readonly=True) as status:
                assert status.prepared
                before = await status.version()
                await daemon.register_gap("gate", Window(at(0), at(10)))
                assert await status.version() != before
                assert (await status.status_rows())[0].pending_gaps == 1

    asyncio.run(run())


def test_read_only_on_nothing_does_not_make_a_file(tmp_path):
    with pytest.raises(StoreUnavailable, match="not there yet"):
        opened(tmp_path / "own.db", cameras=(GATE,), readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_or_removed_file_is_noticed(database, tmp_path):
    async def run():
        async with open_store(settings(database), FixedClock()) as store:
            assert not await store.replaced()
            database.rename(tmp_path / "aside.db")
            assert await store.replaced()
            create_kernel_database(database)
            assert await store.replaced()

    asyncio.run(run())


def test_foreign_connections_keep_their_log_while_we_open_work_and_close(database):
    """The kernel's view stays whole: what it committed is in the log before, while and after we are there."""
    with kernel_process(database) as kernel:
        kernel.add_camera("gate")

        async def run():
            async with open_store(settings(database), FixedClock()) as store:
                kernel.add_gap("gate", at(0), at(10))
                await store.replaced()
                await store.register_gap("gate", Window(at(20), at(30)))
                kernel.execute("BEGIN IMMEDIATE")
                kernel.execute("UPDATE cameras SET name = 'half' WHERE id = 'gate'")
                await store.look(now=at(30))
            kernel.execute("COMMIT")

        asyncio.run(run())
        assert database.with_name("heldar.db-wal").exists()
        kernel.add_gap("gate", at(40), at(50))
        assert len(kernel.gaps("gate")) == 3
    with Kernel(database) as fresh:
        assert fresh.execute("PRAGMA integrity_check") == [["ok"]]
        assert [row["gap_start"][17:19] for row in fresh.gaps("gate")] == ["00", "20", "40"]
        assert fresh.execute("SELECT name FROM cameras") == [["half"]]


def test_the_file_descriptors_are_those_of_two_connections(database):
    def held():
        names = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(str(descriptor.readlink()))
        return sum(name == str(database) for name in names)

    async def run():
        async with open_store(settings(database), FixedClock()) as store:
            counts = set()
            for _ in range(5):
                await store.version()
                await store.look(now=at(0))
                await store.replaced()
                counts.add(held())
            return counts

    assert asyncio.run(run()) == {2}
    assert held() == 0


def test_a_full_disk_is_a_storage_error_that_says_full(tmp_path):
    """A page limit is what SQLite reports like a full disk."""
    database = create_kernel_database(tmp_path / "heldar.db")

    async def run():
        async with open_store(settings(database), FixedClock()) as store:
            await store._writer.peek(lambda session: session.all("PRAGMA max_page_count = 60"))
            with pytest.raises(StorageError) as caught:
                for number in range(1000):
                    await store.put([Message(f"e{number}", "t", b"x" * 10_000)])
            assert caught.value.full
            depth = await store.outbox_depth()
            assert depth > 0
            await store._writer.peek(lambda session: session.all("PRAGMA max_page_count = 10000"))
            await store.put([Message("after", "t", b"x")])
            assert await store.outbox_depth() == depth + 1

    asyncio.run(run())
