"""Cameras that store another encoding than they send: by time, said so, nothing missing, at most one group double."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from anr_watch.camera.film import FilmSpec
from anr_watch.model import ReplayOptions
from anr_watch.states import Reason
from tests.outages import DAY, Site, one_at_random, story_of

SMALL = {"width": 128, "height": 96}
CARDS = [
    ("h264", FilmSpec(**SMALL, gop_frames=30), {"quality": 40}),
    ("h264, shorter groups", FilmSpec(**SMALL, gop_frames=30, camera_number=2), {"quality": 36, "gop_frames": 15}),
    ("h265, 25 fps", FilmSpec(**SMALL, codec="h265", fps=25, gop_frames=50, camera_number=3), {"quality": 38}),
]


@pytest.mark.parametrize(("film", "stored"), [card[1:] for card in CARDS], ids=[card[0] for card in CARDS])
def test_nothing_is_missing_and_at_most_a_group_double(tmp_path, film, stored):
    chance = random.Random(str(film))
    stored = replace(film, **stored)

    async def run():
        async with Site(tmp_path, film, names=5, stored_film=stored, messages=True) as site:
            for number in range(5):
                if number % 3 == 0:
                    site.camera.storage.clock_offset_s = chance.uniform(-90, 90)
                outage = await one_at_random(site, f"cam{number}", chance, beside_s=(8, 15, 7, 9))
                proof, story = site.prove(outage), story_of(site, outage)
                assert (proof.complete, proof.out_of_order) == (True, 0), story
                assert outage.joins == ("time", "time"), story
                assert proof.double <= 2 * stored.gop_frames, story
                assert outage.outcome.verdict.reason is Reason.FILLED, story
                assert (outage.attempt.suspect, outage.attempt.tolerance_s < 0.5) == (False, True), story
            clock = await site.clock()
            assert clock.source == "rhythm"
            assert abs(clock.offset_s - site.camera.storage.clock_offset_s) < 2

    asyncio.run(run())


def test_another_codec_has_another_rhythm_and_is_cut_by_the_clock(tmp_path):
    """Nothing is missing as long as the clocks agree; what is trusted is told."""
    film = FilmSpec(**SMALL, gop_frames=30)

    async def run():
        stored = replace(film, codec="h265", quality=34)
        async with Site(tmp_path, film, names=2, stored_film=stored, options=ReplayOptions(lead_s=1.0)) as site:
            for number in range(2):
                chance = random.Random(number)
                outage = await one_at_random(site, f"cam{number}", chance, at=DAY + timedelta(seconds=60 * number))
                proof, story = site.prove(outage), story_of(site, outage)
                assert proof.complete, story
                assert outage.joins == ("time", "time"), story
                assert outage.attempt.tolerance_s >= 1.0, story

    asyncio.run(run())
