"""Each reason in words, and what a person can do: one table for `gaps`, `status`, `check` and `fill`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from anr_watch.states import Reason


@dataclass(frozen=True, slots=True)
class Advice:
    """What a reason says to a person: what happened, and what to do (empty: nothing)."""

    words: str
    do: str = ""


ADVICE: dict[Reason, Advice] = {
    Reason.FILLED: Advice("filled"),
    Reason.COVERED: Advice("recorded already, nothing was fetched"),
    Reason.UNREACHABLE: Advice(
        "the camera cannot be reached",
        "check power, network and firewall, and the address and rtsp_port of its row (standalone: of its "
        "[[camera]]); tried again as soon as it is back",
    ),
    Reason.BUSY: Advice(
        "the camera already serves another replay",
        "close other playback of its storage (its own page, another recorder); most cameras allow one at a time",
    ),
    Reason.UNAUTHORIZED: Advice(
        "the camera refuses user name or password",
        "correct them in the camera's row (standalone: in its [[camera]] or password_file, then restart anr-watch) "
        "and allow that user remote playback, then: anr-watch retry --camera ID; no further try is made on its own, "
        "because cameras lock out after a few",
    ),
    Reason.NO_FOOTAGE: Advice(
        "the camera has no footage of that time",
        "check that it records to its card (continuously, card healthy), that its clock is right, that `timezone` "
        "says how it reads times, and that the replay URL names the right channel",
    ),
    Reason.STALLED: Advice(
        "the camera stopped sending in the middle",
        "usually a weak link or an overloaded camera; set max_mb_s for it, or raise [fills] stall_timeout_s",
    ),
    Reason.CUT_SHORT: Advice(
        "the camera sent less than was asked for",
        "nothing: the rest is asked for again; if it always ends early, its card may not hold the time",
    ),
    Reason.BAD_MEDIA: Advice(
        "what the camera sent cannot be used as footage",
        "set the camera to H.264 or H.265 and check its replay URL in a player; a firmware update may help",
    ),
    Reason.WRONG_FOOTAGE: Advice(
        "what the camera sent is not what was recorded beside the gap",
        "check the camera's clock, `timezone`, and that the replay URL names the right channel; cameras that store "
        'another encoding than they send need [fills] unproved = "keep"',
    ),
    Reason.INTERRUPTED: Advice(
        "interrupted, because the camera went away or anr-watch was stopped",
        "nothing: it is tried again when the camera is back or anr-watch runs",
    ),
    Reason.LIVE_FALTERED: Advice(
        "live recording faltered while the camera replayed, so the replay was ended",
        "nothing: it is asked again later and slower (see `slowed` in: anr-watch status --json); max_mb_s for this "
        "camera keeps it from happening, a fixed cable instead of a weak radio link often cures it",
    ),
    Reason.DISK_FULL: Advice(
        "no room in the recordings folder",
        "free space or lower [recordings] min_free_mb; fills go on by themselves once there is room",
    ),
    Reason.STORAGE: Advice(
        "the recordings folder does not take files",
        "check mount, permissions and owner of [recordings] path; fills go on by themselves once it does",
    ),
    Reason.NO_REPLAY_URL: Advice(
        "there is nothing to ask the camera with",
        "set address or anr_replay_url_template in the camera's row (standalone: in its [[camera]] "
        "address or replay_url_template, then restart anr-watch)",
    ),
    Reason.BAD_CONFIG: Advice(
        "the camera cannot be asked the way it is configured",
        "correct its replay URL template, `timezone` or sealed password (HELDAR_SECRET_KEY) as the detail says; "
        "after a change of the configuration restart anr-watch",
    ),
}


def in_words(reason: str) -> Advice:
    """Return the advice for a reason as it stands in the database; an unknown one speaks for itself."""
    try:
        return ADVICE[Reason(reason)]
    except ValueError:
        return Advice(reason)
