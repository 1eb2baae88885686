"""Building ONNX nodes and constants for operators, passes and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.onnx.model import OnnxModel, unused_name

# For each dimension of a tensor: whether it varies from run to run.
Free = tuple[bool, ...]


@dataclass
class Builder:
    """Collects new nodes in `nodes` and new constants in `constants`.

    A node has the name of its first output. The name of an output or a constant is `prefix` and the caller's role, with
    underscores behind it if the name is `taken`.
    """

    taken: set[str]
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, model: OnnxModel, prefix: str = "") -> Builder:
        """Return a builder that takes no name of the model."""
        return cls(model.names, prefix)

    def node(self, role: str, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output. Return the output's name."""
        return self.output(self.name(role), operator, inputs, **attributes)

    def split(self, role: str, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs. Return their names."""
        names = [self.name(role if number == 0 else f"{role}_{number}") for number in range(count)]
        self._add(operator, inputs, names, attributes)
        return names

    def output(self, name: str, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output of exactly this name. Return the name."""
        self._add(operator, inputs, [name], attributes)
        return name

    def cast(self, role: str, tensor: str, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a node that converts a tensor to a type. Return the output's name."""
        return self.node(role, "Cast", [tensor], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, role: str, values: Array) -> str:
        """Add a constant. Return its name."""
        name = self.name(role)
        self.constants[name] = values
        return name

    def floats(self, role: str, values: npt.ArrayLike) -> str:
        """Add a float32 constant. Return its name."""
        return self.constant(role, np.array(values, np.float32))

    def integers(self, role: str, values: npt.ArrayLike) -> str:
        """Add a constant of int64, the type of ONNX's shapes and axes. Return its name."""
        return self.constant(role, np.array(values, np.int64))

    def name(self, role: str) -> str:
        """Return a name that is not taken, and take it."""
        name = unused_name(f"{self.prefix}{role}", self.taken)
        self.taken.add(name)
        return name

    def extend(self, model: OnnxModel) -> OnnxModel:
        """Return the model with the new nodes behind its own, and with the new constants."""
        nodes, initializers = (*model.nodes, *self.nodes), {**model.initializers, **self.constants}
        return replace(model, nodes=nodes, initializers=initializers)

    def _add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any]) -> None:
        self.nodes.append(onnx.helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))


@dataclass(kw_only=True)
class NodeBuilder(Builder):
    """The builder of the nodes that replace one MXNet node, for `Operator.emit`.

    `inputs` and `outputs` are names of tensors. The larger shapes are those at a larger input of the network, which
    differs in the dimensions that every run may choose. `values` are the arrays of constant inputs, in float32, or
    in the evaluation's types if the export computed them. `opset` is the model's operator set.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    input_shapes: Sequence[Shape]
    output_shapes: Sequence[Shape]
    larger_input_shapes: Sequence[Shape]
    larger_output_shapes: Sequence[Shape]
    input_dtypes: Sequence[DType]
    output_dtypes: Sequence[DType]
    values: Mapping[str, Array]
    opset: int

    def finish(self, operator: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Add the node that computes the outputs of the MXNet node."""
        self._add(operator, inputs, self.outputs, attributes)

    def finish_cast(self, tensor: str, number: int = 0) -> None:
        """Add the node that converts a tensor to the MXNet node's output of this number."""
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.output_dtypes[number]))
        self.output(self.outputs[number], "Cast", [tensor], to=dtype)

    def free_input(self, number: int = 0) -> Free:
        """The free dimensions of an input."""
        return free_dimensions(self.input_shapes[number], self.larger_input_shapes[number])

    def sizes(self, role: str, number: int = 0) -> str:
        """Return a tensor of int64 with the sizes of an input in each run: a constant if no size is free."""
        if any(self.free_input(number)):
            return self.node(role, "Shape", [self.inputs[number]])
        return self.integers(role, self.input_shapes[number])

    @property
    def free_output(self) -> Free:
        """The free dimensions of the first output."""
        return free_dimensions(self.output_shapes[0], self.larger_output_shapes[0])


def free_dimensions(shape: Shape, larger: Shape) -> Free:
    """Return which dimensions are free: those that differ between the two input sizes."""
    return tuple(one != other for one, other in zip(shape, larger, strict=True))


def rewired(node: onnx.NodeProto, inputs: Sequence[str]) -> onnx.NodeProto:
    """Return a copy of a node that reads these tensors."""
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.input[:] = inputs
    return changed


def renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy of a node with new names for the node, its inputs and its outputs."""
    changed = rewired(node, [names.get(name, name) for name in node.input])
    changed.output[:] = [names.get(name, name) for name in node.output]
    changed.name = names.get(node.name, node.name)
    return changed
