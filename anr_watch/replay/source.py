"""Where a replay's packets come from: an interface, and libavformat behind it. Worker process only; writes nothing.

Another source (an RTSP client of our own with ONVIF `Range: clock=`) fits in here: open, iterate units, close.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from anr_watch.log import one_line, redact
from anr_watch.replay.failures import Failure, why
from anr_watch.replay.job import ReplayJob
from anr_watch.replay.libavlog import LibavLog
from anr_watch.replay.muxer import VideoFormat
from anr_watch.replay.nalunits import SEARCH_BYTES, has_picture, is_annexb, look_into
from anr_watch.replay.rtptime import TICKS, Report
from anr_watch.replay.stamps import Unit
from anr_watch.states import Reason

RTSP_SCHEMES: Final = ("rtsp", "rtsps")
HTTP_SCHEMES: Final = ("http", "https")
# What each scheme needs and no more: a camera can lead to no other one, not even from http to https.
_ALLOWED: Final = {
    "rtsp": "rtsp,rtp,tcp",
    "rtsps": "rtsps,rtp,tls,tcp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
}
# What a camera may answer a download with. Playlists (hls, dash, concat) would make libav open further addresses.
_FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,dhav,h264,hevc,flv,avi,asf"
# Debian, Ubuntu and Raspberry Pi OS; Fedora and Red Hat; openSUSE; Alpine.
_AUTHORITIES: Final = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
]
_SENDER_REPORT: Final = struct.Struct("=I4xQI")  # AVRTCPSenderReport: ssrc, NTP time, RTP time, ...
_PRODUCER_TIME: Final = struct.Struct("=q")  # AVProducerReferenceTime: microseconds since 1970, ...
_NTP_UNIX_S: Final = 2_208_988_800  # seconds from 1900 to 1970
_BUFFERED_S: Final = 0.25  # of what may come under a cap
_BUFFERED_BYTES: Final = (8_192, 262_144)


@dataclass(frozen=True, slots=True)
class Playing:
    """What an opened source sends."""

    video: VideoFormat
    extradata: bytes
    annexb: bool
    audio: Any  # libav's stream, or None
    clock_rates: tuple[int, int | None]


class SourceFailed(Exception):  # noqa: N818 - names what happened
    """The source could not be opened, or broke; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


class PacketSource(Protocol):
    """A replay as units. Used by one thread; `connected` may be read by another."""

    @property
    def connected(self) -> bool:
        """Whether the connection was there once."""
        ...

    @property
    def strayed(self) -> str:
        """Where the camera wanted to lead us, if it did: then the reading thread is held and nothing comes."""
        ...

    def open(self) -> Playing:
        """Ask for the replay and return what comes.

        Raises:
            SourceFailed: nothing comes.
        """
        ...

    def units(self) -> Iterator[Unit]:
        """Give the packets as they come, until the source says it is over.

        Raises:
            SourceFailed: the source broke.
        """
        ...

    def close(self) -> None:
        """Say goodbye (RTSP TEARDOWN), so that the camera's only replay session is free at once."""
        ...


