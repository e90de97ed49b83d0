"""Nonsense for everything that parses what others send: changed real inputs, and structures made to hurt."""

import contextlib
import inspect
import json
import struct
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from anr_watch import log
from anr_watch.config.checking import shown
from anr_watch.errors import ParseError, ReplayRefused
from anr_watch.footage.names import NamePattern
from anr_watch.footage.samples import PictureFile
from anr_watch.joins.fingerprint import of_annexb, of_length_prefixed
from anr_watch.mqtt.comeback import LAST_DELAY_S, back_off_s
from anr_watch.mqtt.packets import reason_name
from anr_watch.replay.urls import check_template, mask_url
from tests.fuzz import targets, watched
from tests.fuzz.corpora import NOON
from tests.fuzz.guided import fuzzer
from tests.fuzz.targets import TARGETS

SHORT_CASES = 300  # per target: 2 to 4 s for all of them together
SLICE_S = 4.0
WHOLE_S = 600  # the long form as it is meant
# A case takes 20 to 50 us.
QUICK = (
    *("sample_entry", "sealed", "mqtt_command", "mqtt_presence", "topic_levels"),
    *("worker_event", "worker_job", "instant", "kernel_row", "device_time"),
)


def box(kind, *bodies, size=None):
    body = b"".join(bodies)
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def full(kind, form, *values, rest=b""):
    return box(kind, bytes(4), struct.pack(form, *values), rest)


def head_of(extra=b"", *, timescale=90_000, samples=b""):
    """A `moov` with one track of pictures, as small as one can be."""
    entry = box(b"avc1", bytes(78), box(b"avcC", b"\1\x42\0\x1e\xff\xe1\0"))
    tables = box(b"stbl", full(b"stsd", ">I", 1, rest=entry), samples)
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12), struct.pack(">II", timescale, 0), bytes(8)),
        box(b"hdlr", bytes(8), b"vide", bytes(12)),
        box(b"minf", tables),
    )
    track = box(b"trak", box(b"tkhd", bytes(12), struct.pack(">I", 1), bytes(68)), media)
    return box(b"ftyp", b"isom", bytes(8)) + box(
        b"moov", box(b"mvhd", bytes(12), struct.pack(">II", 1000, 0), bytes(80)), track, extra
    )


EXTENDS = box(b"mvex", full(b"trex", ">IIIII", 1, 1, 3000, 1, 0))


