"""The sound is in step with UTC and comes back through the decoders."""

from fractions import Fraction
from itertools import pairwise

import av
import pytest

from anr_watch.camera.audio import AAC_CONFIG, Tone
from anr_watch.camera.kinds import AudioKind

START = 1_781_352_300  # a whole second
DECODERS = {AudioKind.PCMA: "pcm_alaw", AudioKind.PCMU: "pcm_mulaw", AudioKind.AAC: "aac"}


def decoded(kind, seconds):
    """Return (first tick, samples as floats)."""
    tone = Tone(kind)
    decoder = av.CodecContext.create(DECODERS[kind], "r")
    decoder.sample_rate, decoder.layout = tone.rate, "mono"
    if kind is AudioKind.AAC:
        decoder.extradata = bytes.fromhex(AAC_CONFIG)
    samples, first = [], None
    for block in tone.between(Fraction(START), Fraction(START + seconds)):
        first = block.ticks if first is None else first
        for frame in decoder.decode(av.Packet(block.data)):
            view = memoryview(frame.planes[0]).cast("B").cast("f" if frame.format.name.startswith("flt") else "h")
            scale = 1 if frame.format.name.startswith("flt") else 32768
            samples += [value / scale for value in view[: frame.samples]]
    return first, samples, tone.rate


@pytest.mark.parametrize("kind", list(DECODERS))
def test_a_beep_stands_at_each_full_second(kind):
    first, samples, rate = decoded(kind, 3)
    for second in (1, 2):
        at = (START + second) * rate - first
        beep = samples[at : at + rate // 10]
        before = samples[at - rate // 10 : at - rate // 100]
        assert max(beep) > 0.3, "the beep is loud"
        assert max(before) < 0.12, "the hum before it is not"


def test_blocks_are_numbered_from_1970_and_repeat():
    tone = Tone(AudioKind.PCMU)
    blocks = list(tone.between(Fraction(START), Fraction(START) + Fraction(1, 15)))
    assert [block.ticks for block in blocks] == [START * 8000 + index * 160 for index in range(4)]
    later = list(tone.between(Fraction(START + 7), Fraction(START + 7) + Fraction(1, 15)))
    assert [block.data for block in later] == [block.data for block in blocks]
    assert all(len(block.data) == 160 for block in blocks)


def test_neighbouring_spans_share_no_block_and_lose_none():
    tone = Tone(AudioKind.AAC)
    whole = [block.ticks for block in tone.between(Fraction(START), Fraction(START + 2))]
    parts = [
        block.ticks
        for frame in range(30)
        for block in tone.between(START + Fraction(frame, 15), START + Fraction(frame + 1, 15))
    ]
    assert parts == whole
    assert {b - a for a, b in pairwise(whole)} == {1024}


def test_without_sound_there_is_nothing():
    assert list(Tone(AudioKind.NONE).between(Fraction(0), Fraction(10))) == []
