"""Reading the operators of a graph, and inferring all shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.messages import MOST_LISTED, listed
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attributes
from sshconvert.mxnet.symbol import SymbolParser, snapshot_symbol
from sshconvert.operators.base import Operator
from sshconvert.operators.registry import OPERATORS, signatures

# Bounds of one message: kinds of unknown operators, and characters of a node's name and of a problem.
MOST_KINDS: Final = 40
LONGEST_PLACE: Final = 60
LONGEST_PROBLEM: Final = 200

MAX_ELEMENTS: Final = 2**60  # of one tensor: its size in bytes fits into 64 bits

Problem = tuple[str, str]  # the place, such as a node's name, and the problem


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, the operator of each node (None for variables), and the shapes of each node's outputs."""

    graph: Graph
    operators: tuple[Operator | None, ...]
    shapes: tuple[tuple[Shape, ...], ...]

    def shape(self, entry: Entry) -> Shape:
        return self.shapes[entry.node][entry.output]

    def input_shapes(self, node: Node) -> list[Shape]:
        return [self.shape(entry) for entry in node.inputs]

    def parameters(self, inputs: Collection[str]) -> dict[str, Shape]:
        """Return the shape of every variable except the `inputs`, by name."""
        return {
            node.name: shape
            for node, (shape, *_) in zip(self.graph.nodes, self.shapes, strict=True)
            if node.is_variable and node.name not in inputs
        }

    def auxiliaries(self) -> set[str]:
        """Return the names of the auxiliary states."""
        return {
            self.graph.nodes[entry.node].name
            for node, operator in zip(self.graph.nodes, self.operators, strict=True)
            if operator is not None and operator.auxiliaries
            for entry in node.inputs[-operator.auxiliaries :]
        }

    def tensor_name(self, entry: Entry) -> str:
        """Return MXNet's name of a tensor without the suffix `_output`: the node's name, if the node has one output."""
        return _tensor_name(self.graph.nodes[entry.node], self.operators[entry.node], entry.output)

    def output_shapes(self) -> dict[str, Shape]:
        """Return the shape of every output by name, in order."""
        return {self.tensor_name(entry): self.shape(entry) for entry in self.graph.outputs}

    def flops(self) -> float:
        """Count a run's operations by the rules in `sshconvert.operators` (the model card counts preprocessing too)."""
        return sum(
            operator.flops(*self.input_shapes(node)) * math.prod(shapes[0])
            for node, operator, shapes in zip(self.graph.nodes, self.operators, self.shapes, strict=True)
            if operator is not None
        )


def read_symbol(path: Path) -> Graph:
    """Read a symbol JSON file. Raises SymbolError with the file, the node and the problem."""
    return parse_symbol(bytes(snapshot_symbol(path).data), source=str(path))


def parse_symbol(text: str | bytes, *, source: str = "symbol") -> Graph:
    """Parse symbol JSON. `source` names it in messages. Raises SymbolError."""
    return SymbolParser(source, signatures()).parse(text)


def output_names(graph: Graph) -> tuple[str, ...]:
    """Return the name of each output. An unsupported operator gets MXNet's usual names."""
    operators = {number: _read_node(graph.nodes[number])[0] for number in {entry.node for entry in graph.outputs}}
    return tuple(_tensor_name(graph.nodes[entry.node], operators[entry.node], entry.output) for entry in graph.outputs)


def _tensor_name(node: Node, operator: Operator | None, output: int) -> str:
    names = operator.output_names() if operator else ()
    name = names[output] if output < len(names) else f"output{output or ''}"
    return f"{node.name}_{name}".removesuffix("_output")


def resolve(graph: Graph, inputs: Mapping[str, Shape]) -> Network:
    """Read all operators, and infer all shapes, including those of the parameters, from the shapes of the inputs.

    Raises:
        UnsupportedGraphError: An operator, attribute or value is not supported. The message lists all of them.
        ShapeError: Shapes do not fit. The message names the first such node.

    """
    operators = read_operators(graph)
    return Network(graph, operators, infer_shapes(graph, operators, inputs))


def read_operators(graph: Graph) -> tuple[Operator | None, ...]:
    """Return the operator of each node, None for a variable. Raises UnsupportedGraphError with all problems."""
    operators: list[Operator | None] = []
    unknown = (node for node in graph.nodes if not node.is_variable and node.operator not in OPERATORS)
    kinds, kind_lines = _grouped(((node.name, f": operator {node.operator}") for node in unknown), MOST_KINDS)
    problems, lines = _grouped(chain(_read_nodes(graph, operators), _check_entries(graph, operators)), MOST_LISTED)
    if kinds or problems:
        summary = f"{kinds + problems} unsupported operators, attributes or outputs"
        raise UnsupportedGraphError(f"{graph.source}: {summary}: {'; '.join([*kind_lines, *lines])}")
    return tuple(operators)


