"""Real inputs to start from: files a recorder writes, messages of real systems, URLs of real cameras, our own lines."""

import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anr_watch.camera.film import Film, FilmSpec, VideoCodec
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
)
from anr_watch.replay.wire import event_line, job_line
from anr_watch.states import Reason
from tests.component.footage_media import FRAGMENTED, footage

NOON = datetime(2026, 6, 13, 12, tzinfo=UTC)
HOUR = Window(NOON, NOON + timedelta(hours=1))
MP4_WORDS = [
    *(b"\0\0\0\x10" + kind for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"trun")),
    *(kind for kind in (b"stts", b"stsz", b"stsc", b"co64", b"stco", b"ctts", b"stss", b"stsd", b"avcC", b"hvcC")),
    *(kind for kind in (b"tfhd", b"tfdt", b"trex", b"mvex", b"mvhd", b"mdhd", b"tkhd", b"elst", b"edts", b"esds")),
    b"\0\0\0\1moov\0\0\0\1\0\0\0\0",
    b"\xff" * 8,
    b"\0" * 8,
]


@functools.cache
def mp4_files() -> list[bytes]:
    """Fragmented and plain files, both codecs, reordered pictures, sound, edit lists; a growing one."""
    whole = [
        footage(1.0, FRAGMENTED),
        footage(1.0, FRAGMENTED, codec="libx265", b_frames=2),
        footage(1.0, FRAGMENTED, sound=True),
        footage(1.0, ""),
        footage(1.0, "faststart", b_frames=2, skip=3),
        footage(1.0, "faststart", codec="libx265", sound=True),
    ]
    return [*whole, whole[0][: len(whole[0]) * 2 // 3]]


@functools.cache
def mp4_heads() -> list[bytes]:
    """The same without most of their media: small, so that changes hit the index."""
    return [_lean(data) for data in mp4_files()]


def _lean(data: bytes) -> bytes:
    """Return a file whose `mdat` boxes are one picture's head long; the tables keep pointing where they did."""
    out, at = b"", 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        size = len(data) - at if size < 8 else size
        body = data[at : at + size]
        out += (72).to_bytes(4, "big") + body[4:72] if body[4:8] == b"mdat" and size > 72 else body
        at += size
    return out


@functools.cache
def pictures() -> list[bytes]:
    """Coded pictures as a camera sends them, behind start codes, with parameter sets."""
    found = []
    for codec in VideoCodec:
        film = Film(FilmSpec(codec=codec, width=128, height=96, gop_frames=5))
        found += [picture.annexb() for picture in film.gop(0).pictures[:2]]
    return found


def commands() -> list[bytes]:
    """Verb, payload and response topic of a command, a line each."""
    return [
        b'fill\n{"camera": "gate", "from": "2026-06-13T12:00:00Z", "to": "2026-06-13T12:05:00Z"}\n',
        b'retry\n{"gap": "gap_0a1b", "transaction": 7}\nanr-watch/reply/me',
        b'cancel\n{"camera": "gate", "transaction": "t-1"}\nanr-watch/box/reply/x',
        b"recheck\n\n",
        b'pause\n{"camera": null}\nhomeassistant/switch/x/config',
        b'resume\n{"camera":"\\u00fc"}\n$SYS/x',
    ]


def presence() -> list[bytes]:
    """Rule's topic, JSON path, topic and payload of presence messages as systems in the field send them."""
    return [
        b"frigate/{camera}/status/record\n\nfrigate/front/status/record\nonline",
        b"frigate/{camera}/status/record\n\nfrigate/gate/status/record\ndisabled",
        b'zigbee2mqtt/{camera}/availability\nstate\nzigbee2mqtt/gate/availability\n{"state":"online"}',
        b"tele/{camera}/LWT\n\ntele/gate/LWT\nOnline",
        b"+/binary_sensor/{camera}_connected/state\n\nviseron/binary_sensor/gate_connected/state\non",
        b'neolink/{camera}/status/#\na.0.b\nneolink/gate/status/battery\n{"a":[{"b":true}]}',
    ]


def templates() -> list[bytes]:
    """URL templates of real devices."""
    return [
        b"rtsp://{address}:{port}/Streaming/tracks/{channel}?starttime={start}&endtime={end}",
        b"rtsp://{user}:{password}@{address}/cam/playback?starttime={start:%Y_%m_%d_%H_%M_%S}&endtime={end:%Y_%m_%d}",
        b"rtsp://{address}/recording/{start:%Y%m%d%H%M%S}-{end:%Y%m%d%H%M%S}/OverlappedID=0/backup.smp",
        b"http://{address}:9996/get?path=gate&start={start_rfc3339}&duration={duration_s}&format=mp4",
        b"http://{address}:5000/api/gate/start/{start_unix}/end/{end_unix}/clip.mp4",
        b"rtsp://[2001:db8::1]:554/{start_ms}/{end_ms}?password={password}",
    ]


def name_patterns() -> list[bytes]:
    """A pattern and a file below a camera's folder, a line each."""
    return [
        b"%Y%m%d_%H%M%S\n20260613_120500.mp4",
        b"%Y-%m-%d/%H/%M-%S\n2026-06-13/12/05-00.mp4",
        b"%Y/%j/%T\n2026/164/12:05:00.mp4",
        b"%s\n1781352300.mp4",
        b"%F_%H%M%S%%x\n2026-06-13_120500%x.mp4",
        b"rec.%H%M%S.%Y%m%d\nrec.120500.20260613.mp4",
    ]


def event_lines() -> list[bytes]:
    """What a worker says."""
    return [
        event_line(Opened("h264", 1280, 720, "aac", 0.25)),
        event_line(SegmentReady("0000.mp4", HOUR, 10, 20, "hevc", 640, 360, TimeSource.SENDER_REPORT)),
        event_line(Progress(123, NOON)),
        event_line(Jump(NOON, -0.5)),
        event_line(Joined(Side.HEAD, Joint.EXACT, 0.04, 24, "x")),
        event_line(Ended(End.WINDOW, "", 1, 2.0, NOON, None)),
        event_line(Ended(Reason.BUSY, "the camera answered", 0, 0.1, None, 453)),
    ]


def job_lines() -> list[bytes]:
    """What a worker is told."""
    job = ReplayJob(
        url=Secret("rtsp://u:p@h/x"),
        asked=HOUR,
        keep=HOUR,
        staging=Path("/r/.anr-watch/gap_1"),
        head=(b"ab" * 6,) * 3,
    )
    return [job_line(job)]


def configs() -> list[bytes]:
    """The documented example without what it documents, and a small file with tables of every kind."""
    example = (Path(__file__).parent.parent.parent / "config.toml").read_text(encoding="utf-8").splitlines()
    keys = "\n".join(line for line in example if not line.startswith("#"))
    small = b"""secret_key = ""
[database]
path = "a.db"
mode = "standalone"
[recordings]
path = "."
name_pattern = "%Y%m%d_%H%M%S"
[fills]
parallel = 3
[replay]
timezone = "Europe/Berlin"
[mqtt]
host = "mqtt://u:p@h:1883"
[[mqtt.presence]]
topic = "cams/{camera}/online"
online = ["1"]
names = { "a b" = "gate" }
[[camera]]
id = "gate"
address = "192.0.2.7"
timezone = "utc"
[cameras.gate]
channel = "101"
"""
    return [small, keys.encode()]


def rows() -> list[bytes]:
    """A `cameras` and a `recording_gaps` row as JSON."""
    camera = {
        "id": "gate",
        "name": "Gate",
        "vendor": "hikvision",
        "address": "192.0.2.7",
        "rtsp_port": 554,
        "username": "admin",
        "password": "enc:v1:AAAA",
        "record_stream": "main",
        "record_audio": 0,
        "segment_seconds": 60,
        "enabled": 1,
        "record_enabled": 1,
        "record_mode": "continuous",
        "anr_enabled": 1,
        "anr_replay_url_template": None,
        "status": "recording",
    }
    gap = {
        "id": "gap_1",
        "camera_id": "gate",
        "gap_start": "2026-06-13T12:00:00+00:00",
        "gap_end": "2026-06-13T12:05:00.123456789+00:00",
        "fill_state": "pending",
        "fill_attempts": 1,
        "last_attempt_at": "2026-06-13T13:00:00+02:00",
    }
    return [json.dumps(camera).encode(), json.dumps(gap).encode()]


def libav_lines() -> list[bytes]:
    """What libav writes to its log when a replay fails."""
    return [
        b"method DESCRIBE failed: 453 Not Enough Bandwidth",
        b"HTTP error 404 Not Found\nconnection attempt to 192.0.2.7 port 554 failed",
        b"Protocol 'file' not on whitelist 'http,https,tcp,tls'!",
        b"rtsp://admin:pa%40ss@192.0.2.7/x?password=y: Connection timed out\nanother@line",
    ]


def packets() -> list[bytes]:
    """Pictures' times as twelve bytes each: flags, step, reorder, report."""
    steady = bytes([1, 0, 23, 112, 0, 0, 0, 0, 0, 0, 0, 100]) + bytes([0, 0, 23, 112, 0, 0, 0, 0, 0, 0, 0, 50]) * 29
    reported = bytes([3, 0, 23, 112, 0, 0, 0, 0, 0, 0, 0, 100]) + bytes([0, 0, 23, 112, 2, 0, 0, 0, 0, 0, 0, 50]) * 29
    jumping = (
        bytes([1, 0, 23, 112, 0, 0, 0, 0, 0, 0, 0, 100]) + bytes([16, 127, 255, 255, 0, 0, 0, 0, 0, 0, 0, 9]) * 9
    )
    return [steady * 2, reported * 2, steady + jumping]
