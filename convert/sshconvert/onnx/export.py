"""Network and parameters to an ONNX model: each node emitted by its operator, nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Dimensions, Shape
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
    for node, operator, shape, larger_shape in zip(
        graph.nodes, network.operators, network.shapes, larger.shapes, strict=True
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
                    inputs=[graph.nodes[entry.node].name for entry in node.inputs],
                    outputs=[node.name],
                    input_shapes=network.input_shapes(node),
                    output_shapes=[shape],
                    larger_output_shapes=[larger_shape],
                )
            )
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    used = {tensor for node in build.nodes for tensor in node.input}
    weights = {name: parameters[name] for name in network.parameters(inputs) if name in used}
    outputs = {
        name: _named(network.shapes[entry.node], larger.shapes[entry.node], inputs)
        for name, entry in zip(graph.output_names, graph.outputs, strict=True)
    }
    return OnnxModel(name, tuple(build.nodes), weights | build.constants, dict(inputs), outputs)


def _named(shape: Shape, larger: Shape, inputs: Mapping[str, Dimensions]) -> Dimensions:
    """A free first dimension is the input's batch; how the others follow from the input's, a name cannot say."""
    free = free_dimensions(shape, larger)
    named: list[int | str] = ["" if is_free else size for size, is_free in zip(shape, free, strict=True)]
    if free and free[0]:
        named[0] = next(iter(inputs.values()))[0]
    return tuple(named)
