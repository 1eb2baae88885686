"""Frames of a video file or camera, one after another, decoded by FFmpeg through PyAV.

A video is untrusted: only containers and codecs of the lists below are opened, none of which refers to other files, and
FFmpeg reads the file through Python, so no name in it becomes a path or an address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.errors import VideoError
from sshconvert.libraries import AV, importing
from sshconvert.reading import open_regular
from sshconvert.recognition import mistaken
from sshconvert.schema import one_line
from sshtool.stores import ImageFile, StoredFile
from sshtool.video.extent import missing_bytes
from sshtool.video.naming import device_of, is_camera

CONTAINERS: Final = ("mov", "matroska", "avi", "mpegts", "mpeg", "asf", "flv", "ogg", "mxf")
CODECS: Final = (
    *("h264", "hevc", "vvc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mpeg2video", "mpeg1video", "h263", "mjpeg"),
    *("theora", "flv", "vp6", "vp6f", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1"),
    *("prores", "dnxhd", "ffv1", "huffyuv", "dvvideo", "rawvideo"),
)
# Of a frame: the most that level 6.2 of H.264, HEVC and AV1 allows, 8192x4352.
MOST_PIXELS: Final = 35_651_584

_TIMEOUT: Final = 20.0  # seconds without a frame of a camera
_HD: Final = 720  # rows, from which on players take BT.709 for a video that does not state its colours
_UNSPECIFIED: Final = 2
_BT709: Final = 1
_MICRO: Final = 1_000_000  # FFmpeg's units of a container's start and duration


@dataclass(frozen=True)
class Frame:
    """A frame, as it was decoded.

    Attributes:
        number: Its place among the frames of the video, from 0.
        ticks: Its time since the start of the video, in units of `Video.time_base`.
        time: The same in seconds.
        turn: The matrix that turns it upright: a, b, c, d of x' = a x + c y and y' = b x + d y. Of other than right
            angles, the nearest one counts.

    """

    number: int
    ticks: int
    time: float
    turn: tuple[int, int, int, int]
    picture: Any = field(repr=False)  # of PyAV

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        height, width = self.picture.height, self.picture.width
        return (width, height) if self.is_sideways else (height, width)

    @property
    def is_sideways(self) -> bool:
        """Whether width and height of the stored frame are exchanged."""
        a, b, _, _ = self.turn
        return abs(b) > abs(a)

    def pixels(self) -> Pixels:
        """Return the pixels, uint8 [H, W, 3], BGR, upright. Any number of threads may call it. Raises VideoError."""
        picture = self.picture
        colours = {"src_colorspace": _BT709} if self._is_unstated_hd else {}
        try:
            image: Pixels = picture.to_ndarray(format="bgr24", **colours)
        except _failures() as error:
            raise VideoError(f"cannot be converted ({_reason(error)}); export the video again") from None
        a, b, c, d = self.turn
        across, down = (c, b) if self.is_sideways else (a, d)
        if self.is_sideways:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])

    @property
    def _is_unstated_hd(self) -> bool:
        picture = self.picture
        is_yuv = str(picture.format.name).startswith("yuv")
        return bool(is_yuv and picture.colorspace == _UNSPECIFIED and picture.height >= _HD)


@dataclass(frozen=True)
class Damaged:
    """A frame that cannot be decoded, with the time that the container states, or None."""

    number: int
    time: float | None
    problem: str


@dataclass(frozen=True)
class Video:
    """An open video file or camera.

    Attributes:
        name: The file, or the argument that names the camera.
        time_base: The unit of `Frame.ticks` in seconds.
        rate: Frames per second on average, as the container states.
        total: The number of frames, 0 if it is unknown. It may be an estimate.
        aspect: The width of a pixel by its height, as the frames are stored.

    """

    name: ImageFile
    time_base: Fraction
    rate: Fraction
    total: int
    aspect: Fraction
    _container: Any = field(repr=False)
    _stream: Any = field(repr=False)

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield each frame in the order in which it is shown, when it is decoded.

        A frame without a timestamp follows the one before it at the average rate. Reading goes on after a damaged
        frame. Damage that the decoder does not notice is not reported.

        Raises VideoError, where the file cannot be read any further, and at the end of one without frames.
        """
        number, decoded, ticks = 0, 0, None
        start, waiting = self._start, _Waiting()
        step = max(1, round(1 / (self.rate * self.time_base)))
        for packet in self._packets():
            if self._states_decoding:
                waiting.add(packet.dts)
            try:
                pictures = packet.decode()
            except _failures() as error:
                if isinstance(error, EOFError):
                    break
                waiting.remove(packet.dts)
                time = None if packet.pts is None else self._seconds(packet.pts - (start or 0))
                yield Damaged(number, time, _reason(error))
                number += 1
                continue
            for picture in pictures:
                stated = picture.pts if picture.pts is not None else picture.dts
                stated = waiting.next(stated)
                if start is None:
                    start = stated or 0
                ticks = stated - start if stated is not None else 0 if ticks is None else ticks + step
                time = self._seconds(ticks)
                if picture.is_corrupt:
                    yield Damaged(number, time, "it is damaged")
                else:
                    yield Frame(number, ticks, time, _turn_of(picture), picture)
                    decoded += 1
                number += 1
        if not decoded:
            raise VideoError(f"{self.name}: holds no frame that can be decoded; export it again as MP4 with H.264")

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            with _errors_of(self.name):
                packet = next(packets, None)
            if packet is None:
                return
            yield packet

    @property
    def _states_decoding(self) -> bool:
        """Whether the container states when frames are decoded, not when they are shown."""
        return bool(self._container.format.name == "avi")

    @property
    def _start(self) -> int | None:
        """The start of the container, which players show as 0, in units of `time_base`; None if it states none."""
        start = self._container.start_time
        return None if start is None else round(Fraction(start, _MICRO) / self.time_base)

    def _seconds(self, ticks: int) -> float:
        return round(float(ticks * self.time_base), 6)