def _grouped(problems: Iterable[Problem], most: int) -> tuple[int, list[str]]:
    """Return the number of problems, and a line for each kind with its first place, the most frequent kind first.

    There are at most `most` lines, and one that counts the other problems.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    others = 0
    for place, problem in problems:
        if problem not in first and len(first) == most:
            others += 1
            continue
        first.setdefault(problem, place)
        counts[problem] += 1
    lines = [
        f"{_clipped(first[problem])}{f' and {count - 1} more' if count > 1 else ''}{_clipped(problem, LONGEST_PROBLEM)}"
        for problem, count in counts.most_common()
    ]
    return counts.total() + others, [*lines, *([f"and {others} more"] if others else [])]


def _clipped(text: str, most: int = LONGEST_PLACE) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _read_nodes(graph: Graph, operators: list[Operator | None]) -> Iterator[Problem]:
    """Append the operator of each node, or None, to `operators`. Yield the problems of the nodes."""
    for node in graph.nodes:
        operator, problems = _read_node(node)
        operators.append(operator)
        if operator and not problems and operator.input_count() != len(node.inputs):
            problems = [f"{len(node.inputs)} inputs, expected {operator.input_count()}"]
        for problem in problems:
            yield node.name, f" ({node.operator}): {problem}"


def _read_node(node: Node) -> tuple[Operator | None, list[str]]:
    """Return the operator, None for a variable or an unknown operator, and the problems of the attributes."""
    kind = OPERATORS.get(node.operator)
    if node.is_variable or kind is None:
        return None, []
    attributes = Attributes(node.attributes)
    operator = kind.read(attributes)
    return operator, attributes.finish()


def _check_entries(graph: Graph, operators: Sequence[Operator | None]) -> Iterator[Problem]:
    """Yield references to missing outputs of operators, and outputs of the network that repeat or are variables."""
    reads = chain(
        ((node.name, entry) for node in graph.nodes for entry in node.inputs),
        (("the network's outputs", entry) for entry in graph.outputs),
    )
    for reader, entry in reads:
        operator = operators[entry.node]
        if entry.output >= (len(operator.output_names()) if operator else 1):
            yield reader, f": output {entry.output} of {graph.nodes[entry.node].name} is not supported"
    for entry, count in Counter(graph.outputs).items():
        node = graph.nodes[entry.node]
        if count > 1:
            output = f"output {entry.output} of " if entry.output else ""
            yield "the network's outputs", f": {output}{node.name} appears more than once"
        if node.is_variable:
            yield "the network's outputs", f": {node.name} is a variable, which no operator computes"


def infer_shapes(
    graph: Graph, operators: tuple[Operator | None, ...], inputs: Mapping[str, Shape]
) -> tuple[tuple[Shape, ...], ...]:
    """Return the shapes of each node's outputs, given those of the network's inputs. Raises ShapeError."""
    for name, shape in inputs.items():
        if reason := _unusable(shape):
            raise ShapeError(f"{graph.source}: input {name}: {reason}")
    shapes: list[tuple[Shape, ...]] = [
        (inputs[node.name],) if node.is_variable and node.name in inputs else () for node in graph.nodes
    ]
    for number, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        if operator is None:
            continue
        try:
            shapes[number] = _infer_node(graph, node, operator, shapes)
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    unknown = [node.name for node, known in zip(graph.nodes, shapes, strict=True) if not known]
    if unknown:
        raise ShapeError(
            f"{graph.source}: the shapes of {listed(unknown, ', ')} cannot be inferred; name them as inputs"
        )
    return tuple(shapes)


def _infer_node(graph: Graph, node: Node, operator: Operator, shapes: list[tuple[Shape, ...]]) -> tuple[Shape, ...]:
    """Return the shapes of a node's outputs.

    `shapes` holds the known shapes of all nodes' outputs; those of the node's parameters are added.
    """
    names = [graph.nodes[entry.node].name for entry in node.inputs]
    if not shapes[node.inputs[0].node]:
        raise ShapeError(f"the shape of {names[0]} is not known; name it as an input")
    data = shapes[node.inputs[0].node][node.inputs[0].output]
    for entry, name, shape in zip(node.inputs[1:], names[1:], operator.parameter_shapes(data), strict=False):
        if reason := _unusable(shape):
            raise ShapeError(f"{name}: {reason}")
        if not shapes[entry.node]:
            shapes[entry.node] = (shape,)
        elif shapes[entry.node][entry.output] != shape:
            raise ShapeError(f"{name} has shape {shapes[entry.node][entry.output]}, expected {shape}")
    unknown = [name for entry, name in zip(node.inputs, names, strict=True) if not shapes[entry.node]]
    if unknown:
        raise ShapeError(f"the shapes of {listed(unknown, ', ')} are not known; name them as inputs")
    outputs = operator.output_shapes(*(shapes[entry.node][entry.output] for entry in node.inputs))
    for number, shape in enumerate(outputs):
        if reason := _unusable(shape):
            raise ShapeError(f"its output{f' {number}' if number else ''}: {reason}")
    return outputs


def _unusable(shape: Shape) -> str:
    """Return the reason why no tensor can have this shape, "" if one can. ONNX counts elements in 64 bits."""
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        return f"{len(shape)} dimensions, expected 1 to {MAX_DIMENSIONS}"
    if not all(1 <= size <= MAX_INTEGER for size in shape):
        return f"shape {shape}, expected sizes from 1 to {MAX_INTEGER}"
    if math.prod(shape) > MAX_ELEMENTS:
        return f"shape {shape}, expected at most {MAX_ELEMENTS} elements"
    return ""
