"""Replays joined to recorded pictures: exactly what is missing, whatever the clocks say, or an honest `time`."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import av
import pytest
from replaying import camera, numbers, run
from test_replay_exactcut import FFMPEG, by_ffmpeg
from test_replay_worker import beeps_in

from anr_watch.camera.audio import AudioKind
from anr_watch.camera.device import Replay
from anr_watch.camera.faults import Reports
from anr_watch.camera.film import Film, FilmSpec, VideoCodec
from anr_watch.joins.fingerprint import of_annexb
from anr_watch.model import Secret, Window
from anr_watch.replay.job import End, Joined, Joint, ReplayJob, Side, Unproved
from anr_watch.replay.process import Workers
from anr_watch.states import Reason

FPS, GOP = 15, 30
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = int(datetime(2025, 6, 13, 12, 5, tzinfo=UTC).timestamp())


def prints(film, first, end):
    """The fingerprints of the pictures from `first` to before `end`, as they are presented."""
    codec = "h264" if film.spec.codec is VideoCodec.H264 else "hevc"
    found = {}
    for group in range(first // film.spec.gop_frames, -(-end // film.spec.gop_frames)):
        for picture in film.gop(group).pictures:
            found[picture.number] = of_annexb(picture.annexb(), codec)
    return tuple(found[number] for number in range(first, end) if number in found)


def instant(number, fps=FPS):
    return EPOCH + timedelta(microseconds=number * 1_000_000 // fps)


def wide(window, s):
    return window.widened(s, s)


def whole(window):
    """Full seconds, outwards: what a URL can express."""
    end = window.end + timedelta(microseconds=999_999)
    return Window(window.start.replace(microsecond=0), end.replace(microsecond=0))


def job_for(device, staging, first, end, *, margin_s=10.0, sides=("head", "tail"), recorder=None, **options):
    """A job for the pictures from `first` to before `end`; the rest of the film is recorded."""
    film, fps = recorder or device.film, device.spec.film.fps
    shift = timedelta(seconds=options.get("shift_s", 0.0))
    keep = Window(instant(first, fps), instant(max(end, first + 1), fps))
    window = whole(wide(keep, margin_s))
    digits = (f"{at + shift:%Y%m%dT%H%M%SZ}" for at in (window.start, window.end))
    values = {
        "url": Secret(device.url_replay(*digits)),
        "asked": window,
        "keep": keep,
        "staging": staging,
        "segment_s": 4.0,
        "audio": device.spec.audio is not AudioKind.NONE,
        "connect_timeout_s": 1.0,
        "stall_timeout_s": 1.0,
        "head_at": keep.start,
        "tail_at": keep.end,
    }
    if "head" in sides:
        values["head"] = prints(film, first - 3 * GOP, first)
    if "tail" in sides:
        values["tail"] = prints(film, end, end + 3 * GOP)
    return ReplayJob(**(values | options))


def over_http(device, staging, first, end, **options):
    """The same as one download: mp4, so NAL units with lengths in front."""
    job = job_for(device, staging, first, end, **options)
    template = device.url_replay_template(Replay.MEDIAMTX)
    seconds = round(job.asked.seconds)
    begin = f"{job.asked.start:%Y-%m-%dT%H:%M:%SZ}"
    return replace(job, url=Secret(template.format(start_rfc3339=begin, duration_s=seconds)))


def joined_replays(film, cases, *, make=job_for, faults=None, **spec):
    """Run replays one after another; a case is (staging, first, end, options)."""

    async def main():
        async with camera(film=film, **spec) as device, Workers() as workers:
            device.faults.update(faults or {})
            return [
                await run(workers, make(device, staging, first, end, **options))
                for staging, first, end, options in cases
            ]

    return asyncio.run(main())


def joined_replay(tmp_path, first, end, *, film=None, job=None, **spec):
    return joined_replays(film, [(tmp_path, first, end, job or {})], **spec)[0]


def sides(got):
    joined = got.of(Joined)
    assert sorted(it.side for it in joined) == [Side.HEAD, Side.TAIL]
    return {it.side: it for it in joined}


def shown(staging, got):
    """Every picture presented, in order; each file is what was said of it, and nothing else is left behind."""
    assert {path.name for path in staging.iterdir()} == {ready.file for ready in got.segments}
    everything = []
    for ready in got.segments:
        pictures = numbers(staging / ready.file)
        assert len(pictures) == ready.frames
        assert (staging / ready.file).stat().st_size == ready.bytes
        everything += pictures
    return everything


def check_exact(staging, got, first, end, *, fps=FPS, offset_s=0.0):
    assert got.ended.cause is End.WINDOW, got.events
    for side in sides(got).values():
        assert side.kind is Joint.EXACT, side
        assert side.run >= 6
        assert side.offset_s == pytest.approx(offset_s, abs=0.002)
    assert shown(staging, got) == list(range(first, end))
    assert got.segments[0].window.start == instant(first, fps)
    assert abs(got.segments[-1].window.end - instant(end, fps)) < timedelta(milliseconds=2)
    for before, after in zip(got.segments, got.segments[1:], strict=False):
        assert before.window.end == after.window.start


AT = DAY * FPS


def folders(tmp_path, count):
    made = [tmp_path / str(number) for number in range(count)]
    for folder in made:
        folder.mkdir()
    return made


def test_gap_edges_anywhere_in_a_group(tmp_path):
    edges = [(7, 200), (30, 210), (29, 91), (31, 33), (59, 60), (0, 450), (44, 44)]
    cases = [(at, AT + a, AT + b, {}) for at, (a, b) in zip(folders(tmp_path, len(edges)), edges, strict=True)]
    for (staging, first, end, _), got in zip(cases, joined_replays(None, cases), strict=True):
        if first == end:  # nothing is missing after all
            assert shown(staging, got) == []
            assert {it.kind for it in got.of(Joined)} == {Joint.EXACT}
        else:
            check_exact(staging, got, first, end)


@pytest.mark.parametrize(
    ("codec", "audio", "b_frames"),
    [
        (VideoCodec.H264, AudioKind.NONE, 2),
        (VideoCodec.H264, AudioKind.AAC, 0),
        (VideoCodec.H264, AudioKind.PCMA, 2),
        (VideoCodec.H265, AudioKind.NONE, 2),
        (VideoCodec.H265, AudioKind.AAC, 2),
        (VideoCodec.H265, AudioKind.PCMA, 0),
    ],
)
def test_both_codecs_sound_and_reordered_pictures(tmp_path, codec, audio, b_frames):
    film = FilmSpec(codec=codec, gop_frames=GOP, b_frames=b_frames)
    got = joined_replay(tmp_path, AT + 17, AT + 17 + 9 * FPS, film=film, audio=audio, clock_offset_s=3.2)
    check_exact(tmp_path, got, AT + 17, AT + 17 + 9 * FPS, offset_s=3.2)


@pytest.mark.parametrize("offset_s", [-90.0, 8.6, 90.0])
def test_a_camera_whose_clock_is_off(tmp_path, offset_s):
    """Found in wide margins; once the offset is known, in the usual ones."""
    unknown, known = folders(tmp_path, 2)
    cases = [
        (unknown, AT + 17, AT + 80, {"margin_s": 10.0 if abs(offset_s) < 10 else 120.0}),
        (known, AT + 17, AT + 80, {"shift_s": offset_s, "shift_known": True}),
    ]
    for (staging, first, end, _), got in zip(
        cases, joined_replays(None, cases, clock_offset_s=offset_s), strict=True
    ):
        check_exact(staging, got, first, end, offset_s=offset_s)


@pytest.mark.parametrize("sides_given", [("head",), ("tail",)])
def test_one_side_alone(tmp_path, sides_given):
    """The other side is cut by the clock: nothing is missing there, and at most a group double."""
    first, end = AT + 17, AT + 150
    got = joined_replay(tmp_path, first, end, job={"sides": sides_given})
    kinds = {side: it.kind for side, it in sides(got).items()}
    assert kinds == {side: Joint.EXACT if side in sides_given else Joint.NONE for side in Side}
    pictures = shown(tmp_path, got)
    low = first if "head" in sides_given else first - first % GOP
    assert pictures == list(range(low, end))
    assert got.ended.cause is End.WINDOW


@pytest.mark.parametrize("reports", [Reports.NOW, Reports.ABSENT, Reports.LATE])
def test_reports_do_not_matter_to_content(tmp_path, reports):
    """The camera's own time may be a group wrong without reports, so the offset is; the pictures are right."""
    got = joined_replay(tmp_path, AT + 40, AT + 133, faults={"reports": reports}, clock_offset_s=2.0)
    assert {it.kind for it in got.of(Joined)} == {Joint.EXACT}
    assert shown(tmp_path, got) == list(range(AT + 40, AT + 133))
    assert abs(sides(got)[Side.HEAD].offset_s - 2.0) <= GOP / FPS + 1


