"""How a replay ends: what was seen, and what an exception means. Worker process only; it decides no retry."""

from __future__ import annotations

import errno
import struct
from typing import Final

import av

from anr_watch.replay.fragments import BadFragments
from anr_watch.replay.gate import NoPictures
from anr_watch.replay.job import Cause
from anr_watch.replay.stamps import NoTimes
from anr_watch.replay.timeline import TimeWentBack
from anr_watch.states import Reason

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class Over(Exception):  # noqa: N818 - not an error
    """The replay is over."""

    def __init__(self, cause: Cause, detail: str = "", status: int | None = None) -> None:
        self.cause, self.detail, self.status = cause, detail, status
        super().__init__(detail)


def why_over(error: Exception) -> Over | None:
    """Return the end an exception means, None for a mistake of ours."""
    match error:
        case Over():
            return error
        case TimeWentBack():
            return Over(Reason.CUT_SHORT, str(error))
        case NoTimes() | NoPictures() | BadFragments():
            return Over(Reason.BAD_MEDIA, str(error))
        case av.FFmpegError():
            return Over(Reason.BAD_MEDIA, f"not fit for mp4: {error.strerror}")
        case OSError():
            if error.errno == errno.EFBIG:  # the worker's own limit, not the disk's: no reason to stop other fills
                return Over(Reason.BAD_MEDIA, "a segment without an end")
            reason = Reason.DISK_FULL if error.errno in _FULL else Reason.STORAGE
            return Over(reason, f"staging: {error.strerror}")
        case ValueError():  # how PyAV says that something does not go together
            return Over(Reason.BAD_MEDIA, f"not fit for mp4: {error}")
        case OverflowError() | struct.error():  # more than a field of libav's, or of a file's index, can hold
            return Over(Reason.BAD_MEDIA, "numbers that no stream has")
        case MemoryError():
            return Over(Reason.BAD_MEDIA, "the stream needs more memory than a worker may take")
        case _:
            return None
