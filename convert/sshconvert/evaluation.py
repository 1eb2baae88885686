"""The exact reference: a network computed in NumPy by the definitions of its operators, in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Entry
from sshconvert.network import Network


def evaluate(network: Network, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return the network's outputs by name, in order: float64 for floating-point types, int64 for integers.

    Args:
        network: the resolved graph.
        values: an array for each input and parameter, by name.

    Raises ShapeError for an input of another shape than the network's.

    """
    graph = network.graph
    readers = Counter(entry for node in graph.nodes for entry in node.inputs) + Counter(graph.outputs)
    arrays: dict[Entry, Array] = {}
    for number, (node, operator, shapes) in enumerate(zip(graph.nodes, network.operators, network.shapes, strict=True)):
        if operator is None:
            outputs: tuple[Array, ...] = (widened(values[node.name]),)
        else:
            outputs = operator.evaluate(*(arrays[entry] for entry in node.inputs))
        for output, (array, shape) in enumerate(zip(outputs, shapes, strict=True)):
            if array.shape != shape:
                raise ShapeError(f"{graph.source}: {node.name}: computes the shape {array.shape}, expected {shape}")
            arrays[Entry(number, output)] = array
        for entry in node.inputs:
            readers[entry] -= 1
            if not readers[entry]:
                arrays.pop(entry, None)
    return {network.tensor_name(entry): arrays[entry] for entry in graph.outputs}


def widened(array: Array) -> Array:
    """Return an array in the type of the evaluation: float64, or int64 for integers and booleans."""
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else np.int64)
