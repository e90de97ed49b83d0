"""The sound of a simulated camera: a beep at each full second of UTC, coded once and repeated; it stores nothing.

The signal repeats each second, so G.711 has 50 different blocks and AAC 125 different frames (8 s) for
all time. Block k begins k * samples / rate seconds after 1970-01-01 UTC, exactly.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

import av

from anr_watch.camera.kinds import AudioKind

_BEEP_S: Final = 0.1
_BEEP_HZ: Final = 1000
_HUM_HZ: Final = 200
_G711_RATE: Final = 8000
_G711_BLOCK: Final = 160  # 20 ms, the default of RFC 3551
_AAC_RATE: Final = 16000
_AAC_BLOCK: Final = 1024
_AAC_PERIOD: Final = 125  # frames until the signal repeats: 125 * 1024 samples are 8 s
AAC_CONFIG: Final = "1408"  # AudioSpecificConfig: AAC-LC, 16 kHz, mono (ISO 14496-3, 1.6.2.1)


@dataclass(frozen=True, slots=True)
class Block:
    """One coded block: its place in ticks of the sampling rate since 1970, and its bytes."""

    ticks: int
    data: bytes


class Tone:
    """The coded sound of one kind; the first use codes all of it."""

    def __init__(self, kind: AudioKind) -> None:
        self.kind = kind
        self.rate = _AAC_RATE if kind is AudioKind.AAC else _G711_RATE
        self.block_samples = _AAC_BLOCK if kind is AudioKind.AAC else _G711_BLOCK

    def between(self, start_s: Fraction, end_s: Fraction) -> Iterator[Block]:
        """Give the blocks that begin in [start_s, end_s), seconds since 1970; none without sound."""
        if self.kind is AudioKind.NONE:
            return
        coded = self._coded
        step = Fraction(self.block_samples, self.rate)
        for number in range(math.ceil(start_s / step), math.ceil(end_s / step)):
            yield Block(ticks=number * self.block_samples, data=coded[number % len(coded)])

    def prepare(self) -> None:
        """Code the sound now (AAC takes some 0.1 s), so that no stream has to wait for it."""
        if self.kind is not AudioKind.NONE:
            _ = self._coded

    @cached_property
    def _coded(self) -> tuple[bytes, ...]:
        if self.kind is AudioKind.AAC:
            return _aac_period()
        compand = _alaw if self.kind is AudioKind.PCMA else _ulaw
        second = bytes(compand(sample) for sample in _second(_G711_RATE))
        return tuple(second[start : start + _G711_BLOCK] for start in range(0, _G711_RATE, _G711_BLOCK))


def _second(rate: int) -> list[int]:
    """One second of signal: a beep, then a quiet hum; both have whole periods in a second."""
    samples = []
    for index in range(rate):
        hz, level = (_BEEP_HZ, 12000) if index < _BEEP_S * rate else (_HUM_HZ, 1500)
        samples.append(round(level * math.sin(2 * math.pi * hz * index / rate)))
    return samples


def _aac_period() -> tuple[bytes, ...]:
    """Code two periods and take the second, where the encoder has settled and its history is the signal's own."""
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate = _AAC_RATE
    encoder.format = "fltp"
    encoder.layout = "mono"
    encoder.bit_rate = 32_000
    encoder.time_base = Fraction(1, _AAC_RATE)
    encoder.thread_count = 1
    signal = [sample / 32768 for sample in _second(_AAC_RATE)]
    frames = {}
    for number in range(2 * _AAC_PERIOD + 4):
        start = number * _AAC_BLOCK
        block = [signal[(start + index) % _AAC_RATE] for index in range(_AAC_BLOCK)]
        frame = av.AudioFrame("fltp", "mono", _AAC_BLOCK)
        frame.planes[0].update(struct.pack(f"<{_AAC_BLOCK}f", *block))
        frame.sample_rate = _AAC_RATE
        frame.pts = start
        frame.time_base = encoder.time_base
        for packet in encoder.encode(frame):
            frames[(packet.pts or 0) // _AAC_BLOCK] = bytes(packet)
    return tuple(frames[number] for number in range(_AAC_PERIOD, 2 * _AAC_PERIOD))


def _alaw(sample: int) -> int:
    """Compand 16-bit linear to A-law (ITU-T G.711)."""
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(sample if sample >= 0 else -sample - 1, 32767) >> 3  # 13 bits with sign
    exponent = max(0, magnitude.bit_length() - 5)
    mantissa = magnitude >> (max(exponent, 1)) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55


def _ulaw(sample: int) -> int:
    """Compand 16-bit linear to mu-law (ITU-T G.711)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    mantissa = magnitude >> (exponent + 3) & 0x0F
    return ~(sign | exponent << 4 | mantissa) & 0xFF
