"""Reading image files, fitting images to the network's input, and mapping detections back to the image."""

from __future__ import annotations

import io
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
from sshconvert.reading import open_regular
from sshconvert.recognition import IMAGE, mistaken
from sshconvert.schema import one_line
from sshconvert.tasks.results import Detections
from sshtool.bilinear import resize
from sshtool.image_claims import Claims, check_exif, read_claims
from sshtool.memory import Budget
from sshtool.stores import ImageFile, StoredFile

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Colour = tuple[int, int, int]

# Behind transparent pixels. On grey, both dark and light drawings stay visible.
BACKGROUND: Final[Colour] = (128, 128, 128)

# Formats of photos and drawings. Pillow knows 30 more, but decodes them in slow Python or starts other programs
# (Ghostscript for EPS).
_FORMATS: Final = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
)

LARGEST_FILE: Final = 512 << 20

# Bytes that all threads together use for decoding: dozens of photos. A larger picture waits until it is alone.
MEMORY: Final = Budget(768 << 20)
MOST_MEMORY: Final = 1 << 30  # bytes for one picture
_PIXEL: Final = 3  # bytes of a pixel of the result
_FITTED: Final = 4  # bytes of a pixel during a resize
# Bytes that Pillow allocates at a time. Smaller blocks of a large image would stay with the thread that freed them.
_BLOCK: Final = 64 << 20
# Pixels to convert at a time, of up to 40 bytes each.
_PART: Final = 1 << 17
# Pixels of the intermediate image of a resize.
_LARGEST_BETWEEN: Final = 1 << 26

# A file of more than `_SMALL` pixels has at least one byte per `_PIXELS_PER_BYTE`. Usual pictures have one per ten
# pixels, and almost empty ones one per thousand.
_SMALL: Final = 1 << 24
_PIXELS_PER_BYTE: Final = 10_000

# Pixels times scans of a progressive JPEG. Ten scans are usual; the limit takes some seconds.
_MOST_SCANNED: Final = 2_000_000_000

# A view of an upright image, [H, W, 3], in the stored orientation, by the value of EXIF's orientation.
_TURNS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[:, ::-1],
}

_SIDEWAYS: Final = range(5, 9)
_ORIENTATION: Final = 274  # EXIF's tag


class Resize(StrEnum):
    """How an image gets the size of the network's input."""

    LETTERBOX = "letterbox"  # keeps the proportions and pads the right or the bottom
    STRETCH = "stretch"  # fills the input and changes the proportions


@dataclass(frozen=True)
class Placement:
    """The place of an image of `height` x `width` in the network's input: scaled, at the upper left corner.

    Coordinates of boxes that include their corner pixels are relative to pixel centres: pixel k covers k - 0.5 to
    k + 0.5, and image and input begin at -0.5. Therefore x_image = (x_input + 0.5) / scale - 0.5. Coordinates of other
    boxes begin at 0.

    With `is_model_apis`, the image lies at `left` and `top`, and x_image = (x_input - left) / scale for all boxes.
    """

    height: int
    width: int
    scale_y: float
    scale_x: float
    left: int = 0
    top: int = 0
    is_model_apis: bool = False

    def to_image(self, detections: Detections, last_pixel: int = 1) -> Detections:
        """Move detections from the input to the image and clip their boxes. Drops detections in the padding.

        `last_pixel` is 1 for boxes with the corner pixels included, otherwise 0.
        """
        half = 0 if self.is_model_apis else last_pixel / 2
        scale, corner = (self.scale_x, self.scale_y), (self.left, self.top)
        moved = detections.moved(lambda points: (points - corner + half) / scale - half)
        left, top, right, bottom = moved.boxes.T
        inside = (left < self.width - half) & (top < self.height - half) & (right >= -half) & (bottom >= -half)
        return moved[inside].clipped((self.height, self.width), last_pixel).as_float32()


def read_image(path: ImageFile) -> Pixels:
    """Read an image file of any mode as uint8 [H, W, 3], BGR, upright as its EXIF orientation says.

    Reads the first frame of an animation, blends transparent pixels with `BACKGROUND`, scales 16-bit, 32-bit and
    floating-point grey to 8 bits (see `_deep_converter`), and ignores colour profiles.

    Raises:
        ImageError: The file is not an image that Pillow can read, or is too large.
        RuntimeUnavailableError: Pillow is not installed.

    """
    with reading(path) as image:
        return image


def pixels_of(image: PillowImage.Image) -> Pixels:
    """Return an image that Pillow has opened as `read_image` does."""
    return _to_bgr(image, _orientation(image))