def test_other_footage_is_suspect_and_nothing_is_released(tmp_path):
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"other_camera": 7}, job={"unproved": Unproved.STOP})
    assert got.ended.cause is End.SUSPECT
    assert "recorded pictures" in got.ended.detail
    assert got.segments == []
    assert list(tmp_path.iterdir()) == []
    assert {it.kind for it in sides(got).values()} == {Joint.TIME}


@pytest.mark.parametrize("unproved", list(Unproved))
def test_with_a_tail_alone_everything_waits_for_it(tmp_path, unproved):
    job = {"sides": ("tail",), "unproved": unproved}
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"other_camera": 7}, job=job)
    if unproved is not Unproved.KEEP:
        assert got.ended.cause is End.SUSPECT
        assert list(tmp_path.iterdir()) == []
    else:
        assert got.ended.cause is End.WINDOW
        assert shown(tmp_path, got) == list(range(AT, AT + 300))
    assert sides(got)[Side.TAIL].detail == "not found"


def test_a_head_that_the_camera_never_had_is_proved_by_the_tail(tmp_path):
    """A connection that was bad before it broke: cut by time there, by the clock that the tail tells."""
    first, end = AT + 17, AT + 300
    keep = Window(instant(first) - timedelta(seconds=1), instant(end))
    damaged = tuple(bytes(12) for _ in range(40))
    job = {"head": damaged, "keep": keep, "unproved": Unproved.PROVE}
    got = joined_replay(tmp_path, first, end, job=job, clock_offset_s=5.0)
    joined = sides(got)
    assert got.ended.cause is End.WINDOW
    head, tail = joined[Side.HEAD], joined[Side.TAIL]
    assert (head.kind, head.suspect, head.tolerance_s) == (Joint.TIME, True, pytest.approx(1.0))
    assert tail.kind is Joint.EXACT
    assert shown(tmp_path, got) == list(range(first - FPS, end))
    assert got.segments[0].window.start == instant(first - FPS)


