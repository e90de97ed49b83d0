"""Every command: where its module is, one line about it, and examples for its help. It imports none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command: where it lives, one line about it, and examples (each a line of `command  # what it does`)."""

    module: str
    summary: str
    examples: tuple[str, ...]


COMMANDS = {
    "run": Command(
        "anr_watch.commands.run",
        "watch, and fill gaps as soon as a camera is back (the daemon)",
        (
            "anr-watch run                             # in the foreground, log lines on stderr",
            "anr-watch --config /etc/anr-watch/config.toml run --log-level debug",
        ),
    ),
    "check": Command(
        "anr_watch.commands.check",
        "say in plain words what would stop a fill: config, database, folder, broker, each camera",
        (
            "anr-watch check                           # everything, each camera asked for a recorded minute",
            "anr-watch check --camera cam_yard         # that camera only",
            "anr-watch check --no-replay --json        # ask no camera; one JSON object per finding",
        ),
    ),
    "gaps": Command(
        "anr_watch.commands.gaps",
        "list gaps with their state, last result and next try",
        (
            "anr-watch gaps                            # the newest 50",
            "anr-watch gaps --camera cam_yard --state failed",
            "anr-watch gaps --json | jq .camera        # one JSON object per gap",
        ),
    ),
    "retry": Command(
        "anr_watch.commands.retry",
        "try a gap again, or all gaps of a camera, also failed ones; unparks the camera",
        (
            "anr-watch retry gap_3f0c...               # one gap, by its id (see: anr-watch gaps)",
            "anr-watch retry --camera cam_yard         # all gaps of that camera that are not filled",
            "anr-watch retry --all",
        ),
    ),
    "fill": Command(
        "anr_watch.commands.fill",
        "fetch one window of one camera now; what is recorded already is not fetched again",
        (
            "anr-watch fill cam_yard -10m now          # the last ten minutes",
            "anr-watch fill cam_yard 2026-06-13T12:00:00Z 2026-06-13T12:05:00Z",
            "anr-watch fill cam_yard -2h -90m --json   # from two hours ago to ninety minutes ago",
        ),
    ),
    "status": Command(
        "anr_watch.commands.status",
        "one screen: database, daemon, cameras, what is missing, what is being fetched",
        (
            "anr-watch status",
            "anr-watch status --watch                  # again every 2 s, until Ctrl-C",
            "anr-watch status --json                   # one JSON document",
        ),
    ),
    "timeline": Command(
        "anr_watch.commands.timeline",
        "draw what is recorded, filled and missing, for all cameras: on the terminal, as SVG, HTML or PNG",
        (
            "anr-watch timeline                        # the last 24 hours, as bars",
            "anr-watch timeline --from -30d -o coverage.html",
            "anr-watch timeline --from 2026-06-13T00:00:00Z --to 2026-06-14T00:00:00Z --zone local -o day.svg",
        ),
    ),
    "demo": Command(
        "anr_watch.demo.cli",
        "show it: simulated cameras, an outage, the gap closing, and the proof",
        (
            "anr-watch demo                            # under 90 seconds, needs nothing",
            "anr-watch demo --json --keep /tmp/demo",
        ),
    ),
    "camera": Command(
        "anr_watch.camera.cli",
        "run a simulated camera with onboard storage (RTSP), with faults on demand",
        ("anr-watch camera --help",),
    ),
}
