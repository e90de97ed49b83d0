"""Pictures on both sides of a missing piece, out of real files: finished, growing, damaged, and over their borders."""

import io
from datetime import UTC, datetime, timedelta

import av
import pytest
from footage_media import FPS, FRAGMENTED, footage

from anr_watch.joins.fingerprint import of_annexb
from anr_watch.joins.neighbours import MOST_PICTURES, NOTHING, look
from anr_watch.model import Segment, Window

T0 = datetime(2025, 7, 1, 12, tzinfo=UTC)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def prints(data):
    """The fingerprints of all pictures that libav would show, in order."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        convert = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        found = sorted(
            (out.pts, of_annexb(bytes(out), "h264")) for packet in packets for out in convert.filter(packet)
        )
    return tuple(print_ for _, print_ in found)


@pytest.fixture
def recorded(tmp_path):
    def write(start_s, length_s, data=None, *, says_s=None):
        path = tmp_path / f"{start_s}.mp4"
        path.write_bytes(footage(length_s, FRAGMENTED) if data is None else data)
        window = Window(at(start_s), at(start_s + (says_s or length_s)))
        return Segment("cam", str(path), window), path

    return write


def test_both_sides(recorded):
    before, after = recorded(0, 4.0), recorded(30, 3.0)
    found = look(Window(at(4), at(30)), [after, before], reach_s=5)
    assert found.known
    assert found.head.prints == prints(footage(4.0, FRAGMENTED))[-MOST_PICTURES:]
    assert found.head.at == at(4)
    assert found.head.path == before[1]
    assert found.tail.prints == prints(footage(3.0, FRAGMENTED))
    assert (found.tail.at, found.tail.path) == (at(30), after[1])


def test_a_file_whose_name_is_earlier_than_a_short_piece_is_behind_it(recorded):
    """The rest of a gap that reaches into the second in which the recorder began again."""
    before, after = recorded(0, 4.4), recorded(4, 3.0)  # its first picture is of 4.6 s or so
    found = look(Window(at(4.4), at(5)), [before, after], reach_s=5)
    assert (found.head.path, found.tail.path) == (before[1], after[1])


def test_files_that_follow_each_other_are_one_recording(recorded):
    files = [recorded(0, 1.0), recorded(1, 1.0), recorded(5, 2.0), recorded(7, 1.0), recorded(8, 1.0)]
    one, two = prints(footage(1.0, FRAGMENTED)), prints(footage(2.0, FRAGMENTED))
    found = look(Window(at(9), at(20)), files, reach_s=5)
    assert found.head.prints == two + one + one  # a hole lies before them
    assert found.head.at == at(9)
    assert found.tail == NOTHING
    found = look(Window(at(2), at(5)), files, reach_s=5)
    assert found.head.prints == one + one
    assert found.tail.prints == two + one + one
    assert found.tail.at == at(5)


def test_the_end_of_a_file_is_what_it_holds_not_what_its_row_says(recorded):
    found = look(Window(at(4), at(30)), [recorded(0, 3.0, says_s=4.0)], reach_s=5)
    assert found.head.at == at(3)


def test_what_is_far_away_borders_nothing(recorded):
    files = [recorded(0, 2.0), recorded(60, 2.0)]
    assert not look(Window(at(10), at(50)), files, reach_s=5).known
    assert look(Window(at(10), at(50)), files, reach_s=8).head.prints
    assert look(Window(at(10), at(50)), files, reach_s=10).tail.prints


def test_a_growing_file_counts_as_far_as_it_is_whole(recorded):
    data = footage(4.0, FRAGMENTED)
    found = look(Window(at(4), at(9)), [recorded(0, 4.0, data[: len(data) * 2 // 3])], reach_s=5)
    whole = prints(data)
    assert 0 < len(found.head.prints) < len(whole)
    assert found.head.prints == whole[: len(found.head.prints)]
    assert found.head.at == at(len(found.head.prints) / FPS)


def test_what_an_edit_list_hides_is_not_recorded(recorded):
    data = footage(4.0, "faststart", skip=13)
    found = look(Window(at(-9), at(0)), [recorded(0, 2.7, data)], reach_s=5)
    assert found.tail.prints == prints(data)
    assert len(found.tail.prints) == 27


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a film", footage(2.0, FRAGMENTED)[:700]])
def test_a_file_that_nothing_can_be_read_of_is_no_neighbour(recorded, data):
    assert not look(Window(at(2), at(9)), [recorded(0, 2.0, data)], reach_s=5).known


def test_a_file_that_is_gone_is_no_neighbour(recorded):
    segment, path = recorded(0, 2.0)
    path.unlink()
    assert not look(Window(at(2), at(9)), [(segment, path)], reach_s=5).known
