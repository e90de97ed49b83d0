"""`timeline` and `status --watch` on a real database: bars, pictures, and what a month of 64 cameras costs."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from commands_world import World, ago

from anr_watch.instants import format_instant

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script>\x1b[31m'


@pytest.fixture
def world(tmp_path, capsys):
    return World(tmp_path, capsys)


@pytest.fixture
def holed(world):
    """Two hours of one camera: recorded, then 5 minutes missing, recorded, 5 minutes lost, recorded."""
    start = ago(7200)
    with world.kernel() as kernel:
        kernel.add_camera("cam_yard")
        kernel.add_camera(HOSTILE)
        for minute in range(120):
            if not (30 <= minute < 35 or 60 <= minute < 65):
                at = start + timedelta(minutes=minute)
                kernel.add_segment("cam_yard", at, at + timedelta(minutes=1))
        for minute, state in ((30, "pending"), (60, "failed")):
            at = start + timedelta(minutes=minute)
            kernel.add_gap("cam_yard", at, at + timedelta(minutes=5), fill_state=state, fill_attempts=3)
    return world


def test_bars_for_people_and_pieces_for_programs(holed):
    said = holed.run("timeline", "--camera", "cam_yard", "--from", "-2h")
    assert said.status == 0
    bar = next(line for line in said.out.splitlines() if line.startswith("cam_yard")).split()[1]
    assert re.fullmatch("█+!+█+x+█+", bar), bar
    assert "5 min 00 s missing, 5 min 00 s lost" in said.out

    said = holed.run("timeline", "--camera", "cam_yard", "--from", "-2h", "-o", str(holed.root / "one.svg"))
    assert "one.svg: 1 camera, 2 h 00 min; " in said.out

    facts = holed.run("timeline", "--camera", "cam_yard", "--from", "-2h", "--json").objects[0]
    assert [piece["kind"] for piece in facts["pieces"]] == ["recorded", "missing", "recorded", "lost", "recorded"]
    assert (facts["missing_s"], facts["lost_s"]) == (300, 300)
    assert facts["pieces"][1]["why"] == "not tried yet"


def test_pictures(holed, tmp_path):
    for kind in ("svg", "html", "png"):
        said = holed.run(
            "timeline", "--from", "-2h", "--zone", "Europe/Berlin", "-o", str(tmp_path / f"picture.{kind}")
        )
        assert (said.status, said.err) == (0, "")
        assert "2 cameras" in said.out
    svg = ET.parse(tmp_path / "picture.svg")
    titles = [title.text for title in svg.iter(f"{SVG}title")]
    assert sum("still missing (not tried yet)" in title for title in titles) == 1
    assert sum("lost: given up" in title for title in titles) == 1
    page = (tmp_path / "picture.html").read_text()
    assert HOSTILE[:8] not in page.replace("<script>\naddEventListener", ""), "a camera's id is no markup"
    assert "\x1b" not in page
    HTMLParser().feed(page)
    png = (tmp_path / "picture.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20]) == (2480,)


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (("-o", "picture.gif"), 2, "does not end in .svg, .html, .png"),
        (("-o", "/nowhere/picture.svg"), 1, "/nowhere/picture.svg: No such file or directory"),
        (("--zone", "Mars/Olympus"), 2, "no time zone 'Mars/Olympus'"),
        (("--from", "now", "--to", "-1h"), 2, "swap the times"),
        (("--camera", "cam_yrad"), 2, "did you mean cam_yard?"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(holed, argv, status, says):
    said = holed.run("timeline", *argv)
    assert (said.status, says in said.err, said.err.count("\n")) == (status, True, 1)


def test_a_month_of_64_cameras(world, tmp_path):
    """46 080 rows of an hour with a hole in each hundred."""
    start = ago(30 * 86400)
    with world.kernel() as kernel:
        for number in range(64):
            kernel.add_camera(f"cam{number:02}")
        kernel.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 719)"
            " INSERT INTO segments (id, camera_id, path, start_time, end_time, duration_s, created_at)"
            " SELECT printf('s%d-%s', i, c.id), c.id, printf('r/%s/%d.mp4', c.id, i),"
            "  strftime('%Y-%m-%dT%H:%M:%S+00:00', ?1, printf('+%d seconds', i * 3600)),"
            "  strftime('%Y-%m-%dT%H:%M:%S+00:00', ?1, printf('+%d seconds', i * 3600 + 3600)), 3600, ''"
            " FROM n, cameras AS c WHERE i % 100 <> 7",
            (format_instant(start),),
        )
    said = world.run("timeline", "--from", "-30d", "-o", str(tmp_path / "month.svg"))
    assert said.status == 0
    boxes = [rect for rect in ET.parse(tmp_path / "month.svg").iter(f"{SVG}rect") if rect.get("class") == "recorded"]
    assert len(boxes) == 64 * 9 + 1, "8 holes and 9 runs each, and the legend"


def _watching(world, *argv, **how):
    return subprocess.Popen(
        [sys.executable, "-m", "anr_watch", "--config", str(world.config), "status", "--watch", *argv], **how
    )


def test_watching_ends_with_ctrl_c_and_leaves_the_terminal_as_it_was(holed):
    ours, theirs = pty.openpty()
    process = _watching(holed, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while shown.count(b"cam_yard") < 2:  # drawn twice
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(10) == 0
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.rstrip().endswith(b"\x1b[?1049l")
    assert b"Traceback" not in shown


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side has left the terminal
        return b""


def test_watching_for_programs_survives_a_database_that_is_away(holed):
    with _watching(holed, "--json", stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["cameras"]
        away = holed.database.rename(holed.database.with_suffix(".away"))
        while "error" not in json.loads(process.stdout.readline()):
            pass
        away.rename(holed.database)
        while "error" in json.loads(process.stdout.readline()):
            pass
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
