"""Exporting a network to an ONNX model: each operator emits its nodes."""

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

    Inputs, outputs and nodes keep MXNet's names, and outputs MXNet's order. Raises ShapeError for a node that ONNX
    cannot express at these shapes.

    Args:
        network: the resolved graph.
        parameters: a float32 array for each parameter of the graph, by name.
        inputs: the shapes of `resolve`, with a name for each dimension that every run may choose.
        name: the name of the model.
        larger: the same graph, resolved with larger sizes for the named dimensions. A difference between the two
            networks depends on those dimensions.

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
    """Return the names of each node's outputs. A node with one output shares its name with the output."""
    names: list[list[str]] = []
    for number, (node, shapes) in enumerate(zip(network.graph.nodes, network.shapes, strict=True)):
        originals = (network.tensor_name(Entry(number, output)) for output in range(len(shapes)))
        names.append([name if name == node.name else build.name(name) for name in originals])
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
