"""How pictures and sound of a simulated camera can be coded; words only, so that naming them loads no codec."""

from __future__ import annotations

from enum import StrEnum


class VideoCodec(StrEnum):
    """How the pictures are coded."""

    H264 = "h264"
    H265 = "h265"


class AudioKind(StrEnum):
    """How the sound is coded."""

    NONE = "none"
    PCMA = "pcma"
    PCMU = "pcmu"
    AAC = "aac"
