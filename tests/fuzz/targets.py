"""Everything that parses what others send, each as a function of bytes that raises when a promise is broken.

A promise is: only the documented exceptions, what comes out is within its bounds, no path leads out of its folder,
and where there are two directions they are each other's inverse. Time and memory are watched by `watched`.
"""

import functools
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from anr_watch import log
from anr_watch.config import PresenceRule, load
from anr_watch.errors import ConfigError, ParseError, ReplayRefused
from anr_watch.footage.boxes import read_facts
from anr_watch.footage.codecs import codec_name
from anr_watch.footage.folder import Recordings
from anr_watch.footage.names import SUFFIX, NamePattern
from anr_watch.footage.samples import PictureFile
from anr_watch.instants import format_instant, parse_instant
from anr_watch.joins.fingerprint import DIGEST_BYTES, of_annexb, of_length_prefixed
from anr_watch.joins.neighbours import look
from anr_watch.model import Camera, ReplayOptions, Secret, Segment, Window
from anr_watch.mqtt import commands
from anr_watch.mqtt.packets import reason_name
from anr_watch.mqtt.topics import MAX_TOPIC_BYTES, Topics, camera_level, can_publish
from anr_watch.presence import Evidence
from anr_watch.replay.cutter import Cutter
from anr_watch.replay.device_time import edge, is_unambiguous, step_of, zone_named
from anr_watch.replay.failures import why
from anr_watch.replay.fragments import BadFragments, read_tracks
from anr_watch.replay.job import Ended, ReplayJob
from anr_watch.replay.joining import Joining
from anr_watch.replay.nalunits import as_annexb, length_size, look_into
from anr_watch.replay.rtptime import TICKS, Report
from anr_watch.replay.secrets import open_sealed
from anr_watch.replay.stamps import NoTimes, Stamper, Unit
from anr_watch.replay.timeline import Break, Timeline, TimeWentBack, instant_of
from anr_watch.replay.urls import DEFAULT_PORTS, build_replay_request, check_template, mask_url
from anr_watch.replay.wire import event_line, job_line, parse_event, parse_job
from anr_watch.sources.presence_rules import Rules
from anr_watch.states import Reason
from anr_watch.store import rows
from tests.fuzz import corpora
from tests.fuzz.corpora import HOUR, NOON

WEEK_S = 7 * 86400


@dataclass(frozen=True)
class Target:
    """What is fed, real inputs to start from, and words that mean something to it."""

    feed: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()


def _lines(data: bytes, count: int) -> list[str]:
    """Return `count` texts; what is no UTF-8 becomes lone surrogates, as file names and kernel rows have them."""
    parts = data.decode("utf-8", "surrogateescape").split("\n", count - 1)
    return parts + [""] * (count - len(parts))


@functools.cache
def _scratch() -> tuple[int, Path]:
    """A file in memory, and the path by which it is opened like any other."""
    handle = os.memfd_create("fuzz")
    return handle, Path(f"/proc/self/fd/{handle}")


def _file_of(data: bytes) -> Path:
    handle, path = _scratch()
    os.ftruncate(handle, 0)
    os.pwrite(handle, data, 0)
    return path


# Files.


def mp4_facts(data: bytes) -> None:
    try:
        facts = read_facts(_file_of(data))
    except ParseError:
        return
    assert 0 <= facts.duration_s <= WEEK_S
    assert facts.size_bytes == len(data)
    assert facts.codec.isprintable()
    assert NOON + timedelta(seconds=facts.duration_s)


def mp4_pictures(data: bytes) -> None:
    path = _file_of(data)
    try:
        with PictureFile(path) as file:
            for shown in (file.last(120), file.first(120)):
                assert len(shown.samples) <= 120
                assert list(shown.samples) == sorted(shown.samples)
                for sample in shown.samples[:20]:
                    assert 0 <= shown.seconds(sample.shown_at + sample.units) <= 2 * WEEK_S
                    of_length_prefixed(file.read(sample), shown.length_size, shown.codec)
    except ParseError:
        pass


def mp4_neighbours(data: bytes) -> None:
    path = _file_of(data)
    piece = Window(NOON, NOON + timedelta(minutes=1))
    files = [
        Segment("gate", f"{at}.mp4", Window(at, at + timedelta(minutes=1)), 1, "h264", 1, 1, ours=False)
        for at in (NOON - timedelta(minutes=2), NOON - timedelta(minutes=1), NOON + timedelta(minutes=1))
    ]
    sides = look(piece, [(segment, path) for segment in files], reach_s=5)
    for side in (sides.head, sides.tail):
        assert len(side.prints) <= 120
        assert all(len(one) == DIGEST_BYTES for one in side.prints)


