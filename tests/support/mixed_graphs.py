"""Random networks over every operator of the registry, each given by its seed alone.

A network grows node by node. A template of `operator_templates` chooses the inputs and the attributes of a node, and
the builder computes the node with its definition, `evaluate`: once with the values, and twice with values in which each
result that rounding can change differs by `NOISE`. A node whose noisy results leave `SPREAD`, such as an order of
equal values or a difference of large numbers, does not become part of the network. So programs that round differently
compute the same network alike, and no test needs to overlook a difference.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

import numpy as np

from dialects import written
from one_node import variable
from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.evaluation import widened
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator
from sshconvert.operators.registry import OPERATORS

NOISE: Final = 2e-7  # of a tensor's largest value: several times the rounding of float32
SPREAD: Final = 2e-6  # of a tensor's largest value: what the noise of all nodes before it may add up to
WHOLE: Final = re.compile(  # operators whose whole numbers are exact; a quotient of equals may differ from 1
    "equal|greater|lesser|logical|arg|topk|sign|round|rint|ceil|floor|trunc|fix|hot|zeros|ones|full|range|eye|add|plus|sub"
    "|minus|mul|sum|square|abs|max|min|clip|relu|array|cast"
)
LIKE: Final = {  # operators that read only the shape of their second input
    *("slice_like", "broadcast_like", "reshape_like", "_identity_with_attr_like_rhs", "Crop"),
    "_contrib_BilinearResize2D",
}
MOST_ELEMENTS: Final = 2048
MOST_AXES: Final = 5
LARGEST: Final = 1e4
LARGEST_INTEGER: Final = 1e6
SMALLEST: Final = 1e-3  # the largest absolute value of a tensor that is not 0
FLOAT32: Final = np.dtype(np.float32)
MOST_NODES: Final = 15
ATTEMPTS: Final = 30  # for a node

Template: TypeAlias = "Callable[[Builder], object]"
Fits: TypeAlias = "Callable[[Tensor], bool]"


class UnfitError(Exception):
    """A node that does not fit to the network."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network, with its value and two noisy ones in the types of the evaluation."""

    entry: Entry
    dtype: DType
    values: tuple[Array, ...]

    @property
    def value(self) -> Array:
        return self.values[0]

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def rank(self) -> int:
        return self.value.ndim

    @property
    def is_float(self) -> bool:
        return self.dtype == FLOAT32


@dataclass(frozen=True)
class MixedGraph:
    """A network, the values of its inputs and parameters by name, and the names of the inputs."""

    graph: Graph
    values: Mapping[str, Array]
    inputs: Sequence[str]

    @property
    def symbol(self) -> str:
        return json.dumps(written(self.graph))

    @property
    def input_shapes(self) -> dict[str, Shape]:
        return {name: self.values[name].shape for name in self.inputs}

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: array for name, array in self.values.items() if name not in self.inputs}

    @property
    def dtypes(self) -> dict[str, DType]:
        return {name: array.dtype for name, array in self.values.items() if array.dtype != FLOAT32}

    @property
    def operators(self) -> list[str]:
        return [node.operator for node in self.graph.nodes if not node.is_variable]


