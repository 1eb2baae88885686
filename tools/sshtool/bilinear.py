"""Bilinear sampling of grids and images."""

from __future__ import annotations

from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Floats, Indices, Pixels

# Pixels that a resize processes at once.
_PART: Final = 1 << 18


def neighbours(places: Doubles, length: int) -> tuple[Indices, Indices, Doubles]:
    """For each place on an axis of `length` entries: the entries before and after it, and the weight of the latter."""
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, length - 1), places - first


def sample(grid: Doubles, rows: Doubles, columns: Doubles) -> Doubles:
    """Sample a grid [R, C, 3] at every pair of `rows` [H] and `columns` [W]: [H, W, 3]."""
    top, bottom, down = neighbours(rows, grid.shape[0])
    left, right, across = neighbours(columns, grid.shape[1])
    down, across = down[:, None, None], across[None, :, None]
    above, below = (grid[row][:, left] * (1 - across) + grid[row][:, right] * across for row in (top, bottom))
    return np.asarray(above * (1 - down) + below * down)


def resize(image: Pixels, size: tuple[int, int], scale_y: float, scale_x: float) -> Pixels:
    """Resize bilinearly as OpenCV does: uint8 [H, W, 3] of `size`.

    The new pixel k samples the image at (k + 0.5) / scale - 0.5. Downscaling does not average.
    """
    if image.shape[:2] == size and scale_y == scale_x == 1:
        return image
    top, bottom, down = _neighbours(image.shape[0], size[0], scale_y)
    left, right, across = _neighbours(image.shape[1], size[1], scale_x)
    down, across = down[:, None, None], across[None, :, None]
    columns = np.arange(image.shape[1])
    if len(columns) > 2 * len(left):  # drop the columns that no new pixel samples
        columns, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        left, right = np.split(places.reshape(-1), 2)
    resized = np.empty((*size, 3), np.uint8)
    step = max(1, _PART // len(columns))
    for start in range(0, size[0], step):
        part = slice(start, start + step)
        rows = image[np.ix_(top[part], columns)] * (1 - down[part]) + image[np.ix_(bottom[part], columns)] * down[part]
        resized[part] = np.rint(rows[:, left] * (1 - across) + rows[:, right] * across)
    return resized


def _neighbours(length: int, new_length: int, scale: float) -> tuple[Indices, Indices, Floats]:
    """For each new pixel its two neighbours in the image, and the weight of the second one, 0-1."""
    places = np.clip((np.arange(new_length) + 0.5) / scale - 0.5, 0, length - 1)
    first, second, share = neighbours(places, length)
    return first, second, share.astype(np.float32)
