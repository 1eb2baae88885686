"""The places of a network by the names that artifacts keep, and the weights that an artifact stores for them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import PrecisionError, ShapeError
from sshconvert.graph import Entry, Node, Shape
from sshconvert.network import Network
from sshconvert.operators.base import Operator
from sshconvert.operators.convolution import Deconvolution
from sshconvert.rounding import COLOURS, SLACK, Levels, Place

MOST_STEPS: Final = 127  # of symmetric levels of int8
MOST: Final = 0.5
_WEIGHT: Final = "weight"  # MXNet's name of the input

# Numbers that tell whether an operator multiplies each channel by a factor of its own, and adds a number.
_PROBES: Final = (-64.0, 0.0, 1.0, 64.0)


@dataclass(frozen=True)
class Fit:
    """How stored weights follow from the checkpoint's: multiplied by `factor`, then with the elements in `order`.

    `order` are the places of the stored elements in the checkpoint's array, flat; None is the same order.
    """

    shape: Shape
    factor: Array | None
    order: Array | None

    def own(self, stored: Array) -> Array:
        """Return an array of stored numbers in the checkpoint's order and shape."""
        if self.order is None:
            return stored.reshape(self.shape)
        result = np.empty(self.order.size, stored.dtype)
        result[self.order] = stored.reshape(-1)
        return result.reshape(self.shape)

    def own_steps(self, steps: Array, stored: Shape) -> Array:
        """Return what broadcasts to stored numbers as what broadcasts to the checkpoint's array."""
        if steps.size == 1:
            return np.asarray(steps.reshape(()), np.float64)
        own = self.own(np.broadcast_to(steps, stored))
        for axis in range(own.ndim):
            first = own.take([0], axis)
            own = first if (own == first).all() else own
        return np.asarray(own, np.float64)


