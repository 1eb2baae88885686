"""From image files to what the network sees, and from its boxes back to the pixels of the image."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from sshconvert.arrays import Doubles, Pixels
from sshconvert.errors import ImageError
from sshconvert.libraries import PILLOW, importing
from sshconvert.reading import open_regular, state
from sshconvert.recognition import IMAGE, mistaken
from sshconvert.schema import one_line
from sshconvert.tasks.results import Detections
from sshtool.image_claims import Claims, check_exif, read_claims
from sshtool.memory import Budget

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Colour = tuple[int, int, int]

# Behind what is transparent. Grey, because on black a dark drawing disappears, and on white a light one.
BACKGROUND: Final[Colour] = (128, 128, 128)

# What photos and drawings come in. Pillow knows 30 more, which it decodes in slow Python, or leaves to others: EPS to
# Ghostscript, which it would start.
_FORMATS: Final = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
)

LARGEST_FILE: Final = 512 << 20

# For all images that are being decoded, in all threads together: dozens of photos, or a picture that takes more, alone.
MEMORY: Final = Budget(768 << 20)
MOST_MEMORY: Final = 1 << 30
# Bytes for a pixel of what is read, and for a pixel while it gets the size of the network's input.
_PIXEL: Final = 3
_FITTED: Final = 4
# What Pillow takes from the system at once. Smaller blocks of a large image would stay with the thread that freed them.
_BLOCK: Final = 64 << 20
# Pixels of a part of an image that is converted at once; up to 40 bytes each.
_PART: Final = 1 << 17
# Pixels between the two steps of a resize, if it went across first.
_LARGEST_BETWEEN: Final = 1 << 26

# Beyond so many pixels, a file has to have a byte for each ten thousand. Of an honest picture, a byte is good for some
# ten pixels, and for a thousand if it is almost empty.
_SMALL: Final = 1 << 24
_PIXELS_PER_BYTE: Final = 10_000

# How often a progressive JPEG may go over all its pixels: ten scans are usual, each of these takes up to half a second.
_MOST_SCANNED: Final = 2_000_000_000


def _as_it_is(image: Pixels) -> Pixels:
    return image


# A view of an upright image, [H, W, 3], in which it lies as it is stored, by the value of EXIF's orientation.
_TURNS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[:, ::-1],
}

_SIDEWAYS: Final = range(5, 9)


class Resize(StrEnum):
    """How an image gets the size of the network's input."""

    LETTERBOX = "letterbox"  # as large as fits, in its own proportions; the rest, right or below, is filled
    STRETCH = "stretch"  # to all of it, whatever becomes of the proportions


@dataclass(frozen=True)
class Placement:
    """Where an image of `height` x `width` lies in the network's input: from its upper left corner on, scaled.

    A coordinate is a position relative to pixel centres: pixel k reaches from k - 0.5 to k + 0.5, and image and input
    both begin at -0.5. So x_image = (x_input + 0.5) / scale - 0.5, for all four corners of a box alike.
    """

    height: int
    width: int
    scale_y: float
    scale_x: float

    def to_image(self, detections: Detections) -> Detections:
        """Move detections from the input to the image, with boxes clipped to its corner pixels.

        Detections whose boxes lie in the padding altogether have no place in the image and are left out.
        """
        moved = detections.moved(lambda points: (points + 0.5) / (self.scale_x, self.scale_y) - 0.5)
        left, top, _, _ = moved.boxes.T
        inside = (left < self.width - 0.5) & (top < self.height - 0.5)
        return moved[inside].clipped((self.height, self.width)).as_float32()


def read_image(path: Path) -> Pixels:
    """Read an image file of any mode as uint8 [H, W, 3], BGR, upright as its EXIF orientation says.

    Of an animation, this is the first frame. What is transparent lets `BACKGROUND` through. 16-bit, 32-bit and
    floating-point grey is scaled to 8 bits; see `_to_8_bits`. Colour profiles are not applied.

    Raises ImageError if the file cannot be read as an image or is too large, RuntimeUnavailableError without Pillow.
    """
    with reading(path) as image:
        return image


@contextmanager
def reading(path: Path) -> Iterator[Pixels]:
    """`read_image` for threads: until the block ends, its memory is reserved, for `fit` too, and other threads wait for
    theirs. A thread reads one image at a time. Raises as `read_image` does.
    """
    _pillow()
    with ExitStack() as stack:
        file = stack.enter_context(_open(path))
        with _decoding_errors(path):
            claims = _checked_claims(file)
            stack.enter_context(MEMORY.reserved(_memory(claims)))
            image = _decode(file, claims)
        yield image


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of what `read_image` would return, from the file's beginning alone. Raises as it does."""
    _pillow()
    from PIL import ExifTags

    with _open(path) as file, _decoding_errors(path):
        claims = _checked_claims(file)
        with MEMORY.reserved(_memory(claims)), _opened(file, claims) as image:
            width, height = image.size
            lies = image.getexif().get(ExifTags.Base.Orientation, 1) in _SIDEWAYS
    return (width, height) if lies else (height, width)


