"""Edits in a copy of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.editable import ALL_BEFORE, Arithmetic, EditableModel, NotThereError
from sshconvert.operators.convolution import Deconvolution
from sshconvert.operators.registry import weight_inputs


class EditableOnnx(EditableModel[onnx.TensorProto]):
    """An ONNX file. Weights are initializers; a node converts those in FP16 and INT8 to float32."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._model = onnx.load(path)
        self._graph = self._model.graph
        self._nodes: tuple[onnx.NodeProto, ...] = tuple(self._graph.node)
        self._initializers: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in self._graph.initializer}

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._of_type(*weight_inputs()))

    @property
    def deconvolutions(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._of_type(Deconvolution.weights.onnx))

    def convolution_behind(self, output: str) -> str:
        node = self._maker(output)
        while node.op_type in ("Reshape", "Softmax"):
            node = self._maker(node.input[0])
        return self._convolution(node.name).name

    def shift(self, deconvolution: str, pixels: int) -> None:
        node = self._convolution(deconvolution)
        pads = next(attribute.ints for attribute in node.attribute if attribute.name == "pads")
        axes = len(pads) // 2
        self._set_attribute(
            node, "pads", [*(pad + pixels for pad in pads[:axes]), *(pad - pixels for pad in pads[axes:])]
        )

    def round_pooling_up(self) -> None:
        for node in self._of_type("MaxPool"):
            self._set_attribute(node, "ceil_mode", 1)

    def set_softmax_axis(self, axis: int) -> None:
        for node in self._of_type("Softmax"):
            self._set_attribute(node, "axis", axis)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self._graph.output)

    def rename_outputs(self, names: Mapping[str, str]) -> None:
        self.changed = True
        for output in self._graph.output:
            output.name = names.get(output.name, output.name)
        for node in self._nodes:
            for tensors in (node.input, node.output):
                tensors[:] = [names.get(tensor, tensor) for tensor in tensors]

    def reorder_outputs(self, names: Sequence[str]) -> None:
        self.changed = True
        by_name = {
            output.name: onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in self._graph.output
        }
        del self._graph.output[:]
        self._graph.output.extend(by_name[name] for name in names)

    def combine(self, tensor: str, by: Arithmetic, values: Array) -> None:
        self._put_behind(tensor, by.value[0], values)

    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        self._output(output)
        self._put_behind(output, "Gather", np.array(numbers, np.int64), axis=axis)

    def reverse(self, output: str) -> None:
        # from the last image to before the first, along axis 0, in steps of -1
        ends = [np.array([number], np.int64) for number in (-1, ALL_BEFORE, 0, -1)]
        self._put_behind(output, "Slice", *ends)

    def cast(self, output: str, dtype: type) -> None:
        kind, value = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), self._output(output)
        self._put_behind(output, "Cast", to=kind)
        value.type.tensor_type.elem_type = kind

    def declared(self, key: str) -> str:
        return next((str(entry.value) for entry in self._model.metadata_props if entry.key == key), "")

    def declare(self, key: str, value: str) -> None:
        self.changed = True
        kept = {entry.key: entry.value for entry in self._model.metadata_props} | {key: value}
        onnx.helper.set_model_props(self._model, kept)

    def _dimensions(self, output: str) -> tuple[int, ...]:
        return tuple(size.dim_value or -1 for size in self._output(output).type.tensor_type.shape.dim)

    def _weight(self, convolution: str) -> onnx.TensorProto:
        return self._initializer(self._convolution(convolution).input[1])

    def _filter_axes(self, convolution: str) -> int:
        return 1

    def _scale(self, convolution: str) -> onnx.TensorProto | None:
        tensor = self._convolution(convolution).input[1]
        if tensor in self._initializers:
            return None
        maker = self._maker(tensor)
        return self._initializer(maker.input[1]) if maker.op_type == "DequantizeLinear" else None

    def _bias(self, convolution: str) -> onnx.TensorProto | None:
        inputs = self._convolution(convolution).input
        return self._initializer(inputs[2]) if len(inputs) > 2 else None

    def _mean(self) -> tuple[onnx.TensorProto, int]:
        first = self._graph.input[0].name
        for node in self._nodes:
            if node.op_type == "Sub" and node.input[0] == first:
                return self._initializer(node.input[1]), 1
        raise NotThereError("no mean is subtracted inside the file")

    def _read(self, constant: onnx.TensorProto) -> Array:
        return onnx.numpy_helper.to_array(constant)

    def _replace(self, constant: onnx.TensorProto, values: Array) -> None:
        constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))

    def _write(self) -> None:
        self.path.write_bytes(self._model.SerializeToString())

    def _of_type(self, *kinds: str) -> list[onnx.NodeProto]:
        return [node for node in self._nodes if node.op_type in kinds]

    def _convolution(self, name: str) -> onnx.NodeProto:
        for node in self._of_type(*weight_inputs()):
            if node.name == name:
                return node
        raise NotThereError(f"{name} is not a convolution in the file")

    def _maker(self, tensor: str) -> onnx.NodeProto:
        for node in self._nodes:
            if tensor in node.output:
                return node
        raise NotThereError(f"nothing in the file computes {tensor}")

    def _initializer(self, tensor: str) -> onnx.TensorProto:
        if tensor in self._initializers:
            return self._initializers[tensor]
        maker = self._maker(tensor)
        if maker.op_type not in ("Cast", "DequantizeLinear"):
            raise NotThereError(f"{tensor} is not stored in the file as a constant")
        return self._initializer(maker.input[0])

    def _output(self, name: str) -> onnx.ValueInfoProto:
        value: onnx.ValueInfoProto | None = next((item for item in self._graph.output if item.name == name), None)
        if value is None:
            raise NotThereError(f"{name} is not an output of the file")
        return value

    def _put_behind(self, tensor: str, operator: str, *constants: Array, **attributes: Any) -> None:
        """Put an operator behind an output, or behind an inner tensor for all its readers."""
        maker = self._maker(tensor)
        self.changed = True
        before = f"{tensor}_before_{len(self._nodes)}"
        for node in self._nodes if tensor in self.outputs else (maker,):
            for names in (node.input, node.output):
                names[:] = [before if name == tensor else name for name in names]
        stored = [f"{before}_constant_{number}" for number in range(len(constants))]
        self._graph.initializer.extend(map(onnx.numpy_helper.from_array, constants, stored))
        node = onnx.helper.make_node(operator, [before, *stored], [tensor], name=f"{before}_node", **attributes)
        self._graph.node.insert(self._nodes.index(maker) + 1, node)
        self._nodes = tuple(self._graph.node)

    def _set_attribute(self, node: onnx.NodeProto, name: str, value: Any) -> None:
        self.changed = True
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        attributes = [*kept, onnx.helper.make_attribute(name, value)]
        del node.attribute[:]
        node.attribute.extend(attributes)
