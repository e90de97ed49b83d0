"""The recordings folder with everything that can stand in one: found, placed, and nothing of others harmed."""

import errno
import fcntl
import os
import resource
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import pytest
from footage_media import FRAGMENTED, footage

from anr_watch.errors import ReplayRefused, StorageError
from anr_watch.footage import placing
from anr_watch.footage.boxes import read_facts
from anr_watch.footage.folder import Recordings
from anr_watch.footage.mark import Mark, box_of
from anr_watch.footage.names import NamePattern
from anr_watch.model import Window

T0 = datetime(2026, 6, 13, 12, 0, 0, tzinfo=UTC)
FLAT = "%Y%m%d_%H%M%S"
PATTERNS = [FLAT, "%Y-%m-%d/%H/%M-%S", "%Y%m%d/%H%M%S", "%s"]


class StillClock:
    """A clock that stands, so that the age of a folder never matters by accident."""

    def __init__(self, now=T0 + timedelta(days=400)):
        self.at, self.mono_s = now, 0.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.mono_s

    async def sleep(self, delay_s):
        raise NotImplementedError


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def recordings(root, pattern=FLAT, clock=None):
    root.mkdir(exist_ok=True)
    return Recordings(root, NamePattern(pattern), clock or StillClock())


def put(rec, camera_id, start, data=b"x"):
    path = rec.root / camera_id / rec.pattern.format(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "recordings"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_files_of_a_window_and_the_one_before(root, pattern):
    rec = recordings(root, pattern)
    for second in (-7200, -3600, 0, 60, 120, 86_400):
        put(rec, "cam", at(second))
    found = rec.files("cam", Window(at(30), at(120.5)))
    assert [file.start for file in found] == [at(0), at(60), at(120)]
    assert [file.start for file in rec.files("cam", Window(at(-10), at(0)))] == [at(-3600)]
    assert [file.start for file in rec.files("cam", Window(at(-9000), at(-8000)))] == []
    assert rec.starts("cam", Window(at(0), at(86_401))) == [at(0), at(60), at(120), at(86_400)]
    assert rec.before("cam", at(60), 2) == [at(0), at(-3600)]
    assert found[0].path == root / "cam" / rec.pattern.format(at(0))
    assert found[0].size_bytes == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_newest_skips_what_holds_no_footage_yet(root, pattern):
    rec = recordings(root, pattern)
    whole = footage(4.0)
    good = put(rec, "cam", at(0), whole)
    put(rec, "cam", at(4000), whole[: whole.index(b"moof")])  # begun, nothing in it yet
    put(rec, "cam", at(8000), b"")
    put(rec, "cam", at(90_000), b"no film")
    put(rec, "cam", datetime(2099, 1, 1, tzinfo=UTC), whole)  # a clock that was wrong once
    assert rec.newest("cam").path == good
    assert rec.newest("nobody") is None


def test_newest_sees_a_growing_file_grow(root):
    rec = recordings(root)
    whole = footage(4.0)
    path = put(rec, "cam", at(0), whole[: whole.index(b"moof", whole.index(b"moof") + 4) - 4])
    first = rec.segment_of(rec.newest("cam"), "cam", "text")
    path.write_bytes(whole)
    second = rec.segment_of(rec.newest("cam"), "cam", "text")
    assert (first.window, second.window) == (Window(at(0), at(1)), Window(at(0), at(4)))
    assert (second.path, second.codec, second.width, second.height) == ("text", "h264", 128, 96)
    assert second.size_bytes == len(whole)


@pytest.mark.parametrize(
    "camera_id",
    ["", ".", "..", "../../etc", "a/b", "/etc", "a\0b", "a\nb", "a\x7fb", ".anr-watch", "\udce4", "x" * 300],
)
def test_ids_never_leave_the_root(root, camera_id):
    rec = recordings(root)
    for call in (
        lambda: rec.camera_folder(camera_id),
        lambda: rec.files(camera_id, Window(at(0), at(1))),
        lambda: rec.newest(camera_id),
        lambda: rec.place(root / "x", camera_id, Window(at(0), at(1))),
    ):
        with pytest.raises(ReplayRefused):
            call()


@pytest.mark.parametrize("camera_id", ["gate_a_01", "Hof Süd", "-rf", "a..b", "%d"])
def test_odd_but_harmless_ids_are_folders(root, camera_id):
    rec = recordings(root)
    put(rec, camera_id, at(0), footage(1.0))
    assert rec.newest(camera_id).path.parent == root / camera_id


@pytest.mark.parametrize("pattern", [FLAT, "%Y-%m-%d/%H/%M-%S"])
def test_junk_does_no_harm(root, pattern, tmp_path, caplog):
    rec = recordings(root, pattern)
    good = put(rec, "cam", at(0), footage(1.0))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / good.name).write_bytes(footage(1.0))
    put(rec, "cam", at(1), b"")
    (root / "cam" / rec.pattern.format(at(2))).mkdir()
    (root / "cam" / rec.pattern.format(at(3))).symlink_to(outside / good.name)
    (root / "cam" / rec.pattern.format(at(4))).symlink_to("nowhere")
    (root / "cam" / rec.pattern.format(at(5))).symlink_to(good)
    os.mkfifo(root / "cam" / rec.pattern.format(at(6)))
    for name in (
        "notes.txt",
        "20260613_120000.mp4.part",
        "a\nb.mp4",
        b"\xff\xfe.mp4".decode("utf-8", "surrogateescape"),
    ):
        (good.parent / name).write_bytes(b"junk")
    (root / "afile").write_bytes(b"")
    (root / "linked").symlink_to(outside)
    assert [file.start for file in rec.files("cam", Window(at(-60), at(60)))] == [at(0), at(5)]
    assert rec.newest("cam").start == at(5)
    for camera_id in ("afile", "linked", "missing"):
        assert rec.files(camera_id, Window(at(-60), at(60))) == []
        assert rec.newest(camera_id) is None
    assert caplog.text.count("leads out of the recordings folder") == 1