def own_fragments(data: bytes) -> None:
    _file_of(data)
    try:
        read_tracks(_scratch()[0])
    except BadFragments:
        pass


def sample_entry(data: bytes) -> None:
    assert codec_name(data).isprintable()


def names(data: bytes) -> None:
    text, name, folder = _lines(data, 3)
    try:
        pattern = NamePattern(text)
    except ValueError:
        return
    start = pattern.parse(name)
    if start is not None:
        assert pattern.format(start) == name
        assert NamePattern.parse(pattern, pattern.format(start)) == start
    parts = pattern.format(NOON).split("/")
    assert not any(part in ("", ".", "..") for part in parts)
    assert pattern.parse(pattern.format(NOON)) == NOON
    assert len(parts) == pattern.depth + 1
    key = pattern.folder_key(folder)
    assert key is None or all(number >= 0 for number in key)
    last = name.rpartition("/")[2]
    plain = [entry for entry in (last, parts[-1], f"{last}{SUFFIX}") if entry and "\0" not in entry]
    starts = list(pattern.starts("/".join(parts[:-1]), plain))
    single = sorted(
        int(at.timestamp()) for entry in plain if (at := pattern.parse("/".join([*parts[:-1], entry]))) is not None
    )
    assert starts == single


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    """A folder that goes with the process."""
    return tempfile.TemporaryDirectory(prefix="anr-fuzz-", ignore_cleanup_errors=True)


def _root() -> Path:
    return Path(_folder().name)


def ids(data: bytes) -> None:
    """Ids come from a database, MQTT and configuration, and become folders."""
    camera_id, gap_id = _lines(data, 2)
    root = _root()
    recordings = Recordings(root, NamePattern("%Y%m%d_%H%M%S"))
    try:
        folder = recordings.camera_folder(camera_id)
        assert folder.parent == root
        assert os.path.normpath(folder) == str(folder)
        assert "\0" not in camera_id
        assert folder.name.isprintable() or not camera_id.isprintable()
    except ReplayRefused as error:
        assert str(error).isprintable()
    staging = recordings.staging(gap_id)
    assert staging.resolve().parent == (root / ".anr-watch").resolve()
    assert staging.stat().st_mode & 0o777 == 0o700
    recordings.clear_staging(gap_id)
    assert not staging.exists()


# What goes out to a camera.


def url_template(data: bytes) -> None:
    template, address, user, password = _lines(data, 4)
    camera = Camera(
        id="gate",
        name="gate",
        address=address or "192.0.2.7",
        username=user or None,
        replay_url_template=Secret(template) if template else None,
        options=ReplayOptions(timezone="Europe/Berlin"),
    )
    try:
        check_template(template)
    except ReplayRefused:
        pass
    try:
        asked = build_replay_request(camera, HOUR, password=Secret(password) if password else None)
    except ReplayRefused as error:
        assert len(password) < 8 or password not in str(error)
        return
    url = asked.url.reveal()
    parts = urlsplit(url)
    assert parts.scheme.lower() in DEFAULT_PORTS
    assert url.isascii()
    assert not any(char.isspace() or not char.isprintable() for char in url)
    assert len(url) <= 4000
    assert (parts.hostname or "").lower() == asked.device.host
    assert (parts.port or DEFAULT_PORTS[parts.scheme.lower()]) == asked.device.port
    assert asked.asked.start <= HOUR.start
    assert asked.asked.end >= HOUR.end


def device_time(data: bytes) -> None:
    form, zone_name, at, end = _lines(data, 4)
    try:
        step, zone = step_of(form), zone_named(zone_name or "Europe/Berlin")
        seconds = int(at or "0", 36) % 8_000_000_000
    except (ReplayRefused, ValueError):
        return
    instant = datetime(1970, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)
    try:
        told = edge(instant, zone, step, is_end=bool(end), doubt=not is_unambiguous(form))
    except (OverflowError, ValueError):
        assert not 1971 < instant.year < 2200
        return
    assert (told.instant >= instant) if end else (told.instant <= instant)
    assert abs(told.instant - instant) <= timedelta(days=4)
    assert " " not in told.text(form)


