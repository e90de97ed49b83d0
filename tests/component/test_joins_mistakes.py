"""Cameras whose clock, zone or storage is not what one thinks: recognised, corrected or told, never silently accepted."""

import asyncio
import dataclasses
import re
import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from anr_watch import cli
from anr_watch.camera.film import FilmSpec
from anr_watch.model import ReplayOptions
from anr_watch.states import Reason
from tests.outages import DAY, Site

FILM = FilmSpec(width=128, height=96, gop_frames=30)
BERLIN = "Europe/Berlin"


@pytest.fixture
def machine_in(monkeypatch):
    """Set the zone of this machine for a test."""

    def zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield zone
    monkeypatch.undo()
    time.tzset()


async def one(site, at, name="cam0"):
    first = FILM.key_frame_before(site.frame(at))
    return await site.outage(name, first, first + 157, first + 360, first + 450)


async def told(site, kind):
    rows = await site.store.outbox(0, 1000)
    events = [orjson.loads(row.message.payload) for row in rows if row.message.topic.endswith("/event")]
    return [event["data"] for event in events if event["type"] == f"io.anr-watch.{kind}.v1"]


def whole(site, outage):
    proof = site.prove(outage)
    assert (proof.missing, proof.double, proof.out_of_order, proof.outside) == ((), 0, 0, 0), (outage, proof)
    assert outage.joins == ("exact", "exact"), outage


@pytest.mark.parametrize(
    ("at", "offset_h"),
    [
        (datetime(2025, 3, 30, 0, 30, tzinfo=UTC), 1),
        (datetime(2025, 3, 30, 1, 30, tzinfo=UTC), 2),
        (datetime(2025, 10, 25, 23, 30, tzinfo=UTC), 2),
        (datetime(2025, 10, 26, 2, 30, tzinfo=UTC), 1),
    ],
)
def test_a_camera_that_reads_digits_as_local_time(tmp_path, machine_in, at, offset_h):
    machine_in(BERLIN)

    async def run():
        async with Site(tmp_path, FILM, names=2, messages=True) as site:
            site.camera.faults.local_time = BERLIN
            outage = await one(site, at)
            whole(site, outage)
            assert outage.outcome.verdict.reason is Reason.FILLED
            clock = await site.clock()
            assert abs(clock.offset_s - offset_h * 3600) < 3
            (corrected,) = await told(site, "camera.clock_corrected")
            assert corrected["before_s"] == 0
            assert abs(corrected["offset_s"] - offset_h * 3600) < 3
            asked = site.requests()
            whole(site, await one(site, at + timedelta(seconds=40), "cam1"))
            assert site.requests() == asked + 1  # known by now
            assert len(await told(site, "camera.clock_corrected")) == 1

    asyncio.run(run())


def test_a_zone_configured_for_a_camera_that_reads_utc(tmp_path):
    async def run():
        template = "rtsp://{address}:{port}/Streaming/tracks/101?starttime={start}&endtime={end}"
        async with Site(tmp_path, FILM, options=ReplayOptions(timezone=BERLIN), template=template) as site:
            outage = await one(site, DAY)
            whole(site, outage)
            assert abs((await site.clock()).offset_s + 7200) < 3

    asyncio.run(run())


@pytest.mark.parametrize("offset_s", [3600.0, -3600.0, 3604.5, 95.0, -140.0])
def test_a_clock_that_is_off(tmp_path, offset_s):
    async def run():
        async with Site(tmp_path, FILM, clock_offset_s=offset_s, messages=True) as site:
            outage = await one(site, DAY)
            whole(site, outage)
            assert abs(outage.attempt.offset_ms / 1000 - offset_s) < 1.5
            assert outage.attempt.number == 1
            assert len(await told(site, "camera.clock_corrected")) == 1

    asyncio.run(run())


def test_a_measured_clock_that_was_set_meanwhile(tmp_path):
    async def run():
        async with Site(tmp_path, FILM, names=2, clock_offset_s=3600.0, messages=True) as site:
            whole(site, await one(site, DAY))
            site.camera.storage.clock_offset_s = 0.0
            whole(site, await one(site, DAY + timedelta(seconds=40), "cam1"))
            clock = await site.clock()
            assert abs(clock.offset_s) < 1.5
            assert clock.samples == 1
            befores = [round(data["before_s"], -2) for data in await told(site, "camera.clock_corrected")]
            assert befores == [0, 3600]

    asyncio.run(run())


