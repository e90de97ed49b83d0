"""Changes real inputs at random, repeatably: what runs where no coverage-guided fuzzer is to be had."""

import random
from collections.abc import Iterator, Sequence

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LONGEST = 1 << 16


def mutations(seeds: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> Iterator[bytes]:
    """Yield the seeds, then changed ones for ever. `words` are texts that mean something to the target."""
    yield from seeds
    yield b""
    while True:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 5, 9))):
            _change(data, seeds, words, dice)
        yield bytes(data[:_LONGEST])


def _change(data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    match dice.randrange(10):
        case 0 if at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        case 1 if at < len(data):
            data[at] = dice.randrange(256)
        case 2:
            del data[at : at + dice.choice((1, 1, 2, 4, 16, 200))]
        case 3:
            del data[at:]
        case 4:
            size = dice.choice((1, 2, 4, 8))
            data[at : at + size] = (dice.choice(_INTERESTING) % (1 << 8 * size)).to_bytes(
                size, dice.choice(("big", "little"))
            )
        case 5 if words:
            data[at:at] = dice.choice(words)
        case 6:
            piece = data[at : at + dice.choice((1, 4, 32, 400))]
            data[at:at] = piece * dice.choice((1, 2, 50))
        case 7:
            other = dice.choice(seeds)
            begin = dice.randrange(len(other) + 1)
            data[at:] = other[begin : begin + 4000]
        case 8:
            data[at:at] = bytes(dice.randrange(256) for _ in range(dice.choice((1, 2, 8, 40))))
        case _ if words:
            word = dice.choice(words)
            data[at : at + len(word)] = word
