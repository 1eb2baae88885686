"""The exact reference: a network computed in NumPy by the definitions of its operators, in float64.

In float32, the same definitions give a measure of the error that float32 makes in this network. With a rounding, they
give what an artifact of a smaller precision computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import ShapeError
from sshconvert.graph import Entry
from sshconvert.network import Network
from sshconvert.rounding import Rounding

_EXACT = Rounding()


def evaluate(
    network: Network, values: Mapping[str, Array], *, single: bool = False, rounding: Rounding | None = None
) -> dict[str, Array]:
    """Return the network's outputs by name, in order: float64 for floating-point types, int64 for integers.

    Args:
        network: the resolved graph.
        values: an array for each input and parameter, by name.
        single: take and return float32 instead of float64, and round the outputs of every node to it.
        rounding: the places whose values are rounded before their nodes read them.

    Raises ShapeError for an input of another shape than the network's.

    """
    rounding = rounding or _EXACT
    graph = network.graph
    readers = Counter(entry for node in graph.nodes for entry in node.inputs) + Counter(graph.outputs)
    arrays: dict[Entry, Array] = {}
    for number, (node, operator, shapes) in enumerate(zip(graph.nodes, network.operators, network.shapes, strict=True)):
        if operator is None:
            outputs: tuple[Array, ...] = (widened(values[node.name]),)
        else:
            outputs = operator.evaluate(*rounding.inputs(node.name, [arrays[entry] for entry in node.inputs]))
        if single:
            outputs = tuple(map(_narrowed, outputs))
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


def _narrowed(array: Array) -> Array:
    """Return an array with float32 instead of float64."""
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
