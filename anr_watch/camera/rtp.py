"""RTP and RTCP packets for RTSP's interleaved channels (RFC 3550, 6184, 7798, 3640); bytes only, no sockets."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final

_MASK32: Final = 0xFFFF_FFFF
_NTP_UNIX_S: Final = 2_208_988_800  # seconds from 1900 to 1970
_RTP: Final = struct.Struct(">cBHBBHII")  # interleaved: '$', channel, length; RTP: V, M+PT, seq, timestamp, SSRC
_RTP_HEADER_BYTES: Final = 12
_REPORT: Final = struct.Struct(">BBHIIIIII")
_CNAME: Final = b"anr-watch-camera"


class RtpTrack:
    """Packets of one track: numbers them, cuts pictures into fragments and writes its RTCP.

    `timestamp_offset` is where RTP time stands at tick 0 of the film. With `corrupt` a seeded share of the
    packets gets one bit of its payload flipped; with `lose` a share is left out, which leaves gaps in the numbers.
    """

    def __init__(
        self,
        *,
        channel: int,
        payload_type: int,
        clock_rate: int,
        ssrc: int,
        timestamp_offset: int,
        mtu_bytes: int,
        corrupt: float = 0.0,
        lose: float = 0.0,
        corrupt_seed: int = 1,
    ) -> None:
        self.clock_rate = clock_rate
        self.ssrc = ssrc
        self.sequence = ssrc & 0xFFFF
        self.packets = 0
        self.octets = 0
        self._channel = channel
        self._payload_type = payload_type
        self._offset = timestamp_offset
        self._payload_max = mtu_bytes - _RTP_HEADER_BYTES
        self._corrupt = corrupt
        self._lose = lose
        # The flips must be the same in each run; nothing secret comes of it.
        self._dice = random.Random(corrupt_seed)  # noqa: S311 - repeatable faults, not cryptography

    def timestamp(self, ticks: int) -> int:
        """Return the RTP timestamp of an instant given in ticks of the track's clock since 1970."""
        return (ticks + self._offset) & _MASK32

    def shift(self, ticks: int) -> None:
        """Let RTP time jump by `ticks` from here on."""
        self._offset += ticks

    def h264(self, nals: Sequence[bytes], ticks: int) -> bytes:
        """Return the packets of one H.264 picture: parameter sets as STAP-A, large NAL units as FU-A."""
        out: list[bytes] = []
        timestamp = self.timestamp(ticks)
        sets = _leading(nals, lambda nal: nal[0] & 0x1F in {7, 8})
        if sets > 1:
            body = b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals[:sets])
            self._packet(out, bytes([nals[0][0] & 0x60 | 24]) + body, timestamp, marker=sets == len(nals))
            nals = nals[sets:]
        for index, nal in enumerate(nals):
            last = index == len(nals) - 1
            if len(nal) <= self._payload_max:
                self._packet(out, nal, timestamp, marker=last)
            else:
                self._fragments(out, nal, bytes([nal[0] & 0xE0 | 28]), nal[0] & 0x1F, timestamp, marker=last)
        return b"".join(out)

    def h265(self, nals: Sequence[bytes], ticks: int) -> bytes:
        """Return the packets of one H.265 picture: parameter sets as an aggregation packet, then units or FUs."""
        out: list[bytes] = []
        timestamp = self.timestamp(ticks)
        sets = _leading(nals, lambda nal: nal[0] >> 1 & 0x3F in {32, 33, 34})
        if sets > 1:
            body = b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals[:sets])
            self._packet(out, bytes([48 << 1, 1]) + body, timestamp, marker=sets == len(nals))
            nals = nals[sets:]
        for index, nal in enumerate(nals):
            last = index == len(nals) - 1
            if len(nal) <= self._payload_max:
                self._packet(out, nal, timestamp, marker=last)
            else:
                header = bytes([nal[0] & 0x81 | 49 << 1, nal[1]])
                self._fragments(out, nal, header, nal[0] >> 1 & 0x3F, timestamp, marker=last)
        return b"".join(out)

    def aac(self, unit: bytes, ticks: int) -> bytes:
        """Return the packet of one AAC access unit in AAC-hbr mode (RFC 3640, 3.3.6)."""
        out: list[bytes] = []
        self._packet(out, struct.pack(">HH", 16, len(unit) << 3) + unit, self.timestamp(ticks), marker=True)
        return b"".join(out)

    def samples(self, payload: bytes, ticks: int) -> bytes:
        """Return the packet of a block of G.711 samples."""
        out: list[bytes] = []
        self._packet(out, payload, self.timestamp(ticks), marker=False)
        return b"".join(out)

    def sender_report(self, utc_us: int, ticks: int, *, bye: bool = False) -> bytes:
        """Return a compound sender report + SDES (+ BYE) that ties `ticks` to an instant of UTC."""
        seconds, rest_us = divmod(utc_us, 1_000_000)
        # Rounded up: FFmpeg turns the fraction back into microseconds by cutting off.
        fraction = min(_MASK32, -(-(rest_us << 32) // 1_000_000))
        ntp_s = (seconds + _NTP_UNIX_S) & _MASK32
        report = _REPORT.pack(
            0x80,
            200,
            6,
            self.ssrc,
            ntp_s,
            fraction,
            self.timestamp(ticks),
            self.packets & _MASK32,
            self.octets & _MASK32,
        )
        chunk = struct.pack(">IBB", self.ssrc, 1, len(_CNAME)) + _CNAME
        chunk += b"\0" * (4 - len(chunk) % 4)
        description = struct.pack(">BBH", 0x81, 202, len(chunk) // 4) + chunk
        return self._rtcp(report + description + (self._bye() if bye else b""))

    def lone_bye(self) -> bytes:
        """Return a BYE that stands alone, which RFC 3550 forbids and cameras send."""
        return self._rtcp(self._bye())

    def _bye(self) -> bytes:
        return struct.pack(">BBHI", 0x81, 203, 1, self.ssrc)

    def _rtcp(self, data: bytes) -> bytes:
        return struct.pack(">cBH", b"$", self._channel + 1, len(data)) + data

    def _fragments(
        self, out: list[bytes], nal: bytes, header: bytes, kind: int, timestamp: int, *, marker: bool
    ) -> None:
        """Cut a NAL unit into fragmentation units that begin with `header` and a byte of flags and `kind`."""
        view = memoryview(nal)[len(header) :]  # the header takes the place of the unit's own
        step = self._payload_max - len(header) - 1
        for start in range(0, len(view), step):
            piece = view[start : start + step]
            last = start + step >= len(view)
            flags = kind | (0x80 if start == 0 else 0) | (0x40 if last else 0)
            self._packet(out, b"".join((header, bytes([flags]), piece)), timestamp, marker=marker and last)

    def _packet(self, out: list[bytes], payload: bytes, timestamp: int, *, marker: bool) -> None:
        if self._lose and self._dice.random() < self._lose:
            self.sequence = (self.sequence + 1) & 0xFFFF
            return
        if self._corrupt and self._dice.random() < self._corrupt:
            damaged = bytearray(payload)
            damaged[self._dice.randrange(len(damaged))] ^= 1 << self._dice.randrange(8)
            payload = bytes(damaged)
        kind = self._payload_type | (0x80 if marker else 0)
        length = _RTP_HEADER_BYTES + len(payload)
        out.append(_RTP.pack(b"$", self._channel, length, 0x80, kind, self.sequence, timestamp, self.ssrc))
        out.append(payload)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.packets += 1
        self.octets += len(payload)


def _leading(nals: Sequence[bytes], wanted: Callable[[bytes], bool]) -> int:
    """Return how many NAL units from the front fulfil `wanted`."""
    return next((index for index, nal in enumerate(nals) if not wanted(nal)), len(nals))
