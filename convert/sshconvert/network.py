"""A graph whose operators are understood and whose shapes are known: what the exporters read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.graph import Graph, Node, Shape
from sshconvert.messages import MOST_LISTED, listed
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attributes
from sshconvert.operators import OPERATORS, Operator

MOST_KINDS: Final = 40  # of unknown operators in a message: no network has as many
LONGEST_PLACE: Final = 60  # of a name there
LONGEST_PROBLEM: Final = 200

Problem = tuple[str, str]  # where it is, and what it is

MAX_ELEMENTS: Final = 2**60  # of one tensor, so that its bytes can be counted in 64 bits


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, the operator of each node (None for variables), and the shape of each node's output."""

    graph: Graph
    operators: tuple[Operator | None, ...]
    shapes: tuple[Shape, ...]

    def input_shapes(self, node: Node) -> list[Shape]:
        return [self.shapes[entry.node] for entry in node.inputs]

    def parameters(self, inputs: Collection[str]) -> dict[str, Shape]:
        """Name and shape of every variable that is not one of the network's `inputs`."""
        return {
            node.name: shape
            for node, shape in zip(self.graph.nodes, self.shapes, strict=True)
            if node.is_variable and node.name not in inputs
        }

    def output_shapes(self) -> dict[str, Shape]:
        """Shape of every output by its bare name, in order."""
        return {
            name: self.shapes[entry.node]
            for name, entry in zip(self.graph.output_names, self.graph.outputs, strict=True)
        }

    def flops(self) -> float:
        """Operations for one run, by the rules in `sshconvert.operators` (the model card counts preprocessing too)."""
        return sum(
            operator.flops(*self.input_shapes(node)) * math.prod(shape)
            for node, operator, shape in zip(self.graph.nodes, self.operators, self.shapes, strict=True)
            if operator is not None
        )


def resolve(graph: Graph, inputs: Mapping[str, Shape]) -> Network:
    """Understand every operator and infer every shape, those of the parameters included, from the input shapes.

    Raises UnsupportedGraphError, which lists all unsupported operators, attributes and values with their nodes, and
    ShapeError, which names the first node whose inputs do not fit.
    """
    operators = read_operators(graph)
    return Network(graph, operators, infer_shapes(graph, operators, inputs))


def read_operators(graph: Graph) -> tuple[Operator | None, ...]:
    """The operator of each node. Raises UnsupportedGraphError with everything that is not supported."""
    operators: list[Operator | None] = []
    unknown = (node for node in graph.nodes if not node.is_variable and node.operator not in OPERATORS)
    kinds, kind_lines = _grouped(((node.name, f": operator {node.operator}") for node in unknown), MOST_KINDS)
    problems, lines = _grouped(chain(_read_nodes(graph, operators), _check_entries(graph)), MOST_LISTED)
    if kinds or problems:
        raise UnsupportedGraphError(
            f"{graph.source}: {kinds + problems} things are not supported: {'; '.join([*kind_lines, *lines])}"
        )
    return tuple(operators)


