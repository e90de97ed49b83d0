"""`gaps`, `retry` and `status` on a real database, and every way in which that database can be wrong."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands_world import PASSWORD, World, ago, plain_user

from anr_watch.commands.running import daemon_on


@pytest.fixture
def world(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ANR_WATCH_", "HELDAR_")):
            monkeypatch.delenv(name)
    return World(tmp_path, capsys)


@pytest.fixture
def three_gaps(world):
    with world.kernel() as kernel:
        kernel.add_camera("cam_yard", password=PASSWORD)
        kernel.add_camera("cam_door", anr_enabled=0)
        kernel.add_gap("cam_yard", ago(600), ago(540), id="gap_aaaaaaaaaaaa")
        kernel.add_gap("cam_yard", ago(6000), ago(5400), id="gap_bbbbbbbbbbbb", fill_state="failed", fill_attempts=3)
        kernel.add_gap("cam_door", ago(60), ago(30), id="gap_cccccccccccc")
    return world


def test_gaps_are_listed_newest_first(three_gaps):
    said = three_gaps.run("gaps")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].split()[:4] == ["GAP", "CAMERA", "FROM", "TO"]
    assert [line.split()[0] for line in lines[1:]] == ["gap_cccccccc", "gap_aaaaaaaa", "gap_bbbbbbbb"]
    assert "never: fills are off for the camera" in lines[1]
    assert lines[2].split()[4:] == ["1", "min", "00", "s", "pending", "0", "now", "-"]
    assert lines[3].split()[4:] == ["10", "min", "00", "s", "failed", "3", "-", "-"]


def test_gaps_as_json_one_object_a_line(three_gaps):
    said = three_gaps.run("gaps", "--json")
    first = said.objects[1]
    assert [gap["gap"] for gap in said.objects] == ["gap_cccccccccccc", "gap_aaaaaaaaaaaa", "gap_bbbbbbbbbbbb"]
    assert first["camera"] == "cam_yard"
    assert first["from"].endswith("Z")
    assert first["seconds"] == 60
    assert (first["state"], first["attempts"], first["origin"], first["next_try"]) == ("pending", 0, "kernel", "now")


def test_gaps_can_be_chosen(three_gaps):
    assert [g["gap"][4] for g in three_gaps.run("gaps", "--json", "--camera", "cam_yard").objects] == ["a", "b"]
    assert [g["gap"][4] for g in three_gaps.run("gaps", "--json", "--state", "failed").objects] == ["b"]
    assert [g["gap"][4] for g in three_gaps.run("gaps", "--json", "--limit", "1").objects] == ["c"]
    assert three_gaps.run("gaps", "--camera", "cam_yard", "--state", "filled").out == "no gaps like that\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--camera", "cam_yrad"), "no camera 'cam_yrad': did you mean cam_yard?"),
        (("--camera", "../../etc"), "no camera '../../etc'"),
        (("--state", "broken"), "argument --state: invalid choice"),
        (("--limit", "0"), "'0' is not a number from 1 to 1000000"),
        (("--limit", "many"), "'many' is not a number"),
    ],
)
def test_wrong_choices_are_one_line(three_gaps, argv, said):
    answer = three_gaps.run("gaps", *argv)
    assert answer.status == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_reading_creates_nothing_of_ours(three_gaps):
    for command in ("gaps", "status"):
        assert three_gaps.run(command).status == 0
    with three_gaps.kernel() as kernel:
        assert kernel.execute("SELECT name FROM sqlite_master WHERE name LIKE 'anr!_%' ESCAPE '!'") == []
    assert list(three_gaps.recordings.iterdir()) == []


def test_retry_makes_a_failed_gap_pending_again(three_gaps):
    said = three_gaps.run("retry", "gap_bbbbbbbbbbbb")
    assert said.status == 0
    assert said.out.splitlines() == [
        "1 gap to be tried again",
        "no anr-watch is running on these recordings: it happens when it is started (anr-watch run)",
    ]
    with three_gaps.kernel() as kernel:
        row = next(row for row in kernel.gaps("cam_yard") if row["id"] == "gap_bbbbbbbbbbbb")
    assert (row["fill_state"], row["fill_attempts"]) == ("pending", 0)


def test_retry_takes_the_beginning_of_an_id_if_it_is_the_only_one(three_gaps):
    assert three_gaps.run("retry", "gap_bbbb", "--json").objects == [
        {"gaps": 1, "unparked": [], "daemon_running": False}
    ]
    with three_gaps.kernel() as kernel:
        kernel.add_gap("cam_yard", ago(9000), ago(8000), id="gap_bbbbbbbbffff")
    said = three_gaps.run("retry", "gap_bbbb")
    assert (said.status, said.err) == (2, "anr-watch: 2 gaps begin with 'gap_bbbb': give more of the id\n")


def test_retry_of_a_camera_and_of_all(three_gaps):
    assert three_gaps.run("retry", "--camera", "cam_yard", "--json").objects[0]["gaps"] == 2
    assert three_gaps.run("retry", "--all", "--json").objects[0]["gaps"] == 3


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "one of the arguments GAP --camera --all is required"),
        (("gap_x", "--all"), "not allowed with argument"),
        (("gap_nonsense",), "no gap 'gap_nonsense' (see: anr-watch gaps)"),
        (("gap_\udcff_bytes",), "no gap 'gap_"),
        (("--camera", "cam_dor"), "did you mean cam_door?"),
    ],
)
def test_retry_of_what_is_not_there(three_gaps, argv, said):
    answer = three_gaps.run("retry", *argv)
    assert answer.status == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_retry_of_a_filled_gap_says_so(world):
    with world.kernel() as kernel:
        kernel.add_camera("cam")
        kernel.add_gap("cam", ago(60), ago(30), id="gap_filled_one", fill_state="filled")
    answer = world.run("retry", "gap_filled_one")
    assert (answer.status, "is filled already" in answer.err) == (2, True)


def test_status_is_one_screen(three_gaps):
    said = three_gaps.run("status")
    assert said.status == 0
    assert "heldar.db (heldar)" in said.out
    assert "daemon      not running; it has never run on this database" in said.out
    assert "mqtt        not configured" in said.out
    yard = next(line for line in said.out.splitlines() if line.startswith("cam_yard"))
    assert yard.split() == [
        "cam_yard",
        "unknown",
        "-",
        "·" * 22 + "x!",
        *("1", "min", "00", "s", "in", "1", "waiting"),
    ]


def test_status_as_one_document(three_gaps):
    document = three_gaps.run("status", "--json").objects[0]
    assert document["database"]["mode"] == "heldar"
    assert document["daemon"] == {"running": False, "pid": None}
    assert document["pending_gaps"] == 2
    yard = next(camera for camera in document["cameras"] if camera["camera"] == "cam_yard")
    assert (yard["missing_s"], yard["fills"], yard["presence"], yard["parked"]) == (60.0, True, "unknown", None)


def test_status_without_a_recordings_folder_says_so_and_goes_on(three_gaps):
    three_gaps.recordings.rmdir()
    said = three_gaps.run("status")
    assert said.status == 0
    assert "No such file or directory" in said.out
    assert "cam_yard" in said.out


def test_names_from_the_database_cannot_play_with_the_terminal(world):
    with world.kernel() as kernel:
        kernel.add_camera("cam\x1b[31m", name="x\x1b]0;title\x07")
        kernel.add_gap("cam\x1b[31m", ago(60), ago(30))
    for command in ("gaps", "status"):
        said = world.run(command)
        assert "\x1b" not in said.out
        assert "cam\\x1b[31m" in said.out


def broken(world, kind):
    """Put one kind of unusable database in the place of the good one."""
    path = world.database
    if kind == "column":
        with sqlite3.connect(path) as db:
            db.execute("ALTER TABLE cameras DROP COLUMN anr_replay_url_template")
        db.close()
        return
    for file in path.parent.glob("heldar.db*"):
        file.unlink()
    if kind == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE songs (title TEXT)")
        db.close()
    elif kind == "not_sqlite":
        path.write_text("this is no database, but long enough to be read as the header of one\n" * 20)
    elif kind == "corrupt":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE cameras (id TEXT)")
        db.close()
        raw = path.read_bytes()
        path.write_bytes(raw[:100] + os.urandom(len(raw) - 100))
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("command", [("gaps",), ("status",), ("retry", "--all"), ("fill", "cam", "-60s", "now")])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "is not there yet"),
        ("folder", "is a folder, not a database file"),
        ("foreign", "is another program's database (tables songs)"),
        ("not_sqlite", "is not an SQLite database"),
        ("corrupt", "corrupt"),
        ("column", "column cameras.anr_replay_url_template is missing"),
    ],
)
def test_a_database_we_cannot_work_with_is_one_line_and_status_1(world, command, kind, said):
    broken(world, kind)
    answer = world.run(*command)
    assert answer.status == 1
    assert said in answer.err
    assert str(world.database) in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize("command", ["gaps", "status", "timeline"])
def test_before_the_first_start_alone_it_is_said_who_makes_the_database(world, command):
    world.standalone(554)
    answer = world.run(command)
    said = f"anr-watch: {world.database}: the database is not there yet, `anr-watch run` creates it\n"
    assert (answer.status, answer.out, answer.err) == (1, "", said)
    world.configure()  # beside Heldar that is Heldar's work
    assert world.run(command).err == f"anr-watch: {world.database}: the database is not there yet\n"


def test_an_unreadable_database_is_one_line(capsys):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        world = World(Path(folder), capsys)
        world.run("gaps")  # everything is imported while we may still read it
        world.database.chmod(0)
        with plain_user():
            answer = world.run("gaps")
    assert answer.status == 1
    assert answer.err.startswith(f"anr-watch: {world.database}: ")
    assert answer.err.count("\n") == 1


def test_a_locked_database_is_one_line_after_the_busy_time(three_gaps):
    other = sqlite3.connect(three_gaps.database, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        answer = three_gaps.run("retry", "--all")
    finally:
        other.close()
    assert answer.status == 1
    assert answer.err == f"anr-watch: {three_gaps.database}: locked by another program\n"


def test_a_configuration_file_that_is_not_there(world, capsys):
    from anr_watch import cli  # noqa: PLC0415

    assert cli.main(["--config", str(world.root / "nowhere.toml"), "gaps"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "nowhere.toml" in err


def test_every_problem_of_the_configuration_on_a_line_of_its_own(world):
    world.configure('[fills]\nparalel = 3\nsettle_s = "soon"\n[mqtt]\nport = 99999')
    answer = world.run("gaps")
    assert answer.status == 2
    lines = answer.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"anr-watch: {world.config}: ") for line in lines)
    assert any("did you mean parallel?" in line for line in lines)


def test_a_daemon_is_seen_by_its_lock_and_nothing_is_locked_by_looking(tmp_path):
    assert daemon_on(tmp_path).running is False
    folder = tmp_path / ".anr-watch"
    folder.mkdir()
    code = (
        "import fcntl, os, sys\n"
        "handle = open(sys.argv[1], 'w+'); fcntl.flock(handle, fcntl.LOCK_EX)\n"
        "handle.write(str(os.getpid())); handle.flush(); print('locked', flush=True); sys.stdin.read()\n"
    )
    lock = folder / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        assert daemon_on(tmp_path).running is True
        assert daemon_on(tmp_path).pid == holder.pid
        assert str(daemon_on(tmp_path)) == f"running (process {holder.pid})"
    finally:
        holder.communicate("")
    assert str(daemon_on(tmp_path)) == "not running"  # its pid still stands in the file
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_locks_cannot_be_seen_nothing_is_claimed(tmp_path):
    (tmp_path / ".anr-watch").mkdir()
    (tmp_path / ".anr-watch" / "lock").touch()
    daemon = daemon_on(tmp_path, locks=Path("/proc/nowhere"))
    assert daemon.running is None
    assert "not known" in str(daemon)


def test_a_lock_on_another_device_counts_only_with_the_right_process(tmp_path):
    lock = tmp_path / ".anr-watch" / "lock"
    lock.parent.mkdir()
    lock.write_text("4711\n")
    table = tmp_path / "locks"
    inode = lock.stat().st_ino
    table.write_text(f"1: FLOCK  ADVISORY  WRITE 4711 ff:ff:{inode} 0 EOF\n2: -> FLOCK x\n")
    assert daemon_on(tmp_path, locks=table).pid == 4711
    table.write_text(
        f"1: FLOCK  ADVISORY  WRITE 4712 ff:ff:{inode} 0 EOF\n1: POSIX  ADVISORY  WRITE 1 fe:00:1 0 EOF\n"
    )
    assert daemon_on(tmp_path, locks=table).running is False


def test_the_installed_program_lists_gaps_and_survives_a_closed_pipe(three_gaps):
    program = Path(sys.executable).with_name("anr-watch")
    base = [program, "--config", str(three_gaps.config)]
    done = subprocess.run([*base, "gaps", "--json"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run([*base, "gaps"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
