"""What is no picture, and pictures without a time of their own, do not get into a replay."""

import pytest

from anr_watch.camera.film import Film, FilmSpec
from anr_watch.replay.gate import STILL_BYTES, STRANGERS, Gate, NoPictures
from anr_watch.replay.nalunits import has_picture
from anr_watch.replay.stamps import NoTimes, Unit


def unit(pts, *, video=True, picture=True, size=1000):
    return Unit(video=video, pts=pts, dts=pts, duration=6000, key=False, size=size, picture=picture)


def test_pictures_in_time_go_through_at_once():
    gate = Gate()
    for pts in (0, 6000, 12000, 9000, None, 18000):
        given = unit(pts)
        assert gate.push(given) == [given]
    assert gate.finish() == []


def test_pictures_of_one_time_are_kept_and_come_with_the_next():
    gate = Gate()
    group = [unit(0) for _ in range(100)]
    sound = unit(0, video=False)
    assert [gate.push(one) for one in group] == [[group[0]], *[[]] * 99]
    assert gate.push(sound) == [sound]
    following = unit(6000)
    assert gate.push(following) == [*group[1:], following]


@pytest.mark.parametrize("size", [1000, STILL_BYTES // 3])
def test_time_that_stands_still_ends_it_and_gives_nothing_out(size):
    gate = Gate()
    gate.push(unit(0))
    with pytest.raises(NoTimes, match="stand still"):
        for _ in range(1000):
            assert gate.push(unit(0, size=size)) == []


def test_at_the_end_a_few_of_one_time_are_kept_and_many_are_not():
    for count, left in ((3, 3), (100, 0)):
        gate = Gate()
        gate.push(unit(0))
        for _ in range(count):
            gate.push(unit(0))
        assert len(gate.finish()) == left


def test_a_unit_without_a_picture_is_left_out_and_a_row_of_them_ends_it():
    gate = Gate()
    for pts in range(0, 60000, 6000):
        assert gate.push(unit(pts, picture=False)) == []
        assert len(gate.push(unit(pts))) == 1
    with pytest.raises(NoPictures):
        for pts in range(STRANGERS):
            gate.push(unit(100_000 + pts, picture=False))


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_pictures_are_told_from_those_of_the_other_codec(codec):
    ours, theirs = {"h264": ("h264", "hevc"), "h265": ("hevc", "h264")}[codec]
    film = Film(FilmSpec(width=160, height=96, codec=codec, b_frames=2, padding_bytes=20_000))
    units = [picture.annexb() for index in range(2) for picture in film.gop(index).pictures]
    assert all(has_picture(ours, one) and has_picture(ours, memoryview(one)) for one in units)
    assert sum(has_picture(theirs, one) for one in units) <= len(units) // 10
    for nothing in (b"", b"\0\0\1", b"\0\0\1\x65", b"\0\0\0\1\x67" + bytes(30_000), b"\xff" * 30_000):
        assert not has_picture("hevc", nothing)
    assert not has_picture("h264", b"\0\0\0\1\x06\x01\x02\0\0\1\x09\x10")