@dataclass
class Builder:
    """A network that grows. Templates call its methods."""

    random: Random
    numbers: np.random.Generator
    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)  # all but parameters of layers and labels
    values: dict[str, Array] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)

    def tensor(self, rank: int | Sequence[int] = (1, 2, 3, 4, 5), fits: Fits = lambda _: True) -> Tensor:
        """Return a tensor of float32 with one of these ranks that fits, more often a recent one.

        If there is none, return a tensor of that rank reshaped from another, or a new input or parameter.
        """
        ranks = (rank,) if isinstance(rank, int) else tuple(rank)
        fitting = [t for t in self.tensors if t.is_float and t.rank in ranks and fits(t)]
        if fitting and self.random.random() < 0.95:
            return self.random.choice(fitting[-4:] if self.random.random() < 0.6 else fitting)
        others = [t for t in self.tensors if t.is_float]
        if others and self.random.random() < 0.6:
            reshaped = self.reshaped(self.random.choice(others), self.random.choice(ranks))
            if fits(reshaped):
                return reshaped
        made = self.made(self.numbers.normal(0.3, 1, self.shape(self.random.choice(ranks))))
        if not fits(made):
            raise UnfitError("no tensor fits")
        return made

    def shape(self, rank: int) -> Shape:
        batch = self.random.choice((1, 2, 2, 3))
        if rank == 4:
            return (batch, self.random.choice((1, 2, 3, 4, 4, 6)), self.random.randint(3, 9), self.random.randint(3, 9))
        return (batch, *(self.random.randint(1, 6) for _ in range(rank - 1)))

    def reshaped(self, tensor: Tensor, rank: int) -> Tensor:
        """Return a tensor in a random shape of that rank."""
        left, shape = math.prod(tensor.shape), []
        for _ in range(rank - 1):
            shape.append(self.random.choice([size for size in range(1, min(left, 9) + 1) if left % size == 0]))
            left //= shape[-1]
        position = self.random.randint(0, rank - 1)
        return self.apply("Reshape", tensor, shape=(*shape[:position], left, *shape[position:]))[0]

    def between(self, low: float, high: float, rank: int | Sequence[int] = (1, 2, 3, 4, 5)) -> Tensor:
        """Return a tensor whose values lie between two numbers: one that there is, or one that is put there."""

        def fits(tensor: Tensor) -> bool:
            return bool(tensor.value.min() >= low and tensor.value.max() <= high)

        ranks = (rank,) if isinstance(rank, int) else rank
        if any(t.is_float and t.rank in ranks and fits(t) for t in self.tensors) and self.random.random() < 0.7:
            return self.tensor(rank, fits)
        (squashed,) = self.apply("sigmoid", self.tensor(rank))
        (scaled,) = self.apply("_mul_scalar", squashed, scalar=high - low)
        return self.apply("_plus_scalar", scaled, scalar=low)[0]

    def like(self, tensor: Tensor, shape: Shape | None = None) -> Tensor:
        """Return another tensor of a tensor's type and shape, or of another shape."""
        shape = tensor.shape if shape is None else shape
        same = [t for t in self.tensors if t.shape == shape and t.dtype == tensor.dtype]
        others = [t for t in same if t.entry != tensor.entry] or same
        if others and self.random.random() < 0.7:
            return self.random.choice(others)
        if tensor.is_float:
            return self.made(self.numbers.normal(0.3, 1, shape))
        return self.made(self.numbers.integers(-4, 9, shape), tensor.dtype)

    def integers(self, low: int, high: int, shape: Shape, dtype: str = "float32") -> Tensor:
        """Return a new tensor of whole numbers from `low` to `high`."""
        return self.made(self.numbers.integers(low, high + 1, shape), dtype)

    def integer_tensor(self) -> Tensor:
        """Return a tensor of an integer type: one that there is, a converted one, or a new one."""
        there = [t for t in self.tensors if t.dtype.kind == "i" and t.dtype.itemsize >= 4]
        if there and self.random.random() < 0.7:
            return self.random.choice(there)
        dtype = self.random.choice(("int32", "int64"))
        if self.random.random() < 0.5:
            return self.apply("Cast", self.tensor(), dtype=dtype)[0]
        return self.made(self.numbers.integers(-4, 9, self.shape(self.random.randint(1, 4))), dtype)

    def operand(self) -> Tensor:
        """Return a tensor of float32, now and then of integers."""
        return self.integer_tensor() if self.random.random() < 0.2 else self.tensor()

    def distinct(self, rank: int | Sequence[int] = (1, 2, 3, 4)) -> Tensor:
        """Return a tensor all of whose values differ clearly."""

        def fits(tensor: Tensor) -> bool:
            ordered = np.sort(tensor.value, axis=None)
            return bool(np.diff(ordered).min(initial=np.inf) > 1e-4 * np.abs(ordered).max())

        if self.random.random() < 0.5:
            return self.tensor(rank, fits)
        shape = self.shape(self.random.choice((rank,) if isinstance(rank, int) else rank))
        return self.made(self.numbers.permutation(math.prod(shape)).reshape(shape) / 4 - 3)

    def axis(self, tensor: Tensor, first: int = 0) -> int:
        """Return an axis, now and then counted from the last one."""
        axis = self.random.randrange(first, tensor.rank)
        return axis - tensor.rank if self.random.random() < 0.3 else axis

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def made(self, array: Array, dtype: str | DType = "float32", *, constant: bool | None = None) -> Tensor:
        """Add a variable: an input of the network, or a parameter if `constant`."""
        if constant is None:
            constant = bool(self.inputs) and self.random.random() < 0.3
        tensor = self._variable(f"{'constant' if constant else 'data'}{len(self.nodes)}", np.asarray(array), dtype)
        if not constant:
            self.inputs.append(self.nodes[tensor.entry.node].name)
        self.tensors.append(tensor)
        return tensor

    def _variable(self, name: str, array: Array, dtype: str | DType = "float32") -> Tensor:
        self.nodes.append(variable(name))
        self.values[name] = array = array.astype(dtype)
        return Tensor(Entry(len(self.nodes) - 1), array.dtype, (widened(array),) * 3)

    def apply(self, name: str, *tensors: Tensor, **attributes: Any) -> list[Tensor]:
        """Add a node, with variables for the inputs that are missing. Raise UnfitError if it does not fit."""
        texts = {key: str(value) for key, value in attributes.items()}
        read = Attributes(texts)
        operator = OPERATORS[name].read(read)
        if problems := read.finish():
            raise UnfitError("; ".join(problems))
        inputs = [*tensors, *self._parameters(operator, name, tensors)]
        used = [t for t, role in zip(inputs, operator.inputs or [""] * len(inputs), strict=False) if role]
        if not operator.inputs:
            used = inputs
        used = used[: len(used) - sum(role in operator.ignored for role in operator.inputs[: len(inputs)])]
        try:
            shapes = operator.output_shapes(*(t.shape for t in used))
            dtypes = operator.output_dtypes(*(t.dtype for t in used))
        except ShapeError as error:
            raise UnfitError(str(error)) from None
        if any(not 0 < math.prod(shape) <= MOST_ELEMENTS or not 1 <= len(shape) <= MOST_AXES for shape in shapes):
            raise UnfitError("too many elements or axes, or none")
        with np.errstate(all="ignore"):
            runs = [operator.evaluate(*(t.values[run] for t in used)) for run in range(3)]
        label = f"{name.strip('_').lower()}{len(self.nodes)}"
        self.nodes.append(Node(name, label, texts, tuple(t.entry for t in inputs)))
        outputs = [
            Tensor(Entry(len(self.nodes) - 1, number), dtype, self._noisy(name, tuple(values), used, dtype))
            for number, (dtype, values) in enumerate(zip(dtypes, zip(*runs, strict=True), strict=True))
        ]
        self.tensors += outputs
        return outputs

    def _parameters(self, operator: Operator, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        roles = operator.inputs[len(tensors) : operator.input_count()]
        if not roles:
            return []
        try:
            shapes = operator.parameter_shapes(tensors[0].shape)[len(tensors) - 1 :]
        except ShapeError as error:
            raise UnfitError(str(error)) from None
        made = []
        for number, role in enumerate(roles):
            shape = shapes[number] if number < len(shapes) and role not in operator.ignored else (1,)
            if not shape or math.prod(shape) > MOST_ELEMENTS:
                raise UnfitError(f"{role} has no shape, or a large one")
            label = f"{name.strip('_').lower()}{len(self.nodes) + len(roles)}_{role}"
            made.append(self._variable(label, self._values(role, shape)))
            if role in operator.ignored:
                del self.values[label]
        return made

    def _values(self, role: str, shape: Shape) -> Array:
        if "var" in role:
            return self.numbers.uniform(0.2, 2, shape)
        if role in ("weight", "parameters"):
            scale: float = max(math.prod(shape[1:]), 4) ** -0.5
            return self.numbers.normal(0, scale, shape)
        return self.numbers.normal(0.5 if role == "gamma" else 0, 0.5, shape)

    def _noisy(self, name: str, values: tuple[Array, ...], inputs: Sequence[Tensor], dtype: DType) -> tuple[Array, ...]:
        """Add noise to the results that rounding can change. Raise UnfitError if they already depend on it."""
        exact, *others = values
        if not all(np.isfinite(value).all() for value in values):
            raise UnfitError("not finite")
        scale = np.abs(exact).max(initial=0)
        if scale > (LARGEST if dtype.kind == "f" else LARGEST_INTEGER) or 0 < scale < SMALLEST:
            raise UnfitError(f"values of the size {scale}")
        limit = SPREAD * scale if dtype.kind == "f" else 0
        if any(np.abs(other - exact).max(initial=0) > limit for other in others):
            raise UnfitError("depends on rounding")
        if dtype.kind != "f":
            return values
        known = np.concatenate([np.unique(t.value) for t in inputs]) if inputs else np.zeros(0)
        rounded = ~(np.isin(exact, known) | ((exact == np.round(exact)) & bool(WHOLE.search(name))))
        noise = self.numbers.choice((-1, 1), exact.shape) * (rounded * NOISE * scale)
        return exact, others[0] + noise, others[1] - noise

    def mark(self) -> tuple[int, int, list[str], int]:
        return len(self.nodes), len(self.tensors), [*self.values], len(self.inputs)

    def back_to(self, mark: tuple[int, int, list[str], int]) -> None:
        """Forget the nodes since a mark."""
        nodes, tensors, names, inputs = mark
        del self.nodes[nodes:], self.tensors[tensors:], self.inputs[inputs:]
        self.values = {name: self.values[name] for name in names}

    def finish(self) -> MixedGraph:
        """Return the network. Its outputs are the tensors whose values no node reads, and now and then one more.

        MXNet cannot compute some operators of whose output only the shape is read.
        """
        read = {
            entry
            for node in self.nodes
            if not node.is_variable and OPERATORS[node.operator].reads_values
            for entry in (node.inputs[:1] if node.operator in LIKE else node.inputs)
        }
        computed = [t.entry for t in self.tensors if not self.nodes[t.entry.node].is_variable]
        outputs = [entry for entry in computed if entry not in read]
        inner = [entry for entry in computed if entry in read]
        if inner and self.random.random() < 0.3:
            outputs.insert(self.random.randint(0, len(outputs)), self.random.choice(inner))
        graph = Graph(tuple(self.nodes), tuple(outputs), "random-symbol.json")
        used = {graph.nodes[entry.node].name for node in graph.nodes for entry in node.inputs}
        values = {name: array for name, array in self.values.items() if name in used}
        return MixedGraph(graph, values, [name for name in self.inputs if name in used])


def mixed_graph(seed: int, templates: Mapping[str, Template]) -> MixedGraph:
    """Return the network of a seed."""
    random = Random(seed)  # noqa: S311  # no secret
    builder = Builder(random, np.random.default_rng(seed))
    builder.made(builder.numbers.normal(0.3, 1, builder.shape(random.choice((2, 3, 4, 4, 5)))))
    names = sorted(templates)
    size = random.randint(3, MOST_NODES)
    for _ in range(ATTEMPTS * size):
        mark = builder.mark()
        try:
            templates[random.choice(names)](builder)
        except UnfitError:
            builder.back_to(mark)
        if sum(not node.is_variable for node in builder.nodes) > MOST_NODES:
            builder.back_to(mark)
        if sum(not node.is_variable for node in builder.nodes) >= size:
            break
    return builder.finish()
