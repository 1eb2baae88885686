"""What must hold of any bytes at all that are read as a symbol."""

from __future__ import annotations

from itertools import chain
from typing import Final

import numpy as np

from sshconvert.errors import SSHToolError
from sshconvert.export import export
from sshconvert.graph import Graph
from sshconvert.network import Network, parse_symbol, resolve

INPUT: Final = {"data": (1, 3, 64, 64)}
LONGEST_MESSAGE: Final = 10_000


def check(raw: bytes) -> str:
    """Convert a symbol, its weights all 0. Returns what came of it: "converted", or the name of the refusal.

    Any other exception, and an AssertionError for what is unsound, means that the readers have a fault.
    """
    try:
        graph = parse_symbol(raw, source="model-symbol.json")
        assert_ordered(graph)
        network = resolve(graph, INPUT)
        assert_bounded(network)
        weights = {name: np.broadcast_to(np.float32(0), shape) for name, shape in network.parameters(INPUT).items()}
        export(network, weights, INPUT, name="model")
    except SSHToolError as error:
        message = str(error)
        assert message.startswith("model-symbol.json: "), message
        assert message.isprintable(), message
        assert len(message) < LONGEST_MESSAGE, message
        return type(error).__name__
    return "converted"


def assert_ordered(graph: Graph) -> None:
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    for number, node in enumerate(graph.nodes):
        assert node.name.isprintable()
        assert all(0 <= entry.node < number for entry in node.inputs)
    assert graph.outputs
    assert all(0 <= entry.node < len(graph.nodes) for entry in graph.outputs)


def assert_bounded(network: Network) -> None:
    for shape in chain.from_iterable(network.shapes):
        assert 1 <= len(shape) <= 32
        assert all(1 <= size < 2**31 for size in shape)
