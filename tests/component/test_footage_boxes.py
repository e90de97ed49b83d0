"""The box reader against files that libav wrote, files that are being written, and files that nobody should trust."""

import contextlib
import io
import os
import random
import resource
import struct
import time

import av
import pytest
from footage_media import FPS, FRAGMENTED, footage

from anr_watch.errors import ParseError
from anr_watch.footage.boxes import read_facts

DELAYED = "frag_keyframe+delay_moov+default_base_moof"
LAYOUTS = [FRAGMENTED, "", "faststart", "frag_keyframe", DELAYED, "empty_moov+frag_every_frame"]


@pytest.fixture
def facts_of(tmp_path):
    path = tmp_path / "x.mp4"

    def read(data):
        path.write_bytes(data)
        return read_facts(path)

    return read


def boxes(data):
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + size
        at += size


def as_libav_sees(data):
    with av.open(io.BytesIO(data)) as container:
        video = container.streams.video[0]
        return float(video.duration * video.time_base), video.codec_context.name, video.width, video.height


@pytest.mark.parametrize("movflags", LAYOUTS)
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("sound", [False, True])
def test_facts_are_those_of_libav(facts_of, movflags, b_frames, sound):
    data = footage(4.0, movflags, b_frames=b_frames, sound=sound)
    facts = facts_of(data)
    assert (facts.duration_s, facts.codec, facts.width, facts.height) == pytest.approx(as_libav_sees(data), abs=0.002)
    assert facts.audio_codec == ("aac" if sound else None)
    assert (facts.complete, facts.first_is_key, facts.size_bytes) == (True, True, len(data))


def test_h265_is_called_hevc(facts_of):
    assert facts_of(footage(2.0, codec="libx265")).codec == "hevc"


@pytest.mark.parametrize("movflags", ["", "faststart", DELAYED])
def test_an_edit_list_hides_the_lead_in(facts_of, movflags):
    assert facts_of(footage(4.0, movflags, skip=7)).duration_s == pytest.approx(4.0 - 7 / FPS, abs=0.001)


def test_a_growing_file_counts_by_whole_fragments(facts_of):
    """Cut at every kind of place: only fragments whose media is there count, and no cut is an error."""
    data = footage(4.0)
    ends = [end for kind, _, end in boxes(data) if kind == b"mdat"]
    head = next(end for kind, _, end in boxes(data) if kind == b"moov")
    for cut in range(head, len(data), 97):
        facts = facts_of(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert (facts.fragments, facts.duration_s) == (whole, pytest.approx(whole * 1.0))
        assert facts.complete == (cut in (head, *ends))


@pytest.mark.parametrize("tail", [bytes(4096), b"\xff" * 4096, random.Random(7).randbytes(7), b"\0\0\0\4junk"])
def test_a_spoilt_tail_costs_only_itself(facts_of, tail):
    """Power cuts leave zeros behind the last fragment that was on disk."""
    data = footage(4.0, "empty_moov+frag_keyframe+skip_trailer")
    facts = facts_of(data + tail)
    assert facts.duration_s == pytest.approx(4.0)
    assert not facts.complete or tail == bytes(4096)  # a box of size 0 reaches to the end of the file


def test_a_fragmented_file_may_begin_at_any_time(facts_of):
    """The recorder's segments carry the time since it started; only the span counts."""
    data = bytearray(footage(4.0))
    at = 0
    while (at := data.find(b"tfdt", at + 1)) > 0:
        wide = data[at + 4] == 1
        (base,) = struct.unpack_from(">Q" if wide else ">I", data, at + 8)
        struct.pack_into(">Q" if wide else ">I", data, at + 8, base + 1_000_000)
    assert facts_of(bytes(data)).duration_s == pytest.approx(4.0)


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_a_plain_file_that_lost_media_is_no_footage(facts_of, movflags):
    data = footage(4.0, movflags)
    with pytest.raises(ParseError):
        facts_of(data[:-2000])


@pytest.mark.parametrize(
    "data", [b"", b"short", b"\0" * 100, b"#!/bin/sh\necho hello world\n" * 50, b"\0\0\0\x08free" * 20]
)
def test_other_files_are_told_apart(facts_of, data):
    with pytest.raises(ParseError):
        facts_of(data)


def test_sound_alone_is_no_footage(facts_of):
    held = io.BytesIO()
    with av.open(io.BytesIO(footage(2.0, sound=True))) as source, av.open(held, "w", format="mp4") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(ParseError, match="no video track"):
        facts_of(held.getvalue())


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ParseError):
        read_facts(tmp_path / "pipe.mp4")
    with pytest.raises(ParseError):
        read_facts(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_facts(tmp_path / "none.mp4")


def wide(data):
    """Return the file with every top-level box's size as 64 bits."""
    out = b""
    for kind, start, end in boxes(data):
        out += struct.pack(">I4sQ", 1, kind, end - start + 8) + data[start + 8 : end]
    return out


def test_sizes_of_64_bits_and_a_last_box_without_a_size(facts_of):
    data = footage(4.0, "empty_moov+frag_keyframe+skip_trailer")
    assert facts_of(wide(data)).duration_s == pytest.approx(4.0)
    *_, (_, last, _) = boxes(data)
    assert facts_of(data[:last] + b"\0\0\0\0" + data[last + 4 :]).duration_s == pytest.approx(4.0)


@pytest.mark.parametrize("movflags", ["empty_moov+frag_every_frame", FRAGMENTED, "faststart", ""])
def test_changed_bytes_raise_only_what_is_promised(facts_of, movflags):
    """Thousands of files with a few bytes changed where the structure is: ParseError or facts, and in no time."""
    data = footage(3.0, movflags, sound=True)
    places = [at for kind, start, end in boxes(data) for at in range(start, end if kind != b"mdat" else start + 16)]
    odds = random.Random(20260613)
    values = [0, 1, 7, 8, 0x7F, 0x80, 0xFF]
    slowest_s, outcomes = 0.0, set()
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(odds.choice([1, 1, 2, 4, 12])):
            changed[odds.choice(places)] = odds.choice([*values, odds.randrange(256)])
        if odds.random() < 0.1:
            del changed[odds.randrange(len(changed)) :]
        began = time.process_time()
        try:
            facts = facts_of(bytes(changed))
            assert 0 <= facts.duration_s <= 7 * 86400
            outcomes.add("facts")
        except ParseError:
            outcomes.add("refused")
        slowest_s = max(slowest_s, time.process_time() - began)
    assert outcomes == {"facts", "refused"}
    assert slowest_s < 0.5


def bomb_of_boxes(count):
    head = footage(1.0)
    return head + struct.pack(">I4s", 8, b"free") * count


def bomb_in_a_fragment(count):
    data = footage(1.0)
    moof = struct.pack(">I4s", 8 + 8 * count, b"moof") + struct.pack(">I4s", 8, b"free") * count
    return data + moof + struct.pack(">I4s", 8, b"mdat")


def bomb_of_samples(_):
    """A run that claims four billion samples and names none of them."""
    data = bytearray(footage(1.0))
    at = data.find(b"trun")
    struct.pack_into(">II", data, at + 4, 0, 0xFFFFFFFF)
    return bytes(data)


@pytest.mark.parametrize("bomb", [bomb_of_boxes, bomb_in_a_fragment, bomb_of_samples])
def test_hostile_counts_cost_bounded_time_and_memory(facts_of, bomb):
    data = bomb(900_000)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with contextlib.suppress(ParseError):
        facts_of(data)
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 40_000