def test_other_footage_is_cut_by_time_where_that_is_wanted(tmp_path):
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"other_camera": 7})
    assert got.ended.cause is End.WINDOW
    assert {(it.kind, it.detail, it.offset_s) for it in sides(got).values()} == {(Joint.TIME, "not found", None)}
    assert shown(tmp_path, got) == list(range(AT + 17, AT + 300))
    assert got.segments[0].window.start == instant(AT + 17)


def sizes(film, first, end):
    """What the pictures from `first` to before `end` weigh, as they are presented."""
    groups = range(first // film.spec.gop_frames, -(-end // film.spec.gop_frames))
    known = {picture.number: picture.size_bytes for group in groups for picture in film.gop(group).pictures}
    return tuple(known[number] for number in range(first, end) if number in known)


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("offset_s", [0.0, -4.3])
def test_a_camera_that_stores_another_encoding(tmp_path, codec, offset_s):
    """By time, and said so: the sizes of the pictures tell where, even with another clock and other groups."""
    film = FilmSpec(gop_frames=GOP, codec=codec)
    stored = replace(film, quality=38, gop_frames=20)
    first, end = AT + 17, AT + 300
    live = Film(film)
    job = {"head_sizes": sizes(live, first - 120, first), "tail_sizes": sizes(live, end, end + 120)}
    job |= {"unproved": Unproved.STOP}
    got = joined_replay(tmp_path, first, end, film=film, job=job, stored_film=stored, clock_offset_s=offset_s)
    for joined in sides(got).values():
        assert joined.kind is Joint.TIME
        assert joined.tolerance_s < 0.2
        assert joined.offset_s == pytest.approx(offset_s, abs=0.2)
        assert "coded another way" in joined.detail
    assert got.ended.cause is End.WINDOW
    pictures = shown(tmp_path, got)
    assert pictures == list(range(pictures[0], pictures[0] + len(pictures)))
    assert first - 3 <= pictures[0] <= first
    assert end - 1 <= pictures[-1] <= end + 2


def test_another_encoding_without_rhythm_is_cut_by_the_clock(tmp_path):
    """Too few pictures beside the gap: nothing missing if the clocks agree, and the tolerance says what is trusted."""
    stored = FilmSpec(gop_frames=GOP, quality=38)
    first, end = AT + 17, AT + 300
    keep = Window(instant(first - 10), instant(end + 15))
    got = joined_replay(tmp_path, first, end, film=FilmSpec(gop_frames=GOP), stored_film=stored, job={"keep": keep})
    told = {side: (it.kind, it.detail, it.offset_s, it.tolerance_s) for side, it in sides(got).items()}
    assert told[Side.HEAD] == (Joint.TIME, "not found", None, pytest.approx(10 / FPS, abs=1e-4))
    assert told[Side.TAIL] == (Joint.TIME, "not found", None, pytest.approx(1.0, abs=1e-4))
    assert shown(tmp_path, got) == list(range(first - 10, end + 15))


@pytest.mark.parametrize(
    ("faults", "cause", "tail"),
    [
        ({"cut_after_s": 18}, End.EOF, "not covered"),
        ({"stall_after_s": 18}, Reason.STALLED, "not covered"),
        ({"short_window_s": 12}, End.EOF, "not covered"),
    ],
)
def test_what_came_before_it_broke_is_joined_at_its_head(tmp_path, faults, cause, tail):
    got = joined_replay(tmp_path, AT + 17, AT + 20 * FPS, faults=faults)
    joined = sides(got)
    assert got.ended.cause is cause
    assert (joined[Side.HEAD].kind, joined[Side.TAIL].kind) == (Joint.EXACT, Joint.TIME)
    assert joined[Side.TAIL].detail == tail
    pictures = shown(tmp_path, got)
    assert pictures == list(range(AT + 17, AT + 17 + len(pictures)))
    assert len(pictures) > 5 * FPS
    assert abs(got.ended.until - got.segments[-1].window.end) < timedelta(milliseconds=1)


def test_a_replay_that_breaks_before_its_proof_releases_nothing_unproved(tmp_path):
    job = {"unproved": Unproved.STOP}
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"other_camera": 7, "cut_after_s": 9}, job=job)
    assert got.segments == []
    assert list(tmp_path.iterdir()) == []
    assert got.ended.cause in {End.EOF, End.SUSPECT}


