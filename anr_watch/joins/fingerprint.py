"""The fingerprint of one coded picture: what must be equal in two files for it to be the same picture. Reads no file.

Start codes, length prefixes, parameter sets, SEI and delimiters differ between a live stream and the same footage out
of a camera's storage, or between two muxers; the slices do not. So only they are hashed, in order.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 12  # 2**-96 for two different pictures by chance: nobody records so many

_START_CODE: Final = b"\x00\x00\x01"


def of_annexb(data: bytes | memoryview, codec: str) -> bytes:
    """Return the fingerprint of the picture in `data`, NAL units behind start codes; b"" if it holds no slice.

    `codec` is `h264` or `hevc`; every other codec has no fingerprint (b"").
    """
    mask = _SLICES.get(codec)
    if mask is None:
        return b""
    data = bytes(data)
    view = memoryview(data)
    digest = blake2b(digest_size=DIGEST_BYTES)
    found = False
    start = data.find(_START_CODE) + 3
    while start >= 3:
        following = data.find(_START_CODE, start)
        end = len(data) if following < 0 else following
        if start < end and mask[data[start]]:
            while data[end - 1] == 0 and end > start + 1:  # trailing zeros belong to the next start code
                end -= 1
            digest.update(view[start:end])
            found = True
        start = following + 3
    return digest.digest() if found else b""


def of_length_prefixed(data: bytes | memoryview, length_size: int, codec: str) -> bytes:
    """Return the fingerprint of the picture in `data`, NAL units behind lengths of `length_size` bytes (mp4).

    b"" if it holds no slice, or the lengths do not fit the data: a damaged picture is like no other.
    """
    mask = _SLICES.get(codec)
    if mask is None or length_size < 1:
        return b""
    view = memoryview(data)
    digest = blake2b(digest_size=DIGEST_BYTES)
    found = False
    at, size = 0, len(view)
    while at + length_size < size:
        start = at + length_size
        at = start + int.from_bytes(view[at:start], "big")
        if at > size:
            return b""
        if at > start and mask[view[start]]:
            end = at
            while view[end - 1] == 0 and end > start + 1:
                end -= 1
            digest.update(view[start:end])
            found = True
    return digest.digest() if found else b""


# By the first byte of a NAL unit: is it a slice? H.264 types 1 to 5 (7.4.1), H.265 types 0 to 31 (7.4.2.2, VCL).
_SLICES: Final = {
    "h264": bytes(1 <= first & 0x1F <= 5 for first in range(256)),
    "hevc": bytes((first >> 1) & 0x3F <= 31 for first in range(256)),
}
