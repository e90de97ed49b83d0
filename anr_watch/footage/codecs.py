"""Names of codecs in an mp4 sample description, as ffprobe prints them. Pure; decodes nothing."""

from __future__ import annotations

from typing import Final

_BY_FOURCC: Final = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"dvh1": "hevc",
    b"dvhe": "hevc",
    b"vvc1": "vvc",
    b"av01": "av1",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"jpeg": "mjpeg",
    b"mjpa": "mjpeg",
    b"mjpg": "mjpeg",
    b"Opus": "opus",
    b"fLaC": "flac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b".mp3": "mp3",
    b"alaw": "pcm_alaw",
    b"ulaw": "pcm_mulaw",
    b"sowt": "pcm_s16le",
    b"twos": "pcm_s16be",
}
# Object type indications of an MPEG-4 elementary stream descriptor (ISO/IEC 14496-1, table 5; mp4ra.org).
_BY_OBJECT_TYPE: Final = {
    0x20: "mpeg4",
    0x40: "aac",
    0x60: "mpeg2video",
    0x61: "mpeg2video",
    0x66: "aac",
    0x67: "aac",
    0x68: "aac",
    0x69: "mp3",
    0x6A: "mpeg1video",
    0x6B: "mp3",
    0x6C: "mjpeg",
}


def codec_name(entry: bytes) -> str:
    """Return ffprobe's name for a whole sample entry box (`avc1`, `mp4a`, ...), or its four letters if unknown."""
    fourcc = entry[4:8]
    if fourcc in (b"mp4v", b"mp4a"):
        kind = _object_type(entry)
        known = _BY_OBJECT_TYPE.get(kind) if kind is not None else None
        return known or ("mpeg4" if fourcc == b"mp4v" else "aac")
    return _BY_FOURCC.get(fourcc) or "".join(chr(byte) if 32 < byte < 127 else "?" for byte in fourcc)


def _object_type(entry: bytes) -> int | None:
    """Find the object type in the `esds` box: ES descriptor (3) with options, then decoder config (4)."""
    found = entry.find(b"esds")
    at = _after_length(entry, found + 8, tag=3) if found >= 0 else None
    if at is None or at + 3 > len(entry):
        return None
    flags = entry[at + 2]
    at += 3 + (2 if flags & 0x80 else 0)
    if flags & 0x40:
        at += 1 + (entry[at] if at < len(entry) else 0)
    at += 2 if flags & 0x20 else 0
    at = _after_length(entry, at, tag=4)
    return None if at is None or at >= len(entry) else entry[at]


def _after_length(entry: bytes, at: int, *, tag: int) -> int | None:
    """Return the place after a descriptor's tag and its length of one to four bytes of 7 bits."""
    if at >= len(entry) or entry[at] != tag:
        return None
    for end in range(at + 1, min(at + 5, len(entry))):
        if not entry[end] & 0x80:
            return end + 1
    return None
