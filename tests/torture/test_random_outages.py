"""Random outages without end: new ones in every round, joined to the picture, or by rhythm where the card holds others."""

import asyncio
import random
from dataclasses import replace

import pytest

from anr_watch.camera.film import FilmSpec
from tests.outages import Site, one_at_random, story_of

SMALL = {"width": 128, "height": 96}
FILMS = [
    FilmSpec(**SMALL, fps=15, gop_frames=30),
    FilmSpec(**SMALL, fps=25, gop_frames=50, drop_every=3),
    FilmSpec(**SMALL, codec="h265", fps=15, gop_frames=30, b_frames=2),
]


@pytest.mark.timeout(240)
def test_random_outages(tmp_path, rounds, tally):
    for seed in rounds(short=1, share=0.1):
        chance = random.Random(seed)
        film = replace(chance.choice(FILMS), camera_number=chance.randrange(1, 60_000))
        stored = replace(film, quality=38) if chance.random() < 0.3 and not film.b_frames else None
        asyncio.run(_round(tmp_path / str(seed), film, stored, chance, tally))


async def _round(folder, film, stored, chance, tally):
    beside_s = (8, 15, 7, 9) if stored else (2, 9, 2, 5)
    async with Site(folder, film, names=4, stored_film=stored) as site:
        for number in range(4):
            if number % 2 == 0:
                site.camera.storage.clock_offset_s = chance.uniform(-90, 90)
            outage = await one_at_random(site, f"cam{number}", chance, beside_s=beside_s)
            proof = site.prove(outage)
            tally.faults += 1
            tally.frames_missing += sum(film.shows(at) for low, high in proof.missing for at in range(low, high + 1))
            tally.frames_double += max(0, proof.double - (2 * film.gop_frames if stored else 0))
            assert not tally.lost(), story_of(site, outage)
            assert proof.out_of_order == 0, story_of(site, outage)
            assert outage.joins == (("time", "time") if stored else ("exact", "exact")), story_of(site, outage)
