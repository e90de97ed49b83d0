"""Knows how the pictures of a replay are coded, which may change at any key frame. Worker process only."""

from __future__ import annotations

from typing import Final

from anr_watch.joins.fingerprint import of_annexb, of_length_prefixed
from anr_watch.replay.muxer import VideoFormat, format_of_sets
from anr_watch.replay.nalunits import length_size, look_into
from anr_watch.replay.source import Playing
from anr_watch.replay.stamps import Unit

MOST_CHANGES: Final = 64  # of one replay: each costs a file and an open context of libav's


class Formats:
    """How each key frame is coded: from the parameter sets in front of it, or those of the session description."""

    def __init__(self, playing: Playing) -> None:
        self._codec = playing.video.codec
        self._changes = 0
        self._length_size = 0 if playing.annexb else length_size(self._codec, playing.extradata)
        self._format: VideoFormat | None = None if playing.annexb else playing.video
        self._sets = look_into(self._codec, playing.extradata).sets if playing.annexb else {}

    def of(self, unit: Unit) -> VideoFormat:
        """Return how a key frame and what follows is coded; the same object as long as nothing changes.

        Raises:
            av.FFmpegError, ValueError: its parameter sets describe nothing libav can read, or change all the time.
        """
        if unit.front is None:
            if self._format is None:
                raise ValueError("a key frame nobody looked into")
            return self._format
        sets = {**self._sets, **unit.front.sets}
        if self._format is None or sets != self._sets:
            self._changes += 1
            if self._changes > MOST_CHANGES:
                raise ValueError("the parameter sets change all the time")
            self._format = format_of_sets(self._codec, sets, bytes(unit.payload))
            self._sets = sets
        return self._format

    def fingerprint(self, unit: Unit) -> bytes:
        """Return the fingerprint of a picture."""
        data = bytes(unit.payload)
        if self._length_size:
            return of_length_prefixed(data, self._length_size, self._codec)
        return of_annexb(data, self._codec)
