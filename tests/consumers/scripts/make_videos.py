"""Makes videos with PyAV: `make_videos.py FOLDER`. Prints the times of the frames of `TIMES`, in seconds."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 96, 80
TIMES = (0, 40, 100, 120, 300, 340, 500, 1000)  # milliseconds: a variable rate
MILLISECOND = Fraction(1, 1000)
# a, b, c and d of the display matrix of a video from an upright phone: x' = a x + c y, y' = b x + d y.
QUARTER = (0, 65536, -65536, 0)


def pixels(number: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """An image of blocks, RGB, that differs from all others."""
    random = np.random.default_rng(number)
    blocks = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def make(
    path: Path,
    codec: str,
    times: Sequence[int] = TIMES,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    title: str = "",
) -> None:
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = MILLISECOND
        stream.options = options or {}
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(pixels(number % 8, *size), format="rgb24")
            frame.pts, frame.time_base = time, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def turned(path: Path, source: Path) -> None:
    """Give an MP4 file the display matrix of a phone that was held upright."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = QUARTER
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def damaged(path: Path, source: Path) -> None:
    """Replace one packet in the middle by rubbish."""
    with av.open(str(source)) as container:
        packets = sorted((packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)
    data = bytearray(source.read_bytes())
    place, size = packets[4]
    data[place : place + size] = bytes(255 - number % 256 for number in range(size))
    path.write_bytes(data)


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def hostile(folder: Path, good: Path) -> None:
    folder.mkdir()
    data = good.read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "picture.mp4").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
    (folder / "head.mp4").write_bytes(data[:40])
    transport = good.with_suffix(".ts").resolve()
    for name in ("playlist.mp4", "playlist.ts"):
        (folder / name).write_text(
            f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{transport}\n#EXT-X-ENDLIST\n"
        )
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {transport.name}\n")
    (folder / transport.name).write_bytes(transport.read_bytes())
    (folder / "dash.mp4").write_text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" width="96" height="80">'
        "<BaseURL>other.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    (folder / "session.mp4").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    sound(folder / "sound.mp4")
    with av.open(str(folder / "frameless.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        container.start_encoding()
    make(folder / "huge.avi", "rawvideo", (0,), pixel_format="bgr24")
    huge = bytearray((folder / "huge.avi").read_bytes())
    place = huge.index(b"strf") + 12
    huge[place : place + 8] = struct.pack("<2i", 60_000, 60_000)
    (folder / "huge.avi").write_bytes(huge)
    make(folder / "codec.avi", "snow", (0,), options={"strict": "-2"})


def main(folder: Path) -> None:
    for name, codec in (
        ("clip.mp4", "libx264"),
        ("clip.mkv", "libx264"),
        ("clip.ts", "libx264"),
        ("clip.mov", "mpeg4"),
        ("clip.avi", "mpeg4"),
        ("clip.webm", "libvpx-vp9"),
    ):
        make(folder / name, codec, options={"deadline": "realtime"} if "vp9" in codec else {})
    make(folder / "odd.mkv", "ffv1", TIMES[:3], size=(67, 51), pixel_format="bgr0")
    turned(folder / "turned.mp4", folder / "clip.mp4")
    make(folder / "reordered.avi", "libx264", range(0, 320, 40))
    make(folder / "plain.mp4", "mpeg4", range(0, 320, 40))
    damaged(folder / "damaged.mp4", folder / "plain.mp4")
    for name in ("clip.mkv", "clip.avi"):
        data = (folder / name).read_bytes()
        (folder / f"cut{name[4:]}").write_bytes(data[: len(data) // 2])
    make(folder / "titled.mp4", "libx264", (0,), title="TITLE")
    data = (folder / "titled.mp4").read_bytes()
    (folder / "titled.mp4").write_bytes(data.replace(b"TITLE", b"TIT\xe9\xff"))
    for count in (30, 330):
        make(folder / f"long{count}.mp4", "mpeg4", range(0, 40 * count, 40), size=(640, 480))
    hostile(folder / "hostile", folder / "clip.mp4")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print(json.dumps([time / 1000 for time in TIMES]))  # noqa: T201  # a script
