"""The part of an ONNX model behind some of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Set as AbstractSet

import onnx


def part_behind(model: onnx.ModelProto, tensors: AbstractSet[str]) -> onnx.ModelProto:
    """Return the nodes and weights that compute the outputs from inner `tensors`, which become inputs.

    Nodes keep their order, and outputs theirs, without those among the `tensors`. An input that the nodes read stays.
    The result shares nothing with `model`.
    """
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    outputs = [output for output in model.graph.output if output.name not in tensors]
    nodes, needed = _needed(model.graph, {output.name for output in outputs}, tensors)
    types = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    inputs = [value for value in model.graph.input if value.name in needed]
    for field in (graph.node, graph.initializer, graph.sparse_initializer, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    graph.sparse_initializer.extend(item for item in model.graph.sparse_initializer if item.values.name in needed)
    graph.input.extend(inputs)
    graph.input.extend(types.get(name, _floats(name)) for name in sorted(tensors & needed))
    graph.output.extend(outputs)
    return part


def _needed(
    graph: onnx.GraphProto, outputs: AbstractSet[str], tensors: AbstractSet[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that compute the outputs from the tensors, and the names of all that they read."""
    chosen, needed = [], {*outputs}
    for node in reversed(graph.node):
        if (needed - tensors) & {*node.output}:
            chosen.append(node)
            needed.update(_read(node))
    return chosen[::-1], needed


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node and the graphs in its attributes read."""
    pending = [node]
    while pending:
        item = pending.pop()
        yield from item.input
        for attribute in item.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending += graph.node
                yield from (output.name for output in graph.output)


def _floats(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