@contextmanager
def reading(path: ImageFile) -> Iterator[Pixels]:
    """`read_image` for threads: reserves the memory of the image, and of `fit`, for the block.

    Other threads wait for theirs. A thread reads one image at a time. Raises what `read_image` raises.
    """
    _pillow()
    with ExitStack() as stack:
        file = stack.enter_context(_open(path))
        with _decoding_errors(path):
            claims = _checked_claims(file)
            stack.enter_context(MEMORY.reserved(_memory(claims)))
            image = _decode(file, claims)
        yield image


def read_size(path: ImageFile) -> tuple[int, int]:
    """Height and width of the image that `read_image` returns, without decoding it. Raises what `read_image` raises."""
    _pillow()
    with _open(path) as file, _decoding_errors(path):
        claims = _checked_claims(file)
        with MEMORY.reserved(_memory(claims)), _opened(file, claims) as image:
            width, height = image.size
            is_sideways = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
    return (width, height) if is_sideways else (height, width)


def readable_extensions() -> frozenset[str]:
    """File extensions of the readable formats, in lower case and with the dot.

    Raises RuntimeUnavailableError without Pillow.
    """
    formats, extensions = _formats(), _pillow().registered_extensions()
    return frozenset(extension.lower() for extension, name in extensions.items() if name in formats)


def fit(image: Pixels, height: int, width: int, resize: Resize, padding: Colour) -> tuple[Pixels, Placement]:
    """Resize an image, uint8 [H, W, 3], to the network's input, and return its placement there.

    A letterboxed image starts at the upper left corner, which keeps coordinates free of offsets; `padding` fills the
    remaining pixels. An image of the right size keeps its bytes.
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


def fit_as_model_api(image: Pixels, height: int, width: int, padding: int) -> tuple[Pixels, Placement]:
    """Resize an image, uint8 [H, W, 3], as Model API does for `fit_to_window_letterbox`, and return its placement.

    The image lies in the middle, half a pixel higher or further left if need be, among pixels of the value `padding`.
    The filter is bilinear without antialiasing.
    """
    image_height, image_width = image.shape[:2]
    scale = min(width / image_width, height / image_height)
    used_height, used_width = (max(1, round(size * scale)) for size in (image_height, image_width))
    top, left = (height - used_height) // 2, (width - used_width) // 2
    canvas = np.full((height, width, 3), padding, np.uint8)
    scales = used_height / image_height, used_width / image_width
    canvas[top : top + used_height, left : left + used_width] = resize(image, (used_height, used_width), *scales)
    return canvas, Placement(image_height, image_width, scale, scale, left, top, is_model_apis=True)


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    """Resize with an antialiasing bicubic filter, which keeps a large photo free of noise and sharp.

    Upstream interpolates between the nearest pixels, so its network knows sharp images; an antialiasing bilinear filter
    is softer.
    """
    if image.shape[:2] == (height, width):
        return image
    source = _pillow().fromarray(np.ascontiguousarray(image))  # the channel order does not matter here
    if image.shape[0] * width > _LARGEST_BETWEEN:  # Pillow resizes the width first
        source = source.resize((image.shape[1], height), _pillow().Resampling.BICUBIC)
    return np.asarray(source.resize((width, height), _pillow().Resampling.BICUBIC))


def _open(path: ImageFile) -> BinaryIO:
    if isinstance(path, StoredFile):
        return io.BytesIO(path.read(LARGEST_FILE))
    try:
        file = open_regular(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); name an image file") from None
    size = _size(file)
    if size > LARGEST_FILE:
        file.close()
        raise ImageError(f"{path}: has {size} bytes, more than any image that can be read; scale it down")
    return file


def _size(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def _checked_claims(file: BinaryIO) -> Claims:
    """The image's claims, compared with the file's size. Raises ValueError, and Pillow's DecompressionBombError."""
    from PIL import UnidentifiedImageError

    size = _size(file)
    claims = read_claims(file, size)
    if not claims.width or not claims.height:
        raise UnidentifiedImageError
    pixels, claimed = claims.width * claims.height, f"{claims.width}x{claims.height} pixels"
    if _pillow().MAX_IMAGE_PIXELS is not None and pixels > _pillow().MAX_IMAGE_PIXELS:
        raise _pillow().DecompressionBombError
    if pixels > max(_SMALL, size * _PIXELS_PER_BYTE):
        raise ValueError(f"it claims {claimed} in {size} bytes")
    if claims.scans * pixels > _MOST_SCANNED:
        raise ValueError(f"it goes over {claimed} {claims.scans} times")
    if (needed := _memory(claims)) > MOST_MEMORY:
        raise ValueError(f"{claimed} of its kind take {needed >> 20} MB to decode, {MOST_MEMORY >> 20} are allowed")
    return claims


