"""Rounding at places of a network, as an artifact of FP16 or INT8 declares it.

`evaluate(network, values, rounding=…)` computes the network with it: what the artifact computes if its runtime makes no
error. The values that are rounded are the checkpoint's. Places, steps and zero points are the file's
(`sshconvert.formats.base.Format.read_rounding`).

For FP16, that is the expected result, as exact as that of FP32. For INT8 it is one of many: a number halfway between
two levels goes to either by the last bit of the arithmetic, the next layers spread the difference over the tensor, and
after 30 layers two correct runtimes differ by as much as INT8 costs. So `Following` takes the levels that the runtime
chose instead of choosing them: a runtime computes the network if each of its levels is the nearest one to the exact
number that follows from its own levels before, and its outputs follow from its last levels. By induction over the
layers, its results are then a correct rounding of the network at every place. The comparison is as tight as that of
FP32: a filter that is off by a thousandth moves numbers by a tenth of a level, a hundred times the limit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.digest import bytes_sha256
from sshconvert.graph import Entry, Node
from sshconvert.network import Network

Place = tuple[str, int]  # a node's name and the number of one of its inputs

# How far the float32 arithmetic of a converter may move a number, relative to it: eight roundings. They make and apply
# the factor of a normalisation, for example.
SLACK: Final = 2.0**-21

# How far beyond half a level float32 arithmetic may choose, in levels. 255 levels in float32 have steps of 3e-5 of a
# level; the largest distance of ten networks in ONNX Runtime and OpenVINO is 6e-5.
FLOAT_LIMIT: Final = 1e-3

IMAGE: Final = 4  # dimensions
COLOURS: Final = 3


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
        stored = self.value(self.stored)
        as_near = np.abs(stored - exact) <= np.abs(nearest - exact) + SLACK * np.abs(exact)
        return np.where(as_near, stored, nearest)

    @abstractmethod
    def _nearest(self, exact: Array) -> Array:
        """Return the nearest numbers of the type, as float64."""

    @abstractmethod
    def value(self, stored: Array) -> Array:
        """Return what stored numbers mean, as float64."""


@dataclass(frozen=True)
class Half(Rule):
    """Rounding to float16, half to even."""

    def _nearest(self, exact: Array) -> Array:
        return exact.astype(np.float16).astype(np.float64)

    def value(self, stored: Array) -> Array:
        return stored.astype(np.float64)


@dataclass(frozen=True)
class Levels(Rule):
    """Rounding to `scale` times (q - `zero_point`), where q is an integer from `least` to `largest`, half to even.

    `scale` and `zero_point` are numbers, or arrays that broadcast to the array. `tensor` is the file's name of a
    rounded tensor between layers: of q, or of the rounded numbers if its type is no integer.
    """

    scale: Array = field(default_factory=lambda: np.ones(()))
    zero_point: Array = field(default_factory=lambda: np.zeros(()))
    least: int = 0
    largest: int = 255
    tensor: str = ""

    def _nearest(self, exact: Array) -> Array:
        steps = exact / np.where(self.scale == 0, 1, self.scale)
        return self.value(np.clip(np.rint(steps + self.zero_point), self.least, self.largest))

    def value(self, stored: Array) -> Array:
        return np.asarray((stored.astype(np.float64) - self.zero_point) * self.scale)


@dataclass(frozen=True)
class Rounding:
    """The rules by place. A place has its rule whatever other nodes read the same tensor."""

    rules: Mapping[Place, Rule] = field(default_factory=dict)

    def inputs(self, node: str, arrays: Sequence[Array]) -> list[Array]:
        """Return a node's inputs, rounded where it has rules."""
        rules = (self.rules.get((node, number)) for number in range(len(arrays)))
        return [array if rule is None else rule.apply(array) for rule, array in zip(rules, arrays, strict=True)]

    @property
    def tensors(self) -> frozenset[str]:
        """The names of the rounded tensors between layers, which `Following` reads."""
        return frozenset(rule.tensor for rule in self.rules.values() if isinstance(rule, Levels)) - {""}

    def following(self, observed: Mapping[str, Array]) -> Following:
        """Return the rounding that follows a runtime. `observed` are the runtime's `tensors`, for the same input."""
        return Following(self.rules, observed)

    def limits(self, network: Network) -> dict[Place, float]:
        """Return how far beyond half a level a runtime may choose at each place between layers, in levels.

        A layer of integers may round its bias to multiples of the product of its steps, so half of that is allowed in
        addition where the layer's results are rounded: a few thousandths of a level, as a rule.
        """
        names = {node.name: node for node in network.graph.nodes}
        limits = {}
        for (name, number), rule in self.rules.items():
            if isinstance(rule, Levels) and rule.tensor:
                step = self._bias_step(network, names[name].inputs[number])
                limits[name, number] = FLOAT_LIMIT + step / 2 / float(rule.scale)
        return limits

    def _bias_step(self, network: Network, entry: Entry) -> float:
        """Return the largest step of the biases of the integer layers from which a tensor follows in float."""
        largest = 0.0
        for node in _nodes_before(network, entry, self._stored):
            if (rule := self._stored(node)) is not None:
                sources = _nodes_before(network, node.inputs[0], self._between)
                steps = self._between(node) or [step for before in sources for step in self._between(before)]
                largest = max(largest, float(np.abs(rule.scale).max()) * max(steps, default=0))
        return largest

    def _stored(self, node: Node) -> Levels | None:
        """Return the rule of a node's weights, if they are stored as integers."""
        rules = (self.rules.get((node.name, place)) for place in range(len(node.inputs)))
        return next((rule for rule in rules if isinstance(rule, Levels) and not rule.tensor), None)

    def _between(self, node: Node) -> list[float]:
        """Return the steps of a node's inputs that are rounded between layers."""
        rules = (self.rules.get((node.name, place)) for place in range(len(node.inputs)))
        return [float(rule.scale) for rule in rules if isinstance(rule, Levels) and rule.tensor]

    def of_image(self, number: int) -> Rounding:
        """Return the rounding of one image of a batch."""
        return self

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all rules: two artifacts with the same rounding have the same."""
        parts = []
        for (node, number), rule in sorted(self.rules.items()):
            parts.append(repr((node, number, type(rule).__name__)).encode())
            for item in fields(rule):
                value = getattr(rule, item.name)
                parts.append(repr(value).encode() if not isinstance(value, np.ndarray) else value.tobytes())
        return bytes_sha256(b"|".join(parts))


@dataclass(frozen=True)
class Following(Rounding):
    """A rounding whose tensors between layers are those of a runtime, which are compared with the nearest levels.

    `beyond` gets, for each place, how much farther the runtime's number is from the exact one than half a level, in
    levels: the largest of all elements, below 0 if each is the nearest, infinite for NaN or a tensor of another size.
    """

    observed: Mapping[str, Array] = field(default_factory=dict)
    beyond: dict[Place, float] = field(default_factory=dict)

    def inputs(self, node: str, arrays: Sequence[Array]) -> list[Array]:
        rounded = super().inputs(node, arrays)
        for number, array in enumerate(arrays):
            rule = self.rules.get((node, number))
            if isinstance(rule, Levels) and rule.tensor:
                chosen = self._chosen(rule, array)
                if chosen is not None:
                    rounded[number] = chosen.astype(array.dtype)
                distance = np.inf if chosen is None else _beyond(rule, array, chosen)
                self.beyond[node, number] = max(distance, self.beyond.get((node, number), -np.inf))
        return rounded

    def of_image(self, number: int) -> Rounding:
        observed = {name: array[number : number + 1] for name, array in self.observed.items()}
        return Following(self.rules, observed, self.beyond)

    def _chosen(self, rule: Levels, exact: Array) -> Array | None:
        """Return the runtime's numbers in the shape and order of an array, None if they do not fit.

        A runtime may have flattened the array, moved its channels, or reversed the colours of an image.
        """
        stored = self.observed[rule.tensor]
        chosen = rule.value(stored) if stored.dtype.kind in "iu" else stored.astype(np.float64)
        if chosen.size != exact.size or not np.isfinite(chosen).all():
            return None
        if chosen.shape != exact.shape and chosen.ndim == exact.ndim:
            chosen = np.moveaxis(chosen, 1, -1)
        chosen = chosen.reshape(exact.shape)
        if exact.ndim == IMAGE and exact.shape[1] == COLOURS:
            orders = (chosen, chosen[:, ::-1])
            chosen = min(orders, key=lambda array: float(np.abs(array - exact).sum()))
        return chosen


def _nodes_before(network: Network, entry: Entry, ends: Callable[[Node], object]) -> Iterator[Node]:
    """Yield the nodes from which a tensor follows, and none before those that are `ends`."""
    seen, waiting = {entry.node}, [entry.node]
    while waiting:
        node = network.graph.nodes[waiting.pop()]
        yield node
        following = set() if ends(node) else {read.node for read in node.inputs} - seen
        seen |= following
        waiting += following


def _beyond(rule: Levels, exact: Array, chosen: Array) -> float:
    low, high = ((limit - rule.zero_point) * rule.scale for limit in (rule.least, rule.largest))
    distances = np.abs(chosen - np.clip(exact.astype(np.float64), low, high)) / rule.scale
    return float(distances.max(initial=0)) - 0.5
