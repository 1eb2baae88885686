"""Exporting a network to an ONNX model: each operator emits its nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.evaluation import widened
from sshconvert.graph import Dimensions, Entry, Node, Shape
from sshconvert.network import FLOAT32, Network
from sshconvert.onnx.builder import Builder, NodeBuilder, free_dimensions
from sshconvert.onnx.model import OPSET, OnnxModel
from sshconvert.operators.base import Operator, need

LARGEST_FOLDED: Final = 1 << 20  # elements of a constant that is larger than the inputs of its node


def export(
    network: Network,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Dimensions],
    *,
    name: str,
    larger: Network | None = None,
) -> OnnxModel:
    """Export a network.

    Inputs, outputs and nodes keep MXNet's names, except for outputs that the graph renames, and outputs MXNet's order.
    Raises ShapeError for a node that ONNX cannot express at these shapes.

    Args:
        network: the resolved graph.
        parameters: a float32 array for each parameter of the graph, by name.
        inputs: the shapes of `resolve`, with a name for each dimension that every run may choose.
        name: the name of the model.
        larger: the same graph, resolved with larger sizes for the named dimensions. A difference between the two
            networks depends on those dimensions.

    """
    larger = larger or network
    return _Export(network, larger, parameters).model(inputs, name)


class _Export:
    """One export: the tensors' names, and the arrays of those that are constant."""

    def __init__(self, network: Network, larger: Network, parameters: Mapping[str, Array]) -> None:
        self.network, self.larger, self.graph = network, larger, network.graph
        self.build = Builder({node.name for node in self.graph.nodes})
        self.tensors = _tensor_names(network, self.build)
        self.parameters = parameters
        self.folded: dict[str, Array] = {}  # in the evaluation's types
        self.sized: set[str] = set()  # folded tensors whose shape depends on a free dimension

    def model(self, inputs: Mapping[str, Dimensions], name: str) -> OnnxModel:
        network, build = self.network, self.build
        opset = max(OPSET, *(operator.opset for operator in network.operators if operator), 0)
        for number, (node, operator) in enumerate(zip(self.graph.nodes, network.operators, strict=True)):
            if operator is None:
                continue
            try:
                ranks = [[*map(len, each.shapes[number])] for each in (network, self.larger)]
                need(ranks[0] == ranks[1], "its number of dimensions depends on the size of the inputs")
                if not self.fold(number, node, operator, inputs):
                    operator.emit(self.node_builder(number, node, opset))
            except ShapeError as error:
                raise ShapeError(f"{self.graph.source}: {node.name} ({node.operator}): {error}") from None
        used = {tensor for node in build.nodes for tensor in node.input}
        weights = {name: self.parameters[name] for name in network.parameters(inputs) if name in used}
        constants = build.constants | {name: self.stored(name) for name in self.folded if name in used}
        batches = _free_batches(network, self.larger, inputs)
        outputs = {
            self.tensor(entry): _named(network.shape(entry), self.larger.shape(entry), batches)
            for entry in self.graph.outputs
        }
        return OnnxModel(
            name, tuple(build.nodes), weights | constants, dict(inputs), outputs, types=self.types(inputs), opset=opset
        )

    def tensor(self, entry: Entry) -> str:
        return self.tensors[entry.node][entry.output]

    def node_builder(self, number: int, node: Node, opset: int) -> NodeBuilder:
        network = self.network
        return NodeBuilder(
            self.build.taken,
            f"{node.name}_",
            self.build.nodes,
            self.build.constants,
            inputs=[self.tensor(entry) for entry in node.inputs],
            outputs=self.tensors[number],
            input_shapes=network.input_shapes(node),
            output_shapes=network.shapes[number],
            larger_input_shapes=self.larger.input_shapes(node),
            larger_output_shapes=self.larger.shapes[number],
            input_dtypes=[network.dtype(entry) for entry in node.inputs],
            output_dtypes=network.dtypes[number],
            values={self.tensor(e): value for e in node.inputs if (value := self.value(self.tensor(e))) is not None},
            opset=opset,
        )

    def fold(self, number: int, node: Node, operator: Operator, inputs: Mapping[str, Dimensions]) -> bool:
        """Compute a node whose outputs are the same in every run. Return whether its outputs are constants."""
        values = [self.value(self.tensor(entry)) for entry in node.inputs]
        shapes, larger = self.network.input_shapes(node), self.larger.input_shapes(node)
        if any(entry.node == number for entry in self.graph.outputs):
            return False
        if operator.reads_values or shapes != larger:
            if any(value is None for value in values):
                return False
        else:
            values = [np.broadcast_to(np.float64(0), shape) for shape in shapes]
        outputs = self.network.shapes[number]
        if max(map(math.prod, outputs)) > max(LARGEST_FOLDED, *map(math.prod, shapes), 0):
            return False
        arrays = operator.evaluate(*(widened(value) for value in values if value is not None))
        self.folded |= dict(zip(self.tensors[number], arrays, strict=True))
        if outputs != self.larger.shapes[number]:
            self.sized |= set(self.tensors[number])
        return True

    def value(self, tensor: str) -> Array | None:
        """Return the array of a constant, None for other tensors."""
        return self.parameters.get(tensor, self.folded.get(tensor))

    def stored(self, name: str) -> Array:
        """Return a folded array in the tensor's type. Raises ShapeError if it differs from run to run."""
        number = next(number for number, names in enumerate(self.tensors) if name in names)
        node = self.graph.nodes[number]
        if name in self.sized:
            raise ShapeError(f"{self.graph.source}: {node.name} ({node.operator}): needs a fixed size")
        return self.folded[name].astype(self.network.dtypes[number][self.tensors[number].index(name)])

    def types(self, inputs: Mapping[str, Dimensions]) -> dict[str, DType]:
        """Return the types of inputs and outputs other than float32."""
        entries = [Entry(n) for n, node in enumerate(self.graph.nodes) if node.is_variable and node.name in inputs]
        entries += self.graph.outputs
        dtypes = {self.tensor(entry): self.network.dtype(entry) for entry in entries}
        return {name: dtype for name, dtype in dtypes.items() if dtype != FLOAT32}


