"""Where pictures lie and when they are shown, against what libav reads of the same files."""

import io
from itertools import pairwise

import av
import pytest
from footage_media import FPS, FRAGMENTED, footage

from anr_watch.errors import ParseError
from anr_watch.footage.samples import PictureFile
from anr_watch.joins.fingerprint import of_annexb, of_length_prefixed

DELAYED = "frag_keyframe+delay_moov+default_base_moof"
LAYOUTS = [FRAGMENTED, "", "faststart", "frag_keyframe", DELAYED, "empty_moov+frag_every_frame"]


@pytest.fixture
def file_of(tmp_path):
    path = tmp_path / "x.mp4"

    def write(data):
        path.write_bytes(data)
        return path

    return write


def as_libav_sees(data):
    """The coded pictures that are shown, in the order of showing: (seconds since the first, bytes)."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        found = [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        ]
    found.sort()
    return [(float(at - found[0][0]), data) for at, data in found]


@pytest.mark.parametrize("movflags", LAYOUTS)
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_every_picture_is_found_where_libav_finds_it(file_of, movflags, b_frames, codec):
    data = footage(4.0, movflags, codec=codec, b_frames=b_frames)
    seen = as_libav_sees(data)
    with PictureFile(file_of(data)) as file:
        for shown in (file.last(1000), file.first(1000)):
            assert [file.read(sample) for sample in shown.samples] == [bytes_ for _, bytes_ in seen]
            assert [shown.seconds(s.shown_at) for s in shown.samples] == pytest.approx(
                [at for at, _ in seen], abs=2e-3
            )
        last, first = file.last(15), file.first(15)
    assert [s.at for s in last.samples] == [s.at for s in shown.samples[-15:]]
    assert [s.at for s in first.samples] == [s.at for s in shown.samples[:15]]
    assert last.seconds(last.samples[-1].shown_at + last.samples[-1].units) == pytest.approx(4.0, abs=0.002)


@pytest.mark.parametrize("skip", [1, 7, 23])
@pytest.mark.parametrize("sound", [False, True])
def test_what_an_edit_list_hides_is_not_there(file_of, skip, sound):
    data = footage(4.0, "faststart", skip=skip, sound=sound)
    seen = as_libav_sees(data)
    with PictureFile(file_of(data)) as file:
        shown, first = file.last(1000), file.first(5)
        assert [file.read(sample) for sample in shown.samples] == [bytes_ for _, bytes_ in seen]
        assert [file.read(sample) for sample in first.samples] == [bytes_ for _, bytes_ in seen[:5]]
    assert len(shown.samples) == 4 * FPS - skip
    assert shown.seconds(shown.samples[0].shown_at) == 0


def test_a_growing_file_counts_as_far_as_its_fragments_are_whole(file_of):
    data = footage(4.0, FRAGMENTED)
    whole = len(as_libav_sees(data))
    counts = []
    for size in range(0, len(data) + 1, max(1, len(data) // 50)):
        try:
            with PictureFile(file_of(data[:size])) as file:
                counts.append(len(file.last(1000).samples))
        except ParseError:
            counts.append(0)
    assert all(a <= b for a, b in pairwise(counts))
    assert set(counts) <= {0, FPS, 2 * FPS, 3 * FPS, whole}
    assert len(set(counts)) > 3


@pytest.mark.parametrize("movflags", [FRAGMENTED, "", "faststart"])
def test_hostile_bytes_are_refused_not_believed(file_of, movflags):
    data = bytearray(footage(2.0, movflags))
    for at in range(0, 2000, 3):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        try:
            with PictureFile(file_of(broken)) as file:
                for sample in file.first(20).samples:
                    file.read(sample)
        except ParseError:
            continue


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_picture_in_mp4_has_the_fingerprint_of_the_picture_in_a_stream(file_of, codec, name):
    data = footage(2.0, FRAGMENTED, codec=codec)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        convert = av.BitStreamFilterContext(f"{name}_mp4toannexb", stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        streamed = [of_annexb(bytes(out), name) for packet in packets for out in convert.filter(packet)]
    with PictureFile(file_of(data)) as file:
        shown = file.first(1000)
        stored = [of_length_prefixed(file.read(s), shown.length_size, shown.codec) for s in shown.samples]
    assert stored == streamed
    assert all(stored)
