"""The film is the same each time, in any order, and every picture says which one it is."""

import asyncio
from dataclasses import replace

import av
import pytest

from anr_watch.camera import barcode
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.camera.kinds import VideoCodec
from anr_watch.camera.nal import filler_nal, h264_type, h265_type, split_annexb

NUMBER = 26_720_284_500 // 15  # a group in June 2026
SPEC = FilmSpec(gop_frames=15)


def coded(gop):
    return [(picture.number, picture.key, picture.annexb()) for picture in gop.pictures]


def marks_of(spec, gops):
    decoder = av.CodecContext.create("h264" if spec.codec is VideoCodec.H264 else "hevc", "r")
    decoder.thread_count = 1
    frames = [frame for gop in gops for p in gop.pictures for frame in decoder.decode(av.Packet(p.annexb()))]
    return [barcode.read(frame) for frame in frames + decoder.decode(None)]


def test_two_films_agree_whatever_was_asked_before():
    one, other = Film(SPEC), Film(SPEC, cached_gops=1)
    for index in (NUMBER + 2, 3, NUMBER):
        other.gop(index)
    assert coded(one.gop(NUMBER)) == coded(other.gop(NUMBER))
    other.gop(NUMBER + 1)
    assert coded(one.gop(NUMBER)) == coded(other.gop(NUMBER)), "coded anew after it left the cache"


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("b_frames", [0, 2])
def test_every_picture_shows_its_number(codec, b_frames):
    spec = replace(SPEC, codec=codec, b_frames=b_frames, camera_number=7)
    film = Film(spec)
    first = film.gop(NUMBER).first
    marks = marks_of(spec, [film.gop(NUMBER), film.gop(NUMBER + 1)])
    assert [mark.frame_number for mark in marks] == list(range(first, first + 30))
    assert {mark.camera_number for mark in marks} == {7}


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_groups_begin_with_the_same_parameter_sets_and_hold_no_sei(codec):
    film = Film(replace(SPEC, codec=codec))
    sets = film.parameter_sets()
    pictures = film.gop(NUMBER).pictures
    assert pictures[0].nals[: len(sets)] == sets
    assert [picture.key for picture in pictures] == [True] + [False] * 14
    kinds = [[h264_type(n) if codec is VideoCodec.H264 else h265_type(n) for n in p.nals] for p in pictures]
    assert kinds[0] == ([7, 8, 5] if codec is VideoCodec.H264 else [32, 33, 34, 20])
    assert {tuple(kind) for kind in kinds[1:]} == {(1,)}


def test_pictures_of_two_cameras_differ():
    one, other = Film(SPEC), Film(replace(SPEC, camera_number=2))
    pairs = zip(one.gop(5).pictures, other.gop(5).pictures, strict=True)
    assert all(a.annexb() != b.annexb() for a, b in pairs)


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_filler_reaches_the_rate_and_decodes(codec):
    spec = replace(SPEC, codec=codec, bitrate_bps=4_000_000, padding_bytes=100)
    gop = Film(spec).gop(NUMBER)
    size = sum(picture.size_bytes for picture in gop.pictures)
    assert 500_000 <= size <= 510_000  # 1 s of 4 Mbit/s, and the padding
    assert None not in marks_of(spec, [gop])


def test_the_cache_is_bounded():
    film = Film(SPEC, cached_gops=2)
    first = film.gop(1)
    film.gop(2)
    assert film.gop(1) is first
    film.gop(3)
    assert film.gop(1) is first
    assert film.gop(2) == film.gop(2)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_pictures_from_a_key_frame_to_a_frame(b_frames):
    film = Film(replace(SPEC, b_frames=b_frames))

    async def numbers():
        return [(at, picture.number) async for at, picture in film.pictures(1500, 1520)]

    got = asyncio.run(numbers())
    assert [at for at, _ in got] == list(range(1500, 1500 + len(got)))
    assert set(range(1500, 1520)) <= {number for _, number in got}
    assert len(got) - 20 <= b_frames


def test_a_small_picture_still_carries_its_mark():
    spec = FilmSpec(width=128, height=96, fps=25, gop_frames=5)
    assert [mark.frame_number for mark in marks_of(spec, [Film(spec).gop(2)])] == [10, 11, 12, 13, 14]


def test_times_and_numbers():
    assert SPEC.first_frame_at(1_000_000) == 15
    assert SPEC.first_frame_at(1_000_001) == 16
    assert SPEC.frame_us(16) == 1_066_666
    assert SPEC.key_frame_before(44) == 30
    assert SPEC.key_frame_before(45) == 45


@pytest.mark.parametrize(
    "wrong",
    [{"camera_number": 65536}, {"fps": 0}, {"gop_frames": 0}, {"b_frames": 9}, {"width": 100}, {"height": 181}],
)
def test_a_film_that_cannot_be_shown_is_refused(wrong):
    with pytest.raises(ValueError, match="is not"):
        replace(SPEC, **wrong)


def test_before_1970_there_is_nothing():
    with pytest.raises(ValueError, match="before 1970"):
        Film(SPEC).gop(-1)


def test_nal_units_are_taken_apart():
    assert split_annexb(b"\0\0\0\1ab\0\0\1cd\0\0\0\1e") == [b"ab", b"cd", b"e"]
    assert split_annexb(b"") == []
    assert len(filler_nal(1000, h265=False)) == len(filler_nal(1000, h265=True)) == 1000


def test_another_quality_is_another_encoding_of_the_same_pictures():
    usual, other = (Film(FilmSpec(width=128, height=96, quality=quality)).gop(7) for quality in (0, 40))
    assert [picture.number for picture in usual.pictures] == [picture.number for picture in other.pictures]
    assert all(a.nals != b.nals for a, b in zip(usual.pictures, other.pictures, strict=True))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_film_that_lacks_every_nth_picture(b_frames):
    spec = FilmSpec(width=128, height=96, gop_frames=12, b_frames=b_frames, drop_every=4)
    pictures = Film(spec).gop(5).pictures
    assert pictures[0].key
    assert sorted(picture.number for picture in pictures) == [60, 61, 62, 64, 65, 66, 68, 69, 70]
    assert [number for number in range(60, 72) if spec.shows(number)] == sorted(it.number for it in pictures)

    async def turns():
        return [position async for position, _ in Film(spec).pictures(60, 84)]

    assert asyncio.run(turns()) == [number for number in range(60, 84) if spec.shows(number)]


@pytest.mark.parametrize("wrong", [{"quality": 52}, {"quality": -1}, {"drop_every": 1}, {"drop_every": -2}])
def test_a_film_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FilmSpec(**wrong)