def _tensor_names(network: Network, build: Builder) -> list[list[str]]:
    """Return the names of each node's outputs. A node with one output shares its name with the output.

    An output that the graph renames has its new name; an inner tensor of that name gets underscores behind it.
    """
    graph = network.graph
    renamed = dict(zip(graph.outputs, graph.names, strict=False))
    build.taken |= set(graph.names)
    names: list[list[str]] = []
    for number, (node, shapes) in enumerate(zip(graph.nodes, network.shapes, strict=True)):
        own: list[str] = []
        for entry in (Entry(number, output) for output in range(len(shapes))):
            name = network.tensor_name(entry)
            is_free = name == node.name and name not in graph.names
            own.append(renamed.get(entry) or (name if is_free else build.name(name)))
        names.append(own)
    return names


def _free_batches(
    network: Network, larger: Network, inputs: Mapping[str, Dimensions]
) -> dict[tuple[int, int], int | str]:
    """Return the names of the inputs' free first dimensions by their sizes at the two input sizes."""
    first = {
        node.name: (shape[0], more[0])
        for node, (shape, *_), (more, *_) in zip(network.graph.nodes, network.shapes, larger.shapes, strict=True)
        if node.name in inputs
    }
    return {first[name]: dimensions[0] for name, dimensions in inputs.items() if name in first}


def _named(shape: Shape, larger: Shape, batches: Mapping[tuple[int, int], int | str]) -> Dimensions:
    """Name a free first dimension after an input's batch. Other free dimensions stay unnamed."""
    free = free_dimensions(shape, larger)
    named: list[int | str] = ["" if is_free else size for size, is_free in zip(shape, free, strict=True)]
    if free and free[0]:
        named[0] = batches.get((shape[0], larger[0]), "")
    return tuple(named)
