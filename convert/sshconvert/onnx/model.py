"""An ONNX model in the making: protobuf nodes, and weights that stay where they are until they are written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.errors import OutputError
from sshconvert.files import staged
from sshconvert.graph import Dimensions

Array = npt.NDArray[Any]

# The oldest pair with everything the operators need (Softmax over one axis, Resize with scales), so that the file
# loads in every runtime of the last years.
OPSET: Final = 13
IR_VERSION: Final = 7
MAX_BYTES: Final = 2**31 - 1  # protobuf's limit for one message

# Field numbers of onnx.proto that `OnnxModel.write` needs, and protobuf's wire type for bytes and messages.
_MODEL_GRAPH: Final = 7
_GRAPH_INITIALIZER: Final = 5
_TENSOR_RAW_DATA: Final = 9
_LENGTH_DELIMITED: Final = 2


@dataclass(frozen=True)
class OnnxModel:
    """A graph. `inputs` and `outputs` give name and shape in order; `initializers` are weights by name.

    `types` are those of inputs and outputs that are not float32. The initializers may be views of a file's bytes: they
    are written straight from there, without a copy.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    initializers: Mapping[str, Array]
    inputs: Mapping[str, Dimensions]
    outputs: Mapping[str, Dimensions]
    metadata: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, npt.DTypeLike] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all. The same model gives the same bytes.

        Raises OutputError if it cannot be written or is larger than one ONNX file can be.
        """
        header, graph = self._skeleton()
        heads = [_initializer_head(name, array) for name, array in self.initializers.items()]
        weights = sum(map(len, heads)) + sum(array.nbytes for array in self.initializers.values())
        start = header + _key(_MODEL_GRAPH) + _varint(len(graph) + weights) + graph
        if (length := len(start) + weights) > MAX_BYTES:
            raise OutputError(f"{path}: {length} bytes are more than one ONNX file can hold; export FP16 instead")
        with staged(path) as part, part.open("wb") as file:
            file.write(start)
            for head, array in zip(heads, self.initializers.values(), strict=True):
                file.write(head)
                _write_array(file, array)

    def write_linked(self, path: Path, whole: Path) -> None:
        """Write a small file whose weights are those inside `whole`, which `write` made of this model beside it.

        A runtime maps them from there instead of copying them through protobuf.
        """
        header, graph = self._skeleton()
        links = onnx.GraphProto()
        position = whole.stat().st_size
        for name, array in reversed(list(self.initializers.items())):  # the weights are the end of the file
            position -= array.nbytes
            tensor = links.initializer.add(name=name, dims=array.shape, data_location=onnx.TensorProto.EXTERNAL)
            tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            for key, value in (("location", whole.name), ("offset", position), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            position -= len(_initializer_head(name, array))
        graph += links.SerializeToString(deterministic=True)
        with staged(path) as part:
            part.write_bytes(header + _key(_MODEL_GRAPH) + _varint(len(graph)) + graph)

    def _skeleton(self) -> tuple[bytes, bytes]:
        """The serialised model without its graph, and the graph without its weights."""
        model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="sshtool")
        model.opset_import.add(domain="", version=OPSET)
        for key, value in sorted(self.metadata.items()):
            model.metadata_props.add(key=key, value=value)
        graph = onnx.GraphProto(name=self.name, node=self.nodes)
        for infos, tensors in ((graph.input, self.inputs), (graph.output, self.outputs)):
            for name, shape in tensors.items():
                kind = infos.add(name=name).type.tensor_type
                kind.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.types.get(name, np.float32)))
                for size in shape:
                    kind.shape.dim.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))
        return model.SerializeToString(deterministic=True), graph.SerializeToString(deterministic=True)

    @property
    def names(self) -> set[str]:
        """Names of all tensors; nodes are named after theirs."""
        return {*self.inputs, *self.initializers, *(name for node in self.nodes for name in node.output)}

    def consumers(self, tensor: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return (node for node in self.nodes if tensor in node.input)


def unused_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with underscores behind it if it is taken."""
    while name in taken:
        name += "_"
    return name


def _initializer_head(name: str, array: Array) -> bytes:
    """Everything of a TensorProto up to the bytes of its data, as a field of the graph."""
    element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor: bytes = onnx.TensorProto(name=name, data_type=element, dims=array.shape).SerializeToString(
        deterministic=True
    )
    tensor += _key(_TENSOR_RAW_DATA) + _varint(array.nbytes)
    return _key(_GRAPH_INITIALIZER) + _varint(len(tensor) + array.nbytes) + tensor


def _write_array(file: BinaryIO, array: Array) -> None:
    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    file.write(little_endian.reshape(-1).view(np.uint8).data)


def _key(field_number: int) -> bytes:
    return _varint(field_number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
