"""Collects the ONNX nodes and constants of a graph, one MXNet node at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from sshconvert.graph import Node, Shape
from sshconvert.onnx.model import unused_name

Array = npt.NDArray[Any]


@dataclass
class Emitter:
    """What an operator's `to_onnx` sees: its inputs by tensor name, the shapes, and where nodes go.

    Tensors and nodes are named as the MXNet node that makes them.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    tensors: dict[int, str] = field(default_factory=dict)  # MXNet node number -> tensor name
    taken: set[str] = field(default_factory=set)  # names that a constant must not have
    kept: frozenset[int] = frozenset()  # numbers of the nodes whose output must keep its own name
    inputs: Sequence[str] = ()
    input_shapes: Sequence[Shape] = ()
    output_shape: Shape = ()

    def begin(self, number: int, node: Node, shapes: Sequence[Shape]) -> None:
        """Turn to the next MXNet node."""
        self._number, self._name = number, node.name
        self.inputs = [self.tensors[entry.node] for entry in node.inputs]
        self.input_shapes = [shapes[entry.node] for entry in node.inputs]
        self.output_shape = shapes[number]

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Emit the ONNX node that makes the current node's output."""
        self.nodes.append(onnx.helper.make_node(operator, inputs, [self._name], name=self._name, **attributes))
        self.tensors[self._number] = self._name

    def passthrough(self, tensor: str) -> None:
        """Let the output be `tensor` itself: nothing is computed and nothing is emitted."""
        if self._number in self.kept:
            self.node("Identity", [tensor])
        else:
            self.tensors[self._number] = tensor

    def constant(self, role: str, values: Array) -> str:
        """Add a constant named after the current node and its role there; return its name."""
        name = unused_name(f"{self._name}_{role}", self.taken)
        self.taken.add(name)
        self.constants[name] = values
        return name
