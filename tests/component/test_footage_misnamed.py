"""Recordings that are not found by their names are noticed, with real files and their times; good ones never are."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from footage_media import footage

from anr_watch.footage.folder import Recordings
from anr_watch.footage.mark import Mark, box_of
from anr_watch.footage.misnamed import all_remarks, look_at_names, remarks_on, remarks_on_folders
from anr_watch.footage.names import NamePattern
from anr_watch.model import Window
from tests.fixtures_database import FixedClock

NOW = datetime(2026, 6, 13, 12, 0, 40, tzinfo=UTC)
FLAT = "%Y%m%d_%H%M%S"
PATTERNS = [FLAT, "%Y-%m-%d/%H%M%S", "%Y%m%d/%H/%M-%S", "%d.%m.%Y %T", "%s"]


def tree(root, pattern=FLAT):
    return Recordings(root, NamePattern(pattern), FixedClock(NOW))


def put(path, written, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (written.timestamp(), written.timestamp()))
    return path


def record(rec, camera_id="gate", *, count=12, length_s=60, shift_h=0.0, growing_s=40):
    """Write what a recorder has written by now: whole files and one that grows; names are `shift_h` late."""
    newest = NOW - timedelta(seconds=growing_s)
    for n in range(count):
        start = newest - timedelta(seconds=n * length_s)
        written = NOW if n == 0 else start + timedelta(seconds=length_s + 0.3)
        put(rec.root / camera_id / rec.pattern.format(start + timedelta(hours=shift_h)), written)


def look(rec, segment_s=60):
    names = look_at_names(rec, "gate", NOW, segment_s=segment_s)
    return names, remarks_on("gate", names, rec.pattern, NOW)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("length_s", [10, 60, 600, 1800, 3600])
def test_good_names_are_no_news(tmp_path, pattern, length_s):
    """Whatever was configured as the length: a file that has grown for half an hour is not half an hour late."""
    for growing_s in (3, length_s - 1):
        root = tmp_path / str(growing_s)
        rec = tree(root, pattern)
        record(rec, length_s=length_s, growing_s=growing_s)
        names, remarks = look(rec)
        assert remarks == []
        assert (names.files, names.fitting, names.misfit) == (12, 12, "")
        assert names.newest.start == (NOW - timedelta(seconds=growing_s)).replace(microsecond=0)
        assert names.newest.mtime_s == NOW.timestamp()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shift_h", [2, 1, -5, 5.5, -3.5, 14, -12])
def test_local_time_in_names(tmp_path, pattern, shift_h):
    for length_s in (60, 3600):
        rec = tree(tmp_path / str(length_s), pattern)
        record(rec, length_s=length_s, shift_h=shift_h)
        names, remarks = look(rec)
        assert names.shifted_s == shift_h * 3600
        assert len(remarks) == 1
        side = "after" if shift_h > 0 else "before"
        assert f"{abs(shift_h)} h {side} the time they were written: names seem to be local time" in remarks[0].text
        assert "TZ=UTC" in remarks[0].advice


def test_the_first_file_of_a_recorder_is_enough(tmp_path):
    rec = tree(tmp_path)
    record(rec, count=1, shift_h=2)
    assert look(rec)[0].shifted_s == 7200


def test_files_that_were_copied_or_written_long_ago_say_nothing_of_a_zone(tmp_path):
    rec = tree(tmp_path)
    for n in range(10):
        put(tmp_path / "gate" / rec.pattern.format(NOW - timedelta(hours=5, minutes=n * 7)), NOW)
    assert look(rec)[1] == []
    rec = tree(tmp_path / "old")
    start = NOW - timedelta(days=1)
    put(rec.root / "gate" / rec.pattern.format(start), start + timedelta(hours=2))
    assert look(rec)[1] == []


def test_a_file_of_ours_says_nothing_of_a_zone(tmp_path):
    """What was fetched for a time two hours ago is written now, and may be the newest that there is."""
    rec = tree(tmp_path)
    start = (NOW - timedelta(hours=2)).replace(microsecond=0)
    window = Window(start, start + timedelta(seconds=4))
    path = rec.root / "gate" / rec.pattern.format(start)
    put(path, NOW, footage(4.0))
    assert look(rec)[0].shifted_s == -7200
    put(path, NOW + timedelta(seconds=1), footage(4.0) + box_of(Mark(window, window)))
    assert look(tree(tmp_path))[1] == []


@pytest.mark.parametrize(("ahead_s", "told"), [(100, False), (140, True), (86400 * 200, True)])
def test_names_in_the_future(tmp_path, ahead_s, told):
    rec = tree(tmp_path)
    put(rec.root / "gate" / rec.pattern.format(NOW + timedelta(seconds=ahead_s)), NOW - timedelta(days=2))
    remarks = look(rec)[1]
    assert ["lies in the future by" in remark.text for remark in remarks] == [True] * told


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (FLAT, "gate-2026-06-13_12-00-00.mp4"),
        (FLAT, "2026-06-13/120000.mp4"),
        (FLAT, "2026-06-13/12/00-00.mp4"),
        (FLAT, "20260613_120000.mkv"),
        (FLAT, "20260613_120000.MP4"),
        (FLAT, "20261313_120000.mp4"),
        ("%Y-%m-%d/%H%M%S", "20260613_120000.mp4"),
        ("%Y-%m-%d/%H%M%S", "2026-06-13/12/00-00.mp4"),
        ("%Y-%m-%d/%H%M%S", "13.06.2026/120000.mp4"),
    ],
)
def test_names_that_do_not_fit_alone_and_among_good_ones(tmp_path, pattern, name):
    rec = tree(tmp_path, pattern)
    put(rec.root / "gate" / name, NOW)
    names, remarks = look(rec)
    assert (names.files, names.fitting, names.misfit, names.newest) == (1, 0, name, None)
    assert f"0 of 1 files fit the name pattern '{pattern}', '{name}' does not" in remarks[0].text
    assert rec.pattern.format(NOW) in remarks[0].advice
    record(rec, count=300)
    names, remarks = look(rec)
    assert names.misfit == name
    assert names.files == names.fitting + 1 >= 101
    assert len(remarks) == 1


def test_what_is_no_film_or_hidden_is_not_counted(tmp_path):
    rec = tree(tmp_path)
    record(rec)
    for name in ("1.jpg", "index.m3u8", "20260613_120000.mp4.part", ".hidden.mp4", ".trash/a.mp4", "stills/a.jpg"):
        put(rec.root / "gate" / name, NOW)
    assert look(rec)[1] == []
    assert look(rec)[0].files == 12


def test_of_a_large_tree_the_newest_folders_are_looked_at(tmp_path, monkeypatch):
    rec = tree(tmp_path, "%Y%m%d/%H/%M-%S")
    record(rec, count=60 * 9, length_s=60)
    looked = []
    scandir = os.scandir
    monkeypatch.setattr("anr_watch.footage.misnamed.os.scandir", lambda path: looked.append(path) or scandir(path))
    assert 100 <= look(rec)[0].files < 180
    assert len(looked) <= 6


def test_a_camera_that_is_not_there_or_leads_away(tmp_path):
    rec = tree(tmp_path / "recordings")
    assert all_remarks(rec, {"gate": 60.0, "../x": 60.0}, NOW) == []
    put(tmp_path / "elsewhere" / "x.mp4", NOW)
    rec.root.mkdir()
    (rec.root / "gate").symlink_to(tmp_path / "elsewhere")
    assert all_remarks(rec, {"gate": 60.0}, NOW) == []


def test_folders_that_belong_to_no_camera(tmp_path):
    rec = tree(tmp_path)
    for camera_id in ("gate", "Yrad", "other"):
        record(rec, camera_id, count=2)
    (tmp_path / "lost+found").mkdir()
    put(tmp_path / "snapshots" / "1.jpg", NOW)
    put(tmp_path / ".anr-watch" / "g" / "1.mp4", NOW)
    (remark,) = remarks_on_folders(rec, dict.fromkeys(("gate", "yard")))
    assert remark.text.endswith("belong to no camera: 'Yrad' (did you mean yard?), 'other'")
    assert remarks_on_folders(rec, dict.fromkeys(("gate", "Yrad", "other"))) == []
    for n in range(20):
        record(rec, f"z{n:02}", count=1)
    assert remarks_on_folders(rec, {"gate": 0})[0].text.endswith("'z02' and 17 more")