def _memory(claims: Claims) -> int:
    """Bytes for decoding an image and then resizing it."""
    pixels = claims.width * claims.height
    decoding = max(claims.pixel_bytes * pixels + claims.beside, _FITTED * pixels)
    return decoding + _PIXEL * pixels + 40 * min(pixels, _PART)


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
        image.load()  # turns a TIFF upright and removes its orientation, so it comes first
        _check_size(image, claims)
        return _to_bgr(image, _orientation(image))


def _check_size(image: PillowImage.Image, claims: Claims) -> None:
    """Raises ValueError if the image is larger than its reserved memory."""
    if image.width * image.height > claims.width * claims.height:
        raise ValueError(f"it claims {claims.width}x{claims.height} pixels and has {image.width}x{image.height}")


def _orientation(image: PillowImage.Image) -> int:
    # ImageOps.exif_transpose rewrites all EXIF tags and fails for a malformed one.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # broken EXIF raises a dozen types; viewers show the stored pixels
        return 1


def _to_bgr(image: PillowImage.Image, orientation: int) -> Pixels:
    """Convert an image of any mode, part by part, to uint8 [H, W, 3], BGR, upright."""
    height, width = (image.width, image.height) if orientation in _SIDEWAYS else (image.height, image.width)
    upright = np.empty((height, width, 3), np.uint8)
    stored = _TURNS.get(orientation, _TURNS[1])(upright)
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
        backdrop = _pillow().new("RGBA", image.size, (*BACKGROUND, 255))
        backdrop.alpha_composite(image.convert("RGBA"))
        image = backdrop
    return np.asarray(image.convert("RGB"))


def _deep_converter(image: PillowImage.Image) -> Callable[[PillowImage.Image], Pixels]:
    """Return a function from a part of an image with deep grey values to uint8 [H, W, 1].

    The range of 16-bit values is 0-65535, and that of mode I too, as which Pillow reads some 16-bit formats. The range
    of mode F is 0-1 or 0-255. If values exceed their range, the range is their minimum to maximum.
    """
    ends = [(float(grey.min()), float(grey.max())) for grey in map(_grey, (part for _, _, part in _parts(image)))]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    customary = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    if low >= 0 and high <= customary[-1]:
        low, high = 0.0, next(top for top in customary if high <= top)

    def convert(part: PillowImage.Image) -> Pixels:
        pixels: Pixels = np.rint((_grey(part) - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)[..., None]
        return pixels

    return convert


def _grey(part: PillowImage.Image) -> Doubles:
    return np.nan_to_num(np.asarray(part).astype(np.float64), posinf=0, neginf=0)


class _BombsRaised:
    """A context that raises Pillow's decompression bomb warning and ignores other warnings.

    Warning filters belong to the process, so the first thread that enters sets them and the last one that leaves
    restores them.
    """

    def __init__(self) -> None:
        self._inside, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")  # of unusual metadata
                warnings.simplefilter("error", _pillow().DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_bombs_raised: Final = _BombsRaised()


@contextmanager
def _decoding_errors(path: ImageFile) -> Iterator[None]:
    """Turn Pillow's errors and bomb warning into ImageError."""
    from PIL import UnidentifiedImageError

    with _bombs_raised:
        try:
            yield
        except UnidentifiedImageError:
            raise _no_image(path, "is not an image of a format that can be read; convert it to PNG") from None
        except (_pillow().DecompressionBombWarning, _pillow().DecompressionBombError, MemoryError):
            most = f"more than {_pillow().MAX_IMAGE_PIXELS} pixels, or than fit in memory"
            raise ImageError(f"{path}: is too large ({most}); scale it down") from None
        except Exception as error:  # noqa: BLE001  # decoders raise a dozen types
            problem = f"is damaged, or of a kind that cannot be decoded ({one_line(error)}); export it again as PNG"
            raise _no_image(path, problem) from None


def _no_image(path: ImageFile, problem: str) -> ImageError:
    """The error for a file of another known type, or else for the problem."""
    if isinstance(path, Path) and (actual := mistaken(path, IMAGE)):
        problem = f"is {actual}, and no image; name an image file"
    return ImageError(f"{path}: {problem}")


@cache
def _formats() -> tuple[str, ...]:
    from PIL import _imaging

    _pillow().init()
    _imaging.set_block_size(_BLOCK)  # like the environment variable PILLOW_BLOCK_SIZE
    return tuple(name for name in _pillow().ID if name in _FORMATS)


def _pillow() -> ModuleType:
    """The module `PIL.Image`. Raises RuntimeUnavailableError without Pillow."""
    with importing(PILLOW):
        from PIL import Image
    return Image
