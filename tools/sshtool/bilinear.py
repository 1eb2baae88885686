"""Bilinear sampling of grids and images."""

from __future__ import annotations

import numpy as np

from sshconvert.arrays import Doubles, Indices


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
