"""Jobs and events as lines: what goes in comes out, and nothing else gets in."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.errors import ParseError
from anr_watch.model import Secret, Window
from anr_watch.replay.job import (
    End,
    Ended,
    Joined,
    Joint,
    Jump,
    Opened,
    Progress,
    ReplayJob,
    SegmentReady,
    Side,
    TimeSource,
    Unproved,
)
from anr_watch.replay.wire import MAX_LINE_BYTES, event_line, job_line, parse_event, parse_job
from anr_watch.states import Reason

instants = st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
whole = st.integers(0, 2**53)
seconds = st.floats(0, 1e6)
texts = st.text(st.characters(categories=["L", "N", "P"]), max_size=100)
windows = st.builds(lambda start, s: Window(start, start + timedelta(seconds=s)), instants, st.integers(1, 90000))
events = st.one_of(
    st.builds(Opened, texts, whole, whole, texts, seconds),
    st.builds(
        SegmentReady,
        st.integers(0, 9999).map(lambda n: f"{n:04}.mp4"),
        windows,
        whole,
        whole,
        st.sampled_from(["h264", "hevc"]),
        whole,
        whole,
        st.sampled_from(TimeSource),
    ),
    st.builds(Progress, whole, st.none() | instants),
    st.builds(Jump, instants, st.floats(-1e6, 1e6)),
    st.builds(
        Joined,
        st.sampled_from(Side),
        st.sampled_from(Joint),
        st.none() | st.floats(-1e6, 1e6),
        whole,
        texts,
    ),
    st.builds(
        Ended,
        st.sampled_from([*End, *Reason]),
        texts,
        whole,
        seconds,
        st.none() | instants,
        st.none() | st.integers(100, 599),
    ),
)


@given(events)
def test_events_survive_the_pipe(event):
    line = event_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


prints = st.lists(st.binary(min_size=12, max_size=12), max_size=300).map(tuple)


@given(windows, windows, seconds, st.booleans(), prints, prints, st.none() | instants, st.sampled_from(Unproved))
def test_jobs_survive_the_pipe(asked, keep, number, audio, head, tail, at, unproved):
    job = ReplayJob(
        url=Secret("rtsp://u:p@h/x?a=b&c='\""),
        asked=asked,
        keep=keep,
        staging=Path("/rec/.anr-watch/gap"),
        segment_s=number,
        audio=audio,
        max_bytes_s=number,
        head=head,
        tail=tail,
        head_sizes=tuple(map(len, head)),
        tail_sizes=tuple(range(len(tail))),
        head_at=at,
        tail_at=at,
        shift_s=-number,
        shift_known=audio,
        unproved=unproved,
        transport="http",
        tls_ca_file=Path("/etc/ca.pem") if audio else None,
    )
    assert parse_job(job_line(job)) == job


@pytest.mark.parametrize("head", [["zz"], [""], ["ab" * 13], ["AB"], [1], "ab", ["ab"] * 1001, [None]])
def test_fingerprints_that_are_none_are_refused(head):
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    values = json.loads(job_line(ReplayJob(url=Secret("u"), asked=window, keep=window, staging=Path("/x"))))
    values["head"] = head
    with pytest.raises(ParseError):
        parse_job(json.dumps(values).encode())


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(data):
    for parse in (parse_event, parse_job):
        with pytest.raises(ParseError):
            parse(data)


@given(events, st.data())
def test_a_damaged_line_is_refused_or_still_an_event(event, data):
    line = bytearray(event_line(event))
    line[data.draw(st.integers(0, len(line) - 2))] = data.draw(st.integers(32, 126))
    try:
        parsed = parse_event(bytes(line))
    except ParseError:
        return
    assert type(parsed) in {Opened, SegmentReady, Progress, Jump, Joined, Ended}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event":"progress"}',
        b'{"event":"progress","bytes":1,"until":null,"more":1}',
        b'{"event":"progress","bytes":-1,"until":null}',
        b'{"event":"progress","bytes":1.5,"until":null}',
        b'{"event":"progress","bytes":true,"until":null}',
        b'{"event":"progress","bytes":1,"until":"yesterday"}',
        b'{"event":"jump","at":"2026-01-01T00:00:00+00:00","by_s":NaN}',
        b'{"event":"jump","at":"2026-01-01T00:00:00+00:00","by_s":1e400}',
        b'{"event":["progress"],"bytes":1,"until":null}',
        b'{"event":"ended","cause":"fine","detail":"","bytes":0,"seconds":0,"until":null,"status":null}',
        b"[" * 4000,
        b'{"event":"progress","bytes":1,"until":null' + b" " * MAX_LINE_BYTES + b"}",
    ],
)
def test_lines_that_are_no_event(line):
    with pytest.raises(ParseError):
        parse_event(line)


@pytest.mark.parametrize("name", ["../0000.mp4", "0000.mp4/", "/etc/passwd", "0000.part", "x.mp4", "0000.mp4\n", ""])
def test_a_segment_cannot_name_a_file_elsewhere(name):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(start, start + timedelta(seconds=1))
    ready = SegmentReady("0000.mp4", window, 1, 1, "h264", 1, 1, TimeSource.ASKED)
    values = json.loads(event_line(ready)) | {"file": name}
    with pytest.raises(ParseError):
        parse_event(json.dumps(values).encode())


def test_a_text_with_control_characters_is_refused():
    line = json.dumps(json.loads(event_line(Ended(End.EOF))) | {"detail": "\x1b[31mred"}).encode()
    with pytest.raises(ParseError):
        parse_event(line)


def test_no_error_text_holds_the_url():
    job = json.loads(
        job_line(
            ReplayJob(
                url=Secret("rtsp://admin:hunter2@h/"),
                asked=Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
                keep=Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
                staging=Path("/x"),
            )
        )
    )
    for name in job:
        with pytest.raises(ParseError) as caught:
            parse_job(json.dumps(job | {name: object.__name__ * 3 + "\0"}).encode())
        assert "hunter2" not in str(caught.value)