def test_an_unreadable_folder_is_told_once(root, caplog, monkeypatch):
    """As root nothing is unreadable, so the refusal comes from the call itself."""
    rec = recordings(root)
    put(rec, "cam", at(0))

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refuse)
        for _ in range(3):
            assert rec.files("cam", Window(at(0), at(1))) == []
    assert caplog.text.count("Permission denied") == 1
    assert len(rec.files("cam", Window(at(0), at(1)))) == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_listing_is_used_again_but_never_out_of_date(root, pattern, monkeypatch):
    """Even where two changes fall into one tick of the file system's clock."""
    clock = StillClock()
    rec = recordings(root, pattern, clock)
    path = put(rec, "cam", at(0))
    same = (1_700_000_000_123_456_789, 1_700_000_000_123_456_789)
    clock.at = datetime.fromtimestamp(1_700_000_000.13, UTC)  # 7 ms after the change
    os.utime(path.parent, ns=same)
    everything = Window(at(-86_400), at(86_400))
    assert len(rec.starts("cam", everything)) == 1
    put(rec, "cam", at(1))
    os.utime(path.parent, ns=same)
    assert len(rec.starts("cam", everything)) == 2
    clock.mono_s += 1
    assert len(rec.starts("cam", everything)) == 2
    reads = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: reads.append(folder) or real(folder))
    for _ in range(10):
        assert len(rec.starts("cam", everything)) == 2
    assert str(path.parent) not in map(str, reads)


def staged(rec, data, gap_id="gap_1"):
    path = rec.staging(gap_id) / "seg.mp4"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_placed_file_has_its_name_and_the_recorders_mode(root, pattern):
    rec = recordings(root, pattern)
    data = footage(4.0)
    file = staged(rec, data)
    path = rec.place(file, "cam", Window(at(0.7), at(4.7)))
    assert path == root / "cam" / rec.pattern.format(at(0))
    window = Window(at(0.7), at(4.7))
    assert path.read_bytes() == data + box_of(Mark(window, window))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~placing.current_umask()
    assert path.stat().st_nlink == 1
    assert not file.exists()