class Places:
    """The nodes and the tensors of a network, whose parameters are at hand.

    `path` is the artifact in messages.
    """

    def __init__(self, network: Network, parameters: Mapping[str, Array], path: Path) -> None:
        self.network, self.parameters, self.path = network, parameters, path
        self.nodes = {node.name: number for number, node in enumerate(network.graph.nodes) if not node.is_variable}
        self.entries = {
            network.tensor_name(entry): entry
            for number, shapes in enumerate(network.shapes)
            for entry in (Entry(number, output) for output in range(len(shapes)))
        }
        self.entries |= dict(zip(network.graph.names, network.graph.outputs, strict=False))
        self._readers = Counter(entry for node in network.graph.nodes for entry in node.inputs)

    def fail(self, name: str, reason: str) -> PrecisionError:
        return PrecisionError(
            f"{self.path}: {name}: {reason}, so the rounding cannot be computed from the checkpoint; convert again"
        )

    def node(self, names: Collection[str]) -> int | None:
        """Return the node of one of these names. A part of a split node has the node's name before a slash."""
        for name in names:
            head = name
            while head:
                if head in self.nodes:
                    return self.nodes[head]
                if head in self.entries and not self.network.graph.nodes[self.entries[head].node].is_variable:
                    return self.entries[head].node
                head = head.rpartition("/")[0]
        return None

    def weighted(self, number: int) -> int | None:
        """Return the node with weights: this one, or one before it, into which a converter has moved it."""
        while not self._has_weights(number):
            inputs = [entry for entry in self._node(number).inputs if not self._node(entry.node).is_variable]
            if not inputs:
                return None
            number = inputs[0].node
        return number

    def weight_place(self, number: int) -> Place:
        return self._node(number).name, self._operator(number).inputs.index(_WEIGHT)

    def input_places(self, number: int, tensors: Collection[str]) -> list[Place]:
        """Return the inputs of a node that are one of these tensors, or made from one.

        Between the tensor and the node may be what a converter has moved into the rounding, such as a ReLU before
        levels from zero on. The image has no name of the network after preprocessing that is built in.
        """
        node = self._node(number)
        named = {self.entries[name] for name in tensors if name in self.entries}
        computed = [place for place, entry in enumerate(node.inputs) if not self._is_parameter(entry)]
        for candidates in (
            [place for place in computed if node.inputs[place] in named],
            [0] if self._has_weights(number) else computed if len(computed) == 1 else [],
            [place for place in computed if self._is_from(node.inputs[place], named)],
        ):
            if candidates:
                return [(node.name, place) for place in candidates]
        raise self.fail(node.name, "the rounded input is none of the network's tensors")

    def _is_from(self, entry: Entry, named: Collection[Entry]) -> bool:
        """Return whether nodes without weights, each with one computed input, lead from one of the tensors to this."""
        while entry not in named:
            computed = [read for read in self._node(entry.node).inputs if not self._is_parameter(read)]
            if len(computed) != 1 or self._has_weights(entry.node):
                return False
            (entry,) = computed
        return True

    def readers(self, entry: Entry) -> Iterator[Place]:
        for node in self.network.graph.nodes:
            for place, read in enumerate(node.inputs):
                if read == entry:
                    yield node.name, place

    def fit(self, number: int, values: Array) -> Fit:
        """Return how the weights of a node became `values`, by the candidate that is nearest to them.

        A candidate is a product of the factors around the node, in an order of elements that the converter may choose.
        Each is the checkpoint's weights, so no fault of the file makes one of them right.
        """
        node = self._node(number)
        weight = self.constant(node.inputs[self.weight_place(number)[1]])
        orders = list(_orders(weight.shape, values.shape))
        if not orders:
            raise self.fail(node.name, f"weights of shape {values.shape}, the checkpoint's have {weight.shape}")
        fits = [Fit(weight.shape, factor, order) for factor in self._factors(number, weight) for order in orders]
        if len(fits) == 1:
            return fits[0]

        def distance(fit: Fit) -> float:
            return float(np.abs(weight * (1 if fit.factor is None else fit.factor) - fit.own(values)).sum())

        return min(fits, key=distance)

    def levels(self, number: int, stored: Array, scale: Array, zero_point: Array) -> Levels:
        """Return the rule of weights that are stored as integers. Raises PrecisionError for an impossible scale."""
        if not np.isfinite(scale).all():  # negative with a factor of a normalisation, 0 for a channel that it ends
            raise self.fail(self._node(number).name, "a step between levels that is not finite")
        fit = self.fit(number, (stored.astype(np.float64) - zero_point) * scale)
        steps, zeros = (fit.own_steps(array, stored.shape) for array in (scale, zero_point))
        steps = self._derived(number, fit, steps)
        limits = np.iinfo(stored.dtype)
        return Levels(fit.factor, fit.own(stored), steps, zeros, int(limits.min), int(limits.max))

    def _derived(self, number: int, fit: Fit, declared: Array) -> Array:
        """Return the steps of weights: the largest weight over 127 if those of most channels are that.

        Otherwise the declared ones. A step that is wrong by a thousandth would only be another choice of levels.
        """
        weight = self.constant(self._node(number).inputs[self.weight_place(number)[1]])
        products = weight if fit.factor is None else weight * fit.factor
        axes = tuple(axis for axis in range(products.ndim) if not declared.ndim or declared.shape[axis] == 1)
        largest = np.abs(products).max(axes, keepdims=bool(declared.ndim))
        derived = np.copysign(largest / MOST_STEPS, declared)
        is_derived = np.abs(derived - declared) <= SLACK * np.abs(declared)
        return np.asarray(derived if is_derived.mean() > MOST else declared)

    def check_scale(self, name: str, scale: Array) -> None:
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise self.fail(name, "a step between levels that is not positive")

    def constant(self, entry: Entry) -> Array:
        """Return a parameter, or the value of a node that depends on parameters alone."""
        node, operator = self._node(entry.node), self.network.operators[entry.node]
        if operator is not None:
            return operator.evaluate(*map(self.constant, node.inputs))[entry.output]
        if node.name not in self.parameters:
            raise self.fail(node.name, "rounded weights that are no parameters")
        return np.asarray(self.parameters[node.name], np.float64)

    def _node(self, number: int) -> Node:
        return self.network.graph.nodes[number]

    def _operator(self, number: int) -> Operator:
        operator = self.network.operators[number]
        assert operator is not None, number
        return operator

    def _has_weights(self, number: int) -> bool:
        operator = self.network.operators[number]
        return operator is not None and operator.weights is not None

    def _is_parameter(self, entry: Entry) -> bool:
        return self._node(entry.node).name in self.parameters

    def _factors(self, number: int, weight: Array) -> Iterator[Array | None]:
        """Yield each product of the factors behind and before a node that a converter may put into its weights."""
        behind, before = list(self._behind(number)), list(self._before(number))
        for one, other in itertools.product((None, *behind), (None, *before)):
            outer = None if one is None else _along_outputs(one, self._operator(number), weight.shape)
            if one is not None and outer is None:
                continue
            yield outer if other is None else other if outer is None else outer * other

    def _behind(self, number: int) -> Iterator[Array]:
        """Yield the factor of each channel after each of the following nodes that multiply and add."""
        entry, factor = Entry(number), np.ones(1)
        while self._readers[entry] == 1 and entry not in self.network.graph.outputs:
            ((name, place),) = self.readers(entry)
            number = self.nodes[name]
            own = self._multiplies(number, place)
            if own is None:
                return
            factor, entry = factor * own, Entry(number)
            if (own != 1).any():
                yield factor

    def _before(self, number: int) -> Iterator[Array]:
        """Yield the factor of all channels after each of the nodes before, the nearest first."""
        factor, entry = np.ones(()), self._node(number).inputs[0]
        while not self._node(entry.node).is_variable and self._readers[entry] == 1:
            places = [place for place, read in enumerate(self._node(entry.node).inputs) if not self._is_parameter(read)]
            own = self._multiplies(entry.node, places[0]) if len(places) == 1 else None
            if own is None or (own != own[0]).any():
                return
            factor, entry = factor * own[0], self._node(entry.node).inputs[places[0]]
            if own[0] != 1:
                yield factor

    def _multiplies(self, number: int, place: int) -> Array | None:
        """Return the factor of each channel if a node multiplies its input `place` and adds; None if it does not."""
        node, operator = self._node(number), self._operator(number)
        shape = self.network.shape(node.inputs[place])
        others = [entry for index, entry in enumerate(node.inputs) if index != place]
        if len(shape) < 2 or operator.weights or not all(map(self._is_parameter, others)):
            return None
        small = (1, shape[1], *(1 for _ in shape[2:]))
        shapes = [small if index == place else self.network.shape(entry) for index, entry in enumerate(node.inputs)]
        try:
            if operator.output_shapes(*shapes)[0] != small:
                return None
        except ShapeError:
            return None

        def at(value: float) -> Array:
            data = np.full(small, value)
            arrays = (data if index == place else self.constant(entry) for index, entry in enumerate(node.inputs))
            return operator.evaluate(*arrays)[0].reshape(-1)

        low, middle, one, high = map(at, _PROBES)
        factor = (high - low) / (_PROBES[-1] - _PROBES[0])
        is_linear = np.allclose(high - middle, factor * _PROBES[-1]) and np.allclose(one - middle, factor)
        return factor if is_linear else None


