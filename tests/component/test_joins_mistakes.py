"""Cameras whose clock, zone or storage is not what one thinks: recognised, corrected or told, never silently accepted."""

import asyncio
import dataclasses
import re
import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from anr_watch import cli
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.model import ReplayOptions, Window
from anr_watch.states import Reason
from tests.outages import DAY, Site

FILM = FilmSpec(width=128, height=96, gop_frames=30)
LORD_HOWE = "Australia/Lord_Howe"
TWICE = datetime(2025, 4, 5, 14, 30, tzinfo=UTC)  # half an hour of its digits comes twice, until 15:30
REPEATED = dataclasses.replace(FILM, fps=2, gop_frames=10)  # both passes of it are small
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
    first = site.film_spec.key_frame_before(site.frame(at))
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
        (datetime(2025, 3, 30, 0, 59, 50, tzinfo=UTC), 1),
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
            assert not outage.attempt.suspect
            (corrected,) = await told(site, "camera.clock_corrected")
            assert corrected["before_s"] == 0
            assert abs(corrected["offset_s"] - offset_h * 3600) < 3
            asked = site.requests()
            whole(site, await one(site, at + timedelta(seconds=40), "cam1"))
            assert site.requests() == asked + 1  # known by now
            assert len(await told(site, "camera.clock_corrected")) == 1

    asyncio.run(run())


@pytest.mark.parametrize("minute", [5, 35])
def test_local_time_in_an_hour_that_comes_twice(tmp_path, machine_in, minute):
    """No digits name its second pass alone: both are asked for, and the pictures tell them apart."""
    machine_in(LORD_HOWE)

    async def run():
        async with Site(tmp_path, REPEATED, messages=True) as site:
            site.camera.faults.local_time = LORD_HOWE
            outage = await one(site, TWICE + timedelta(minutes=minute))
            whole(site, outage)
            assert not outage.attempt.suspect

    asyncio.run(run())


def test_the_second_pass_of_an_hour_that_cannot_be_proved_is_told(tmp_path):
    """Another zone than this machine's, so nobody thinks of it: the first pass comes back for the second."""

    async def run():
        async with Site(tmp_path, FILM, messages=True, options=ReplayOptions(timezone="UTC")) as site:
            site.camera.faults.local_time = "America/New_York"
            outage = await one(site, datetime(2025, 11, 2, 6, 30, tzinfo=UTC))
            await told_suspect(site, outage)

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


async def told_suspect(site, outage):
    """Footage that is not proved says so everywhere: in the result, its event, the retained state and the words."""
    assert outage.joins == ("time", "time")
    assert outage.attempt.suspect
    assert "not proved" in outage.attempt.detail
    (completed,) = await told(site, "fill.completed")
    assert (completed["join_head"], completed["join_tail"], completed["offset_ms"]) == ("time", "time", None)
    assert completed["suspect"]
    assert completed["tolerance_s"] >= 2
    assert "not proved" in completed["detail"]
    assert not await told(site, "camera.clock_corrected")


def test_footage_of_another_day_is_kept_by_time_and_marked_so(tmp_path, caplog):
    async def run():
        async with Site(tmp_path, FILM, names=2, clock_offset_s=86400.0, messages=True) as site:
            await told_suspect(site, await one(site, DAY))
            assert [record.levelname for record in caplog.records if "not proved" in record.message] == ["WARNING"]
            # Guessing again for every gap would only cost time.
            asked = site.requests()
            assert (await one(site, DAY + timedelta(seconds=40), "cam1")).joins == ("time", "time")
            assert site.requests() == asked + 1

    asyncio.run(run())


def test_footage_of_another_day_is_refused_once_the_camera_was_matched(tmp_path):
    """Its storage holds what it sends: what does not match is wrong, whatever is configured."""

    async def run():
        async with Site(tmp_path, FILM, messages=True) as site:
            whole(site, await one(site, DAY))
            site.camera.storage.clock_offset_s = 86400.0
            outage = await one(site, DAY + timedelta(seconds=90))
            assert outage.outcome.verdict.reason is Reason.WRONG_FOOTAGE
            assert site.prove(outage).missing == ((outage.lost, outage.back - 1),)
            (failed,) = await told(site, "fill.failed")
            assert (failed["reason"], failed["suspect"]) == ("wrong_footage", True)
            asked = site.requests()
            outcome, _ = await site.fill("cam0", outage.outcome.gap.window)
            assert outcome.verdict.reason is Reason.WRONG_FOOTAGE
            assert site.requests() == asked  # nothing is asked twice
            # Now its card holds another kind of pictures, which cannot be equal: cut by time, and told.
            site.camera.storage.clock_offset_s = 0.0
            site.camera.core._stored_film = Film(dataclasses.replace(FILM, codec="h265", quality=34))
            outage = await one(site, DAY + timedelta(seconds=180))
            assert outage.outcome.verdict.reason is Reason.FILLED
            assert outage.joins == ("time", "time")
            assert site.prove(outage).complete

    asyncio.run(run())


def test_a_recording_that_was_damaged_before_it_broke_is_joined_at_its_other_end(tmp_path):
    """Even where the camera was matched before: its head has pictures that the camera never stored."""

    async def run():
        async with Site(tmp_path, FILM) as site:
            whole(site, await one(site, DAY))
            first = FILM.key_frame_before(site.frame(DAY + timedelta(seconds=90)))
            site.live = Film(dataclasses.replace(FILM, quality=30))
            before = site.record("cam0", first, first + 157)
            site.live = site.camera.core.film
            after = site.record("cam0", first + 360, first + 450)
            await site.store.add_segments(before)
            hole = Window(before[-1].window.end, after[0].window.start)
            outcome, attempt = await site.fill("cam0", hole)
            assert outcome.verdict.reason is Reason.FILLED
            assert (attempt.join_head, attempt.join_tail) == ("time", "exact")

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


def test_a_missing_second_before_the_recorded_pictures_is_not_tolerated(tmp_path):
    async def run():
        async with Site(tmp_path, FILM) as site:
            first = FILM.key_frame_before(site.frame(DAY))
            back = first + 360
            site.camera.storage.holes = [(site.instant(back - 11), site.instant(back + 900))]
            outage = await site.outage("cam0", first, first + 157, back, first + 450)
            assert outage.joins == ("exact", "time")
            assert outage.outcome.verdict.reason is Reason.CUT_SHORT
            (left,) = outage.outcome.verdict.missing
            assert left.seconds < 1.0
            assert site.prove(outage).missing == ((back - 11, back - 1),)

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
    assert re.search(r"\+(3599|3600)\.\d s ", capsys.readouterr().out)
