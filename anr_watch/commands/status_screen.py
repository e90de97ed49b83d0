"""What `status` shows, as lines of a terminal: from values to words. It reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from anr_watch.commands.advice import in_words
from anr_watch.commands.gaps import advice_on
from anr_watch.commands.running import Daemon
from anr_watch.commands.screen import clean, length, painted_bar, second, size, table
from anr_watch.config import Settings
from anr_watch.drawing.bar import bar, legend
from anr_watch.drawing.lanes import Lane
from anr_watch.live_first import Pace
from anr_watch.model import Attempt, DeviceClock, Window
from anr_watch.states import Reason
from anr_watch.store import Mode, StatusRow

HOURS = 24  # of the bar: a letter an hour
_HEADER = ("CAMERA", "PRESENCE", "CLOCK", f"LAST {HOURS} H", "MISSING", "NOW")
_GOOD = (Reason.FILLED, Reason.COVERED)
# A camera's clock that is less than this off is right, as far as anybody cares.
_RIGHT_S = 0.1


@dataclass(frozen=True, slots=True)
class View:
    """Everything the screen shows, read at one time."""

    now: datetime
    mode: Mode
    prepared: bool  # whether anr-watch has ever run on this database
    cameras: Sequence[StatusRow]
    lanes: Mapping[str, Lane]  # by camera, the last hours
    clocks: Mapping[str, DeviceClock]  # by camera
    paces: Mapping[str, Pace]  # by camera whose live recording faltered
    waiting_messages: int
    daemon: Daemon
    free_mb: float | None
    folder_trouble: str

    @property
    def window(self) -> Window:
        """The time of the bars."""
        return Window(self.now - timedelta(hours=HOURS), self.now)


def screen(view: View, settings: Settings) -> Iterator[str]:
    """Yield the screen's lines."""
    yield f"node        {clean(settings.mqtt.node)}, {second(view.now)}"
    yield f"database    {settings.database.path} ({view.mode})"
    room = view.folder_trouble or f"{size((view.free_mb or 0) * 1e6)} free"
    yield f"recordings  {settings.recordings.path} ({clean(room)})"
    yield f"daemon      {view.daemon}" + ("" if view.prepared else "; it has never run on this database")
    yield f"mqtt        {_mqtt(view, settings)}"
    yield ""
    if not view.cameras:
        yield "no cameras"
        return
    lines = table(_HEADER, [_line(row, view) for row in view.cameras]).split("\n")
    yield from lines
    yield f"\n{legend()}"
    if view.daemon.running is False and view.prepared:
        yield "(presence as it was when anr-watch last ran)"
    yield from _missing(view, settings)
    yield from _results(view)
    yield from advice_on(_troubles(view.cameras))


def _missing(view: View, settings: Settings) -> Iterator[str]:
    gaps = sum(row.pending_gaps for row in view.cameras)
    if gaps:
        total = length(sum(row.missing_s for row in view.cameras))
        hours = settings.fills.max_gap_hours
        yield f"\n{total} missing in {gaps} gap{'s' if gaps != 1 else ''} of the last {hours:g} h"


def _results(view: View) -> Iterator[str]:
    results = [(row, row.last) for row in view.cameras if row.last is not None and row.last.reason is not None]
    if results:
        yield "\nlast results"
        width = max(len(clean(row.camera.id)) for row, _ in results)
        for row, last in results:
            yield f"  {clean(row.camera.id).ljust(width)}  {result_words(last)}"


def _mqtt(view: View, settings: Settings) -> str:
    mqtt = settings.mqtt
    if not mqtt.host:
        return "not configured"
    waiting = f", {view.waiting_messages} messages wait to be sent" if view.waiting_messages else ""
    return f"{clean(mqtt.host)}:{mqtt.port} as {mqtt.base}/{mqtt.node}{waiting}"


def _line(row: StatusRow, view: View) -> tuple[str, ...]:
    presence = row.presence.value
    if row.presence_since is not None:
        presence += f" for {length(max(0.0, (view.now - row.presence_since).total_seconds()))}"
    lane = view.lanes.get(row.camera.id)
    return (
        clean(row.camera.id),
        presence,
        _off(view.clocks.get(row.camera.id)),
        painted_bar(bar(lane, view.window, HOURS)) if lane is not None else "",
        f"{length(row.missing_s)} in {row.pending_gaps}" if row.pending_gaps else "-",
        _doing(row, view),
    )


def _off(clock: DeviceClock | None) -> str:
    """Return how far a camera's clock is from the recorder's."""
    if clock is None:
        return "-"
    return "right" if abs(clock.offset_s) < _RIGHT_S else f"{clock.offset_s:+.1f} s"


def _doing(row: StatusRow, view: View) -> str:
    if not row.camera.wants_fills:
        return "fills are off"
    if row.running is not None and view.daemon.running is not False:
        return progress_words(row.running, view.now)
    if row.parked is not None:
        return f"parked: {row.parked.reason}"
    pace = view.paces.get(row.camera.id)
    if pace is not None and row.pending_gaps and pace.next_at > view.now:
        wait_s = (pace.next_at - view.now).total_seconds()
        return f"live comes first: waits {length(wait_s)}, then {size(pace.max_bytes_s)}/s"
    return "waiting" if row.pending_gaps else "-"


def progress_words(attempt: Attempt, now: datetime) -> str:
    """Return how far a running try is: share of what it wants, bytes, bytes per second so far, and what is left."""
    share = min(1.0, attempt.got_s / attempt.wanted_s) if attempt.wanted_s else 0.0
    took_s = max(0.001, (now - attempt.started_at).total_seconds())
    words = (
        f"fetching {length(attempt.wanted_s)}: {share:.0%}, {size(attempt.bytes)}, {size(attempt.bytes / took_s)}/s"
    )
    if 0.0 < share < 1.0:
        words += f", {length(took_s / share - took_s)} to go"
    return words


def result_words(last: Attempt) -> str:
    """Return how a try ended: when, how, and what came."""
    if last.reason in _GOOD:
        text = in_words(last.reason).words + (f", {length(last.got_s)}" if last.got_s else "")
        text += ", not proved to be the right footage" if last.suspect else ""
    else:
        text = f"{last.reason}: {clean(last.detail, 120)}".removesuffix(": ")
        text += f" ({length(last.got_s)} of {length(last.wanted_s)} came)" if last.got_s else ""
    return f"{second(last.ended_at)}  {text}"


def _troubles(rows: Sequence[StatusRow]) -> list[Reason]:
    found = [row.parked.reason for row in rows if row.parked is not None]
    found += [row.last.reason for row in rows if row.pending_gaps and row.last is not None and row.last.reason]
    return [reason for reason in found if reason not in _GOOD]