@pytest.mark.parametrize("how", ["faststart", FRAGMENTED])
def test_a_file_of_ours_says_its_time_to_the_microsecond_without_any_row(root, how):
    rec = recordings(root)
    window, listed = Window(at(0.7), at(4.7)), Window(at(1.2), at(4.7))
    path = rec.place(staged(rec, footage(4.0, how)), "cam", window, listed=listed)
    found = rec.segment_of(rec.file_at("cam", at(0)), "cam", str(path))
    assert (found.window, found.listed, found.ours) == (window, listed, True)
    assert found.size_bytes == path.stat().st_size
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40, "readers skip the note"
    other = put(rec, "cam", at(600), path.read_bytes())
    copied = rec.segment_of(rec.file_at("cam", at(600)), "cam", str(other))
    assert (copied.window.start, copied.ours) == (at(600), False), "a copy under another name is somebody else's"


def test_what_is_covered_already_is_not_placed_again(root):
    """After a crash between the move and its row the same footage may come a second time."""
    rec = recordings(root)
    for _ in range(2):
        placed = rec.place(staged(rec, footage(4.0)), "cam", Window(at(0.7), at(4.7)))
    assert placed is None
    assert list(rec.staging("gap_1").iterdir()) == []
    assert len(list((root / "cam").iterdir())) == 1


def test_a_taken_name_is_never_replaced_and_the_next_second_is_used(root):
    rec = recordings(root)
    short = put(rec, "cam", at(0), footage(1.0))
    before = short.read_bytes()
    path = rec.place(staged(rec, footage(4.0)), "cam", Window(at(0.7), at(4.7)))
    assert path == root / "cam" / rec.pattern.format(at(1))
    assert short.read_bytes() == before
    assert rec.place(staged(rec, footage(4.0)), "cam", Window(at(0.7), at(4.7))) is None, "found again one second on"


def test_a_minute_of_taken_names_is_an_error_that_keeps_the_staged_file(root):
    rec = recordings(root)
    for second in range(61):
        put(rec, "cam", at(second), b"not footage")
    file = staged(rec, footage(4.0))
    with pytest.raises(StorageError, match="taken for a minute"):
        rec.place(file, "cam", Window(at(0), at(4)))
    assert file.exists()


def test_two_placers_of_one_second_both_keep_their_file(root):
    rec = recordings(root)
    files = [staged(rec, footage(1.0 + n / 10, FRAGMENTED), f"gap_{n}") for n in range(8)]
    placed = []
    barrier = threading.Barrier(len(files))

    def place(n, file):
        barrier.wait()
        # Windows that no other file covers, so each needs a name of its own.
        placed.append(rec.place(file, "cam", Window(at(0), at(100 + n))))

    threads = [threading.Thread(target=place, args=pair) for pair in enumerate(files)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(placed)) == len(files)
    assert None not in placed


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_a_rename_that_cannot_replace_is_used(tmp_path, number):
    def no_links(source, target):
        raise OSError(number, os.strerror(number))

    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "t.mp4"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    placing.move(one, target, link=no_links)
    with pytest.raises(placing.NameTaken):
        placing.move(two, target, link=no_links)
    assert (target.read_bytes(), one.exists(), two.read_bytes()) == (b"1", False, b"2")


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False), (errno.EIO, False)]
)
def test_write_errors_say_whether_the_disk_is_full(tmp_path, number, full):
    def fail(source, target):
        raise OSError(number, os.strerror(number))

    (tmp_path / "one").write_bytes(b"1")
    with pytest.raises(StorageError, match=os.strerror(number)) as caught:
        placing.move(tmp_path / "one", tmp_path / "t.mp4", link=fail)
    assert caught.value.full is full
    assert (tmp_path / "one").exists()


def test_nothing_is_placed_through_a_link_that_leaves_the_root(root, tmp_path):
    rec = recordings(root)
    (tmp_path / "outside").mkdir()
    (root / "cam").symlink_to(tmp_path / "outside")
    file = staged(rec, footage(1.0))
    with pytest.raises(StorageError, match="leaves the recordings folder"):
        rec.place(file, "cam", Window(at(0), at(1)))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_root_that_is_gone_is_a_storage_error(root):
    rec = recordings(root)
    file = staged(rec, footage(1.0))
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StorageError):
        rec.place(file, "cam", Window(at(0), at(1)))
    with pytest.raises(StorageError, match="missing"):
        rec.staging("gap_2")
    with pytest.raises(StorageError):
        rec.free_mb()
    assert not root.exists(), "an unmounted disk must not be replaced by a folder"


