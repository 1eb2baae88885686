"""Rounding at places of a network, as an artifact of FP16 or INT8 declares it.

`evaluate(network, values, rounding=…)` computes the network with it: what the artifact computes if its runtime makes no
error. The values that are rounded are the checkpoint's. Places, steps and zero points are the file's
(`sshconvert.formats.base.Format.read_rounding`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sshconvert.arrays import Array

Place = tuple[str, int]  # a node's name and the number of one of its inputs

# How far the float32 arithmetic of a converter may move a number, relative to it: eight roundings. They make and apply
# the factor of a normalisation, for example.
SLACK: Final = 2.0**-21


@dataclass(frozen=True)
class Rule(ABC):
    """The rounding of one array: to the numbers that a type can hold, after a multiplication by `factor`.

    A converter that puts the factor of a following layer into the weights rounds the products. `apply` divides by the
    factor again, because the network still has that layer.

    The converter computes the products, or the quotients of levels, in float32, and may round those halfway between two
    numbers to either. So where `stored`, the file's own numbers, are as near as the nearest up to that error, they are
    taken. No other error of the file passes: a number that is farther away is replaced.

    Attributes:
        factor: broadcasts to the array; None is 1.
        stored: the numbers of the file, in the array's shape.

    """

    factor: Array | None = None
    stored: Array | None = None

    def apply(self, array: Array) -> Array:
        """Return the rounded array, of the same type."""
        if self.factor is None:
            return np.asarray(self._rounded(np.asarray(array, np.float64)), array.dtype)
        factor = np.where(self.factor == 0, 1, np.asarray(self.factor, np.float64))
        return np.asarray(self._rounded(array * factor) / factor, array.dtype)

    def _rounded(self, exact: Array) -> Array:
        nearest = self._nearest(exact)
        if self.stored is None:
            return nearest
        stored = self._value(self.stored)
        as_near = np.abs(stored - exact) <= np.abs(nearest - exact) + SLACK * np.abs(exact)
        return np.where(as_near, stored, nearest)

    @abstractmethod
    def _nearest(self, exact: Array) -> Array:
        """Return the nearest numbers of the type, as float64."""

    @abstractmethod
    def _value(self, stored: Array) -> Array:
        """Return what stored numbers mean, as float64."""


@dataclass(frozen=True)
class Half(Rule):
    """Rounding to float16, half to even."""

    def _nearest(self, exact: Array) -> Array:
        return exact.astype(np.float16).astype(np.float64)

    def _value(self, stored: Array) -> Array:
        return stored.astype(np.float64)


@dataclass(frozen=True)
class Levels(Rule):
    """Rounding to `scale` times (q - `zero_point`), where q is an integer from `least` to `largest`, half to even.

    `scale` and `zero_point` are numbers, or arrays that broadcast to the array.
    """

    scale: Array = field(default_factory=lambda: np.ones(()))
    zero_point: Array = field(default_factory=lambda: np.zeros(()))
    least: int = 0
    largest: int = 255

    def _nearest(self, exact: Array) -> Array:
        return self._value(np.clip(np.rint(exact / self.scale + self.zero_point), self.least, self.largest))

    def _value(self, stored: Array) -> Array:
        return np.asarray((stored.astype(np.float64) - self.zero_point) * self.scale)


@dataclass(frozen=True)
class Rounding:
    """The rules by place. A place has its rule whatever other nodes read the same tensor."""

    rules: Mapping[Place, Rule] = field(default_factory=dict)

    def inputs(self, node: str, arrays: Sequence[Array]) -> list[Array]:
        """Return a node's inputs, rounded where it has rules."""
        rules = (self.rules.get((node, number)) for number in range(len(arrays)))
        return [array if rule is None else rule.apply(array) for rule, array in zip(rules, arrays, strict=True)]
