"""What is asked of a replay worker and what it tells, as values; it may import nothing heavy: both sides use it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from anr_watch.model import Secret, Window
from anr_watch.states import Reason


class End(StrEnum):
    """The ends of a replay that are no failure of their own; whether the gap is filled is decided by coverage."""

    WINDOW = "window"  # pictures up to the end of what was to be kept have come
    EOF = "eof"  # the source said it is over, or closed the connection
    STOPPED = "stopped"  # we asked for the end
    SUSPECT = "suspect"  # it covers the time of recorded pictures and does not hold them; nothing was released


class Side(StrEnum):
    """The two places where a replay meets what is recorded."""

    HEAD = "head"  # the recorder's last pictures before what is missing
    TAIL = "tail"  # its first ones after it


class Joint(StrEnum):
    """How a replay was joined on one side."""

    EXACT = "exact"  # by content: no picture missing, none double
    TIME = "time"  # by time: the recorded pictures were not found, or coded another way
    NONE = "none"  # nothing recorded was given to look for


class Unproved(StrEnum):
    """What to do with footage that covers the time of recorded pictures and does not hold them."""

    KEEP = "keep"  # cut it by time
    STOP = "stop"  # end with `End.SUSPECT` before anything is released
    PROVE = "prove"  # the same, but only once both sides were looked for and neither is there


Cause = End | Reason


class TimeSource(StrEnum):
    """Where a segment's UTC comes from."""

    SENDER_REPORT = "sender_report"  # the camera said it (RTCP)
    ASKED = "asked"  # the camera said nothing usable: the first picture is taken for the start that was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """One replay: what to ask, what to keep of it, and where to put it.

    `asked` is what the URL asks for, with margins; `keep` is the part that is written where a side is cut by time.
    `max_bytes_s` 0 means no cap. `transport` is `tcp`, `udp` or `http` (RTSP inside HTTP) and matters for RTSP
    only. `tls_ca_file` holds the certificates `tls_verify` trusts, None: those of this machine.

    `head` and `tail` are fingerprints of recorded pictures in order of presentation: the last before what is
    missing, and the first after it; `head_sizes` and `tail_sizes` the bytes of (maybe more of) the same pictures.
    `head_at` is when the former end, `tail_at` when the latter begin, on the recorder's clock. All windows here and
    in events are the recorder's time: the URL was built for `asked` plus `shift_s`, and the camera's own times are
    reported less `shift_s`. With `shift_known` the shift was measured and decides between places that look the same.
    """

    url: Secret
    asked: Window
    keep: Window
    staging: Path
    segment_s: float = 60.0
    audio: bool = False
    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 10.0
    max_bytes_s: float = 0.0
    transport: str = "tcp"
    tls_verify: bool = False
    tls_ca_file: Path | None = None
    head: tuple[bytes, ...] = ()
    tail: tuple[bytes, ...] = ()
    head_sizes: tuple[int, ...] = ()
    tail_sizes: tuple[int, ...] = ()
    head_at: datetime | None = None
    tail_at: datetime | None = None
    shift_s: float = 0.0
    shift_known: bool = False
    unproved: Unproved = Unproved.KEEP


@dataclass(frozen=True, slots=True)
class Opened:
    """The camera plays: what it sends and how long after the request the first packet was there."""

    codec: str  # h264 or hevc
    width: int
    height: int
    audio_codec: str  # what the file gets: aac, or empty without audio
    after_s: float


@dataclass(frozen=True, slots=True)
class SegmentReady:
    """A finished, synced file in staging. `window`: first picture presented to the end of the last, true UTC."""

    file: str
    window: Window
    bytes: int
    frames: int
    codec: str
    width: int
    height: int
    clock: TimeSource


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes received so far and the end of the newest picture written; at most four a second."""

    bytes: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Jump:
    """The footage's time is not continuous at `at`: `by_s` seconds are missing, or come again when negative."""

    at: datetime
    by_s: float


@dataclass(frozen=True, slots=True)
class Joined:
    """How one side was joined; once per side of every replay that played something.

    `offset_s` is the camera's time of a picture minus the recorder's, None where nothing matched. `run` is how many
    pictures in a row were equal. `detail` says why a side is not exact, in a few words. `tolerance_s` belongs to a
    side cut by time: so far the cut may be from the true place, where the place was found by its rhythm (then
    `offset_s` is known), or as far as the clocks were trusted.
    """

    side: Side
    kind: Joint
    offset_s: float | None = None
    run: int = 0
    detail: str = ""
    tolerance_s: float | None = None
    suspect: bool = False  # the footage covers the time of the recorded pictures and does not hold them

    @property
    def found(self) -> bool:
        """Whether the recorded pictures are known to be in the footage: equal, or coded another way."""
        return self.kind is Joint.EXACT or self.offset_s is not None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of every replay. `detail` is one redacted line, `status` an RTSP or HTTP code."""

    cause: Cause
    detail: str = ""
    bytes: int = 0
    seconds: float = 0.0  # wall time from the request to the end
    until: datetime | None = None  # end of the newest picture written
    status: int | None = None
    played_until: datetime | None = None  # the newest picture that came, wanted or not


Event = Opened | SegmentReady | Progress | Jump | Joined | Ended
