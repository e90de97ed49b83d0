"""The SDP of a simulated camera's streams (RFC 4566, 6184, 7798, 3640); it reads nothing."""

from __future__ import annotations

import base64
from typing import Final

from anr_watch.camera.audio import AAC_CONFIG, Tone
from anr_watch.camera.film import Film
from anr_watch.camera.kinds import AudioKind, VideoCodec
from anr_watch.camera.query import Target

VIDEO_PAYLOAD: Final = 96
AUDIO_PAYLOAD: Final = {AudioKind.PCMU: 0, AudioKind.PCMA: 8, AudioKind.AAC: 97}
VIDEO_TRACK: Final = 1
AUDIO_TRACK: Final = 2


def describe(film: Film, tone: Tone, target: Target, *, extra: str = "") -> str:
    """Return the session description of a stream; `extra` is a line put into it as it is."""
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=Media Presentation",
        *([extra] if extra else []),
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
    ]
    lines.append("a=range:npt=now-" if target.live or target.window is None else f"a=range:clock={target.window}")
    lines += _video(film)
    if tone.kind is not AudioKind.NONE:
        lines += _audio(tone)
    return "\r\n".join(lines) + "\r\n"


def _video(film: Film) -> list[str]:
    sets = film.parameter_sets()
    coded = [base64.b64encode(nal).decode() for nal in sets]
    if film.spec.codec is VideoCodec.H264:
        name = "H264"
        profile = sets[0][1:4].hex().upper()
        parameters = f"packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={','.join(coded)}"
    else:
        name = "H265"
        parameters = f"sprop-vps={coded[0]};sprop-sps={coded[1]};sprop-pps={coded[2]}"
    return [
        f"m=video 0 RTP/AVP {VIDEO_PAYLOAD}",
        f"a=rtpmap:{VIDEO_PAYLOAD} {name}/90000",
        f"a=fmtp:{VIDEO_PAYLOAD} {parameters}",
        f"a=framerate:{film.spec.fps}",
        "a=recvonly",
        f"a=control:trackID={VIDEO_TRACK}",
    ]


def _audio(tone: Tone) -> list[str]:
    payload = AUDIO_PAYLOAD[tone.kind]
    lines = [f"m=audio 0 RTP/AVP {payload}"]
    if tone.kind is AudioKind.AAC:
        lines.append(f"a=rtpmap:{payload} mpeg4-generic/{tone.rate}/1")
        lines.append(
            f"a=fmtp:{payload} streamtype=5;profile-level-id=1;mode=AAC-hbr;"
            f"sizelength=13;indexlength=3;indexdeltalength=3;config={AAC_CONFIG}"
        )
    else:
        lines.append(f"a=rtpmap:{payload} {tone.kind.upper()}/{tone.rate}")
    return [*lines, "a=recvonly", f"a=control:trackID={AUDIO_TRACK}"]