class _Waiting:
    """The times of AVI's packets that have not come out of the decoder.

    Frames come out in the order in which they are shown, so the next frame has the earliest of these times.
    """

    def __init__(self) -> None:
        self._times: list[int] = []

    def add(self, time: int | None) -> None:
        if time is not None:
            heappush(self._times, time)

    def remove(self, time: int | None) -> None:
        if time in self._times:
            self._times.remove(time)
            heapify(self._times)

    def next(self, stated: int | None) -> int | None:
        """The earliest time, or the stated one if there is none."""
        return heappop(self._times) if self._times else stated


@contextmanager
def open_video(name: ImageFile) -> Iterator[Video]:
    """Open a video file, or a camera, for the block.

    Raises:
        VideoError: The file is not a video that is read, is damaged or too large; the camera does not answer.
        UsageError: The argument names no camera.
        RuntimeUnavailableError: PyAV is not installed.

    """
    with importing(AV):
        import av
    av.logging.set_level(None)
    encoding = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}  # later its default
    with ExitStack() as stack:
        if is_camera(name):
            library, device = device_of(str(name))
            with _errors_of(name):
                container = av.open(device, format=library, timeout=_TIMEOUT, **encoding)
        else:
            file = _opened(name)
            stack.enter_context(file)
            options = {
                "format_whitelist": ",".join(CONTAINERS),
                "codec_whitelist": ",".join(CODECS),
                "protocol_whitelist": "none",
                "max_pixels": str(MOST_PIXELS),
            }
            with _errors_of(name):
                container = av.open(file, options=options, io_open=_refuse, **encoding)
        stack.enter_context(closing(container))
        with _errors_of(name):
            video = _video(name, container)
        yield video


def missing(name: ImageFile) -> str:
    """Say how much of a video file is missing at its end; "" if nothing is, or if it is unknown."""
    if is_camera(name):
        return ""
    with _opened(name) as file:
        lacking = missing_bytes(file)
    return f"{name}: is cut off, {lacking} bytes are missing; copy or download it again" if lacking else ""


def _video(name: ImageFile, container: Any) -> Video:
    stream = container.streams.best("video")
    if stream is None or stream.disposition & stream.disposition.attached_pic:
        raise VideoError(f"{name}: holds no video; name a video file")
    context = stream.codec_context
    if not is_camera(name):
        codec = "of its frames" if context is None else context.name  # None: FFmpeg has no decoder
        if codec not in CODECS:
            raise VideoError(f"{name}: the codec {codec} is not read; export it as MP4 with H.264")
        if context.width * context.height > MOST_PIXELS:
            size = f"{context.width}x{context.height} pixels, at most {MOST_PIXELS} are read"
            raise VideoError(f"{name}: is too large ({size}); scale it down")
        # The decoder's other options stay as they are: `err_detect=explode` refuses frames that every player skips or
        # shows, such as the first ones of a recording that begins between two key frames.
        context.options = {"max_pixels": str(MOST_PIXELS)}
    time_base = _fraction(stream.time_base) or Fraction(1, _MICRO)
    rate = _fraction(stream.average_rate) or Fraction(25)
    return Video(name, time_base, rate, _total(container, stream, rate), _aspect(context), container, stream)


def _total(container: Any, stream: Any, rate: Fraction) -> int:
    if stream.frames > 0:
        return int(stream.frames)
    duration = container.duration
    return round(Fraction(duration, _MICRO) * rate) if duration and duration > 0 else 0


def _aspect(context: Any) -> Fraction:
    return _fraction(context.sample_aspect_ratio) or Fraction(1)


def _fraction(value: Any) -> Fraction | None:
    """A positive fraction of PyAV's, which has had two types; None for one that is missing or meaningless."""
    if value is None or value.denominator <= 0 or value.numerator <= 0:
        return None
    return Fraction(value.numerator, value.denominator)


def _turn_of(picture: Any) -> tuple[int, int, int, int]:
    """The first two columns of the display matrix (ISO/IEC 14496-12, 6.2.2)."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) != 36:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))
    return a, b, c, d


def _opened(name: ImageFile) -> Any:
    if isinstance(name, StoredFile):
        raise VideoError(f"{name}: videos are read from files; get it from the store first")
    try:
        return open_regular(name)
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({error.strerror}); name a video file") from None


def _refuse(*_: object) -> Any:
    raise PermissionError("a video opens no other file")


@cache
def _failures() -> tuple[type[Exception], ...]:
    """What PyAV raises for a file that it cannot read, also from its own Python code."""
    import av

    return av.FFmpegError, OSError, ValueError, MemoryError


@contextmanager
def _errors_of(name: ImageFile) -> Iterator[None]:
    """Turn the errors of PyAV into VideoError."""
    try:
        yield
    except _failures() as error:
        if is_camera(name):
            problem = f"cannot be read ({_reason(error)}); check that the camera is there and free"
        elif isinstance(name, Path) and (kind := mistaken(name, "")):
            problem = f"is {kind}, and no video; name a video file"
        elif lacking := missing(name):
            raise VideoError(lacking) from None
        else:
            problem = f"is damaged, or of a kind that is not read ({_reason(error)}); export it as MP4 with H.264"
        raise VideoError(f"{name}: {problem}") from None


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without its number and function."""
    return one_line(getattr(error, "strerror", None) or error)
