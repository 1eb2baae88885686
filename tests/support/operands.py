"""Values of operands for tests of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape


def small_integers(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Both signs, zeros and many equal values, but no divisor of 0."""
    values = {name: random.integers(-4, 5, shape) for name, shape in shapes.items()}
    return values | {name: np.where(array == 0, 3, array) for name, array in values.items() if name == "other"}


def exponents(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Bases of both signs, and whole exponents."""
    return {name: random.integers(0 if name == "other" else -3, 4, shape) for name, shape in shapes.items()}


def halves(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    """Multiples of 1/2 of both signs, with zeros and ties."""
    return {name: random.integers(-6, 7, shape) / 2 for name, shape in shapes.items()}


def positive(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    return {name: random.uniform(0.1, 3, shape) for name, shape in shapes.items()}


def values_of(key: str, dtype: str) -> Any:
    if key == "power":
        return exponents if dtype != "float32" else positive
    return halves if dtype == "float32" and key != "div" else small_integers


def positive_integers(shapes: Mapping[str, Shape], random: np.random.Generator) -> Mapping[str, Array]:
    return {name: random.integers(1, 5, shape) for name, shape in shapes.items()}
