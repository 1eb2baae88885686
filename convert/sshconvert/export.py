"""Network and parameters to an ONNX model: each node emitted by its operator, nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Dimensions, Entry, Shape
from sshconvert.network import Network
from sshconvert.onnx.builder import Builder, NodeBuilder, free_dimensions
from sshconvert.onnx.model import OnnxModel


def export(
    network: Network,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Dimensions],
    *,
    name: str,
    larger: Network | None = None,
) -> OnnxModel:
    """Export a network.

    `parameters` are float32 arrays by the names of the graph's variables, all there (`Checkpoint` sees to that);
    `inputs` are the network's inputs as they were given to `resolve`, with a name for each dimension that every run
    may choose. `larger` is then the same graph resolved for inputs in which those dimensions are larger: what differs
    between the two depends on them. The model's inputs, outputs and nodes are named as in MXNet, the outputs in
    MXNet's order. Raises ShapeError for what ONNX cannot express at these shapes.
    """
    graph = network.graph
    larger = larger or network
    build = Builder({node.name for node in graph.nodes})
    tensors = _tensor_names(network, build)
    for node, operator, names, shapes, larger_shapes in zip(
        graph.nodes, network.operators, tensors, network.shapes, larger.shapes, strict=True
    ):
        if operator is None:
            continue
        try:
            operator.emit(
                NodeBuilder(
                    build.taken,
                    f"{node.name}_",
                    build.nodes,
                    build.constants,
                    inputs=[tensors[entry.node][entry.output] for entry in node.inputs],
                    outputs=names,
                    input_shapes=network.input_shapes(node),
                    output_shapes=shapes,
                    larger_output_shapes=larger_shapes,
                )
            )
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    used = {tensor for node in build.nodes for tensor in node.input}
    weights = {name: parameters[name] for name in network.parameters(inputs) if name in used}
    batches = _free_batches(network, larger, inputs)
    outputs = {
        tensors[entry.node][entry.output]: _named(network.shape(entry), larger.shape(entry), batches)
        for entry in graph.outputs
    }
    return OnnxModel(name, tuple(build.nodes), weights | build.constants, dict(inputs), outputs)


def _tensor_names(network: Network, build: Builder) -> list[list[str]]:
    """Return the names of each node's outputs. A node with one output gives the output its own name."""
    names: list[list[str]] = []
    for number, (node, shapes) in enumerate(zip(network.graph.nodes, network.shapes, strict=True)):
        wanted = [network.tensor_name(Entry(number, output)) for output in range(len(shapes))]
        names.append([name if name == node.name else build.name(name) for name in wanted])
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
    """A free first dimension is an input's batch; how others follow from the inputs' dimensions, no name can say."""
    free = free_dimensions(shape, larger)
    named: list[int | str] = ["" if is_free else size for size, is_free in zip(shape, free, strict=True)]
    if free and free[0]:
        named[0] = batches.get((shape[0], larger[0]), "")
    return tuple(named)