class Redaction:
    """Takes the URL and its credentials out of texts, and makes one line of them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        secrets = {url, parts.password or "", unquote(parts.password or "")}
        userinfo = parts.netloc.rpartition("@")[0]
        # A password of one or two letters is no secret, and taking it out would leave nothing readable.
        self._secrets = sorted((s for s in (*secrets, userinfo) if len(s) > 2), key=len, reverse=True)

    def __call__(self, text: str, limit: int = 300) -> str:
        """Return `text` without them."""
        return one_line(redact(text, self._secrets).strip(), limit)


def rehearse() -> None:
    """Open nothing, the way a camera is opened: what libav does first is slow the first time. No socket is made."""
    av.logging.set_level(av.logging.PANIC)  # what it says of this must not be told of the camera
    with contextlib.suppress(av.FFmpegError, OSError, ValueError):  # the protocol under RTSP is not allowed
        av.open("rtsp://127.0.0.1/", format="rtsp", container_options={"protocol_whitelist": "rtsp"}, timeout=(1, 1))


class LibavSource:
    """RTSP(S) and HTTP(S) through libavformat."""

    def __init__(self, job: ReplayJob, monotonic: Callable[[], float]) -> None:
        self._job = job
        self._url = job.url.reveal()
        parts = urlsplit(self._url)
        self._scheme = parts.scheme.lower()
        self._monotonic = monotonic
        self._redact = Redaction(self._url)
        self._log = LibavLog(self._scheme, parts.hostname or "", self._narrow)
        self._container: InputContainer | None = None
        self._scales: dict[int, tuple[int, int, bool]] = {}
        self._codec = ""
        self._annexb = True
        self._usual = TICKS // 25  # the duration of a picture whose coder says nothing

    @property
    def connected(self) -> bool:
        """Whether the TCP connection was there once."""
        return self._log.connected

    @property
    def strayed(self) -> str:
        """Where the camera wanted to lead us, if it did."""
        return self._log.strayed

    def open(self) -> Playing:
        """Connect, ask, and wait until the streams are known.

        Raises:
            SourceFailed: refused, unreachable, silent, without footage, or nothing we can keep.
        """
        self._log.attach()
        if self._scheme not in RTSP_SCHEMES + HTTP_SCHEMES:
            raise SourceFailed(
                Failure(Reason.BAD_CONFIG, f"no replay over {self._scheme or 'an URL without scheme'}")
            )
        patience_s = self._job.stall_timeout_s
        asked_at = self._monotonic()
        try:
            container = av.open(
                self._url,
                "r",
                format="rtsp" if self._scheme in RTSP_SCHEMES else None,
                container_options=self._options(),
                metadata_errors="replace",
                # Ours is the watchdog of the main thread; these only end a reader that was left behind.
                timeout=(self._job.connect_timeout_s + 2 * patience_s, patience_s + 1),
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceFailed(self._failure(error, self._monotonic() - asked_at, patience_s)) from None
        self._container = container
        self._narrow()
        if self._scheme in RTSP_SCHEMES:  # HTTP connects anew in the middle, and that must be seen
            av.logging.set_level(av.logging.WARNING)
        return self._playing(container)

    def units(self) -> Iterator[Unit]:
        """Give the packets as they come.

        Raises:
            SourceFailed: the source broke.
        """
        if self._container is None:
            raise RuntimeError("not open")
        before = self._monotonic()
        try:
            for packet in self._container.demux():
                if packet.size and packet.stream_index in self._scales:
                    yield self._unit(packet)
                before = self._monotonic()
        except (av.FFmpegError, OSError, ValueError) as error:
            failure = self._failure(error, self._monotonic() - before, self._job.stall_timeout_s)
            raise SourceFailed(failure) from None

    def close(self) -> None:
        """Send TEARDOWN and close the connection."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _narrow(self) -> None:
        """Under a cap, let the system take up little that we have not read: the camera is to feel the cap.

        A socket's buffer grows to 6 MB where a reader is slow, which a camera fills as fast as it can. This process
        has no connection but the camera's.
        """
        if self._job.max_bytes_s <= 0:
            return
        size = round(min(max(self._job.max_bytes_s * _BUFFERED_S, _BUFFERED_BYTES[0]), _BUFFERED_BYTES[1]))
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if not str(link.readlink()).startswith("socket:"):
                    continue
                with socket.socket(fileno=os.dup(int(link.name))) as copy:
                    if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
                        copy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _options(self) -> dict[str, str]:
        job = self._job
        patience_us = str(round(max(job.stall_timeout_s, job.connect_timeout_s) * 1_000_000))
        options = {"tls_verify": "1" if job.tls_verify else "0", "timeout": patience_us, "rw_timeout": patience_us}
        trusted = _trusted(job) if job.tls_verify else None
        if trusted is not None:
            options["ca_file"] = trusted
        if self._scheme in RTSP_SCHEMES:
            tunnel = ",https" if self._scheme == "rtsps" else ",http"  # RTSP inside HTTP
            more = {"udp": ",udp", "http": tunnel}.get(job.transport, "")
            return options | {
                "rtsp_transport": job.transport,
                "allowed_media_types": "video+audio" if job.audio else "video",
                # libav would look at 20 pictures to guess the frame rate, which we take from the clock: 1.9 s before
                # the first packet of a camera that plays at life speed, 0.5 s with two.
                "fpsprobesize": "2",
                "protocol_whitelist": _ALLOWED[self._scheme] + more,
            }
        return options | {"protocol_whitelist": _ALLOWED[self._scheme], "format_whitelist": _FORMATS}

    def _failure(self, error: BaseException, silent_s: float, patience_s: float) -> Failure:
        return why(
            [self._redact(line) for line in self._log.lines],
            error_number=getattr(error, "errno", None),
            text=self._redact(str(getattr(error, "strerror", None) or type(error).__name__)),
            connected=self.connected,
            silent_s=silent_s,
            patience_s=patience_s,
        )

    def _playing(self, container: InputContainer) -> Playing:
        video = next(iter(container.streams.video), None)
        if video is None or video.codec_context is None:
            raise SourceFailed(Failure(Reason.BAD_MEDIA, "the camera sent no video"))
        self._codec = video.codec_context.name
        if self._codec not in {"h264", "hevc"}:
            raise SourceFailed(
                Failure(Reason.BAD_MEDIA, f"the camera sent {self._codec[:20]}; only H.264 and H.265 can be kept")
            )
        audio = next(iter(container.streams.audio), None) if self._job.audio else None
        rates: list[int | None] = []
        for stream in (video, audio):
            base = None if stream is None else stream.time_base
            if stream is not None and base is not None:
                self._scales[stream.index] = (base.numerator * TICKS, base.denominator, stream is video)
            rates.append(None if base is None else round(1 / base))
        self._usual = self._usual_duration(video) or self._usual
        extradata = video.codec_context.extradata or b""
        self._annexb = not extradata or is_annexb(extradata)
        return Playing(
            video=VideoFormat(self._codec, video.width, video.height, video),
            extradata=extradata,
            annexb=self._annexb,
            audio=audio,
            clock_rates=(rates[0] or TICKS, rates[1]),
        )

    @staticmethod
    def _usual_duration(stream: VideoStream) -> int:
        rate = stream.average_rate or stream.guessed_rate
        return round(TICKS / rate) if rate and rate > 0 else 0

    def _unit(self, packet: av.Packet[Any]) -> Unit:
        times, over, is_video = self._scales[packet.stream_index]
        pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
        report = _report(packet) if packet.has_sidedata("rtcp_sr") else None
        utc_us: int | None = None
        if packet.has_sidedata("prft"):
            utc_us = _PRODUCER_TIME.unpack_from(bytes(packet.get_sidedata("prft")))[0]
        key = is_video and packet.is_keyframe
        unit = Unit(
            video=is_video,
            pts=None if pts is None else pts * times // over,
            dts=None if dts is None else dts * times // over,
            duration=duration * times // over or (self._usual if is_video else 0),
            key=key,
            size=packet.size,
            utc_us=utc_us,
            report=report,
            payload=packet,
        )
        if is_video and self._annexb:
            data = memoryview(packet)
            unit.picture = has_picture(self._codec, data)
            if key:
                unit.front = look_into(self._codec, bytes(data[:SEARCH_BYTES]))
                unit.clean = unit.front.clean
        return unit


def _trusted(job: ReplayJob) -> str | None:
    """Return the file with the authorities to trust: libav's own library in PyAV's wheels knows none."""
    named = os.environ.get("SSL_CERT_FILE")
    files = [str(job.tls_ca_file)] if job.tls_ca_file else [named] if named else _AUTHORITIES
    return next((file for file in files if Path(file).is_file()), None)


def _report(packet: av.Packet[Any]) -> Report | None:
    data = bytes(packet.get_sidedata("rtcp_sr"))
    if len(data) < _SENDER_REPORT.size:
        return None
    _, ntp, rtp = _SENDER_REPORT.unpack_from(data)
    return Report(ntp_us=((ntp >> 32) - _NTP_UNIX_S) * 1_000_000 + ((ntp & 0xFFFF_FFFF) * 1_000_000 >> 32), rtp=rtp)
