"""Finding NaN and infinities among the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array

# Elements per step: few enough for the intermediate results to stay in the processor's cache.
_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class NonFinite:
    """The numbers of NaN and infinite values in a parameter, and the index of the first of either."""

    name: str
    nan: int
    inf: int
    first: tuple[int, ...]

    def __str__(self) -> str:
        counts = (f"{count} {name}" for count, name in ((self.nan, "NaN"), (self.inf, "Inf")) if count)
        return f"{self.name} has {' and '.join(counts)}, the first at {list(self.first)}"


def find_nonfinite(parameters: Mapping[str, Array]) -> tuple[NonFinite, ...]:
    """Return the parameters (floats of any size and shape) with NaN or infinities, in order."""
    return tuple(_count(name, array) for name, array in parameters.items() if not _all_finite(array))


def summary(parameters: Sequence[NonFinite]) -> str:
    """Return the total numbers of NaN and infinities in words."""
    return f"weights not finite: {sum(item.nan for item in parameters)} NaN, {sum(item.inf for item in parameters)} Inf"


def _all_finite(array: Array) -> bool:
    flat = array.reshape(-1)
    return all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK))


def _count(name: str, array: Array) -> NonFinite:
    nan, inf = np.isnan(array), np.isinf(array)
    first = np.unravel_index(int(np.argmax(nan | inf)), array.shape)
    return NonFinite(name, int(nan.sum()), int(inf.sum()), tuple(map(int, first)))
