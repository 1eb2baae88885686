"""A graph whose operators are understood and whose shapes are known: what the exporters read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sshconvert.errors import ShapeError, UnsupportedGraphError
from sshconvert.graph import Graph, Node, Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators import OPERATORS, Operator


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
    problems: list[str] = []
    operators = [_read_operator(node, problems) for node in graph.nodes]
    references = [(node.name, entry) for node in graph.nodes for entry in node.inputs]
    for reader, entry in references + [("the network's outputs", entry) for entry in graph.outputs]:
        if entry.output:
            problems.append(f"{reader}: output {entry.output} of {graph.nodes[entry.node].name} is not supported")
    repeated = [graph.nodes[entry.node].name for entry in set(graph.outputs) if graph.outputs.count(entry) > 1]
    problems += [f"the network's outputs: {name} is given more than once" for name in sorted(repeated)]
    if problems:
        listed = "; ".join(problems)
        raise UnsupportedGraphError(f"{graph.source}: {len(problems)} things are not supported: {listed}")
    return tuple(operators)


def _read_operator(node: Node, problems: list[str]) -> Operator | None:
    if node.is_variable:
        return None
    kind = OPERATORS.get(node.operator)
    if kind is None:
        problems.append(f"{node.name}: operator {node.operator}")
        return None
    attributes = Attributes(node.attributes)
    operator = kind.read(attributes)
    found = attributes.finish()
    if not found and operator.input_count() != len(node.inputs):
        found = [f"{len(node.inputs)} inputs, expected {operator.input_count()}"]
    problems += [f"{node.name} ({node.operator}): {problem}" for problem in found]
    return operator


def infer_shapes(
    graph: Graph, operators: tuple[Operator | None, ...], inputs: Mapping[str, Shape]
) -> tuple[Shape, ...]:
    """The shape of each node's output, given those of the network's inputs. Raises ShapeError."""
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
        raise ShapeError(f"{graph.source}: the shapes of {', '.join(unknown)} cannot be inferred; name them as inputs")
    return tuple(shape for shape in shapes if shape is not None)


def _infer_node(graph: Graph, node: Node, operator: Operator, shapes: list[Shape | None]) -> Shape:
    data = shapes[node.inputs[0].node]
    if data is None:
        raise ShapeError(f"the shape of {graph.nodes[node.inputs[0].node].name} is not known; name it as an input")
    for entry, shape in zip(node.inputs[1:], operator.parameter_shapes(data), strict=False):
        known = shapes[entry.node]
        if known is None:
            shapes[entry.node] = shape
        elif known != shape:
            raise ShapeError(f"{graph.nodes[entry.node].name} has shape {known}, expected {shape}")
    inputs = [(graph.nodes[entry.node].name, shapes[entry.node]) for entry in node.inputs]
    unknown = [name for name, shape in inputs if shape is None]
    if unknown:
        raise ShapeError(f"the shapes of {', '.join(unknown)} are not known; name them as inputs")
    return operator.output_shape(*(shape for _, shape in inputs if shape is not None))