def test_footage_of_another_day_is_refused_where_that_is_wanted(tmp_path):
    async def run():
        async with Site(tmp_path, FILM, clock_offset_s=86400.0, unproved="refuse", messages=True) as site:
            outage = await one(site, DAY)
            assert outage.outcome.verdict.reason is Reason.WRONG_FOOTAGE
            assert outage.outcome.verdict.counts
            assert site.prove(outage).missing == ((outage.lost, outage.back - 1),)
            asked = site.requests()
            assert asked >= 4
            (failed,) = await told(site, "fill.failed")
            assert failed["reason"] == "wrong_footage"
            # Each guess at most once per gap: the next try has nothing left to ask.
            outcome, attempt = await site.fill("cam0", outage.outcome.gap.window)
            assert outcome.verdict.reason is Reason.WRONG_FOOTAGE
            assert attempt.number == 2
            assert site.requests() == asked

    asyncio.run(run())


def test_footage_of_another_day_is_kept_by_time_and_marked_so(tmp_path):
    async def run():
        async with Site(tmp_path, FILM, names=2, clock_offset_s=86400.0, messages=True) as site:
            outage = await one(site, DAY)
            assert outage.joins == ("time", "time")
            (completed,) = await told(site, "fill.completed")
            assert (completed["join_head"], completed["join_tail"], completed["offset_ms"]) == ("time", "time", None)
            assert not await told(site, "camera.clock_corrected")
            # Guessing again for every gap would only cost time.
            asked = site.requests()
            assert (await one(site, DAY + timedelta(seconds=40), "cam1")).joins == ("time", "time")
            assert site.requests() == asked + 1

    asyncio.run(run())


def test_without_margins_footage_is_joined_by_time(tmp_path):
    async def run():
        async with Site(tmp_path, FILM, options=ReplayOptions(margin_s=0.0)) as site:
            outage = await one(site, DAY)
            assert outage.joins == ("none", "none")
            proof = site.prove(outage)
            assert proof.complete
            assert proof.double > 0
            assert await site.clock() is None

    asyncio.run(run())


def test_a_card_that_holds_another_encoding(tmp_path):
    async def run():
        stored = dataclasses.replace(FILM, quality=40)
        async with Site(tmp_path, FILM, names=2, stored_film=stored, messages=True) as site:
            for name, at in (("cam0", DAY), ("cam1", DAY + timedelta(seconds=40))):
                outage = await one(site, at, name)
                proof = site.prove(outage)
                assert outage.joins == ("time", "time")
                assert proof.complete, proof
                extra_s = 2 * (1 + FILM.gop_frames / FILM.fps) + 4  # names, one group per join, lead and trail
                assert proof.double <= extra_s * FILM.fps
            assert not await told(site, "camera.clock_corrected")

    asyncio.run(run())


def test_a_recorder_cut_off_amid_reordered_pictures_misses_nothing(tmp_path):
    film = dataclasses.replace(FILM, b_frames=2, camera_number=9)

    async def run():
        async with Site(tmp_path, film, names=4) as site:
            first = film.key_frame_before(site.frame(DAY))
            for number in range(4):
                lost = first + 100 + number
                outage = await site.outage(f"cam{number}", first, lost, first + 300, first + 400)
                proof = site.prove(outage)
                assert proof.complete, (number, proof)
                assert proof.double <= (1 if site.is_torn(lost) else 0), (number, proof)

    asyncio.run(run())


def test_status_and_the_retained_state_tell_the_clock(tmp_path, capsys):
    async def run():
        async with Site(tmp_path, FILM, clock_offset_s=3600.0, messages=True) as site:
            whole(site, await one(site, DAY))
            rows = await site.store.outbox(0, 1000)
            states = [orjson.loads(row.message.payload) for row in rows if row.message.topic.endswith("/state")]
            return states[-1], site.settings, site.camera.rtsp_port

    state, settings, port = asyncio.run(run())
    assert state["clock"]["samples"] == 1
    assert abs(state["clock"]["offset_s"] - 3600) < 1.5
    assert (state["last"]["join_head"], state["last"]["join_tail"]) == ("exact", "exact")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[database]\npath = "{settings.database.path}"\nmode = "standalone"\n'
        f'[recordings]\npath = "{settings.recordings.path}"\n'
        f'[[camera]]\nid = "cam0"\naddress = "127.0.0.1"\nrtsp_port = {port}\n'
    )
    assert cli.main(["--config", str(config), "--json", "status"]) == 0
    (camera,) = orjson.loads(capsys.readouterr().out)["cameras"]
    assert camera["clock"]["device"] == f"127.0.0.1:{port}"
    assert abs(camera["clock"]["offset_s"] - 3600) < 1.5
    assert camera["last"]["join_head"] == "exact"
    assert cli.main(["--config", str(config), "status"]) == 0
    assert re.search(r"\+(3599|3600)\.\d s, ", capsys.readouterr().out)
