"""The loop that anr-watch replaces, as its description has it, to compare with: every so often, one gap after another.

    python -m tests.bench.stage.polling DATABASE RECORDINGS INTERVAL_S

At each tick the 20 newest pending gaps of the last day with fewer than 3 attempts are taken in turn. For each one
ffmpeg copies the whole gap into one file; exit status 0 and a size above 0 mean filled, the third failure means failed.
A tick that comes during a sweep is made up for at once. One thing is corrected: the published line writes
`X.mp4.part` without naming the format, which ffmpeg refuses, so that nothing would ever be filled; here is `-f mp4`.
Says on stdout what it does, as JSON lines, and ends with its stdin.
"""

from __future__ import annotations

import json
import select
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anr_watch.instants import format_instant, parse_instant

PER_SWEEP, MAX_ATTEMPTS, MAX_AGE = 20, 3, timedelta(hours=24)
SOCKET_TIMEOUT_S, EXTRA_S, LONGEST_S = 15, 60.0, 4 * 3600.0


def seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(**line: object) -> None:
    sys.stdout.write(json.dumps({"at": seconds(), **line}) + "\n")
    sys.stdout.flush()


def replay_url(port: int, user: str, password: str, start: datetime, end: datetime) -> str:
    """Return the Hikvision form: whole seconds of UTC."""
    form = "%Y%m%dT%H%M%SZ"
    return f"rtsp://{user}:{password}@127.0.0.1:{port}/Streaming/tracks/101?starttime={start:{form}}&endtime={end:{form}}"


def fetch(url: str, gap_s: float, target: Path) -> bool:
    """Run ffmpeg as the original does and say whether it counts as a success."""
    part = target.with_name(target.name + ".part")
    command = [
        *("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-rtsp_transport", "tcp"),
        *("-timeout", str(SOCKET_TIMEOUT_S * 1_000_000), "-i", url, "-t", str(gap_s)),
        *("-c", "copy", "-an", "-movflags", "+faststart", "-f", "mp4", str(part)),
    ]
    try:
        ended = subprocess.run(
            command, stderr=subprocess.DEVNULL, timeout=min(gap_s + EXTRA_S, LONGEST_S), check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if ended.returncode or not part.exists() or part.stat().st_size == 0:
        return False
    part.rename(target)
    return True


def sweep(db: sqlite3.Connection, recordings: Path) -> None:
    """Take the pending gaps one after the other."""
    oldest = format_instant(datetime.now(UTC) - MAX_AGE)
    rows = db.execute(
        "SELECT g.id, g.camera_id, g.gap_start, g.gap_end, g.gap_seconds, g.fill_attempts, c.rtsp_port, c.username,"
        " c.password FROM recording_gaps g JOIN cameras c ON c.id = g.camera_id WHERE g.fill_state = 'pending'"
        " AND g.fill_attempts < ? AND g.gap_start > ? AND c.anr_enabled = 1 ORDER BY g.gap_start DESC LIMIT ?",
        (MAX_ATTEMPTS, oldest, PER_SWEEP),
    ).fetchall()
    for gap_id, camera, gap_start, gap_end, gap_s, attempts, port, user, password in rows:
        start, end = parse_instant(gap_start), parse_instant(gap_end)
        target = recordings / camera / f"{start:%Y%m%d_%H%M%S}.mp4"
        say(event="begun", camera=camera)
        done = target.exists() or fetch(replay_url(port, user, password, start, end), float(gap_s), target)
        state = "filled" if done else "failed" if attempts + 1 >= MAX_ATTEMPTS else "pending"
        now = format_instant(datetime.now(UTC))
        db.execute(
            "UPDATE recording_gaps SET fill_state = ?, fill_attempts = fill_attempts + 1, last_attempt_at = ?,"
            " filled_at = ? WHERE id = ?",
            (state, now, now if done else None, gap_id),
        )
        say(event="ended", camera=camera, state=state)


def main() -> None:
    database, recordings, interval_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    db = sqlite3.connect(database, isolation_level=None, timeout=15)
    due_s = seconds()
    while True:
        say(event="tick")
        sweep(db, recordings)
        due_s += interval_s
        if select.select([sys.stdin], [], [], max(0.0, due_s - seconds()))[0]:
            return


if __name__ == "__main__":
    main()
