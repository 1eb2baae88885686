"""Weights that are no numbers: NaN and infinities, which spoil whatever they touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Array

# Elements looked at at once: so few that what is computed of them stays in the processor's cache.
_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class NonFinite:
    """How many values of a parameter are NaN or infinite, and the index of the first of them."""

    name: str
    nan: int
    inf: int
    first: tuple[int, ...]

    def __str__(self) -> str:
        counts = (f"{count} {what}" for count, what in ((self.nan, "NaN"), (self.inf, "Inf")) if count)
        return f"{self.name} has {' and '.join(counts)}, the first at {list(self.first)}"


def find_nonfinite(parameters: Mapping[str, Array]) -> tuple[NonFinite, ...]:
    """The parameters (floats of any size and shape) that hold NaN or infinities, in their order."""
    return tuple(_count(name, array) for name, array in parameters.items() if not _all_finite(array))


def summary(found: Sequence[NonFinite]) -> str:
    """In words, how many weights are not finite."""
    return f"weights not finite: {sum(item.nan for item in found)} NaN, {sum(item.inf for item in found)} Inf"


def _all_finite(array: Array) -> bool:
    flat = array.reshape(-1)
    return all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK))


def _count(name: str, array: Array) -> NonFinite:
    nan, inf = np.isnan(array), np.isinf(array)
    first = np.unravel_index(int(np.argmax(nan | inf)), array.shape)
    return NonFinite(name, int(nan.sum()), int(inf.sum()), tuple(map(int, first)))
