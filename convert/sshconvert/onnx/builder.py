"""Collects the ONNX nodes and constants of a graph, one MXNet node at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.graph import Node, Shape
from sshconvert.onnx.model import unused_name

Array = npt.NDArray[Any]

# For each dimension of a tensor, whether every run may choose it, or it follows from one that every run may choose.
Free = tuple[bool, ...]


def free_dimensions(shape: Shape, larger: Shape) -> Free:
    """What differs between the two depends on the free dimensions of the network's inputs."""
    return tuple(one != other for one, other in zip(shape, larger, strict=True))


@dataclass
class Emitter:
    """What an operator's `to_onnx` sees: its inputs by tensor name, the shapes, and where nodes go.

    Tensors and nodes are named as the MXNet node that makes them.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    tensors: dict[int, str] = field(default_factory=dict)  # MXNet node number -> tensor name
    taken: set[str] = field(default_factory=set)  # names that a constant must not have
    inputs: Sequence[str] = ()
    input_shapes: Sequence[Shape] = ()
    output_shape: Shape = ()
    larger_output_shape: Shape = ()  # where the free dimensions of the network are larger

    def begin(self, number: int, node: Node, shapes: Sequence[Shape], larger: Sequence[Shape]) -> None:
        """Turn to the next MXNet node. `shapes` and `larger` are those of all nodes' outputs."""
        self._number, self._name = number, node.name
        self.inputs = [self.tensors[entry.node] for entry in node.inputs]
        self.input_shapes = [shapes[entry.node] for entry in node.inputs]
        self.output_shape, self.larger_output_shape = shapes[number], larger[number]

    @property
    def free_output(self) -> Free:
        return free_dimensions(self.output_shape, self.larger_output_shape)

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Emit the ONNX node that makes the current node's output."""
        self.nodes.append(onnx.helper.make_node(operator, inputs, [self._name], name=self._name, **attributes))
        self.tensors[self._number] = self._name

    def step(self, role: str, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Emit an ONNX node on the way to the current node's output; return the name of what it makes."""
        name = self._unused(role)
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def only_of_size(self, sizes: Shape) -> str:
        """The current node's first input, whose axes behind the channels have these sizes: a run of others fails."""
        tensor = self.inputs[0]
        for axis, size in enumerate(sizes, 2):
            tensor = self.step(f"size{axis}", "Split", [tensor, self.integers(f"only{axis}", (size,))], axis=axis)
        return tensor

    def constant(self, role: str, values: Array) -> str:
        """Add a constant named after the current node and its role there; return its name."""
        name = self._unused(role)
        self.constants[name] = values
        return name

    def integers(self, role: str, values: Sequence[int]) -> str:
        """Add a constant of int64, as ONNX takes shapes and axes."""
        return self.constant(role, np.array(values, np.int64))

    def _unused(self, role: str) -> str:
        name = unused_name(f"{self._name}_{role}", self.taken)
        self.taken.add(name)
        return name
