"""What hostile cameras do: one attack each, over RTSP or HTTP. Endless ones go on until they are cut off."""

import asyncio
import gzip
import io
import random
import struct
from itertools import count

import av

from anr_watch.camera.nal import filler_nal
from tests.hostile_camera import Attack, Visit, sdp_of

ENDLESS = 1 << 62
ELSEWHERE = "127.0.0.2"  # another address of loopback: a machine nobody asked for


def bits(*fields: tuple[int, int] | int) -> bytes:
    """Pack (value, width) pairs and Exp-Golomb numbers into bytes, as a parameter set has them, with stop bit."""
    text = ""
    for one in fields:
        if isinstance(one, tuple):
            text += f"{one[0]:0{one[1]}b}"
        else:
            coded = f"{one + 1:b}"
            text += "0" * (len(coded) - 1) + coded
    text += "1"
    text += "0" * (-len(text) % 8)
    raw = int(text, 2).to_bytes(len(text) // 8, "big")
    out = bytearray()
    for byte in raw:  # emulation prevention
        if len(out) >= 2 and out[-1] == out[-2] == 0 and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def sps(width: int, height: int, number: int = 0) -> bytes:
    """An H.264 sequence parameter set of any size (7.3.2.1.1, Baseline, level 6.2)."""
    return b"\x67" + bits(
        (66, 8),
        (0, 8),
        (62, 8),
        number,
        0,
        2,
        1,
        (0, 1),
        (width + 15) // 16 - 1,
        (height + 15) // 16 - 1,
        (1, 1),
        (1, 1),
        (0, 1),
        (0, 1),
    )


def pps(number: int = 0) -> bytes:
    """A picture parameter set that leans on sequence parameter set `number`."""
    return b"\x68" + bits(number, number, (0, 1), (0, 1), 0, 0, 0, (0, 1), (0, 2), 0, 0, 0, (0, 1), (0, 1), (0, 1))


def flip(data: bytes, dice: random.Random, share: float) -> bytes:
    """Flip about `share` of the bits' bytes."""
    out = bytearray(data)
    for _ in range(max(1, int(len(out) * share))):
        out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
    return bytes(out)


async def forever(visit: Visit, data: bytes, pause_s: float = 0.0) -> None:
    for _ in range(ENDLESS):
        await visit.send(data)
        await asyncio.sleep(pause_s)


def answer(location: str, status: int = 302) -> bytes:
    return f"RTSP/1.0 {status} Moved\r\nCSeq: CSEQ\r\nLocation: {location}\r\n\r\n".encode()


def http(head: str, body: bytes = b"", then=None):
    """An HTTP answer; `then` goes on behind it."""

    async def serve(visit: Visit) -> None:
        await visit.send(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)
        if then is not None:
            await then(visit)

    return serve


def steady(number: int) -> int:
    return number * 6000


# RTSP: what is said.


async def _endless_headers(visit: Visit) -> None:
    await visit.send(b"RTSP/1.0 200 OK\r\nCSeq: 2\r\n")
    await forever(visit, b"X-Header: " + b"a" * 1000 + b"\r\n")


async def _endless_line(visit: Visit) -> None:
    await forever(visit, b"RTSP/1.0 200 " + b"a" * 60_000)


async def _giant_body(visit: Visit) -> None:
    await visit.send(
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 900000000\r\n\r\n"
    )
    await forever(visit, b"a=x:" + b"y" * 65_000 + b"\r\n")


async def _lying_body(visit: Visit) -> None:
    await visit.send(b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: -1\r\n\r\n")
    await forever(visit, b"v=0\r\n" * 1000)


async def _interleaved_before(visit: Visit) -> None:
    await forever(visit, visit.frame(bytes(60_000), 77) * 4)


def _many_tracks(visit_sdp: bytes) -> bytes:
    head, _, video = visit_sdp.partition(b"m=video")
    return head + b"".join(
        b"m=video" + video.replace(b"trackID=1", f"trackID={number}".encode()) for number in range(3000)
    )


def _led_away(sdp: bytes, port: int) -> bytes:
    away = f"a=control:http://{ELSEWHERE}:{port}/x\r\na=control:file:///etc/hostname\r\n".encode()
    more = f"a=pgmpu:data:application/vnd.ms.wms-hdr.asfv1;base64,{'A' * 4000}\r\nc=IN IP4 {ELSEWHERE}\r\n".encode()
    return sdp.replace(b"a=control:*\r\n", away + more)


# RTSP: what is sent.


async def _zero_units(visit: Visit) -> None:
    for number in count():
        empty = b"" if number % 3 == 0 else bytes(number % 12)
        await visit.send(visit.frame(empty) + visit.rtp(b"\x18\0\0\0\0\0\0", number * 6000) + visit.rtp(b"", number))


async def _noise(visit: Visit) -> None:
    dice = random.Random(3)
    for number in count():
        payload = dice.randbytes(dice.choice((1, 2, 5, 50, 1300)))
        await visit.send(visit.rtp(payload, number * 600) + visit.frame(dice.randbytes(300), number % 4))


async def _flipped(visit: Visit) -> None:
    dice = random.Random(5)

    def change(number, nals):
        return [flip(nal, dice, 0.002) if dice.random() < 0.3 else nal for nal in nals if nal] or nals

    await visit.play(steady, change)


async def _flipped_frames(visit: Visit) -> None:
    """Everything behind the dollar signs is changed, too: lengths, channels, RTP headers."""
    dice = random.Random(7)
    for number, picture in enumerate(visit.pictures()):
        data = visit.track.h264(list(picture.nals), number * 6000)
        await visit.send(flip(data, dice, 0.001) if dice.random() < 0.3 else data)


async def _truncated(visit: Visit) -> None:
    dice = random.Random(9)
    await visit.play(steady, lambda number, nals: [nal[: dice.randrange(1, len(nal) + 1)] for nal in nals])


async def _changing_sets(visit: Visit) -> None:
    """Every picture is a key frame with parameter sets of its own: a file for each of them."""
    keys = [picture.nals[-1] for picture in visit.pictures(2) if picture.key]
    for number in count():
        sets = [sps(64 + 16 * (number % 500), 64), pps()]
        await visit.send(visit.track.h264([*sets, keys[0]], number * 6000))


async def _giant_picture(visit: Visit) -> None:
    key = next(visit.pictures(1)).nals[-1]
    for number in count():
        await visit.send(visit.track.h264([sps(65_520, 65_520), pps(), key], number * 6000))


def _large(number: int, nals: list[bytes]) -> list[bytes]:
    """Blow a picture up, so that what has no end is much soon."""
    return [*nals, filler_nal(400_000, h265=False)]


async def _standstill(visit: Visit) -> None:
    """Pictures for ever, all of the same instant: the end of the window never comes."""
    await visit.play(lambda number: 90_000, _large)


async def _creeping(visit: Visit) -> None:
    await visit.play(lambda number: number, _large)


async def _jumping(visit: Visit) -> None:
    dice = random.Random(11)
    await visit.play(lambda number: dice.randrange(1 << 32))


async def _stairs(visit: Visit) -> None:
    """Forward by 20 minutes and back again, for ever."""
    await visit.play(lambda number: number * 600 + (number // 5 % 2) * 1200 * 90_000)


async def _drip(visit: Visit) -> None:
    first = visit.track.h264(list(next(visit.pictures(1)).nals), 0)
    await visit.send(first[:-10])
    await forever(visit, b"x", 0.2)


async def _endless_unit(visit: Visit) -> None:
    """One picture that never ends: fragments without a last one."""
    await visit.play(steady, count=20)
    while True:
        await visit.send(visit.rtp(b"\x7c\x01" + bytes(1300), 20 * 6000, marker=False) * 20)


async def _reports(visit: Visit) -> None:
    """Sender reports and source changes without an end."""
    dice = random.Random(13)
    for number in count():
        ntp = dice.randrange(1 << 64)
        report = struct.pack(">BBHIQIII", 0x80, 200, 6, 7, ntp, dice.randrange(1 << 32), 1, 1)
        await visit.send(visit.frame(report, 1) + visit.frame(bytes([0x81, 203, 0xFF, 0xFF]) * 3, 1))
        picture = visit.film.gop(0).pictures[number % 15]
        await visit.send(visit.track.h264(list(picture.nals), number * 6000))


# HTTP.


async def _chunks(visit: Visit) -> None:
    await forever(visit, b"10000\r\n" + bytes(65_536) + b"\r\n")


async def _endless_chunk_line(visit: Visit) -> None:
    await forever(visit, b"f" * 60_000)


async def _endless_http_headers(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\n")
    await forever(visit, b"X: " + b"a" * 1000 + b"\r\n")


async def _zeros(visit: Visit) -> None:
    await forever(visit, bytes(65_536))


async def _bomb(visit: Visit) -> None:
    body = gzip.compress(bytes(100 << 20), 9)
    await visit.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    )
    for _ in range(50):
        await visit.send(body)


def film_file(film, form: str = "mpegts", more: bytes = b"") -> bytes:
    """The film in a container; `more` stands behind each picture."""
    held = io.BytesIO()
    source = av.open(
        io.BytesIO(
            b"".join(
                p.annexb() + (b"\0\0\0\1" + more if more else b"") for i in range(2) for p in film.gop(i).pictures
            )
        ),
        format="h264",
    )
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if form == "mp4" else {}
    with av.open(held, "w", format=form, options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux() if packet.size):
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = round(number / 15 / stream.time_base)
            out.mux(packet)
    return held.getvalue()


def with_external_media(data: bytes) -> bytes:
    """Return an mp4 file whose data reference names another file instead of itself (14496-12, 8.7.2)."""
    inside = b"\0\0\0\x0curl \0\0\0\1"
    assert inside in data
    url = b"file:///etc/hostname\0"
    other = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url
    grown = len(other) - len(inside)
    out = bytearray(data)
    for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):  # each around the next holds so much more
        at = out.find(kind) - 4
        out[at : at + 4] = (int.from_bytes(out[at : at + 4], "big") + grown).to_bytes(4, "big")
    return bytes(out).replace(inside, other)


def playlists(port: int) -> dict[str, bytes]:
    """Texts that make players open something else."""
    away = f"http://{ELSEWHERE}:{port}/x.ts"
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{away}\n#EXT-X-ENDLIST\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile {away}\nfile /etc/hostname\n".encode(),
        "mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        f'<Representation id="1"><BaseURL>{away}</BaseURL></Representation></AdaptationSet></Period></MPD>'.encode(),
        "sdp": f"v=0\r\nc=IN IP4 {ELSEWHERE}\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n".encode(),
        "asx": f'[Reference]\r\nRef1={away}\r\n<asx><entry><ref href="{away}"/></entry></asx>'.encode(),
        "smil": f'<smil><body><video src="{away}"/></body></smil>'.encode(),
    }


def rtsp_attacks(film, port: int) -> list[Attack]:
    """Every attack over RTSP; `port` is that of the machine nobody asked for."""
    sdp = sdp_of(film)
    return [
        Attack("redirect to another host", describe=answer(f"rtsp://{ELSEWHERE}:{port}/x")),
        Attack("redirect to HTTP elsewhere", describe=answer(f"http://{ELSEWHERE}:{port}/x")),
        Attack("redirect to a file", describe=answer("file:///etc/hostname")),
        Attack("redirect with a tunnel", describe=answer(f"rtsp://{ELSEWHERE}:{port}/x?http")),
        Attack("redirect to another host after 301", describe=answer(f"rtsps://{ELSEWHERE}:{port}/x", 301)),
        Attack("endless headers", describe=_endless_headers),
        Attack("an endless line", describe=_endless_line),
        Attack("a body of 900 MB", describe=_giant_body),
        Attack("a body of -1 bytes", describe=_lying_body),
        Attack("frames instead of an answer", describe=_interleaved_before),
        Attack("a large session description", sdp=sdp + b"a=x:" + b"y" * 8_000_000 + b"\r\n"),
        Attack("thousands of tracks", sdp=_many_tracks(sdp)),
        Attack("a session description that points elsewhere", sdp=_led_away(sdp, port), stream=_flipped),
        Attack("units without bytes", stream=_zero_units),
        Attack("noise", stream=_noise),
        Attack("flipped bits in pictures", stream=_flipped),
        Attack("flipped bits in frames", stream=_flipped_frames),
        Attack("cut pictures", stream=_truncated),
        Attack("new parameter sets with each picture", stream=_changing_sets, patience_s=15.0),
        Attack("a picture of 65520x65520", stream=_giant_picture),
        Attack("time stands still", stream=_standstill, patience_s=15.0),
        Attack("time creeps", stream=_creeping, patience_s=15.0),
        Attack("time jumps with each picture", stream=_jumping),
        Attack("time goes up and down stairs", stream=_stairs),
        Attack("one byte at a time", stream=_drip),
        Attack("a picture without an end", stream=_endless_unit),
        Attack("reports without an end", stream=_reports),
    ]


def http_attacks(film, port: int) -> list[Attack]:
    """Every attack over HTTP."""
    ok = "200 OK\r\nContent-Type: video/mp4"
    large, mp4 = film_file(film, more=filler_nal(400_000, h265=False)), film_file(film, "mp4")

    async def same_again(visit: Visit) -> None:
        await forever(visit, large)

    redirects = [
        Attack(f"redirect to {to.partition(':')[0]}", http=http(f"302 Found\r\nLocation: {to}\r\nContent-Length: 0"))
        for to in (
            f"http://{ELSEWHERE}:{port}/latest/meta-data/",
            f"https://{ELSEWHERE}:{port}/x",
            f"rtsp://{ELSEWHERE}:{port}/x",
            "file:///etc/hostname",
            f"tcp://{ELSEWHERE}:{port}",
            f"//{ELSEWHERE}:{port}/x",
            "concat:/etc/hostname|/etc/hostname",
            "subfile,,start,0,end,9,,:/etc/hostname",
            "crypto:/etc/hostname",
            "data:video/mp4;base64,AAAA",
            f"gopher://{ELSEWHERE}:{port}/x",
        )
    ]
    lists = [Attack(f"a {kind} list", http=http(ok, body)) for kind, body in playlists(port).items()]
    return [
        *redirects,
        *lists,
        Attack("redirects in a ring", http=http("302 Found\r\nLocation: /again\r\nContent-Length: 0")),
        Attack("endless HTTP headers", http=_endless_http_headers),
        Attack("chunks without an end", http=http(f"{ok}\r\nTransfer-Encoding: chunked", then=_chunks)),
        Attack(
            "a chunk of 2^60", http=http(f"{ok}\r\nTransfer-Encoding: chunked", b"fffffffffffffff\r\n", then=_zeros)
        ),
        Attack(
            "a chunk's length without an end",
            http=http(f"{ok}\r\nTransfer-Encoding: chunked", then=_endless_chunk_line),
        ),
        Attack("a gzip bomb", http=_bomb),
        Attack("zeros without an end", http=http(ok, then=_zeros)),
        Attack("media in another file", http=http(ok, with_external_media(mp4))),
        Attack("a table of 4 GB", http=http(ok, mp4.replace(b"stsz", b"stsz", 1)[:500] + b"\xff" * 400 + mp4[900:])),
        Attack(
            "boxes in boxes",
            http=http(ok, mp4[:36] + b"".join(struct.pack(">I4s", 1 << 30, b"moov") for _ in range(90_000))),
        ),
        Attack("the same second for ever", http=http(ok, then=same_again), patience_s=15.0),
    ]
