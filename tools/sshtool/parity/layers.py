"""The search for the first tensor inside the network that differs from the original."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from sshconvert.arrays import Floats
from sshtool.runtimes.base import Outputs


@dataclass(frozen=True)
class Divergence:
    """The first tensor inside the network that differs; `layer` is "" if none does.

    `before` is the last tensor that agrees, `relative` the largest difference over the range of the expected values,
    and `compared` the number of tensors that both sides have.
    """

    artifact: str
    sample: str
    layer: str
    before: str
    relative: float
    limit: float
    compared: int


def first_divergence(artifact: str, sample: str, expected: Outputs, actual: Outputs, limit: float) -> Divergence:
    """Compare all tensors that both sides name, in the original's order of computation.

    The difference of a tensor with another shape or non-finite values is the largest float.
    """
    shared = [name for name in expected if name in actual]
    before = ""
    for name in shared:
        relative = _relative(expected[name], actual[name])
        if relative > limit:
            return Divergence(artifact, sample, name, before, relative, limit, len(shared))
        before = name
    return Divergence(artifact, sample, "", before, 0.0, limit, len(shared))


def _relative(expected: Floats, actual: Floats) -> float:
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return sys.float_info.max
    spread = float(np.ptp(expected))
    largest = float(np.abs(actual - expected).max())
    return largest / spread if spread else largest
