"""What a fill keeps of how fast its device may be asked: reads and writes the paces. Decides nothing about them."""

from __future__ import annotations

import logging

from anr_watch import live_first
from anr_watch.errors import ReplayRefused
from anr_watch.filling.tools import Tools
from anr_watch.live_first import Pace
from anr_watch.model import Camera
from anr_watch.replay.urls import device_of

LOG = logging.getLogger("anr_watch.fill")


def device_name(camera: Camera) -> str:
    """Return the name under which the camera's device is known, `host:port`; empty where there is none."""
    try:
        return str(device_of(camera))
    except ReplayRefused:
        return ""


def pace_of(tools: Tools, camera: Camera) -> Pace | None:
    """Return how the camera's device may be asked; None: live has never faltered."""
    return tools.paces.get(device_name(camera))


def cap_of(tools: Tools, camera: Camera) -> float:
    """Return the cap of the next request in bytes per second, 0 for none."""
    return live_first.lower_cap(camera.options.max_mb_s * 1e6, pace_of(tools, camera))


async def slow_down(
    tools: Tools, camera: Camera, why: str, *, rate_bytes_s: float, live_bytes_s: float | None
) -> None:
    """Ask the device later and slower from now on, because live faltered.

    Raises:
        AnrWatchError: the database cannot be used.
    """
    device = device_name(camera)
    pace = live_first.slower(
        tools.paces.get(device),
        device,
        rate_bytes_s=rate_bytes_s,
        live_bytes_s=live_bytes_s,
        at=tools.clock.now(),
        first_wait_s=tools.settings.fills.live_wait_s,
    )
    LOG.warning(
        "live comes first: %s while the camera replayed",
        why,
        extra={
            "camera": camera.id,
            "device": device,
            "kb_s": round(rate_bytes_s / 1000, 1),
            "from_now_on_kb_s": round(pace.max_bytes_s / 1000, 1),
            "falters": pace.falters,
            "not_before": pace.next_at.isoformat(timespec="seconds"),
        },
    )
    tools.paces[device] = pace
    announce = tools.announcements.paced(camera.id, pace, why=why)
    await tools.insist(lambda: tools.store.save_pace(device, pace, camera.id, announce))


async def speed_up(tools: Tools, camera: Camera) -> None:
    """Ask a slowed device a little faster after a request during which live did not falter.

    Raises:
        AnrWatchError: the database cannot be used.
    """
    device = device_name(camera)
    before = tools.paces.get(device)
    if before is None:
        return
    pace = live_first.faster(before, at=tools.clock.now(), first_wait_s=tools.settings.fills.live_wait_s)
    if pace is None:
        del tools.paces[device]
    else:
        tools.paces[device] = pace
    announce = tools.announcements.paced(camera.id, pace)
    await tools.insist(lambda: tools.store.save_pace(device, pace, camera.id, announce))