def _grouped(problems: Iterable[Problem], most: int) -> tuple[int, list[str]]:
    """How many problems there are, and for each kind of them, up to `most`, a line with the first place and how many
    more there are; the most frequent first.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    others = 0
    for place, what in problems:
        if what not in first and len(first) == most:
            others += 1
            continue
        first.setdefault(what, place)
        counts[what] += 1
    lines = [
        f"{_clipped(first[what])}{f' and {count - 1} more' if count > 1 else ''}{_clipped(what, LONGEST_PROBLEM)}"
        for what, count in counts.most_common()
    ]
    return counts.total() + others, [*lines, *([f"and {others} more"] if others else [])]


def _clipped(text: str, most: int = LONGEST_PLACE) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _read_nodes(graph: Graph, operators: list[Operator | None]) -> Iterator[Problem]:
    """Add the operator of each node to `operators`, None for what is none; give what is wrong with the attributes."""
    for node in graph.nodes:
        kind = OPERATORS.get(node.operator)
        if node.is_variable or kind is None:
            operators.append(None)
            continue
        attributes = Attributes(node.attributes)
        operator = kind.read(attributes)
        operators.append(operator)
        found = attributes.finish()
        if not found and operator.input_count() != len(node.inputs):
            found = [f"{len(node.inputs)} inputs, expected {operator.input_count()}"]
        for problem in found:
            yield node.name, f" ({node.operator}): {problem}"


def _check_entries(graph: Graph) -> Iterator[Problem]:
    """Every supported operator has one output, and the network gives each of its own once."""
    reads = chain(
        ((node.name, entry) for node in graph.nodes for entry in node.inputs),
        (("the network's outputs", entry) for entry in graph.outputs),
    )
    for reader, entry in reads:
        if entry.output:
            yield reader, f": output {entry.output} of {graph.nodes[entry.node].name} is not supported"
    for entry, count in Counter(graph.outputs).items():
        node = graph.nodes[entry.node]
        if count > 1:
            yield "the network's outputs", f": {node.name} is given more than once"
        if node.is_variable:
            yield "the network's outputs", f": {node.name} is a variable, which no operator computes"


def infer_shapes(
    graph: Graph, operators: tuple[Operator | None, ...], inputs: Mapping[str, Shape]
) -> tuple[Shape, ...]:
    """The shape of each node's output, given those of the network's inputs. Raises ShapeError."""
    for name, shape in inputs.items():
        if reason := _unusable(shape):
            raise ShapeError(f"{graph.source}: input {name}: {reason}")
    shapes: list[Shape | None] = [inputs.get(node.name) if node.is_variable else None for node in graph.nodes]
    for number, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        if operator is None:
            continue
        try:
            shapes[number] = _infer_node(graph, node, operator, shapes)
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    unknown = [node.name for node, shape in zip(graph.nodes, shapes, strict=True) if shape is None]
    if unknown:
        raise ShapeError(
            f"{graph.source}: the shapes of {listed(unknown, ', ')} cannot be inferred; name them as inputs"
        )
    return tuple(shape for shape in shapes if shape is not None)


def _infer_node(graph: Graph, node: Node, operator: Operator, shapes: list[Shape | None]) -> Shape:
    data = shapes[node.inputs[0].node]
    if data is None:
        raise ShapeError(f"the shape of {graph.nodes[node.inputs[0].node].name} is not known; name it as an input")
    for entry, shape in zip(node.inputs[1:], operator.parameter_shapes(data), strict=False):
        known = shapes[entry.node]
        if reason := _unusable(shape):
            raise ShapeError(f"{graph.nodes[entry.node].name}: {reason}")
        if known is None:
            shapes[entry.node] = shape
        elif known != shape:
            raise ShapeError(f"{graph.nodes[entry.node].name} has shape {known}, expected {shape}")
    inputs = [(graph.nodes[entry.node].name, shapes[entry.node]) for entry in node.inputs]
    unknown = [name for name, shape in inputs if shape is None]
    if unknown:
        raise ShapeError(f"the shapes of {listed(unknown, ', ')} are not known; name them as inputs")
    output = operator.output_shape(*(shape for _, shape in inputs if shape is not None))
    if reason := _unusable(output):
        raise ShapeError(f"its output: {reason}")
    return output


def _unusable(shape: Shape) -> str:
    """Why no tensor can have this shape, or nothing. Nobody allocates one, but ONNX counts in 64 bits."""
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        return f"{len(shape)} dimensions, expected 1 to {MAX_DIMENSIONS}"
    if not all(1 <= size <= MAX_INTEGER for size in shape):
        return f"shape {shape}, expected sizes from 1 to {MAX_INTEGER}"
    if math.prod(shape) > MAX_ELEMENTS:
        return f"shape {shape}, expected at most {MAX_ELEMENTS} elements"
    return ""
