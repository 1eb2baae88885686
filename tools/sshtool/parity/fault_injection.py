"""Small edits in a copy of an artifact, the same for ONNX and for IR: what planting a fault takes, and no more.

(De)convolutions have the original network's names in both. Weights, biases and the mean are float32 here, whatever
they are stored as.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from xml.etree import ElementTree as ET

import numpy as np
import onnx

from sshconvert.arrays import Array, Floats
from sshconvert.errors import SSHToolError
from sshconvert.formats.openvino import MODEL_INFO, WEIGHTED as WEIGHTED_LAYERS
from sshconvert.onnx.model import weights_path
from sshconvert.passes.fp16 import WEIGHTED as WEIGHTED_NODES
from sshconvert.reading import is_there

Constant = TypeVar("Constant")

ELEMENT_TYPES: Final = {"f32": "<f4", "f16": "<f2", "i8": "i1"}
PRECISIONS: Final = {"f32": "FP32", "i32": "I32", "i64": "I64"}
ALIGNMENT: Final = 64  # of constants that are appended to a .bin


class Arithmetic(Enum):
    """What an output can be combined with a constant by: the operator in ONNX and in an IR."""

    ADD = ("Add", "Add")
    MULTIPLY = ("Mul", "Multiply")
    LESSER = ("Min", "Minimum")


class NotThereError(SSHToolError):
    """An artifact does not have what an edit is about."""


class EditableModel(ABC, Generic[Constant]):
    """An artifact opened for edits. `save` writes them, unless nothing became different: then the file stays as it is.

    Every method raises NotThereError if the artifact does not have what it asks for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = False

    @property
    @abstractmethod
    def convolutions(self) -> tuple[str, ...]:
        """Names of all convolutions and deconvolutions, each after those that it computes with."""

    @property
    @abstractmethod
    def deconvolutions(self) -> tuple[str, ...]:
        """Names of the deconvolutions."""

    @abstractmethod
    def convolution_behind(self, output: str) -> str:
        """The name of the convolution that an output is made from, with nothing but reshapes and softmax between."""

    @abstractmethod
    def shift(self, deconvolution: str, pixels: int) -> None:
        """Crop a deconvolution's result that much further to the lower right."""

    @abstractmethod
    def round_pooling_up(self) -> None:
        """Let every pooling make a last, incomplete window where its input is odd."""

    @abstractmethod
    def set_softmax_axis(self, axis: int) -> None:
        """Normalise over that axis in every softmax."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""

    @abstractmethod
    def rename_outputs(self, names: Mapping[str, str]) -> None:
        """Give outputs other names. Their order and all that they are made of stay."""

    @abstractmethod
    def reorder_outputs(self, names: Sequence[str]) -> None:
        """Put all the outputs into that order."""

    @abstractmethod
    def output_shape(self, output: str) -> tuple[int, ...]:
        """The shape of an output. It has to be fixed."""

    @abstractmethod
    def combine(self, output: str, by: Arithmetic, values: Array) -> None:
        """Let an output be combined with a constant of its own type, which does not change its shape."""

    @abstractmethod
    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        """Let an output have other rows along an axis, as many as before: those with these numbers."""

    @abstractmethod
    def cast(self, output: str, dtype: type) -> None:
        """Let an output be int64 or float32."""

    @abstractmethod
    def declared(self, key: str) -> str:
        """What the metadata say, "" for nothing."""

    @abstractmethod
    def declare(self, key: str, value: str) -> None:
        """Let the metadata say something else."""

    def weight(self, convolution: str) -> Floats:
        return self._read(self._weight(convolution)).astype(np.float32)

    def set_weight(self, convolution: str, values: Floats) -> None:
        self._set(self._weight(convolution), values)

    def bias(self, convolution: str) -> Floats | None:
        """One number for each output channel; None where none is stored, as for zeros in an IR."""
        constant = self._bias(convolution)
        return None if constant is None else self._read(constant).astype(np.float32).ravel()

    def set_bias(self, convolution: str, values: Floats) -> None:
        constant = self._bias(convolution)
        if constant is None:
            raise NotThereError(f"{convolution} has no bias")
        self._set(constant, values)

    def mean(self) -> Floats:
        """What is subtracted from the input's channels, in their order."""
        constant, sign = self._mean()
        return np.asarray(self._read(constant).astype(np.float32).ravel() * np.float32(sign))

    def set_mean(self, values: Floats) -> None:
        constant, sign = self._mean()
        self._set(constant, values * np.float32(sign))

    def save(self) -> None:
        if self.changed:
            self._write()

    def cut_off(self) -> None:
        """Leave only the first half of the file that holds the weights. At once: there is nothing to edit any more."""
        holder = self._weights_path
        with holder.open("r+b") as file:
            file.truncate(holder.stat().st_size // 2)

    @property
    def _weights_path(self) -> Path:
        return self.path

    def _set(self, constant: Constant, values: Floats) -> None:
        stored = self._read(constant)
        if stored.dtype.kind == "i":  # INT8: the weights in steps of their scale
            if not np.isfinite(values).all():
                raise NotThereError("the file stores integers, none of which is not finite")
            values = np.clip(values, -128, 127)
        rounded = values.astype(stored.dtype).reshape(stored.shape)
        if not np.array_equal(rounded, stored):
            self.changed = True
            self._replace(constant, rounded)

    @abstractmethod
    def _weight(self, convolution: str) -> Constant: ...

    @abstractmethod
    def _bias(self, convolution: str) -> Constant | None: ...

    @abstractmethod
    def _mean(self) -> tuple[Constant, int]:
        """The constant, and its sign: -1 if it is added."""

    @abstractmethod
    def _read(self, constant: Constant) -> Array:
        """The values in the type in which they are stored."""

    @abstractmethod
    def _replace(self, constant: Constant, values: Array) -> None:
        """Put values of the same type and shape in the place of a constant's."""

    @abstractmethod
    def _write(self) -> None: ...


def open_for_edits(path: Path) -> EditableModel[Any]:
    """Open an artifact that may be changed, by its suffix. Raises NotThereError for a file that cannot be edited."""
    suffix = path.suffix.lower()
    if suffix == ".onnx" and is_there(weights_path(path)):
        raise NotThereError(f"{path}: cannot be edited, its weights are in {weights_path(path).name}")
    if suffix == ".onnx":
        return EditableOnnx(path)
    if suffix == ".xml":
        return EditableIr(path)
    raise NotThereError(f"{path}: cannot be edited, only .onnx and .xml")


class EditableOnnx(EditableModel[onnx.TensorProto]):
    """An ONNX file: weights are initializers, those in FP16 and INT8 with a node behind them that makes them float."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._model = onnx.load(path)
        self._graph = self._model.graph
        self._nodes: tuple[onnx.NodeProto, ...] = tuple(self._graph.node)
        self._initializers: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in self._graph.initializer}

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._of_type(*WEIGHTED_NODES))

    @property
    def deconvolutions(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._of_type("ConvTranspose"))

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

    def output_shape(self, output: str) -> tuple[int, ...]:
        return _fixed(output, [size.dim_value or -1 for size in self._output(output).type.tensor_type.shape.dim])

    def combine(self, output: str, by: Arithmetic, values: Array) -> None:
        self._put_behind(output, by.value[0], values)

    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        self._put_behind(output, "Gather", np.array(numbers, np.int64), axis=axis)

    def cast(self, output: str, dtype: type) -> None:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._put_behind(output, "Cast", to=kind)
        self._output(output).type.tensor_type.elem_type = kind

    def declared(self, key: str) -> str:
        return next((str(entry.value) for entry in self._model.metadata_props if entry.key == key), "")

    def declare(self, key: str, value: str) -> None:
        self.changed = True
        kept = {entry.key: entry.value for entry in self._model.metadata_props} | {key: value}
        onnx.helper.set_model_props(self._model, kept)

    def _weight(self, convolution: str) -> onnx.TensorProto:
        return self._initializer(self._convolution(convolution).input[1])

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
        for node in self._of_type(*WEIGHTED_NODES):
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
        found: onnx.ValueInfoProto | None = next((item for item in self._graph.output if item.name == name), None)
        if found is None:
            raise NotThereError(f"{name} is not an output of the file")
        return found

    def _put_behind(self, output: str, operator: str, *constants: Array, **attributes: Any) -> None:
        self._output(output)
        self.changed = True
        before = f"{output}_before_{len(self._nodes)}"
        for node in self._nodes:
            for tensors in (node.input, node.output):
                tensors[:] = [before if tensor == output else tensor for tensor in tensors]
        names = [f"{before}_constant_{number}" for number in range(len(constants))]
        self._graph.initializer.extend(map(onnx.numpy_helper.from_array, constants, names))
        node = onnx.helper.make_node(operator, [before, *names], [output], name=f"{before}_node", **attributes)
        self._graph.node.append(node)
        self._nodes = tuple(self._graph.node)

    def _set_attribute(self, node: onnx.NodeProto, name: str, value: Any) -> None:
        self.changed = True
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        attributes = [*kept, onnx.helper.make_attribute(name, value)]
        del node.attribute[:]
        node.attribute.extend(attributes)


class EditableIr(EditableModel[ET.Element]):
    """An IR: layers and edges in the .xml, constants at offsets in the .bin, those in FP16 with a Convert behind
    them, those in INT8 with a Multiply too.

    OpenVINO stores equal constants once, so new values are appended instead of written over the old ones.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tree = ET.parse(path)  # noqa: S314  # an artifact that a runtime has read before
        self._layers = {_get(layer, "id"): layer for layer in self._tree.iter("layer")}
        self._sources = {
            (_get(edge, "to-layer"), _get(edge, "to-port")): (_get(edge, "from-layer"), _get(edge, "from-port"))
            for edge in self._tree.iter("edge")
        }
        self._new: dict[str, Array] = {}

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(_original_name(layer) for layer in self._of_type(*WEIGHTED_LAYERS))

    @property
    def deconvolutions(self) -> tuple[str, ...]:
        deconvolving = (kind for kind in WEIGHTED_LAYERS if kind.endswith("BackpropData"))
        return tuple(_original_name(layer) for layer in self._of_type(*deconvolving))

    def convolution_behind(self, output: str) -> str:
        layer = self._result(output)
        # The bias is an addition of its own.
        while _get(layer, "type") in ("Result", "Reshape", "SoftMax", "Add"):
            layer = self._source(layer, 0)
        return _original_name(self._convolution(_original_name(layer)))

    def shift(self, deconvolution: str, pixels: int) -> None:
        self.changed = True
        data = _child(self._convolution(deconvolution), "data")
        for key, step in (("pads_begin", pixels), ("pads_end", -pixels)):
            data.set(key, ", ".join(str(int(pad) + step) for pad in _get(data, key).split(",")))

    def round_pooling_up(self) -> None:
        for layer in self._of_type("MaxPool"):
            self.changed = True
            _child(layer, "data").set("rounding_type", "ceil")

    def set_softmax_axis(self, axis: int) -> None:
        for layer in self._of_type("SoftMax"):
            self.changed = True
            _child(layer, "data").set("axis", str(axis))

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self._results())

    def rename_outputs(self, names: Mapping[str, str]) -> None:
        self.changed = True
        for name, result in self._results().items():
            renamed = names.get(name, name)
            self._port_behind(result).set("names", renamed)
            if "output_names" in result.attrib:  # newer versions of OpenVINO keep the name here too
                result.set("output_names", renamed)

    def reorder_outputs(self, names: Sequence[str]) -> None:
        self.changed = True
        results = self._results()
        layers = _child(self._tree.getroot(), "layers")
        places = [place for place, layer in enumerate(layers) if _get(layer, "type") == "Result"]
        for place, name in zip(places, names, strict=True):
            layers[place] = results[name]

    def output_shape(self, output: str) -> tuple[int, ...]:
        port = self._port_behind(self._result(output))
        return _fixed(output, [int(size.text or -1) for size in port.iterfind("dim")])

    def combine(self, output: str, by: Arithmetic, values: Array) -> None:
        self._put_behind(output, by.value[1], "opset1", values)

    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        indices = np.array(numbers, np.int64)
        self._put_behind(output, "Gather", "opset8", indices, np.array([axis], np.int64), batch_dims="0")

    def cast(self, output: str, dtype: type) -> None:
        name = _element_type(np.dtype(dtype))
        self._put_behind(output, "Convert", "opset1", destination_type=name)
        self._port_behind(self._result(output)).set("precision", PRECISIONS[name])

    def declared(self, key: str) -> str:
        entry = self._tree.getroot().find(f"rt_info/{MODEL_INFO}/{key}")
        return "" if entry is None else entry.get("value", "")

    def declare(self, key: str, value: str) -> None:
        self.changed = True
        element = self._tree.getroot()
        for name in ("rt_info", MODEL_INFO, key):
            found = element.find(name)
            element = ET.SubElement(element, name) if found is None else found
        element.set("value", value)

    @property
    def _weights_path(self) -> Path:
        return self.path.with_suffix(".bin")

    def _weight(self, convolution: str) -> ET.Element:
        weight = self._constant(self._convolution(convolution), 1)
        if weight is None:
            raise NotThereError(f"the weights of {convolution} are not stored in the file as a constant")
        return weight

    def _bias(self, convolution: str) -> ET.Element | None:
        for layer in self._consumers(self._convolution(convolution)):
            if _get(layer, "type") == "Add":
                return self._constant(layer, 1)
        return None

    def _mean(self) -> tuple[ET.Element, int]:
        signs = {"Add": -1, "Subtract": 1}  # OpenVINO makes an addition of the one and keeps the other
        for parameter in self._of_type("Parameter"):
            for layer in self._consumers(parameter):
                constant = self._constant(layer, 1) if _get(layer, "type") in signs else None
                if constant is not None:
                    return constant, signs[_get(layer, "type")]
        raise NotThereError("no mean is subtracted inside the file")

    def _read(self, constant: ET.Element) -> Array:
        if (number := _get(constant, "id")) in self._new:
            return self._new[number]
        data = _child(constant, "data")
        kind = ELEMENT_TYPES.get(_get(data, "element_type"))
        if kind is None:
            raise NotThereError(f"{_get(constant, 'name')} is stored as {_get(data, 'element_type')}")
        with self._weights_path.open("rb") as file:
            file.seek(int(_get(data, "offset")))
            values: Array = np.frombuffer(file.read(int(_get(data, "size"))), kind)
        shape = [int(size) for size in _get(data, "shape").split(",")]
        return values.reshape(shape)

    def _replace(self, constant: ET.Element, values: Array) -> None:
        self._new[_get(constant, "id")] = values

    def _write(self) -> None:
        with self._weights_path.open("ab") as file:
            for number, values in self._new.items():
                file.write(bytes(-file.tell() % ALIGNMENT))
                _child(self._layers[number], "data").set("offset", str(file.tell()))
                file.write(np.ascontiguousarray(values).data)
        self._new.clear()
        self._tree.write(self.path, encoding="utf-8", xml_declaration=True)

    def _of_type(self, *kinds: str) -> list[ET.Element]:
        return [layer for layer in self._tree.iter("layer") if _get(layer, "type") in kinds]

    def _convolution(self, name: str) -> ET.Element:
        for layer in self._of_type(*WEIGHTED_LAYERS):
            if _original_name(layer) == name:
                return layer
        raise NotThereError(f"{name} is not a convolution in the file")

    def _source(self, layer: ET.Element, port: int) -> ET.Element:
        number, _ = self._sources[_get(layer, "id"), str(port)]
        return self._layers[number]

    def _consumers(self, layer: ET.Element) -> list[ET.Element]:
        edges = self._sources.items()
        return [self._layers[consumer] for (consumer, _), (source, _) in edges if source == _get(layer, "id")]

    def _constant(self, layer: ET.Element, port: int) -> ET.Element | None:
        """The constant that feeds a port of a layer, if one does."""
        source = self._source(layer, port)
        while _get(source, "type") in ("Convert", "Multiply", "Reshape"):
            source = self._source(source, 0)
        return source if _get(source, "type") == "Const" else None

    def _results(self) -> dict[str, ET.Element]:
        """The layers that are outputs, by name, in the order of the file, which is that of the outputs."""
        return {_get(self._port_behind(layer), "names").split(",")[0]: layer for layer in self._of_type("Result")}

    def _result(self, output: str) -> ET.Element:
        results = self._results()
        if output not in results:
            raise NotThereError(f"{output} is not an output of the file")
        return results[output]

    def _put_behind(self, output: str, operator: str, opset: str, *constants: Array, **data: str) -> None:
        self.changed = True
        result = self._result(output)
        before = self._port_behind(result)
        source = self._sources[_get(result, "id"), "0"]
        made = self._add_layer(f"{output}/{operator}", operator, opset, **data)
        number = _get(made, "id")
        inputs = ET.SubElement(made, "input")
        inputs.append(_port("0", before))
        self._connect(source, number, "0")
        for place, values in enumerate(constants, start=1):
            constant = self._add_constant(f"{output}/{operator}/{place}", values)
            inputs.append(_port(str(place), _child(_child(constant, "output"), "port")))
            self._connect((_get(constant, "id"), "0"), number, str(place))
        after = _port(str(len(inputs)), before)
        after.set("names", before.attrib.pop("names"))
        ET.SubElement(made, "output").append(after)
        for edge in self._tree.iter("edge"):
            if _get(edge, "to-layer") == _get(result, "id"):
                edge.set("from-layer", number)
                edge.set("from-port", _get(after, "id"))
        self._sources[_get(result, "id"), "0"] = (number, _get(after, "id"))

    def _add_layer(self, name: str, kind: str, opset: str, **data: str) -> ET.Element:
        number = str(1 + max(map(int, self._layers)))
        layer = ET.SubElement(
            _child(self._tree.getroot(), "layers"),
            "layer",
            id=number,
            name=f"{name}/{number}",
            type=kind,
            version=opset,
        )
        if data:
            ET.SubElement(layer, "data", data)
        self._layers[number] = layer
        return layer

    def _add_constant(self, name: str, values: Array) -> ET.Element:
        kind, shape = _element_type(values.dtype), ", ".join(map(str, values.shape))
        stored = {"element_type": kind, "shape": shape, "offset": "0", "size": str(values.nbytes)}
        layer = self._add_layer(name, "Const", "opset1", **stored)
        port = ET.SubElement(ET.SubElement(layer, "output"), "port", id="0", precision=PRECISIONS[kind])
        for size in values.shape:
            ET.SubElement(port, "dim").text = str(size)
        self._new[_get(layer, "id")] = values
        return layer

    def _connect(self, source: tuple[str, str], layer: str, port: str) -> None:
        ends = {"from-layer": source[0], "from-port": source[1], "to-layer": layer, "to-port": port}
        ET.SubElement(_child(self._tree.getroot(), "edges"), "edge", ends)
        self._sources[layer, port] = source

    def _port_behind(self, result: ET.Element) -> ET.Element:
        number, port = self._sources[_get(result, "id"), "0"]
        return next(found for found in self._layers[number].iterfind("output/port") if _get(found, "id") == port)


def _get(element: ET.Element, key: str) -> str:
    value = element.get(key)
    if value is None:
        raise NotThereError(f"<{element.tag}> has no {key}")
    return value


def _child(element: ET.Element, tag: str) -> ET.Element:
    found = element.find(tag)
    if found is None:
        raise NotThereError(f"<{element.tag}> has no <{tag}>")
    return found


def _port(number: str, like: ET.Element) -> ET.Element:
    """A port for the same tensors as another's."""
    port = ET.Element("port", id=number, precision=_get(like, "precision"))
    for size in like.iterfind("dim"):
        ET.SubElement(port, "dim").text = size.text
    return port


def _element_type(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{8 * dtype.itemsize}"


def _fixed(output: str, shape: Sequence[int]) -> tuple[int, ...]:
    if min(shape, default=1) < 1:
        raise NotThereError(f"the shape of {output} is not fixed")
    return tuple(shape)


def _original_name(layer: ET.Element) -> str:
    """The name in the original network, behind which OpenVINO puts what it took out of the operation."""
    return _get(layer, "name").partition("/")[0]
