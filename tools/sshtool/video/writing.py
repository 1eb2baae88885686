"""Videos with the boxes drawn: MP4 with H.264, without sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sshconvert.errors import VideoError
from sshconvert.files import staged
from sshconvert.libraries import AV, importing
from sshconvert.schema import one_line

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_ENCODER: Final = "libx264"
_OPTIONS: Final = {"preset": "veryfast", "crf": "20"}
_THREADS: Final = 4  # always: the bytes depend on it
_BT709, _LIMITED = 1, 1


def encodable(picture: PillowImage.Image) -> Any:
    """Return a picture, RGB, as the frame of PyAV that `VideoWriter.write` takes. Any thread may call it.

    H.264 with halved colours, which every player shows, has even sizes only; others keep all colours.
    """
    with importing(AV):
        import av
    form = "yuv444p" if picture.width % 2 or picture.height % 2 else "yuv420p"
    frame = av.VideoFrame.from_image(picture)
    return frame.reformat(format=form, dst_colorspace=_BT709, dst_color_range=_LIMITED)


class VideoWriter:
    """Writes frames of one size, as they come."""

    def __init__(self, path: Path, container: Any, time_base: Fraction, rate: Fraction, aspect: Fraction) -> None:
        self._path, self._container, self._time_base = path, container, time_base
        self._rate, self._aspect = rate, aspect
        self._stream: Any = None
        self._size, self._ticks = (0, 0), -1

    def write(self, frame: Any, ticks: int) -> None:
        """Write a frame of `encodable` at its time, in units of the time base, from 0 on.

        A time that is not after that of the frame before is one unit after it: a video knows no other.

        Raises VideoError for a frame of another size than the first, and OutputError if the file cannot be written.
        """
        size = frame.width, frame.height
        if self._stream is None:
            self._stream, self._size = self._begin(frame), size
        if size != self._size:
            sizes = f"{size[0]}x{size[1]} pixels after {self._size[0]}x{self._size[1]}"
            raise VideoError(f"{self._path}: the frames change their size ({sizes}); detect without --save-images")
        self._ticks = max(ticks, self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, self._time_base
        self._mux(frame)

    def finish(self) -> None:
        """Write what the encoder holds."""
        self._mux(None)

    def _begin(self, frame: Any) -> Any:
        stream = self._container.add_stream(_ENCODER, rate=self._rate.limit_denominator(1 << 30))
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        context.thread_count = _THREADS
        stream.options = _OPTIONS
        return stream

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


@contextmanager
def written(path: Path, time_base: Fraction, rate: Fraction, aspect: Fraction) -> Iterator[VideoWriter]:
    """Write a video, which appears at the end of the block, or not at all if the block raises.

    The same frames give the same bytes. Raises OutputError if it cannot be written, and VideoError if this FFmpeg
    cannot encode.
    """
    with importing(AV):
        import av
    if _ENCODER not in av.codecs_available:
        raise VideoError(f"{path}: this FFmpeg has no encoder {_ENCODER}; {AV.remedy}, or detect without --save-images")
    with staged(path) as part:
        try:
            with av.open(str(part), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
                writer = VideoWriter(path, container, time_base, rate, aspect)
                yield writer
                writer.finish()
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # the disk is full
                raise
            remedy = "detect without --save-images"
            raise VideoError(f"{path}: cannot be encoded ({one_line(error)}); {remedy}") from None