def test_a_camera_that_has_nothing_of_the_head_is_not_suspect(tmp_path):
    """Its card begins after the recorded pictures: nothing can be said about them."""
    got = joined_replay(
        tmp_path, AT + 17, AT + 300, faults={"late_start_s": 14}, job={"unproved": Unproved.STOP, "sides": ("head",)}
    )
    joined = sides(got)
    assert got.ended.cause is End.WINDOW
    assert (joined[Side.HEAD].kind, joined[Side.HEAD].detail) == (Joint.TIME, "not covered")
    pictures = shown(tmp_path, got)
    assert pictures == list(range(pictures[0], AT + 300))


def test_a_late_start_is_proved_by_its_tail(tmp_path):
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"late_start_s": 14}, job={"unproved": Unproved.STOP})
    joined = sides(got)
    assert (joined[Side.HEAD].kind, joined[Side.TAIL].kind) == (Joint.TIME, Joint.EXACT)
    pictures = shown(tmp_path, got)
    assert pictures == list(range(pictures[0], AT + 300))


@pytest.mark.parametrize("reports", [Reports.TRUE, Reports.ABSENT])
def test_a_hole_in_the_cards_footage(tmp_path, reports):
    """The asked window begins 11 s before the gap; the hole is inside the gap, and on both sides it is exact."""
    got = joined_replay(tmp_path, AT + 17, AT + 300, faults={"hole": (15, 20), "reports": reports})
    assert {it.kind for it in sides(got).values()} == {Joint.EXACT}
    pictures = shown(tmp_path, got)
    assert pictures[0] == AT + 17
    assert pictures[-1] == AT + 299
    assert pictures == sorted(set(pictures))
    assert 250 - 5 * FPS - GOP <= len(pictures) <= 283 - 3 * FPS
    assert len(got.jumps) == 1


