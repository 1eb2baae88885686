"""An ONNX model in memory: protobuf nodes, and arrays of weights that are serialised piece by piece."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.arrays import Array
from sshconvert.files import output_errors, replace_files, staged, staging_folder
from sshconvert.graph import Dimensions
from sshconvert.reading import is_there

# The oldest set with most operators of the converter (Softmax over one axis, Resize with scales): old runtimes load it.
OPSET: Final = 13
MAX_BYTES: Final = 2**31 - 1  # protobuf's limit for one message

# A model beyond that limit stores weights of at least this size in a second file, aligned to pages for mapping. Smaller
# weights stay inside: runtimes compute shapes with them before they read any other file.
SMALLEST_APART: Final = 1 << 10
PAGE: Final = 1 << 12

# Elements per conversion: few enough to stay in the processor's cache until they are written.
_PIECE: Final = 1 << 17

# Field numbers of onnx.proto that `OnnxModel.write` needs, and protobuf's wire type for bytes and messages.
_MODEL_GRAPH: Final = 7
_GRAPH_INITIALIZER: Final = 5
_TENSOR_RAW_DATA: Final = 9
_LENGTH_DELIMITED: Final = 2


@dataclass(frozen=True)
class OnnxModel:
    """A graph. `inputs` and `outputs` are shapes by name, in order; `initializers` are weights by name.

    `types` are the types of inputs and outputs other than float32. `opset` is the operator set of the nodes. The
    initializers may be views of a file's bytes, which `write` does not copy; `stored` are the types of those that
    `write` converts.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    initializers: Mapping[str, Array]
    inputs: Mapping[str, Dimensions]
    outputs: Mapping[str, Dimensions]
    metadata: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, npt.DTypeLike] = field(default_factory=dict)
    stored: Mapping[str, npt.DTypeLike] = field(default_factory=dict)
    opset: int = OPSET

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all. The same model gives the same bytes. Raises OutputError.

        A model beyond the limit of a protobuf message becomes two files, `path` and `weights_path(path)`.
        """
        header, graph = self._skeleton()
        tensors = self._tensors()
        weights = sum(len(tensor.head) + tensor.nbytes for tensor in tensors)
        start = header + _key(_MODEL_GRAPH) + _varint(len(graph) + weights) + graph
        if len(start) + weights > MAX_BYTES:
            self._write_apart(path, tensors)
            return
        with staged(path) as part, part.open("wb") as file:
            file.write(start)
            for tensor in tensors:
                file.write(tensor.head)
                tensor.write(file)
        with output_errors(path):
            weights_path(path).unlink(missing_ok=True)  # of an earlier, larger model

    def _write_apart(self, path: Path, tensors: Sequence[_Initializer]) -> None:
        with staging_folder(path.parent) as staging:
            part, offsets = staging / path.name, {}
            with weights_path(part).open("wb") as file:
                for tensor in tensors:
                    if tensor.nbytes >= SMALLEST_APART:
                        offsets[tensor.name] = file.seek(-(-file.tell() // PAGE) * PAGE)
                        tensor.write(file)
            part.write_bytes(self._linked(tensors, weights_path(part).name, offsets))
            move_model(part, path, staging)

    def write_linked(self, path: Path, complete: Path) -> None:
        """Write a small file that refers to the weights in `complete`, this model's file by `write` in the same folder.

        A runtime maps the weights from there instead of copying them through protobuf.
        """
        tensors = self._tensors()
        position, offsets = complete.stat().st_size, {}
        for tensor in reversed(tensors):  # the weights are the end of the file
            position -= tensor.nbytes
            offsets[tensor.name] = position
            position -= len(tensor.head)
        with staged(path) as part:
            part.write_bytes(self._linked(tensors, complete.name, offsets))

    def _linked(self, tensors: Sequence[_Initializer], location: str, offsets: Mapping[str, int]) -> bytes:
        """Serialise the model. Weights with an offset are in the file `location`, the others inside."""
        header, graph = self._skeleton()
        links = onnx.GraphProto()
        for tensor in tensors:
            link = links.initializer.add()
            link.CopyFrom(tensor.description)
            if tensor.name not in offsets:
                link.raw_data = b"".join(tensor.pieces())
                continue
            link.data_location = onnx.TensorProto.EXTERNAL
            position = {"location": location, "offset": offsets[tensor.name], "length": tensor.nbytes}
            for key, value in position.items():
                link.external_data.add(key=key, value=str(value))
        graph += links.SerializeToString(deterministic=True)
        serialised: bytes = header + _key(_MODEL_GRAPH) + _varint(len(graph)) + graph
        return serialised

    def _tensors(self) -> list[_Initializer]:
        return [
            _Initializer(name, array, np.dtype(self.stored.get(name, array.dtype)).newbyteorder("<"))
            for name, array in self.initializers.items()
        ]

    def _skeleton(self) -> tuple[bytes, bytes]:
        """Serialise the model without its graph, and the graph without its weights."""
        opset = onnx.helper.make_opsetid("", self.opset)
        model = onnx.ModelProto(ir_version=onnx.helper.find_min_ir_version_for([opset]), producer_name="sshtool")
        model.opset_import.append(opset)
        for key, value in sorted(self.metadata.items()):
            model.metadata_props.add(key=key, value=value)
        graph = onnx.GraphProto(name=self.name, node=self.nodes)
        for infos, tensors in ((graph.input, self.inputs), (graph.output, self.outputs)):
            for name, shape in tensors.items():
                kind = infos.add(name=name).type.tensor_type
                kind.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.types.get(name, np.float32)))
                for size in shape:
                    named = {"dim_param": size} if size else {}
                    kind.shape.dim.add(**(named if isinstance(size, str) else {"dim_value": size}))
        return model.SerializeToString(deterministic=True), graph.SerializeToString(deterministic=True)

    @property
    def names(self) -> set[str]:
        """Names of all tensors, and thereby of all nodes."""
        return {*self.inputs, *self.initializers, *(name for node in self.nodes for name in node.output)}

    def consumers(self, tensor: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that read a tensor."""
        return (node for node in self.nodes if tensor in node.input)