def sealed(data: bytes) -> None:
    text, key = _lines(data, 2)
    try:
        open_sealed(Secret(text), Secret(key))
    except ReplayRefused as error:
        assert len(key) < 8 or key not in str(error)


# What comes over MQTT.


def mqtt_command(data: bytes) -> None:
    verb, _, rest = data.partition(b"\n")
    payload, _, response = rest.rpartition(b"\n")
    topics = Topics("anr-watch", "box")
    level = verb.decode("utf-8", "replace")
    answer = response.decode("utf-8", "replace") or None
    topic = commands.reply_topic(topics, level, answer)
    assert can_publish(topic)
    assert topic.startswith(("anr-watch/box/reply/", "anr-watch/reply/"))
    try:
        command = commands.parse(level, payload)
    except commands.CommandError as error:
        assert str(error).isprintable()
        reply = commands.payload_of(commands.Reply(error=str(error)), error.transaction)
        assert json.loads(reply)["status"] == "error"
        return
    for text in (command.camera_id, command.gap_id):
        assert text is None or (0 < len(text) <= 200 and text.isprintable())
    assert (command.window is not None) == (command.verb is commands.Verb.FILL)
    commands.payload_of(commands.Reply(data={"gap": "g"}), command.transaction)
    if command.camera_id is not None:
        assert can_publish(topics.state(command.camera_id))


@functools.lru_cache(maxsize=64)
def _rules(topic: str, path: str) -> Rules | None:
    rule = PresenceRule(
        topic=topic, json=path, online=("online", "on", "true"), offline=("offline",), names={"a": "b"}
    )
    try:
        return Rules([rule])
    except ValueError:
        return None


def mqtt_presence(data: bytes) -> None:
    filter_, path, topic, payload = data.split(b"\n", 3) if data.count(b"\n") >= 3 else (data, b"", data, data)
    rules = _rules(filter_.decode("utf-8", "replace"), path.decode("utf-8", "replace"))
    if rules is None:
        return
    (subscribed,) = rules.filters
    assert len(subscribed.encode()) <= MAX_TOPIC_BYTES
    found = rules.match(
        topic.decode("utf-8", "replace"),
        payload,
        retained=bool(payload[:1] == b"o"),
        at=NOON,
        cameras={"gate", "front"},
    )
    assert all(isinstance(one, Evidence) and one.camera_id in {"gate", "front"} for one in found.evidence)


def topic_levels(data: bytes) -> None:
    one, two = _lines(data, 2)
    level = camera_level(one)
    assert 0 < len(level) <= 100
    assert not set(level) & set("/+# \0")
    assert level.isprintable()
    assert not level.startswith("$")
    assert can_publish(f"a/{level}/b")
    assert one == two or level != camera_level(two)
    assert reason_name(len(data) % 256)


# What a worker says, and what libav says in it.


def worker_event(data: bytes) -> None:
    try:
        event = parse_event(data)
    except ParseError as error:
        assert len(str(error)) < 400
        return
    assert parse_event(event_line(event)) == event
    if isinstance(event, Ended):
        assert event.detail.isprintable()


def worker_job(data: bytes) -> None:
    try:
        job = parse_job(data)
    except ParseError as error:
        assert len(str(error)) < 400
        return
    assert parse_job(job_line(job)) == job
    assert job.staging.is_absolute()


