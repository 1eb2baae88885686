"""Framing: an image as the network's input, by the rule of the task.

Classification: Open Model Zoo's `resize` (`aspect_ratio_scale: greater`, cubic) and `crop`: the shorter side becomes
the input's size divided by `crop`, the longer one keeps the proportions, rounded down, and the centre is cut out. The
cubic filter is OpenCV's, a = -0.75, which does not average where it reduces. It is computed in float32 and rounded;
OpenCV's fixed-point weights, which could not be compared here, may round a pixel to its neighbour.

Embedding: the image is an aligned crop, and is stretched to the input's size. Other tasks letterbox.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sshconvert.arrays import Floats, Indices, Pixels
from sshconvert.tasks.base import Task
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshtool.images import Colour, Resize, fit

_SHARPNESS: Final = -0.75  # OpenCV's a
_TAPS: Final = 4


def framed(image: Pixels, height: int, width: int, task: Task, padding: Colour) -> Pixels:
    """Return an image, uint8 [H, W, 3], at the size of the network's input.

    An image of that size keeps its bytes, except that a classifier's is resized and cropped as any other.
    """
    if isinstance(task, Classification):
        return central(image, height, width, task.crop)
    if image.shape[:2] == (height, width):
        return image
    resize = Resize.STRETCH if isinstance(task, Embedding) else Resize.LETTERBOX
    return fit(image, height, width, resize, padding)[0]


def central(image: Pixels, height: int, width: int, crop: float) -> Pixels:
    """Return the centre, [height, width, 3], of an image whose shorter side is resized to the size divided by `crop`.

    An image of the input's size is resized too, as Open Model Zoo's is.
    """
    side = max(round(height / crop), round(width / crop))
    old_height, old_width = image.shape[:2]
    new_height = max(side, side * old_height // old_width)
    new_width = max(side, side * old_width // old_height)
    rows, down = _taps(old_height, new_height, height)
    columns, across = _taps(old_width, new_width, width)
    needed, places = np.unique(columns, return_inverse=True)
    places = places.reshape(columns.shape)
    resized: Floats = np.zeros((height, len(needed), 3), np.float32)
    for tap in range(_TAPS):
        resized += image[np.ix_(rows[tap], needed)] * down[tap][:, None, None]
    cut: Floats = np.zeros((height, width, 3), np.float32)
    for tap in range(_TAPS):
        cut += resized[:, places[tap]] * across[tap][None, :, None]
    return np.rint(np.clip(cut, 0, 255)).astype(np.uint8)


def _taps(old: int, new: int, kept: int) -> tuple[Indices, Floats]:
    """For each of the central `kept` of `new` pixels: four neighbours among `old` pixels, [4, kept], and their weights.

    The new pixel k samples the image at (k + 0.5) * old / new - 0.5. The border's pixels repeat.
    """
    numbers = np.arange(kept) + (new - kept) // 2
    places = (numbers + 0.5) * (old / new) - 0.5
    first = np.floor(places).astype(np.intp)
    offsets = np.arange(_TAPS) - 1
    neighbours = np.clip(first + offsets[:, None], 0, old - 1)
    return neighbours, cubic(np.abs(places - first - offsets[:, None])).astype(np.float32)


def cubic(distance: Floats) -> Floats:
    """Return the weight of a pixel at a distance of 0 to 2, by the cubic convolution of `_SHARPNESS`."""
    near = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance**2 + 1
    far = _SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < _TAPS / 2, far, 0))
