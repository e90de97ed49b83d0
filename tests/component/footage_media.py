"""Small real mp4 files for the footage tests, made with PyAV: 10 pictures per second, a key picture per second."""

import functools
import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av

FPS = 10
FRAGMENTED = "frag_keyframe+empty_moov+default_base_moof"  # as the segment muxer of the recorder writes them


@functools.cache
def _source(codec, b_frames, sound):
    """Return an mp4 file of 6 s in memory, from which all others are remuxed."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as out:
        options = {
            "preset": "ultrafast",
            "x265-params": f"keyint={FPS}:min-keyint={FPS}:bframes={b_frames}:log-level=none",
        }
        if codec == "libx264":
            options = {
                "preset": "veryfast",
                "x264-params": f"keyint={FPS}:min-keyint={FPS}:bframes={b_frames}:scenecut=0:b-adapt=0",
            }
        video = out.add_stream(codec, rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        video.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number in range(6 * FPS):
            frame = av.VideoFrame(128, 96, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes((number * 3 + i * 7) % 251 for i in range(plane.buffer_size)))
            frame.pts, frame.time_base = number * 100, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            for number in range(6 * 8):
                frame = av.AudioFrame("fltp", "mono", 1024)
                frame.planes[0].update(bytes(frame.planes[0].buffer_size))
                frame.sample_rate, frame.pts = 8000, number * 1024
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return held.getvalue()


@functools.cache
def footage(seconds=4.0, movflags=FRAGMENTED, *, codec="libx264", b_frames=0, sound=False, skip=0):
    """Return an mp4 file of `seconds`; its first `skip` pictures lie before time zero (edit list)."""
    options = {"movflags": movflags} if movflags else {}
    # A real file: faststart reads back what it has written.
    with (
        tempfile.NamedTemporaryFile(suffix=".mp4") as made,
        av.open(io.BytesIO(_source(codec, b_frames, sound))) as source,
    ):
        with av.open(made.name, "w", format="mp4", options=options) as out:
            streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is None or packet.pts * packet.time_base >= seconds:
                    continue
                shift = int(Fraction(skip, FPS) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        return Path(made.name).read_bytes()
