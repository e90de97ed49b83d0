"""Both modes, both codecs, sound, both kinds of replay: frame by frame nothing is missing."""

import asyncio

import pytest

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.core import CameraSpec
from anr_watch.camera.device import Replay
from anr_watch.camera.film import FilmSpec, VideoCodec
from anr_watch.footage.boxes import read_facts
from tests.world import World, until


@pytest.mark.parametrize("standalone", [False, True], ids=["heldar", "standalone"])
@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("audio", [AudioKind.NONE, AudioKind.AAC, AudioKind.PCMA])
def test_a_gap_is_filled_frame_by_frame(tmp_path, standalone, codec, audio):
    async def run():
        spec = CameraSpec(name="gate", film=FilmSpec(codec=codec), audio=audio)
        async with World(tmp_path, spec, standalone=standalone, record_audio=audio is not AudioKind.NONE) as world:
            live = {path.name for path in world.record("gate", -130, -90.3)}
            live |= {path.name for path in world.record("gate", -60.7, -40)}
            if not standalone:
                world.kernel.execute("UPDATE cameras SET record_audio = ?", [int(audio is not AudioKind.NONE)])
                world.note_hole("gate")
            async with world.daemon():
                await until(lambda: world.states() == {"filled"}, world.states)
            proof = world.prove()
            assert proof.complete, proof
            for path in world.files("gate"):
                if path.name not in live:
                    facts = read_facts(path)
                    assert facts.codec == ("hevc" if codec is VideoCodec.H265 else "h264")
                    assert facts.audio_codec == ("aac" if audio is not AudioKind.NONE else None)
            # Double at most: the margin on each side, a GOP in front, the name step behind.
            assert proof.double <= (2 + 2 + 1 + 1 + 1) * proof.fps, proof

    asyncio.run(run())


@pytest.mark.parametrize("kind", [Replay.MEDIAMTX, Replay.FRIGATE, Replay.UNIX, Replay.DAHUA])
def test_other_urls_and_http_go_through_the_same_worker(tmp_path, kind):
    async def run():
        async with World(tmp_path) as world:
            world.outage()
            template = world.cameras["gate"].url_replay_template(kind)
            world.kernel.execute("UPDATE cameras SET anr_replay_url_template = ?", [template])
            async with world.daemon():
                await world.settled()
            proof = world.prove()
            assert proof.complete, proof

    asyncio.run(run())


def test_standalone_notices_a_new_gap_by_itself(tmp_path):
    async def run():
        settings = "[fills]\nsweep_s = 0\n"
        async with World(tmp_path, standalone=True, settings=settings) as world:
            async with world.daemon():
                world.record("gate", -130, -90.3)
                world.record("gate", -60.7, -40)
                await until(lambda: world.states() == {"filled"}, world.states)
            assert world.prove().complete

    asyncio.run(run())


@pytest.mark.parametrize("pattern", ["%Y-%m-%d/%H%M%S", "%Y%m%d/%H/%M-%S"])
def test_folders_per_day_and_hour(tmp_path, pattern):
    async def run():
        async with World(tmp_path, standalone=True, pattern=pattern) as world:
            world.record("gate", -130, -90.3)
            world.record("gate", -60.7, -40)
            (world.recordings / "gaet").mkdir()
            (world.recordings / "gaet" / "1.mp4").touch()
            async with world.daemon() as daemon:
                await until(lambda: world.states() == {"filled"}, lambda: daemon.log)
                await until(lambda: "folders that belong to no camera: 'gaet'" in daemon.log, lambda: daemon.log)
                assert "camera gate: " not in daemon.log  # its names are as they should be
            assert world.prove().complete

    asyncio.run(run())


def test_relative_paths_count_from_the_configuration(tmp_path):
    """As the README has it: a config.toml in the folder one stands in, with relative paths in it."""

    async def run():
        async with World(tmp_path, standalone=True) as world:
            world.config.write_text(world.config.read_text().replace(f"{tmp_path}/", ""))
            world.record("gate", -130, -90.3)
            world.record("gate", -60.7, -40)
            async with world.daemon(cwd=tmp_path) as daemon:
                await until(lambda: world.states() == {"filled"}, lambda: daemon.log)
            assert world.prove().complete

    asyncio.run(run())


def test_a_window_fetched_by_hand_makes_no_gap_of_the_time_around_it(tmp_path):
    async def run():
        async with World(tmp_path, standalone=True) as world:
            world.record("gate", -60, -40)
            async with world.daemon() as daemon:
                window = (world.at(-600).isoformat(), world.at(-580).isoformat())
                status, out, err = await world.command("fill", "gate", *window)
                assert status == 0, (out, err, daemon.log)
                # One more live file, so that the folder is looked at after the fill.
                world.record("gate", -40, -30)
                seen = daemon.log.count("fill started")
                status, out, err = await world.command("fill", "gate", *window)
                assert status == 0, (out, err)
            # The second window may be seen as a gap before the command has found that it is covered.
            assert seen == daemon.log.count("fill started") == 1, daemon.log
            assert len(world.files("gate")) < 12

    asyncio.run(run())