def readable_extensions() -> frozenset[str]:
    """Extensions of the formats that can be read, in lower case and with the dot.

    Raises RuntimeUnavailableError without Pillow.
    """
    formats = _formats()
    return frozenset(name.lower() for name, kind in _pillow().registered_extensions().items() if kind in formats)


def fit(image: Pixels, height: int, width: int, resize: Resize, padding: Colour) -> tuple[Pixels, Placement]:
    """Give an image, uint8 [H, W, 3], the size of the network's input, and say where it lies there.

    A letterboxed image lies in the upper left corner, so that nothing has to be added to its coordinates; `padding`
    fills the rest. An image that has the size already stays as it is, to the byte.
    """
    image_height, image_width = image.shape[:2]
    used_height, used_width = height, width
    if resize is Resize.LETTERBOX:
        scale = min(height / image_height, width / image_width)
        used_height, used_width = (max(1, round(size * scale)) for size in (image_height, image_width))
    placement = Placement(image_height, image_width, used_height / image_height, used_width / image_width)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = padding
    canvas[:used_height, :used_width] = _resized(image, used_height, used_width)
    return canvas, placement


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    """Bicubic, over all the pixels that a new one covers: a large photo becomes neither noise nor soft.

    Upstream interpolates between the nearest pixels only and so knows sharp images; bilinear over all is softer.
    """
    if image.shape[:2] == (height, width):
        return image
    source = _pillow().fromarray(np.ascontiguousarray(image))  # the order of the channels is all the same here
    if image.shape[0] * width > _LARGEST_BETWEEN:  # Pillow would go across first
        source = source.resize((image.shape[1], height), _pillow().Resampling.BICUBIC)
    return np.asarray(source.resize((width, height), _pillow().Resampling.BICUBIC))


def _open(path: Path) -> BinaryIO:
    try:
        file = open_regular(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); name an image file") from None
    size = state(file)[0]
    if size > LARGEST_FILE:
        file.close()
        raise ImageError(f"{path}: has {size} bytes, more than any image that can be read; scale it down")
    return file


def _checked_claims(file: BinaryIO) -> Claims:
    """What the image claims, held against the file, before it is decoded. Raises ValueError, and Pillow's of a bomb."""
    from PIL import UnidentifiedImageError

    size = state(file)[0]
    claims = read_claims(file, size)
    if not claims.width or not claims.height:
        raise UnidentifiedImageError
    pixels, said = claims.width * claims.height, f"{claims.width}x{claims.height} pixels"
    if _pillow().MAX_IMAGE_PIXELS is not None and pixels > _pillow().MAX_IMAGE_PIXELS:
        raise _pillow().DecompressionBombError
    if pixels > max(_SMALL, size * _PIXELS_PER_BYTE):
        raise ValueError(f"it claims {said} in {size} bytes")
    if claims.scans * pixels > _MOST_SCANNED:
        raise ValueError(f"it goes over {said} {claims.scans} times")
    if (needed := _memory(claims)) > MOST_MEMORY:
        raise ValueError(f"{said} of its kind take {needed >> 20} MB to decode, {MOST_MEMORY >> 20} are allowed")
    return claims


def _memory(claims: Claims) -> int:
    """What decoding an image takes at most, and what making it smaller takes afterwards."""
    pixels = claims.width * claims.height
    return (
        max(claims.pixel_bytes * pixels + claims.beside, _FITTED * pixels) + _PIXEL * pixels + 40 * min(pixels, _PART)
    )


@contextmanager
def _opened(file: BinaryIO, claims: Claims) -> Iterator[PillowImage.Image]:
    file.seek(0)
    formats = tuple(name for name in claims.formats if name in _formats())
    with _pillow().open(file, formats=formats) as image:
        _check_size(image, claims)
        check_exif(image.info.get("exif") or b"")
        yield image


def _decode(file: BinaryIO, claims: Claims) -> Pixels:
    with _opened(file, claims) as image:
        image.load()  # before the orientation is read: Pillow turns TIFF itself, and then forgets its orientation
        _check_size(image, claims)
        return _to_bgr(image, _orientation(image))


def _check_size(image: PillowImage.Image, claims: Claims) -> None:
    """Raises ValueError if the image is larger than the memory that was reserved for it."""
    if image.width * image.height > claims.width * claims.height:
        raise ValueError(f"it claims {claims.width}x{claims.height} pixels and has {image.width}x{image.height}")