def unused_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, with underscores behind it if it is taken."""
    while name in taken:
        name += "_"
    return name


def weights_path(path: Path) -> Path:
    """Return the path of the second file, which holds the weights of a large model."""
    return path.with_name(f"{path.name}.data")


def move_model(path: Path, target: Path, staging: Path) -> None:
    """Move the files that `OnnxModel.write` wrote into a staging folder to `target`."""
    if is_there(weights_path(path)):
        replace_files([path, weights_path(path)], [target, weights_path(target)], staging)
    else:
        path.replace(target)
        weights_path(target).unlink(missing_ok=True)  # of an earlier, larger model


class _Initializer:
    """The serialised form of an array, which may be of another type and is never in memory as a whole."""

    def __init__(self, name: str, array: Array, dtype: np.dtype[Any]) -> None:
        self.name, self._array, self._dtype = name, array, dtype
        self.nbytes = array.size * dtype.itemsize
        self.description = onnx.TensorProto(
            name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(dtype), dims=array.shape
        )
        fields: bytes = self.description.SerializeToString(deterministic=True)
        fields += _key(_TENSOR_RAW_DATA) + _varint(self.nbytes)
        # The TensorProto as a field of the graph, up to the bytes of its data.
        self.head = _key(_GRAPH_INITIALIZER) + _varint(len(fields) + self.nbytes) + fields

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes of the data."""
        flat = self._array.reshape(-1)
        step = _PIECE if flat.dtype != self._dtype else flat.size
        for start in range(0, flat.size, step):
            piece = np.ascontiguousarray(flat[start : start + step], self._dtype)
            yield piece.view(np.uint8).data

    def write(self, file: BinaryIO) -> None:
        file.writelines(self.pieces())


def _key(field_number: int) -> bytes:
    return _varint(field_number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
