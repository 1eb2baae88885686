"""Reading the operators of a graph, and inferring all shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from sshconvert.arrays import DType
from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.graph import Entry, Graph, Node, Shape
from sshconvert.messages import MOST_LISTED, listed
from sshconvert.mxnet.attributes import MAX_DIMENSIONS, MAX_INTEGER, Attributes
from sshconvert.mxnet.symbol import SymbolParser, snapshot_symbol
from sshconvert.operators.base import Operator
from sshconvert.operators.refused import description
from sshconvert.operators.registry import OPERATORS, signatures

# Bounds of one message: kinds of unknown operators, and characters of a node's name and of a problem.
MOST_KINDS: Final = 40
LONGEST_PLACE: Final = 60
LONGEST_PROBLEM: Final = 200

MAX_ELEMENTS: Final = 2**60  # of one tensor: its size in bytes fits into 64 bits

Problem = tuple[str, str]  # the place, such as a node's name, and the problem

FLOAT32: Final = np.dtype(np.float32)
_NO_SHAPES: Final[Mapping[str, Shape]] = MappingProxyType({})
_NO_DTYPES: Final[Mapping[str, DType]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Network:
    """A graph, the operator of each node (None for variables), and the shapes and types of each node's outputs."""

    graph: Graph
    operators: tuple[Operator | None, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    dtypes: tuple[tuple[DType, ...], ...]

    def shape(self, entry: Entry) -> Shape:
        return self.shapes[entry.node][entry.output]

    def dtype(self, entry: Entry) -> DType:
        return self.dtypes[entry.node][entry.output]

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
        names = self.graph.names or map(self.tensor_name, self.graph.outputs)
        return {name: self.shape(entry) for name, entry in zip(names, self.graph.outputs, strict=True)}

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
    return graph.names or tuple(tensor_name(graph.nodes[entry.node], entry.output) for entry in graph.outputs)


def tensor_name(node: Node, output: int) -> str:
    """Return MXNet's name of a node's output without the suffix `_output`, also for an unsupported operator."""
    return _tensor_name(node, _read_node(node)[0], output)


def _tensor_name(node: Node, operator: Operator | None, output: int) -> str:
    names = operator.output_names() if operator else ()
    name = names[output] if output < len(names) else f"output{output or ''}"
    return f"{node.name}_{name}".removesuffix("_output")


def resolve(
    graph: Graph,
    inputs: Mapping[str, Shape],
    *,
    known: Mapping[str, Shape] = _NO_SHAPES,
    dtypes: Mapping[str, DType] = _NO_DTYPES,
) -> Network:
    """Read all operators, and infer all shapes and types.

    Args:
        graph: the nodes.
        inputs: the shape of each input of the network. The shapes of parameters follow from them.
        known: shapes of parameters, for those that do not follow from the inputs.
        dtypes: the types of inputs and parameters other than float32.

    Raises:
        UnsupportedGraphError: An operator, attribute or value is not supported. The message lists all of them.
        ShapeError: Shapes do not fit. The message names the first such node.

    """
    operators = list(read_operators(graph))
    shapes = infer_shapes(graph, operators, inputs, known)
    return Network(graph, tuple(operators), shapes, infer_dtypes(graph, operators, dtypes))


def read_operators(graph: Graph) -> tuple[Operator | None, ...]:
    """Return the operator of each node, None for a variable. Raises UnsupportedGraphError with all problems."""
    operators: list[Operator | None] = []
    unknown = (node for node in graph.nodes if not node.is_variable and node.operator not in OPERATORS)
    kinds, kind_lines = _grouped(((node.name, _unknown_kind(node.operator)) for node in unknown), MOST_KINDS)
    problems, lines = _grouped(chain(_read_nodes(graph, operators), _check_entries(graph, operators)), MOST_LISTED)
    if kinds or problems:
        summary = f"{kinds + problems} unsupported operators, attributes or outputs"
        raise UnsupportedGraphError(f"{graph.source}: {summary}: {'; '.join([*kind_lines, *lines])}")
    return tuple(operators)


def unsupported(graph: Graph) -> dict[str, int]:
    """Return the number of nodes for each unsupported operator, with a problem of its attributes if it has one."""
    unknown = Counter(
        _unknown_kind(node.operator).removeprefix(": operator ")
        for node in graph.nodes
        if not node.is_variable and node.operator not in OPERATORS
    )
    problems = Counter(problem.strip(" ():").replace("): ", ": ", 1) for _, problem in _read_nodes(graph, []))
    return dict((unknown + problems).most_common())


def _unknown_kind(operator: str) -> str:
    meaning = description(operator)
    return f": operator {operator} ({meaning})" if meaning else f": operator {operator}"


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
        if operator and not problems:
            expected, without = operator.input_count(), operator.input_count() - len(operator.ignored)
            if len(node.inputs) not in (expected, without):
                problems = [f"{len(node.inputs)} inputs, expected {expected}"]
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
    graph: Graph,
    operators: list[Operator | None],
    inputs: Mapping[str, Shape],
    known: Mapping[str, Shape] = _NO_SHAPES,
) -> tuple[tuple[Shape, ...], ...]:
    """Return the shapes of each node's outputs, given those of the network's inputs. Raises ShapeError.

    Operators whose attributes leave sizes open get their shape in `operators`.
    """
    for name, shape in {**inputs, **known}.items():
        if reason := _unusable(shape):
            raise ShapeError(f"{graph.source}: {'input' if name in inputs else 'parameter'} {name}: {reason}")
    inference = _ShapeInference(graph, operators, known)
    for number, node in enumerate(graph.nodes):
        if node.is_variable and node.name in inputs:
            inference.shapes[number] = (inputs[node.name],)
    for number, (node, operator) in enumerate(zip(graph.nodes, operators, strict=True)):
        if operator is None:
            continue
        try:
            inference.infer(number, node, operator)
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    unknown = [node.name for node, shapes in zip(graph.nodes, inference.shapes, strict=True) if not shapes]
    if unknown:
        raise ShapeError(
            f"{graph.source}: the shapes of {listed(unknown, ', ')} cannot be inferred; name them as inputs"
        )
    return tuple(inference.shapes)