def libav_log(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    failure = why(
        text.split("\n"), error_number=len(data) % 200, text=text[:50], connected=True, silent_s=0.0, patience_s=9.0
    )
    assert isinstance(failure.reason, Reason)
    redacted = log.redact(text, ["hunter2"])
    assert log.redact(redacted) == redacted
    clean = log.one_line(redacted)
    assert clean.isprintable() or not text.isprintable()
    assert not any(ord(char) < 32 for char in clean)
    assert "hunter2" not in clean
    masked = mask_url(f"rtsp://u:hunter2@h/ {text}")
    assert "hunter2" not in masked.split(" ")[0]


def nal_units(data: bytes) -> None:
    for codec in ("h264", "hevc"):
        front = look_into(codec, data)
        assert sum(len(unit) for units in front.sets.values() for unit in units) <= len(data)
        again = look_into(codec, as_annexb(front.sets))
        kept = {kind: tuple(unit for unit in units if unit) for kind, units in front.sets.items()}
        assert {kind: units for kind, units in again.sets.items() if units} == {k: v for k, v in kept.items() if v}
        assert length_size(codec, data) in (1, 2, 3, 4)
        assert len(of_annexb(data, codec)) in (0, DIGEST_BYTES)
        for size in (1, 2, 4):
            assert len(of_length_prefixed(data, size, codec)) in (0, DIGEST_BYTES)


def picture_times(data: bytes) -> None:
    """Twelve bytes per picture: what is known of it, the step from the last, its reordering, its sender report."""
    clock = iter(range(1 << 30))
    timeline = Timeline(HOUR, wall_us=lambda: 1_800_000_000_000_000, monotonic=lambda: next(clock) * 0.001)
    stamper = Stamper((TICKS, 8000) if data[:1] and data[0] & 32 else (TICKS, None))
    job = ReplayJob(url=Secret("rtsp://h/x"), asked=HOUR, keep=HOUR, staging=Path("/"), head=(b"a" * 12,) * 9)
    joining = Joining(job, lambda unit: bytes([unit.size % 256]) * 12)
    cutters = [Cutter(HOUR, 60.0), Cutter(Window(datetime(1970, 1, 1, tzinfo=UTC), HOUR.end), 4.0)]
    pts, last = 0, [-(1 << 80)] * 2
    try:
        for at in range(0, min(len(data), 12_000) - 11, 12):
            unit, pts = _unit(data[at : at + 12], pts)
            for stamped in stamper.push(unit):
                _follow(timeline.push(stamped), joining, cutters, last)
        for stamped in stamper.finish():
            _follow(timeline.push(stamped), joining, cutters, last)
        _follow(timeline.finish(), joining, cutters, last)
    except (NoTimes, TimeWentBack):
        pass
    joining.finish(in_order=True)


def _unit(raw: bytes, pts: int) -> tuple[Unit, int]:
    flags, kind = raw[0], raw[4]
    scale = 1 << (flags >> 6) * 16  # up to times that no clock has
    pts += int.from_bytes(raw[1:4], "big", signed=True) * scale
    dts = pts - int.from_bytes(raw[5:7], "big", signed=True) * (scale if kind & 1 else 1)
    said = int.from_bytes(raw[7:11], "big")
    utc_us = (int(NOON.timestamp()) + said - (1 << 31)) * 1_000_000 if kind & 4 else int(NOON.timestamp() * 1e6) + pts
    unit = Unit(
        video=not flags & 4,
        pts=None if flags & 8 else pts,
        dts=None if flags & 16 else dts,
        duration=6000 if not kind & 8 else said,
        key=bool(flags & 1),
        size=raw[11] * 100,
        utc_us=utc_us if flags & 2 or kind & 2 else None,
        report=Report(utc_us, said) if kind & 2 else None,
    )
    return unit, pts


def _follow(items: list, joining: Joining, cutters: list[Cutter], last: list[int]) -> None:
    for item in items:
        if isinstance(item, Break):
            instant_of(item.at)
        elif item.unit.video:
            assert item.dts <= item.pts
            instant_of(item.pts)
        joining.see(item)
        for cutter in cutters:
            for step in cutter.push(item):
                assert step.item is None or isinstance(step.item.pts, int)


# Configuration and database.


def config(data: bytes) -> None:
    text, mark, value = data.partition(b"\0")
    path = _root() / "config.toml"
    path.write_bytes(text)
    environ = {"ANR_WATCH_MQTT__PASSWORD": "hunter2hunter2"}
    if mark:
        name, _, given = value.decode("utf-8", "surrogateescape").replace("\0", "").partition("=")
        environ[f"ANR_WATCH_{name}"] = given
    try:
        settings = load(path, environ)
    except ConfigError as error:
        assert error.problems
        assert "hunter2hunter2" not in str(error)
        return
    assert "hunter2" not in repr(settings)


def instant(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        at = parse_instant(text)
    except ParseError as error:
        assert len(str(error)) < 300
        return
    assert parse_instant(format_instant(at)) == at


def kernel_row(data: bytes) -> None:
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict):
        return
    # What SQLite can hold.
    row = {key: value for key, value in row.items() if isinstance(value, str | float | None) or _fits(value)}
    camera, gap = ({**json.loads(seed), **row} for seed in corpora.rows())
    try:
        rows.camera_of.__wrapped__(camera, ReplayOptions())
    except ParseError as error:
        assert len(str(error)) < 300
    try:
        found = rows.gap_of.__wrapped__(gap)
        assert 1970 <= found.window.start.year <= found.window.end.year <= 9990
    except ParseError as error:
        assert len(str(error)) < 300


def _fits(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


JSON_WORDS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"1e999",
    b"-0",
    b"\\ud800",
    b'"\\u0000"',
    b"[" * 2000,
)
TIME_WORDS = (
    b"2026-06-13T12:00:00+00:00",
    b"9999-12-31T23:59:60.999999999-23:59",
    b"0001-01-01T00:00:00+23:59",
    b"NaN",
)
TEXT_WORDS = (b"\n", b"/", b"..", b"%", b"\0", b"\xff", b"\xe2\x80\xa8", b"{", b"}", b"@", b"://", b"+", b"#", b"$")
TEMPLATE_WORDS = (
    *(b"{%s}" % t for t in (b"start", b"end", b"user", b"password", b"start_ms")),
    b"[",
    b"]",
    b"{start:%Y%s%z}",
)
TOML_WORDS = (
    b"[[camera]]\n",
    b"[cameras.x]\n",
    b"[[mqtt.presence]]\n",
    b"topic = ",
    b"{}",
    b"inf",
    b"'''",
    b"9" * 5000,
    b"\0MQTT__HOST=",
)

TARGETS = {
    "mp4_facts": Target(mp4_facts, corpora.mp4_heads, tuple(corpora.MP4_WORDS)),
    "mp4_pictures": Target(mp4_pictures, corpora.mp4_heads, tuple(corpora.MP4_WORDS)),
    "mp4_neighbours": Target(mp4_neighbours, corpora.mp4_files, tuple(corpora.MP4_WORDS)),
    "own_fragments": Target(own_fragments, corpora.mp4_heads, tuple(corpora.MP4_WORDS)),
    "sample_entry": Target(
        sample_entry, lambda: [data[300:700] for data in corpora.mp4_heads()], (b"mp4aesds", b"esds")
    ),
    "names": Target(names, corpora.name_patterns, (*TEXT_WORDS, b"%Y", b"%s", b"%j", b"%%", b".mp4", b"%H%M%S")),
    "ids": Target(
        ids, lambda: [b"gate\ngap_0a1b", b"../x\n../../etc", b"T\xc3\xbcr 1\nlock", b".anr-watch\n."], TEXT_WORDS
    ),
    "url_template": Target(url_template, corpora.templates, (*TEXT_WORDS, *TEMPLATE_WORDS)),
    "device_time": Target(
        device_time,
        lambda: [b"%Y%m%d%H%M%S\nEurope/Berlin\nnq1x2y\n", b"%F %T\nAmerica/St_Johns\nabcdef\n1", b"%s\nlocal\n1\n"],
        (b"%", b"%-d", b"%z", b"Pacific/Apia", b"Africa/Monrovia", b"\n"),
    ),
    "sealed": Target(sealed, lambda: [b"enc:v1:" + b"QUJD" * 20 + b"\n" + b"A" * 43 + b"="], (b"enc:v1:", b"=")),
    "mqtt_command": Target(mqtt_command, corpora.commands, (*JSON_WORDS, *TEXT_WORDS, *TIME_WORDS)),
    "mqtt_presence": Target(mqtt_presence, corpora.presence, (*JSON_WORDS, *TEXT_WORDS, b"{camera}")),
    "topic_levels": Target(topic_levels, lambda: [b"gate\nfront", "Tür 1/a~b\n$x".encode()], TEXT_WORDS),
    "worker_event": Target(worker_event, corpora.event_lines, (*JSON_WORDS, *TIME_WORDS)),
    "worker_job": Target(worker_job, corpora.job_lines, (*JSON_WORDS, *TIME_WORDS)),
    "libav_log": Target(libav_log, corpora.libav_lines, (*TEXT_WORDS, b"hunter2", b"rtsp://a:b@")),
    "nal_units": Target(
        nal_units, corpora.pictures, (b"\0\0\1", b"\0\0\0\1", b"\0\0\1\x67", b"\0\0\1\x40\1", b"\0\0\3")
    ),
    "picture_times": Target(
        picture_times, corpora.packets, (b"\xff" * 12, b"\0" * 12, b"\xc1\x7f\xff\xff\0\0\0\0\0\0\0\0")
    ),
    "config": Target(config, corpora.configs, TOML_WORDS),
    "instant": Target(instant, lambda: [b"2026-06-13T12:00:00.123456789+00:00", b"2026-06-13 12:00:00z"], TIME_WORDS),
    "kernel_row": Target(kernel_row, corpora.rows, (*JSON_WORDS, *TIME_WORDS)),
}
