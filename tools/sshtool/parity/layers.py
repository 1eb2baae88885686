"""Where a converted model begins to differ: the tensors inside the network, one after the other."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from sshconvert.arrays import Floats
from sshtool.runtimes.base import Outputs


@dataclass(frozen=True)
class Divergence:
    """The first tensor inside that differs. `layer` is "" where none does; `relative` is the largest difference over
    the tensor's range, `before` the last compared tensor that still agreed, `compared` how many both sides have.
    """

    artifact: str
    sample: str
    layer: str
    before: str
    relative: float
    limit: float
    compared: int


def first_divergence(artifact: str, sample: str, expected: Outputs, found: Outputs, limit: float) -> Divergence:
    """Compare all tensors that both sides name, in the order in which the original computes them.

    A tensor of another shape, or that is not finite, differs infinitely (reported as the largest float).
    """
    shared = [name for name in expected if name in found]
    before = ""
    for name in shared:
        relative = _relative(expected[name], found[name])
        if relative > limit:
            return Divergence(artifact, sample, name, before, relative, limit, len(shared))
        before = name
    return Divergence(artifact, sample, "", before, 0.0, limit, len(shared))


def _relative(expected: Floats, found: Floats) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return sys.float_info.max
    spread = float(np.ptp(expected))
    largest = float(np.abs(found - expected).max())
    return largest / spread if spread else largest