class _ShapeInference:
    """The shapes of each node's outputs, as far as they are known."""

    def __init__(self, graph: Graph, operators: list[Operator | None], known: Mapping[str, Shape]) -> None:
        self.graph, self.operators, self.known = graph, operators, known
        self.shapes: list[tuple[Shape, ...]] = [()] * len(graph.nodes)

    def infer(self, number: int, node: Node, operator: Operator) -> None:
        """Infer the shapes of a node's outputs, and of its parameters."""
        names = [self.graph.nodes[entry.node].name for entry in node.inputs]
        if node.inputs:
            if not self._is_known(node.inputs[0]):
                raise ShapeError(f"the shape of {names[0]} is not known; name it as an input")
            data = self.shapes[node.inputs[0].node][node.inputs[0].output]
            for entry, name, shape in zip(node.inputs[1:], names[1:], operator.parameter_shapes(data), strict=False):
                if shape and not (operator.shapes_given and self._is_known(entry)):
                    self._expect(entry, name, shape)
        unknown = [name for entry, name in zip(node.inputs, names, strict=True) if not self._is_known(entry)]
        if unknown:
            raise ShapeError(f"the shapes of {listed(unknown, ', ')} are not known; name them as inputs")
        outputs = operator.output_shapes(*(self.shapes[entry.node][entry.output] for entry in node.inputs))
        if not node.inputs and 0 in outputs[0]:
            return  # the reader completes the shape
        for output, shape in enumerate(outputs):
            if reason := _unusable(shape):
                raise ShapeError(f"its output{f' {output}' if output else ''}: {reason}")
        self.shapes[number] = outputs

    def _is_known(self, entry: Entry) -> bool:
        """Return whether a shape is known. Takes a variable's own shape if nothing else gives it."""
        node = self.graph.nodes[entry.node]
        if not self.shapes[entry.node] and node.is_variable and (shape := self._own_shape(node)):
            self.shapes[entry.node] = (shape,)
        return bool(self.shapes[entry.node])

    def _own_shape(self, node: Node) -> Shape:
        """Return the shape in the parameters, or in the symbol if it has no open size; empty if there is none."""
        if node.name in self.known:
            return self.known[node.name]
        attributes = Attributes({"shape": node.attributes.get("__shape__", "()")})
        shape = attributes.integers("shape", ())
        return () if 0 in shape or attributes.problems else shape

    def _expect(self, entry: Entry, name: str, shape: Shape) -> None:
        """Set the shape of a parameter, or compare it with the known one."""
        if reason := _unusable(shape):
            raise ShapeError(f"{name}: {reason}")
        operator = self.operators[entry.node]
        if self.shapes[entry.node]:
            if self.shapes[entry.node][entry.output] != shape:
                raise ShapeError(f"{name} has shape {self.shapes[entry.node][entry.output]}, expected {shape}")
            return
        if operator is not None:
            open_shape = operator.output_shapes()[0]
            if len(open_shape) != len(shape) or any(o not in (0, s) for o, s in zip(open_shape, shape, strict=True)):
                raise ShapeError(f"{name} has shape {open_shape}, in which 0 is open, expected {shape}")
            self.operators[entry.node] = operator.with_shape(shape)
        self.shapes[entry.node] = (shape,)


def infer_dtypes(
    graph: Graph, operators: Sequence[Operator | None], dtypes: Mapping[str, DType] = _NO_DTYPES
) -> tuple[tuple[DType, ...], ...]:
    """Return the types of each node's outputs, given those of variables other than float32. Raises ShapeError."""
    inferred: list[tuple[DType, ...]] = []
    for node, operator in zip(graph.nodes, operators, strict=True):
        if operator is None:
            inferred.append((dtypes.get(node.name, FLOAT32),))
            continue
        try:
            inferred.append(operator.output_dtypes(*(inferred[entry.node][entry.output] for entry in node.inputs)))
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    return tuple(inferred)


def _unusable(shape: Shape) -> str:
    """Return the reason why no tensor can have this shape, "" if one can. ONNX counts elements in 64 bits."""
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        return f"{len(shape)} dimensions, expected 1 to {MAX_DIMENSIONS}"
    if not all(1 <= size <= MAX_INTEGER for size in shape):
        return f"shape {shape}, expected sizes from 1 to {MAX_INTEGER}"
    if math.prod(shape) > MAX_ELEMENTS:
        return f"shape {shape}, expected at most {MAX_ELEMENTS} elements"
    return ""