def fragment(*counts, base=0, media=b"x" * 64):
    """A fragment whose runs name so many samples each, without a line for each."""
    media_at = 60 + 20 * len(counts) + 8
    truns = b"".join(box(b"trun", struct.pack(">IIi", 1, count, media_at)) for count in counts)
    track = box(b"traf", full(b"tfhd", ">I", 1), box(b"tfdt", b"\1\0\0\0", struct.pack(">Q", base)), truns)
    return box(b"moof", track) + box(b"mdat", media)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_real_inputs_break_no_promise(name, tally, rounds):
    if (rounds.long_s or 0) >= WHOLE_S and name in QUICK:  # a million cases, however busy the machine is
        tally.cases += watched.run(name, seed=-1 - next(rounds(short=1, share=0)), cases=1_000_000 // len(QUICK))
    for number in rounds(short=1, share=0.25 / len(TARGETS)):
        seconds = SLICE_S if rounds.long else float("inf")
        tally.cases += watched.run(name, seed=number, cases=1 << 30 if rounds.long else SHORT_CASES, seconds=seconds)


@pytest.mark.timeout(200)  # a process that imports everything with instrumentation: 4 s of work, 50 s at load 20
def test_a_fuzzer_guided_by_coverage_breaks_no_promise(tally, rounds, tmp_path):
    """In the short form one target, to show that it works; where there is no fuzzer the changes are blind."""
    names = list(TARGETS)
    for number in rounds(short=1, share=0.1):
        name = names[number % len(names)] if rounds.long else "mp4_facts"
        done = fuzzer(name, tmp_path / str(number), seed=number, seconds=5.0 if rounds.long else None, cases=800)
        assert done > 0
        tally.cases += done


@st.composite
def boxes(draw, depth=0):
    """Boxes as nobody writes them: any order and nesting, sizes that lie, tables with counts that lie."""
    names = st.sampled_from([b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex"])
    leaves = st.sampled_from(
        [
            b"stts",
            b"stsz",
            b"stsc",
            b"stco",
            b"co64",
            b"ctts",
            b"stsd",
            b"tfhd",
            b"tfdt",
            b"trun",
            b"elst",
            b"trex",
            b"mvhd",
            b"mdhd",
            b"tkhd",
            b"hdlr",
            b"stss",
            b"mdat",
        ]
    )
    numbers = st.sampled_from([0, 1, 8, 12, 255, 65_536, 1 << 31, (1 << 32) - 1]) | st.integers(0, (1 << 32) - 1)
    if depth < 4 and draw(st.booleans()):
        body = b"".join(draw(st.lists(boxes(depth=depth + 1), max_size=4)))
        kind = draw(names)
    else:
        words = draw(st.lists(numbers, max_size=12))
        body, kind = struct.pack(f">{len(words)}I", *words), draw(leaves)
    size = draw(st.none() | numbers) if draw(st.integers(0, 5)) == 0 else None
    return box(kind, body, size=size)


def examples(rounds, tally, **how):
    """Repeat a property with given seeds; each example counts as a case."""

    def repeat(prove):
        def counted(*values, **named):
            tally.cases += 1
            prove(*values, **named)

        for number in rounds(short=1, share=0.004):
            count = 500 if rounds.long else 60
            bounds = settings(
                max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck)
            )
            counted.__signature__ = inspect.signature(prove)  # hypothesis asks for it
            seed(number)(bounds(given(**how)(counted)))()

    return repeat


def test_any_tree_of_boxes_is_read_or_refused(rounds, tally):
    @examples(rounds, tally, extra=st.lists(boxes(), max_size=5), behind=st.lists(boxes(), max_size=5))
    def _(extra, behind):
        data = head_of(b"".join(extra)) + b"".join(behind)
        for name in ("mp4_facts", "mp4_pictures", "mp4_neighbours", "own_fragments"):
            watched.feed(name, data)


def test_any_name_pattern_gives_back_what_it_wrote(rounds, tally):
    field = st.sampled_from(["%Y", "%m", "%d", "%j", "%H", "%M", "%S", "%s", "%F", "%T", "%%"])
    literal = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=3)
    name = st.lists(field | literal, max_size=9).map("".join)

    @examples(
        rounds, tally, text=st.lists(name, min_size=1, max_size=4).map("/".join), second=st.integers(0, 8 * 10**9)
    )
    def _(text, second):
        with contextlib.suppress(ValueError):
            pattern = NamePattern(text)
            at = NOON.replace(year=1970) + timedelta(seconds=second)
            written = pattern.format(at)
            assert pattern.parse(written) == at
            assert not Path(written).is_absolute()
            assert ".." not in Path(written).parts
        watched.feed("names", text.encode() + b"\n" + text.encode())


def test_a_picture_is_the_same_behind_start_codes_and_lengths(rounds, tally):
    unit = st.tuples(st.integers(0, 255), st.binary(max_size=60)).map(
        lambda it: bytes([it[0]]) + it[1].replace(b"\0\0", b"\1").rstrip(b"\0") + b"\x80"
    )

    @examples(rounds, tally, units=st.lists(unit, max_size=6), codec=st.sampled_from(["h264", "hevc"]))
    def _(units, codec):
        behind_codes = b"".join(b"\0\0\0\1" + one for one in units)
        behind_lengths = b"".join(struct.pack(">I", len(one)) + one for one in units)
        assert of_annexb(behind_codes, codec) == of_length_prefixed(behind_lengths, 4, codec)


def test_json_of_any_shape_is_no_command_and_no_event(rounds, tally):
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    keys = st.sampled_from(["camera", "gap", "from", "to", "transaction", "event", "bytes", "window", "x"])
    value = st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8)

    @examples(
        rounds, tally, value=st.dictionaries(keys, value), verb=st.sampled_from(["fill", "retry", "recheck", "x/y"])
    )
    def _(value, verb):
        data = json.dumps(value).encode()
        watched.feed("mqtt_command", verb.encode() + b"\n" + data + b"\nanr-watch/reply/x")
        for name in ("worker_event", "worker_job", "kernel_row"):
            watched.feed(name, data)


