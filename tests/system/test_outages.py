"""Outages at random, three hundred with OUTAGES=all (make outages): every picture is presented once, whatever the clocks say.

The camera's clock is off by up to 90 s and is set anew every few outages, the recorder cuts off anywhere in a group of
pictures, names its files by the second and is up to 0.9 s late. All files are decoded in name order with edit lists
honoured, by PyAV and, where it is installed, by the ffmpeg command.
"""

import asyncio
import os
import random

import pytest

from anr_watch.camera.film import FilmSpec
from tests.outages import FFMPEG, Site, ffmpeg_counts, one_at_random

SHARE = 1 if os.environ.get("OUTAGES") == "all" else 5
SMALL = {"width": 128, "height": 96}
FILMS = [
    ("h264, 15 fps", FilmSpec(**SMALL, fps=15, gop_frames=30), "none", 60),
    ("h264, 25 fps, sound", FilmSpec(**SMALL, fps=25, gop_frames=50, camera_number=2), "aac", 60),
    ("h264, 15 fps, reordered", FilmSpec(**SMALL, fps=15, gop_frames=30, b_frames=2, camera_number=3), "none", 40),
    ("hevc, 15 fps", FilmSpec(**SMALL, codec="h265", fps=15, gop_frames=30, camera_number=4), "none", 50),
    ("h264, 25 fps in the dark", FilmSpec(**SMALL, fps=25, gop_frames=50, drop_every=3, camera_number=6), "none", 20),
    (
        "hevc, 15 fps, reordered, sound",
        FilmSpec(**SMALL, codec="h265", fps=15, gop_frames=30, b_frames=2, camera_number=7),
        "aac",
        20,
    ),
    (
        "hevc, 25 fps, changing rate",
        FilmSpec(**SMALL, codec="h265", fps=25, gop_frames=50, drop_every=4, camera_number=8),
        "none",
        20,
    ),
    ("hevc, 25 fps", FilmSpec(**SMALL, codec="h265", fps=25, gop_frames=25, camera_number=5), "none", 30),
]


@pytest.mark.timeout(240 if SHARE > 1 else 1200)
@pytest.mark.parametrize(("film", "audio", "count"), [case[1:] for case in FILMS], ids=[case[0] for case in FILMS])
def test_every_picture_is_presented_once(tmp_path, film, audio, count):
    chance = random.Random(f"{film}{audio}")  # the same outages every time
    count //= SHARE

    async def run():
        async with Site(tmp_path, film, names=count, audio=audio) as site:
            counts = []
            for number in range(count):
                if number % 10 == 0:
                    site.camera.storage.clock_offset_s = chance.uniform(-90, 90)
                outage = await one_at_random(site, f"cam{number}", chance)
                proof = site.prove(outage)
                story = (number, site.camera.storage.clock_offset_s, outage, proof)
                never = [n for low, high in proof.missing for n in range(low, high + 1) if film.shows(n)]
                assert (never, proof.broken, proof.unreadable) == ([], (), 0), story
                assert (proof.double, proof.out_of_order, proof.outside) == (0, 0, 0), story
                assert outage.joins == ("exact", "exact"), story
                if FFMPEG and number % 3 == 0:
                    presented = sum(await asyncio.to_thread(ffmpeg_counts, site.files(outage.name)))
                    assert presented == proof.present, story
                counts.append(proof.present)
            clock = await site.clock()
            assert abs(clock.offset_s - site.camera.storage.clock_offset_s) < 2.0
            return counts

    presented = sum(asyncio.run(run()))
    assert presented > count * 10 * film.fps
    print(f"{count} outages: {presented} pictures presented, 0 missing, 0 double, 0 out of order")
