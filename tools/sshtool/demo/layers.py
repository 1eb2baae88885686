"""Layers of a drawn-up network, and their symbol as MXNet writes it.

Nodes have MXNet's order: depth first from the outputs, inputs before the node that reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sshconvert.graph import VARIABLE


@dataclass(frozen=True, eq=False)
class Layer:
    """A node of the symbol: an operator with its attributes as MXNet's texts, or a variable."""

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[Layer | Output, ...] = ()
    outputs: int = 1

    def output(self, number: int) -> Output:
        """One of several outputs, for another layer to read."""
        return Output(self, number)


@dataclass(frozen=True)
class Output:
    """The output number `number` of a layer."""

    layer: Layer
    number: int


def variable(name: str) -> Layer:
    """A variable without attributes."""
    return Layer(VARIABLE, name, {})


def symbol_json(outputs: Sequence[Layer], mxnet_version: int) -> str:
    """The symbol JSON text of a network, in the dialect that MXNet has written since 1.0."""
    numbers: dict[Layer, int] = {}
    for output in outputs:
        _number(output, numbers)
    document = {
        "nodes": [_to_node(layer, numbers) for layer in numbers],
        "arg_nodes": [number for layer, number in numbers.items() if layer.operator == VARIABLE],
        "node_row_ptr": list(accumulate((layer.outputs for layer in numbers), initial=0)),
        "heads": [[numbers[output], 0, 0] for output in outputs],
        "attrs": {"mxnet_version": ["int", mxnet_version]},
    }
    return json.dumps(document, indent=2)


def _number(layer: Layer, numbers: dict[Layer, int]) -> None:
    if layer not in numbers:
        for source in layer.inputs:
            _number(_source(source)[0], numbers)
        numbers[layer] = len(numbers)


def _to_node(layer: Layer, numbers: Mapping[Layer, int]) -> dict[str, Any]:
    node: dict[str, Any] = {"op": layer.operator, "name": layer.name}
    if layer.attributes:
        node["attrs"] = layer.attributes
    sources = [_source(source) for source in layer.inputs]
    return node | {"inputs": [[numbers[source], number, 0] for source, number in sources]}


def _source(item: Layer | Output) -> tuple[Layer, int]:
    return (item.layer, item.number) if isinstance(item, Output) else (item, 0)