def test_few_bytes_that_name_billions_of_pictures_cost_little(tally):
    """A run without columns says "so many like the last" in 16 bytes: 30 of them were 2 million objects at once."""
    bombs = [
        head_of(EXTENDS) + fragment(*[1 << 16] * 400),
        head_of(EXTENDS) + b"".join(fragment(1 << 16) for _ in range(400)),
        head_of(EXTENDS) + fragment(0xFFFFFFFF),
        head_of(samples=full(b"stts", ">III", 1, 0xFFFFFFFF, 1) + full(b"stsz", ">II", 1, 0xFFFFFFFF)),
        head_of(
            samples=full(b"stts", ">III", 1, 0xFFFFFFFF, 0xFFFFFFFF)
            + full(b"stsz", ">II", 9, 1 << 18)
            + full(b"stsc", ">IIII", 1, 1, 0xFFFFFFFF, 1)
            + full(b"stco", ">II", 1, 40)
        ),
        head_of(box(b"free", b"", size=1) + b"\0" * 8),
        head_of() + b"".join(box(b"moof", *[box(b"traf")] * 50) for _ in range(200)),
    ]
    for data in bombs:
        for name in ("mp4_facts", "mp4_pictures"):
            tally.cases += 1
            begin = time.thread_time()
            watched.feed(name, data)
            assert time.thread_time() - begin < watched.LONGEST_CASE_S


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            head_of(
                samples=full(b"stts", ">III", 1, 1, 1)
                + full(b"stsz", ">II", 9, 1)
                + full(b"stsc", ">IIII", 1, 1, 1, 1)
                + full(b"co64", ">IQ", 1, (1 << 64) - 1)
            ),
            "outside",
        ),
        (head_of(EXTENDS) + fragment(1, base=0) + fragment(1, base=1 << 63), "no sense"),
    ],
)
def test_places_and_times_that_no_file_has_are_refused(data, why, tmp_path, tally):
    """The first made `os.pread`, the second `timedelta` raise what nobody expected there."""
    tally.cases += 1
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    watched.feed("mp4_neighbours", path.read_bytes())
    with PictureFile(path) as file, pytest.raises(ParseError, match=why):
        shown_ = file.last(9)
        for sample in shown_.samples:
            file.read(sample)
        pytest.fail(f"{shown_}")


def test_what_a_stranger_sent_is_redacted_in_one_pass(tally):
    """60 000 letters took 12 s in the daemon's loop: the expression began anew at each of them."""
    texts = [
        "a" * 60_000,
        "x://" * 15_000,
        "@" * 60_000,
        ":" * 60_000,
        "a:" * 30_000 + "@",
        "pass=" * 12_000,
        "@" + "a: " * 20_000,
    ]
    for text in texts:
        for pass_ in (log.redact, mask_url, log.one_line, shown):
            tally.cases += 1
            begin = time.thread_time()
            pass_(text)
            assert time.thread_time() - begin < 1.0, (text[:9], pass_)
    assert log.redact("see x://u:p@h and rtsp://a:b@c@d 'q://h'") == "see x://***@h and rtsp://***@d 'q://h'"


def test_every_code_a_broker_can_send_has_a_name(tally):
    """A code outside the standard ended the publisher."""
    for code in range(256):
        tally.cases += 1
        assert reason_name(code)
    for failures in (0, 1, 10, 10**9):
        assert 0 < back_off_s(failures, 0.999) <= LAST_DELAY_S


@pytest.mark.parametrize("template", [b"rtsp://[200a@m{start}", b"rtsp://a]:b@m/{start}", b"rtsp://[::1]@h{start}"])
def test_a_bracket_among_credentials_is_refused(template, tally):
    """It passed the check of the configuration and ended each worker: URLs are taken apart there once more."""
    tally.cases += 1
    watched.feed("url_template", template)
    with pytest.raises(ReplayRefused, match="bracket"):
        check_template(template.decode())


def test_a_zone_is_no_module(tally):
    """A long name was looked for as a package in a package ... until the stack was full."""
    for name in ("a/" * 9000 + "b", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "a.b", ""):
        tally.cases += 1
        watched.feed("device_time", f"%Y\n{name}\n1\n".encode())


def test_a_broken_promise_is_shown_with_its_case(monkeypatch):
    """The watching itself: what a target raises, and one that does not end, comes out with the bytes that did it."""

    def spin(data):
        while data == b"x":
            pass
        raise KeyError("no")

    monkeypatch.setitem(TARGETS, "spin", targets.Target(spin, lambda: [b"x"]))
    monkeypatch.setattr(watched, "LONGEST_CASE_S", 0.05)
    with pytest.raises(watched.BrokenPromiseError, match=r"_TooLong[\s\S]*eA=="):
        watched.run("spin", seed=1, cases=2)
    with pytest.raises(watched.BrokenPromiseError, match="KeyError"):
        watched.feed("spin", b"y")
