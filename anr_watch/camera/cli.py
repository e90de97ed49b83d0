"""The arguments of `anr-watch camera`; it loads no codec before the camera runs."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Final

from anr_watch.camera.auth import AuthScheme
from anr_watch.camera.faults import Faults
from anr_watch.camera.kinds import AudioKind, VideoCodec

DESCRIPTION: Final = "Run a simulated camera with onboard storage: live and replay over RTSP, replay over HTTP."
EPILOG: Final = f"""examples:
  CAMERA_PASSWORD=secret anr-watch camera --rtsp-port 8554
      any player can show rtsp://admin:secret@127.0.0.1:8554/live
  anr-watch camera --password-file pw --audio pcma --fault stall_after_s=20 --fault end=lone_bye
  anr-watch camera --codec h265 --hole 2026-06-13T12:01:00Z/2026-06-13T12:02:00Z --clock-offset 1.5
  anr-watch camera --json --control
      then one JSON object per line on stdin: {{"cmd": "offline"}}  {{"cmd": "online"}}
      {{"cmd": "faults", "clear": true, "cut_after_s": 5}}  {{"cmd": "journal", "since": 0}}
      {{"cmd": "wait", "kind": "play", "timeout_s": 5}}  {{"cmd": "status"}}  {{"cmd": "stop"}}

faults (NAME=VALUE): {", ".join(field.name for field in fields(Faults))}

The password comes from --password-file or the environment variable CAMERA_PASSWORD; without either it is "camera".
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the camera's arguments, description and examples to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--name", default="cam", help="name in the journal (default: cam)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--rtsp-port", type=int, default=0, metavar="PORT", help="default: any free port")
    add("--http-port", type=int, default=0, metavar="PORT", help="default: any free port")
    add("--camera-number", type=int, default=1, metavar="N", help="number in the pictures (default: 1)")
    add("--codec", type=VideoCodec, choices=list(VideoCodec), default=VideoCodec.H264)
    add("--size", default="320x180", metavar="WxH", help="default: 320x180")
    add("--fps", type=int, default=15, help="pictures per second (default: 15)")
    add("--gop", type=int, default=15, metavar="FRAMES", help="pictures from key frame to key frame (default: 15)")
    add("--b-frames", type=int, default=0, metavar="N", help="B-frames between others (default: 0)")
    add("--bitrate", type=int, default=0, metavar="BPS", help="fill pictures up to this rate in bits per second")
    add("--quality", type=int, default=0, metavar="CRF", help="of the encoder, 1 (best) to 51 (default: the usual)")
    add("--stored-quality", type=int, metavar="CRF", help="the card holds another encoding (default: what is sent)")
    add("--drop-every", type=int, default=0, metavar="N", help="leave out every N-th picture (default: none)")
    add("--audio", type=AudioKind, choices=list(AudioKind), default=AudioKind.NONE)
    add("--user", default="admin", help="default: admin")
    add("--password-file", type=Path, metavar="FILE", help="file with the password in its first line")
    add("--auth", type=AuthScheme, choices=list(AuthScheme), default=AuthScheme.DIGEST)
    add("--replay-limit", type=int, default=1, metavar="N", help="replay sessions at once, then 453 (default: 1)")
    add("--http-limit", type=int, default=0, metavar="N", help="HTTP downloads at once, then 503 (default: any)")
    add("--speed", type=float, default=0.0, metavar="X", help="replay at X times real time (default: 0, unthrottled)")
    add("--mtu", type=int, default=1400, metavar="BYTES", help="largest RTP packet (default: 1400)")
    add("--clock-offset", type=float, default=0.0, metavar="S", help="seconds the camera's clock runs ahead")
    add("--zone", default="UTC", help="IANA zone of the camera's wall clock, for Dahua URLs (default: UTC)")
    add("--hole", action="append", default=[], metavar="FROM/TO", help="nothing was recorded then (RFC 3339)")
    add("--retention", type=float, metavar="S", help="seconds of footage the card keeps (default: all)")
    add("--closing", type=float, default=0.0, metavar="S", help="newest seconds that cannot be replayed yet")
    add("--fault", action="append", default=[], metavar="NAME=VALUE", help="may be given several times; names below")
    add("--offline", action="store_true", help="start with closed ports")
    add("--control", action="store_true", help="end when stdin ends")
    add("--json", action="store_true", help="print ports and URLs as one JSON object")
    add("--verbose", action="store_true", help="write the journal to stderr")


def run(args: argparse.Namespace) -> int:
    """Run the camera until SIGTERM, SIGINT, `stop`, or the end of stdin with `--control`.

    Returns:
        0 when it was told to stop, 1 when a port is taken, 2 when an argument makes no sense.
    """
    from anr_watch.camera import process  # noqa: PLC0415 - loads the codecs, which other commands do without

    return process.run(args)
