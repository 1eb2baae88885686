"""Network and parameters to an ONNX model: each node emitted by its operator, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.network import Network
from sshconvert.onnx.emitter import Emitter
from sshconvert.onnx.model import OnnxModel

Array = npt.NDArray[Any]


def export(network: Network, parameters: Mapping[str, Array], inputs: Mapping[str, Shape], *, name: str) -> OnnxModel:
    """Export a network with static shapes.

    `parameters` are float32 arrays by the names of the graph's variables, all there (`Checkpoint` sees to that);
    `inputs` are the network's inputs as they were given to `resolve`. The model's inputs, outputs and nodes are
    named as in MXNet, the outputs in MXNet's order. Raises ShapeError for what ONNX cannot express at these shapes.
    """
    graph = network.graph
    emit = Emitter(taken={node.name for node in graph.nodes}, kept=frozenset(entry.node for entry in graph.outputs))
    for number, (node, operator) in enumerate(zip(graph.nodes, network.operators, strict=True)):
        if operator is None:
            emit.tensors[number] = node.name
            continue
        emit.begin(number, node, network.shapes)
        try:
            operator.to_onnx(emit)
        except ShapeError as error:
            raise ShapeError(f"{graph.source}: {node.name} ({node.operator}): {error}") from None
    used = {tensor for node in emit.nodes for tensor in node.input}
    weights = {name: parameters[name] for name in network.parameters(inputs) if name in used}
    return OnnxModel(name, tuple(emit.nodes), weights | emit.constants, dict(inputs), network.output_shapes())