def test_twentyfive_pictures_a_second_and_a_long_segment(tmp_path):
    film = FilmSpec(fps=25, gop_frames=50)
    first, end = DAY * 25 + 33, DAY * 25 + 1010
    got = joined_replay(tmp_path, first, end, film=film, job={"segment_s": 60.0})
    check_exact(tmp_path, got, first, end, fps=25)
    assert len(got.segments) == 1


def test_a_changing_frame_rate(tmp_path):
    """Cameras drop pictures in the dark; the film lacks every fourth."""
    film = FilmSpec(gop_frames=GOP, drop_every=4)
    first, end = AT + 18, AT + 300
    got = joined_replay(tmp_path, first, end, film=film)
    assert {it.kind for it in sides(got).values()} == {Joint.EXACT}
    assert shown(tmp_path, got) == [number for number in range(first, end) if film.shows(number)]


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_a_download_is_joined_as_well(tmp_path, codec):
    """mp4 over HTTP tells no UTC: the content alone says where it belongs."""
    film = FilmSpec(codec=codec, gop_frames=GOP)
    got = joined_replay(tmp_path, AT + 17, AT + 160, film=film, make=over_http, clock_offset_s=4.0)
    assert {it.kind for it in got.of(Joined)} == {Joint.EXACT}, got.events
    assert shown(tmp_path, got) == list(range(AT + 17, AT + 160))
    assert got.segments[0].window.start == instant(AT + 17)


@pytest.mark.parametrize("kind", [AudioKind.PCMA, AudioKind.AAC])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_sound_stays_with_its_picture(tmp_path, kind, b_frames):
    """The camera beeps at each full second, and picture AT is one; the ffmpeg program sees the same pictures."""
    film = FilmSpec(gop_frames=GOP, b_frames=b_frames)
    first, end = AT + 17, AT + 17 + 11 * FPS
    got = joined_replay(tmp_path, first, end, audio=kind, film=film)
    check_exact(tmp_path, got, first, end)
    assert len(got.segments) > 1
    for ready in got.segments:
        path = tmp_path / ready.file
        beeps, length_s = beeps_in(path)
        lead_s = shown_first_s(path)
        begins_s = (ready.window.start - instant(AT)).total_seconds() - lead_s
        true = [begins_s + at for at in beeps if at - lead_s > 0.15]
        assert len(true) >= int(ready.window.seconds) - 1
        assert all(abs(at - round(at)) < 0.04 for at in true), (ready.file, true)
        assert length_s == pytest.approx(ready.window.seconds, abs=0.3)
        if FFMPEG:
            assert by_ffmpeg(path) == numbers(path)


def shown_first_s(path):
    """When the first picture is presented, on the file's own clock."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return float(frame.pts * frame.time_base)


@pytest.mark.parametrize(
    ("faults", "spec", "shift_s"),
    [
        ({"local_time": "Europe/Berlin"}, {}, 7200.0),  # reads the digits of UTC as its own summer time
        ({"local_time": "America/New_York", "reports": Reports.NOW}, {}, -14_400.0),
        ({}, {"clock_offset_s": 3600.0}, 3600.0),  # its clock is an hour ahead: summer time kept in UTC
        ({}, {"clock_offset_s": -86_400.0}, -86_400.0),
    ],
)
def test_another_hour_or_day_is_noticed_and_right_once_it_is_asked_for(tmp_path, faults, spec, shift_s):
    wrong, right = folders(tmp_path, 2)
    stop = {"unproved": Unproved.STOP}
    first, end = AT + 17, AT + 200
    cases = [(wrong, first, end, stop), (right, first, end, stop | {"shift_s": shift_s})]
    suspect, found = joined_replays(None, cases, faults=faults, **spec)
    assert suspect.ended.cause is End.SUSPECT
    assert list(wrong.iterdir()) == []
    assert found.ended.cause is End.WINDOW
    assert {it.kind for it in found.of(Joined)} == {Joint.EXACT}
    assert shown(right, found) == list(range(first, end))
    for joined in sides(found).values():
        # Where the reports say another time than was asked for, the first picture is taken for the asked one.
        assert joined.offset_s == pytest.approx(shift_s, abs=GOP / FPS)
    assert found.segments[0].window.start == instant(first)
