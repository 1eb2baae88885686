"""Seeded parameters of any drawn-up network, the same bytes on every platform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.cutting import cut
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.network import parse_symbol, resolve

SEED: Final = 1703
STEPS: Final = 1 << 20  # random filters are integers over STEPS: the same on every platform


def parameter_shapes(symbol: str, model: ModelSpec) -> dict[str, Shape]:
    """Name and shape of every parameter, in the graph's order."""
    inputs = model.input_shapes
    return resolve(cut(parse_symbol(symbol)), inputs).parameters(inputs)


def seeded(shapes: Mapping[str, Shape], seed: int = SEED) -> dict[str, Floats]:
    """Each parameter, float32, by name: filters of He's scale, slopes of 0.25, and BatchNorms that change nothing."""
    random: Any = np.random.RandomState(seed)  # NumPy guarantees the sequence of this generator only
    return {name: _parameter(name, shape, random) for name, shape in shapes.items()}


def _parameter(name: str, shape: Shape, random: Any) -> Floats:
    if name.endswith("_weight"):
        draws = random.randint(-STEPS, STEPS, shape, dtype=np.int64)
        return np.asarray(draws / STEPS * math.sqrt(6 / math.prod(shape[1:])), np.float32)
    if "prelu" in name:
        return np.full(shape, 0.25, np.float32)
    return np.full(shape, 1 if name.endswith(("_gamma", "_var")) else 0, np.float32)
