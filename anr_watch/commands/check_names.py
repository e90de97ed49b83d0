"""Checks whether what the recorder writes will be found: by name, by time, by folder. Opens the newest files only."""

from __future__ import annotations

from collections.abc import Mapping

from anr_watch.clock import Clock
from anr_watch.commands.findings import Finding, ok, warn
from anr_watch.commands.screen import length, second
from anr_watch.config import Settings
from anr_watch.footage.folder import Recordings
from anr_watch.footage.misnamed import Names, look_at_names, remarks_on, remarks_on_folders
from anr_watch.footage.names import NamePattern
from anr_watch.model import Camera


def check_names(settings: Settings, clock: Clock, cameras: Mapping[str, Camera]) -> list[Finding]:
    """Check the names of these cameras' files, and whether each folder with recordings belongs to one of them.

    Cameras whose fills are off are left alone, but their folders are known.
    """
    recordings = Recordings(settings.recordings.path, NamePattern(settings.recordings.name_pattern), clock)
    found: list[Finding] = []
    for camera_id, camera in sorted(cameras.items()):
        if camera.wants_fills:
            found += _of_camera(recordings, camera, clock, about=f"recordings {camera_id}")
    found += [warn("recordings", remark.text, remark.advice) for remark in remarks_on_folders(recordings, cameras)]
    return found


def _of_camera(recordings: Recordings, camera: Camera, clock: Clock, *, about: str) -> list[Finding]:
    now = clock.now()
    names = look_at_names(recordings, camera.id, now, segment_s=camera.segment_s)
    if not names.files:
        return []  # a new camera, or a folder that `check_disk` complains of
    remarks = remarks_on(camera.id, names, recordings.pattern, now)
    facts = _facts(names)
    if remarks:
        return [warn(about, remark.text, remark.advice, **facts) for remark in remarks]
    text = f"{names.fitting} of {names.files} files fit the name pattern"
    if names.newest is not None:
        lasted_s = names.newest.mtime_s - names.newest.start.timestamp()
        text += f", newest {second(names.newest.start)}"
        text += f", last written {length(lasted_s)} after that" if lasted_s >= 0 else ""
    return [ok(about, text, **facts)]


def _facts(names: Names) -> dict[str, object]:
    newest = names.newest
    return {
        "files": names.files,
        "fitting": names.fitting,
        "newest": None if newest is None else second(newest.start),
        "newest_written_s": None if newest is None else round(newest.mtime_s - newest.start.timestamp(), 1),
    }