def test_staging_is_private_and_keeps_odd_ids_inside(root):
    rec = recordings(root)
    for gap_id in ("gap_1", "../../etc", "lock", "", "a/b", "\0", "x" * 300):
        folder = rec.staging(gap_id)
        assert folder.parent == root / ".anr-watch"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    rec.clear_staging("a/b")
    rec.clear_staging("never made")
    assert len(list((root / ".anr-watch").iterdir())) == 6


def test_a_staging_folder_open_to_others_is_closed(root):
    rec = recordings(root)
    (root / ".anr-watch").mkdir()
    (root / ".anr-watch").chmod(0o777)
    (root / ".anr-watch" / "gap_2").symlink_to(root)
    assert stat.S_IMODE(rec.staging("gap_1").parent.stat().st_mode) == 0o700
    with pytest.raises(StorageError, match="must be a folder"):
        rec.staging("gap_2")


def test_folders_we_make_for_footage_are_nobody_elses_to_write(root):
    root.mkdir(exist_ok=True)
    umask = os.umask(0)
    try:
        placing.make_folder(root / "gate" / "2026", root)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("gate", "gate/2026")] == [0o755, 0o755]


def test_emptying_staging_follows_no_link_and_keeps_the_lock(root, tmp_path):
    rec = recordings(root)
    assert rec.empty_staging() == 0
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    with rec.lock():
        staged(rec, b"half", "gap_1")
        (rec.staging("gap_2") / "link").symlink_to(precious)
        (root / ".anr-watch" / "link").symlink_to(precious)
        (root / ".anr-watch" / "stray").write_bytes(b"x")
        assert rec.empty_staging() == 4
        assert [path.name for path in (root / ".anr-watch").iterdir()] == ["lock"]
    assert (precious / "file").exists()


def test_a_staging_folder_that_is_a_link_is_refused(root, tmp_path):
    rec = recordings(root)
    (tmp_path / "elsewhere").mkdir()
    (root / ".anr-watch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="must be a folder"):
        rec.staging("gap_1")
    with pytest.raises(StorageError):
        rec.empty_staging()


def test_the_lock_has_one_holder_and_names_it(root):
    rec = recordings(root)
    with rec.lock():
        lock = root / ".anr-watch" / "lock"
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with pytest.raises(StorageError, match=f"pid {os.getpid()}"), rec.lock():
            pytest.fail("two holders")
    with rec.lock():
        pass
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_free_space_is_that_of_the_disk(root):
    answer = os.statvfs(root.parent)
    assert recordings(root).free_mb() == pytest.approx(answer.f_bavail * answer.f_frsize / 1e6, rel=0.2)


def test_a_camera_that_stores_a_year_flat_is_listed_once(root):
    """30 000 names here; 500 000 take 0.5 s. What is kept is 8 bytes a name."""
    rec = recordings(root)
    folder = root / "cam"
    folder.mkdir()
    for minute in range(30_000):
        (folder / rec.pattern.format(at(60 * minute))).touch()
    (folder / rec.pattern.format(at(60 * 29_990))).write_bytes(footage(4.0))
    assert rec.newest("cam").start == at(60 * 29_990)
    assert read_facts(rec.newest("cam").path).duration_s == pytest.approx(4.0)
    assert len(rec.starts("cam", Window(at(0), at(60 * 1000)))) == 1000


def test_paths_stay_as_the_root_was_given(root, monkeypatch):
    """The kernel's rows hold the root as its configuration has it, maybe relative."""
    recordings(root)
    monkeypatch.chdir(root.parent)
    rec = Recordings(Path("recordings"), NamePattern(FLAT), StillClock())
    put(rec, "cam", at(0), footage(1.0))
    assert rec.newest("cam").path == Path("recordings/cam/20260613_120000.mp4")


def test_what_cannot_be_opened_for_want_of_a_descriptor_is_not_gone(tmp_path):
    """No footage, or an empty folder, would be taken for a hole: a gap row that lies, or the same footage twice."""
    rec = recordings(tmp_path / "recordings")
    put(rec, "gate", T0)
    file = rec.file_at("gate", T0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StorageError, match="Too many open files"):
            rec.files("gate", Window(T0, at(60)))
        with pytest.raises(StorageError, match="Too many open files"):
            rec.facts(file)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rec.files("gate", Window(T0, at(60))) == [file]
