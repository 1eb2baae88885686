"""The bounds of a model's tensors and work, in proportion to its input and weights.

The networks that sshtool converts compute some 600 values and 330,000 products per pixel of their input. The bounds
allow networks that are many times as wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sshconvert.schema import one_line

Shape = tuple[int, ...]

MOST_DIGITS: Final = 18  # of a number that fits into 64 bits

# Elements of one tensor at a fixed input size: 64 channels of 16 million pixels.
MOST_COMPUTED: Final = 1 << 30

# Elements of one tensor and of all tensors per pixel of the input, and the allowance of any model.
_TENSOR: Final = 1 << 10
_TOTAL: Final = 1 << 13
_ANY_TENSOR: Final = 1 << 22
_ANY_TOTAL: Final = 1 << 26

# Work in products. A convolution uses each weight at most once per pixel; most convolutions have fewer pixels.
_WORK_SHARE: Final = 8
_ANY_WORK: Final = 1 << 34

MOST_INPUTS: Final = 64

# Batch, height and width that represent all sizes of a dynamic model.
_SMALL: Final = (1, 64, 64)
_LARGE: Final = (1, 2048, 2048)
_MANY: Final = (64, 64, 64)

CHANNELS: Final = 3
_RANK: Final = 4

# Products of a convolution in the time of one step of a slow operator, and of a comparison of two boxes.
SLOW: Final = 8
SORTED: Final = 32
CORNERS: Final = 4  # numbers of a box

MOST_SAMPLES: Final = 64  # of a bin of a region, along each axis


class Tally:
    """Adds up what a model computes at one input size."""

    def __init__(self, shapes: Mapping[str, Shape], weights: int, *, fixed: bool) -> None:
        """Take the inputs' shapes and the number of stored elements. A `fixed` model accepts no other shapes.

        Three elements of an input that is no image count as a pixel.
        """
        pixels = sum(map(math.prod, shapes.values())) // CHANNELS
        self._inputs = list(map(list, shapes.values()))
        self._tensor = _ANY_TENSOR + weights + _TENSOR * pixels
        if fixed:
            self._tensor = min(self._tensor, MOST_COMPUTED)
        self._total = _ANY_TOTAL + 2 * weights + _TOTAL * pixels
        self._work = _ANY_WORK + weights * pixels // _WORK_SHARE

    def add(self, shape: Sequence[int], work: int = 0) -> None:
        """Count a tensor and the products that compute it. Raises ValueError beyond the bounds."""
        elements = math.prod(shape)
        at = f"for inputs of shape {self._inputs}"
        if elements > self._tensor:
            raise ValueError(f"it computes a tensor of shape {list(shape)[:8]} {at}")
        self._total -= elements
        self._work -= max(work, elements)
        if self._total < 0:
            raise ValueError(f"it computes more values than any network {at}")
        if self._work < 0:
            raise ValueError(f"it takes more work than any network {at}")


def parse_size(text: str) -> int:
    """Parse a size or an offset that a file writes as text. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise ValueError(f"a constant has {one_line(text)!r} where a number is expected")
    return int(text)


def shapes_to_try(declared: Mapping[str, Sequence[int | None]]) -> Iterator[dict[str, Shape]]:
    """The shapes of the inputs to check, by name: the declared ones, or several where sizes are free (None).

    Raises ValueError if there are too many inputs.
    """
    if not 1 <= len(declared) <= MOST_INPUTS:
        raise ValueError(f"it has {len(declared)} inputs, expected 1 to {MOST_INPUTS}")
    tried = []
    for sizes in (_SMALL, _LARGE, _MANY):
        shapes = {name: _shape_of_size(shape, sizes) for name, shape in declared.items()}
        if shapes not in tried:
            tried.append(shapes)
            yield shapes


def _shape_of_size(declared: Sequence[int | None], sizes: tuple[int, int, int]) -> Shape:
    batch, height, width = sizes
    if len(declared) == _RANK:
        last = declared[3] == CHANNELS and declared[1] != CHANNELS  # NHWC
        usual = [batch, height, width, CHANNELS] if last else [batch, CHANNELS, height, width]
    else:
        free = sum(size is None for size in declared[1:])
        side = height if free <= 2 else round(height ** (2 / free))  # as many elements as an image has
        usual = [batch, *[side] * len(declared)][: len(declared)]
    return tuple(other if size is None else size for size, other in zip(declared, usual, strict=True))


def region_work(data: Sequence[int], samples: int | None = None) -> int:
    """The products for each bin of a pooled region of a map [N, C, H, W]. Raises ValueError.

    Runtimes clip the bins of a maximum to the map. Without a number of `samples` along each axis, the regions decide
    how many samples a mean has.
    """
    if samples is None:
        return SLOW * math.prod(data[2:])
    if not 1 <= samples <= MOST_SAMPLES:
        raise ValueError(f"it takes {samples} samples of a bin, expected 1 to {MOST_SAMPLES}")
    return SLOW * samples**2


def neighbours(size: int, channels: int) -> int:
    """Return the channels that a local normalisation adds up. Raises ValueError for more than there are around one.

    Runtimes make room for them.
    """
    if not 0 < size < 2 * channels:
        raise ValueError(f"it adds up {size} channels of {channels}")
    return size