def _along_outputs(factor: Array, operator: Operator, shape: Shape) -> Array | None:
    """Return the factors of the output channels in a shape that broadcasts to the weights, None if they do not fit."""
    if factor.size == 1:
        return factor.reshape(())
    if not isinstance(operator, Deconvolution):
        return factor.reshape(-1, *[1] * (len(shape) - 1)) if factor.size == shape[0] else None
    by_group = factor.reshape(operator.groups, -1)
    if by_group.shape[1] != shape[1] or operator.layout.channels_last:
        return None
    rows = np.repeat(by_group, shape[0] // operator.groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))


def _orders(shape: Shape, stored: Shape) -> Iterator[Array | None]:
    """Yield the orders in which a converter may store weights: as they are, colours reversed, or axes moved."""
    size = int(np.prod(shape))
    if int(np.prod(stored)) != size:
        return
    moves: list[Callable[[Array], Array]] = []
    if len(shape) > 2 and shape[1] == COLOURS:
        moves.append(lambda array: array[:, ::-1])
    if len(shape) > 2 and shape[-1] == COLOURS:
        moves += [lambda array: np.moveaxis(array, -1, 1), lambda array: np.moveaxis(array, -1, 1)[:, ::-1]]
    elif len(shape) > 2 and shape != stored:
        moves.append(lambda array: np.moveaxis(array, -1, 1))
    if len(shape) == 2 and stored == shape[::-1]:
        moves.append(np.transpose)
    yield None
    for move in moves:
        yield move(np.arange(size).reshape(shape)).reshape(-1)