def _orientation(image: PillowImage.Image) -> int:
    # Not ImageOps.exif_transpose: it writes the other EXIF tags again, and fails where one of them is malformed.
    from PIL import ExifTags

    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  # broken EXIF: a dozen kinds; the pixels are whole, and viewers show them as they lie
        return 1


def _to_bgr(image: PillowImage.Image, orientation: int) -> Pixels:
    """An image of any mode as uint8 [H, W, 3], BGR, turned upright, and made of one part after another."""
    lies = orientation in _SIDEWAYS
    upright = np.empty((image.width, image.height, 3) if lies else (image.height, image.width, 3), np.uint8)
    stored = _TURNS.get(orientation, _as_it_is)(upright)
    convert = _deep_converter(image) if image.mode in ("I", "F") or image.mode.startswith("I;16") else _to_rgb
    for rows, columns, part in _parts(image):
        stored[rows, columns] = convert(part)[..., ::-1]
    return upright


def _parts(image: PillowImage.Image) -> Iterator[tuple[slice, slice, PillowImage.Image]]:
    across = min(image.width, _PART)
    down = max(1, _PART // across)
    for top in range(0, image.height, down):
        for left in range(0, image.width, across):
            right, bottom = min(left + across, image.width), min(top + down, image.height)
            yield slice(top, bottom), slice(left, right), image.crop((left, top, right, bottom))


def _to_rgb(image: PillowImage.Image) -> Pixels:
    if image.has_transparency_data:
        behind = _pillow().new("RGBA", image.size, (*BACKGROUND, 255))
        behind.alpha_composite(image.convert("RGBA"))
        image = behind
    return np.asarray(image.convert("RGB"))


def _deep_converter(image: PillowImage.Image) -> Callable[[PillowImage.Image], Pixels]:
    """How to scale grey values of more than 8 bits to 0-255: from a part of the image to uint8 [H, W, 1].

    16 bits are scaled from 0-65535. Mode I is 16 bits in 32, as Pillow reads some formats, and mode F is 0-1 or 0-255
    by custom; only where the values leave those ranges are they scaled from their own smallest to their largest.
    """
    ends = [(float(grey.min()), float(grey.max())) for grey in map(_grey, (part for _, _, part in _parts(image)))]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    customary = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    if low >= 0 and high <= customary[-1]:
        low, high = 0.0, next(top for top in customary if high <= top)

    def convert(part: PillowImage.Image) -> Pixels:
        return np.rint((_grey(part) - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)[..., None]

    return convert


def _grey(part: PillowImage.Image) -> Doubles:
    return np.nan_to_num(np.asarray(part).astype(np.float64), posinf=0, neginf=0)


class _BombsRaised:
    """While anybody is inside, Pillow's warning of a bomb is raised, and no other is heard.

    Filters of warnings are the process's, not a thread's. So the first to come in sets them, and the last to go takes
    them back: had each its own, one would take back those of another that is still decoding.
    """

    def __init__(self) -> None:
        self._inside, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")  # of odd metadata; what matters is raised
                warnings.simplefilter("error", _pillow().DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_bombs_raised: Final = _BombsRaised()


@contextmanager
def _decoding_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow raises, and warns of, into ImageError."""
    from PIL import UnidentifiedImageError

    with _bombs_raised:
        try:
            yield
        except UnidentifiedImageError:
            if what := mistaken(path, IMAGE):
                raise _no_image(path, what) from None
            raise ImageError(f"{path}: is not an image of a format that can be read; convert it to PNG") from None
        except (_pillow().DecompressionBombWarning, _pillow().DecompressionBombError, MemoryError):
            most = f"more than {_pillow().MAX_IMAGE_PIXELS} pixels, or than fit in memory"
            raise ImageError(f"{path}: is too large ({most}); scale it down") from None
        except Exception as error:  # noqa: BLE001  # a dozen kinds, one for each way in which a decoder can fail
            if what := mistaken(path, IMAGE):
                raise _no_image(path, what) from None
            raise ImageError(
                f"{path}: is damaged, or of a kind that cannot be decoded ({one_line(error)}); export it again as PNG"
            ) from None


def _no_image(path: Path, what: str) -> ImageError:
    return ImageError(f"{path}: is {what}, and no image; name an image file")


@cache
def _formats() -> tuple[str, ...]:
    from PIL import _imaging

    _pillow().init()
    _imaging.set_block_size(_BLOCK)  # as the environment's PILLOW_BLOCK_SIZE would
    return tuple(name for name in _pillow().ID if name in _FORMATS)


def _pillow() -> ModuleType:
    """The module `PIL.Image`. Raises RuntimeUnavailableError without Pillow."""
    with importing(PILLOW):
        from PIL import Image
    return Image
