"""The rounding that an ONNX file declares: float16 initializers, QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.rounded.places import Places
from sshconvert.rounding import Half, Levels, Place, Rounding, Rule

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

# Types of initializers that hold rounded weights.
_ROUNDED = {
    onnx.TensorProto.DataType.Value(name): name
    for name in ("FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT4", "UINT4")
}


def read_rounding(model: onnx.ModelProto, places: Places) -> Rounding:
    """Return the rounding of a screened model. Raises PrecisionError if a rounded tensor is none of the network's."""
    return _Reader(model, places).rounding()


class _Reader:
    def __init__(self, model: onnx.ModelProto, places: Places) -> None:
        self.places = places
        self.nodes = tuple(model.graph.node)
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.explained: set[str] = set()

    def rounding(self) -> Rounding:
        rules: dict[Place, Rule] = {}
        for node in self.nodes:
            source = node.input[0] if node.input else ""
            if node.op_type == "Cast" and self.kind(source) == "FLOAT16":
                self.explained.add(source)
                rules |= dict.fromkeys(self.weights(node.output[0]), Half())
            elif node.op_type == DEQUANTIZE and source in self.tensors:
                rules |= self.stored(node)
            elif node.op_type == DEQUANTIZE:
                rules |= self.between(node)
        for name in self.tensors.keys() - self.explained:
            if self.kind(name):
                raise self.places.fail(name, f"{self.kind(name)} numbers that no known node converts")
        return Rounding(rules)

    def kind(self, name: str) -> str:
        return _ROUNDED.get(self.tensors[name].data_type, "") if name in self.tensors else ""

    def array(self, name: str) -> Array:
        if name not in self.tensors:
            raise self.places.fail(name, "a scale or zero point that is no constant")
        self.explained.add(name)
        return np.asarray(onnx.numpy_helper.to_array(self.tensors[name]))

    def weights(self, tensor: str) -> list[Place]:
        """Return the places that read a stored tensor: all that read the network's tensor of its name."""
        entry = self.places.entries.get(tensor)
        found = [] if entry is None else list(self.places.readers(entry))
        found = found or [self.places.weight_place(number) for number in self.weighted_readers(tensor)]
        if not found:
            raise self.places.fail(tensor, "stored weights that are none of the network's tensors")
        return found

    def weighted_readers(self, tensor: str) -> list[int]:
        numbers = (self.node_behind(reader) for reader in self.readers.get(tensor, ()))
        return [number for number in numbers if number is not None and self.places.weighted(number) == number]

    def node_behind(self, node: onnx.NodeProto) -> int | None:
        """Return the network's node that an ONNX node is a part of: the first whose name its result gets."""
        while (number := self.places.node(node.output)) is None:
            readers = self.readers.get(node.output[0], [])
            if len(readers) != 1:
                return None
            node = readers[0]
        return number

    def quantizer(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        """Return the scale and the zero point, float64, of a node; the zero point has the type of the integers."""
        scale = np.asarray(self.array(node.input[1]), np.float64)
        zero = self.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.uint8)
        self.places.check_scale(node.name, scale)
        return scale, zero

    def stored(self, node: onnx.NodeProto) -> Iterator[tuple[Place, Rule]]:
        """Return the rules of weights that are stored as integers."""
        scale, zero = self.quantizer(node)
        stored = self.array(node.input[0])
        if scale.ndim:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            shape = [-1 if index == axis % stored.ndim else 1 for index in range(stored.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        for number in self.weighted_readers(node.output[0]):
            yield self.places.weight_place(number), self.places.levels(number, stored, scale, zero.astype(np.float64))

    def between(self, node: onnx.NodeProto) -> Iterator[tuple[Place, Rule]]:
        """Return the rules of a tensor between layers, rounded by a pair of nodes."""
        maker = self.makers.get(node.input[0])
        if maker is None or maker.op_type != QUANTIZE or list(maker.input[1:]) != list(node.input[1:]):
            raise self.places.fail(node.name, f"a {DEQUANTIZE} without its {QUANTIZE}")
        scale, zero = self.quantizer(node)
        if scale.size != 1:
            raise self.places.fail(node.name, "levels of each channel")
        limits = np.iinfo(zero.dtype)
        rule = Levels(
            scale=scale.reshape(()),
            zero_point=zero.astype(np.float64).reshape(()),
            least=int(limits.min),
            largest=int(limits.max),
            tensor=node.input[0],
        )
        for reader in self.readers.get(node.output[0], ()):
            number = self.node_behind(reader)
            if number is None:
                raise self.places.fail(reader.name, "a node that is none of the network's reads rounded numbers")
            for place in self.places.input_places(number, [maker.input[0]]):
                yield place, rule
