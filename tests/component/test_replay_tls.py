"""RTSP and HTTP over TLS against a camera with a certificate: unchecked, checked, and refused for the right reason."""

import asyncio

import pytest
from certificates import Authority
from replaying import camera, job_for, numbers, run

from anr_watch.camera.device import Replay
from anr_watch.model import Secret
from anr_watch.replay.job import End
from anr_watch.replay.process import Workers
from anr_watch.states import Reason

HERE = "127.0.0.1"
CASES = [
    # issued to, by, trusting, verify: what comes of it
    (HERE, "home", None, False, ""),
    (HERE, "home", "home", True, ""),
    (HERE, "home", "other", True, "Peer certificate failed verification"),
    (HERE, "home", None, True, "Peer certificate failed verification"),
    ("camera.lan", "home", "home", True, "does not match hostname"),
    ("camera.lan", "home", None, False, ""),
]


@pytest.mark.parametrize("way", [Replay.HIKVISION, Replay.MEDIAMTX])
def test_certificates_are_checked_when_that_is_wanted(tmp_path, way):
    authorities = {name: Authority(tmp_path / "tls", name) for name in ("home", "other")}

    async def one(number, name, signer, trusted, verify, workers):
        staging = tmp_path / str(number)
        staging.mkdir()
        async with camera(tls=authorities[signer].issue(name)) as device:
            options = {"tls_verify": verify, "tls_ca_file": authorities[trusted].file if trusted else None}
            if way is Replay.MEDIAMTX:
                url = device.url_replay_template(way).replace("{start_rfc3339}", "2025-06-13T12:05:01Z")
                assert url.startswith("https://")
                options["url"] = Secret(url.replace("{duration_s}", "3"))
            return staging, await run(workers, job_for(device, staging, 3, **options))

    async def main():
        async with Workers() as workers:
            return [await one(number, *case[:4], workers) for number, case in enumerate(CASES)]

    for (staging, got), (*case, says) in zip(asyncio.run(main()), CASES, strict=True):
        if says:
            assert (got.ended.cause, got.segments) == (Reason.UNREACHABLE, []), case
            assert says in got.ended.detail
            assert got.ended.detail.startswith("no TLS connection: ")
        else:
            assert got.ended.cause in (End.WINDOW, End.EOF), (case, got.ended)
            shown = [number for ready in got.segments for number in numbers(staging / ready.file)]
            assert len(set(shown)) == len(shown) >= 30


def test_a_plain_camera_where_tls_is_asked(tmp_path):
    async def main():
        async with camera() as device, Workers() as workers:
            url = device.url_replay("20250613T120501Z", "20250613T120504Z").replace("rtsp://", "rtsps://")
            return await run(workers, job_for(device, tmp_path, 3, url=Secret(url)))

    ended = asyncio.run(main()).ended
    assert ended.cause in (Reason.UNREACHABLE, Reason.STALLED)
    assert "TLS" in ended.detail or "no answer" in ended.detail


def test_rtsp_inside_http_is_asked_over_http(tmp_path):
    """The simulated camera has no tunnel: what counts is that the request arrives and its refusal is told."""

    async def main():
        async with camera() as device, Workers() as workers:
            url = device.url_replay("20250613T120501Z", "20250613T120504Z")
            url = url.replace(f":{device.rtsp_port}/", f":{device.http_port}/")
            got = await run(workers, job_for(device, tmp_path, 3, url=Secret(url), transport="http"))
            return got.ended, [entry.kind for entry in device.journal.entries]

    ended, happened = asyncio.run(main())
    assert "get" in happened
    assert ended.cause in (Reason.NO_FOOTAGE, Reason.UNAUTHORIZED), ended
    assert "HTTP 40" in ended.detail
