"""Edits in a copy of an OpenVINO IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np

from sshconvert.arrays import Array
from sshconvert.editable import ALL_BEFORE, Arithmetic, EditableModel, NotThereError
from sshconvert.ir import CONTRACT
from sshconvert.operators.convolution import Deconvolution
from sshconvert.operators.registry import weighted_operations

ELEMENT_TYPES: Final = {"f32": "<f4", "f16": "<f2", "i8": "i1"}
PRECISIONS: Final = {"f32": "FP32", "i32": "I32", "i64": "I64"}
ALIGNMENT: Final = 64  # of constants that are appended to a .bin


class EditableIr(EditableModel[ET.Element]):
    """An IR: the .xml has layers and edges, the .bin has constants at offsets.

    A Convert follows a constant in FP16, a Convert and a Multiply follow one in INT8. OpenVINO stores equal constants
    once, so an edit appends new values instead of overwriting old ones.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tree = ET.parse(path)  # noqa: S314  # a runtime has read the artifact before
        self._layers = {_get(layer, "id"): layer for layer in self._tree.iter("layer")}
        self._sources = {
            (_get(edge, "to-layer"), _get(edge, "to-port")): (_get(edge, "from-layer"), _get(edge, "from-port"))
            for edge in self._tree.iter("edge")
        }
        self._new: dict[str, Array] = {}

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(_original_name(layer) for layer in self._of_type(*weighted_operations()))

    @property
    def deconvolutions(self) -> tuple[str, ...]:
        return tuple(_original_name(layer) for layer in self._of_type(*Deconvolution.weights.openvino))

    def convolution_behind(self, output: str) -> str:
        layer = self._maker(output)
        # An Add holds the bias.
        while _get(layer, "type") in ("Reshape", "SoftMax", "Add"):
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
            if "output_names" in result.attrib:  # newer versions of OpenVINO store the name here too
                result.set("output_names", renamed)

    def reorder_outputs(self, names: Sequence[str]) -> None:
        self.changed = True
        results = self._results()
        layers = _child(self._tree.getroot(), "layers")
        places = [place for place, layer in enumerate(layers) if _get(layer, "type") == "Result"]
        for place, name in zip(places, names, strict=True):
            layers[place] = results[name]

    def combine(self, tensor: str, by: Arithmetic, values: Array) -> None:
        self._put_behind(tensor, by.value[1], "opset1", values)

    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        self._result(output)
        indices = np.array(numbers, np.int64)
        self._put_behind(output, "Gather", "opset8", indices, np.array([axis], np.int64), batch_dims="0")

    def reverse(self, output: str) -> None:
        # from the last image to before the first, in steps of -1, along axis 0
        ends = [np.array([number], np.int64) for number in (-1, ALL_BEFORE, -1, 0)]
        self._put_behind(output, "Slice", "opset8", *ends)

    def cast(self, output: str, dtype: type) -> None:
        self._result(output)
        name = _element_type(np.dtype(dtype))
        self._put_behind(output, "Convert", "opset1", destination_type=name)
        self._port_behind(self._result(output)).set("precision", PRECISIONS[name])

    def declared(self, key: str) -> str:
        entry = self._tree.getroot().find(f"rt_info/{CONTRACT}/{key}")
        return "" if entry is None else entry.get("value", "")

    def declare(self, key: str, value: str) -> None:
        self.changed = True
        element = self._tree.getroot()
        for name in ("rt_info", CONTRACT, key):
            child = element.find(name)
            element = ET.SubElement(element, name) if child is None else child
        element.set("value", value)

    @property
    def _weights_path(self) -> Path:
        return self.path.with_suffix(".bin")

    def _dimensions(self, output: str) -> tuple[int, ...]:
        port = self._port_behind(self._result(output))
        return tuple(int(size.text or -1) for size in port.iterfind("dim"))

    def _weight(self, convolution: str) -> ET.Element:
        weight = self._constant(self._convolution(convolution), 1)
        if weight is None:
            raise NotThereError(f"the weights of {convolution} are not stored in the file as a constant")
        return weight

    def _filter_axes(self, convolution: str) -> int:
        # [groups, channels of a group, ...]
        return 2 if _get(self._convolution(convolution), "type") == "GroupConvolution" else 1

    def _scale(self, convolution: str) -> ET.Element | None:
        if self._read(self._weight(convolution)).dtype.kind != "i":
            return None
        layer = self._source(self._convolution(convolution), 1)
        while _get(layer, "type") != "Multiply":
            layer = self._source(layer, 0)
        return self._constant(layer, 1)

    def _bias(self, convolution: str) -> ET.Element | None:
        for layer in self._consumers(self._convolution(convolution)):
            if _get(layer, "type") == "Add":
                return self._constant(layer, 1)
        return None

    def _mean(self) -> tuple[ET.Element, int]:
        signs = {"Add": -1, "Subtract": 1}  # OpenVINO turns some subtractions into additions
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
        for layer in self._of_type(*weighted_operations()):
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
        """Return the constant that feeds a port of a layer, or None."""
        source = self._source(layer, port)
        while _get(source, "type") in ("Convert", "Multiply", "Reshape"):
            source = self._source(source, 0)
        return source if _get(source, "type") == "Const" else None

    def _results(self) -> dict[str, ET.Element]:
        """Return the output layers by name, in the order of the outputs."""
        return {_get(self._port_behind(layer), "names").split(",")[0]: layer for layer in self._of_type("Result")}

    def _result(self, output: str) -> ET.Element:
        results = self._results()
        if output not in results:
            raise NotThereError(f"{output} is not an output of the file")
        return results[output]

    def _maker(self, tensor: str) -> ET.Element:
        """Return the layer that computes a tensor. OpenVINO keeps the names of inner tensors too."""
        for layer in self._layers.values():
            if any(tensor in port.get("names", "").split(",") for port in layer.iterfind("output/port")):
                return layer
        raise NotThereError(f"nothing in the file computes {tensor}")

    def _port(self, tensor: str) -> ET.Element:
        ports = self._maker(tensor).iterfind("output/port")
        return next(port for port in ports if tensor in port.get("names", "").split(","))

    def _put_behind(self, tensor: str, operator: str, opset: str, *constants: Array, **data: str) -> None:
        """Put an operator behind an output, or behind an inner tensor for all its readers."""
        before = self._port(tensor)
        self.changed = True
        source, result = (_get(self._maker(tensor), "id"), _get(before, "id")), self._results().get(tensor)
        readers = [
            edge
            for edge in self._tree.iter("edge")
            if (edge.get("from-layer"), edge.get("from-port")) == source
            and (result is None or edge.get("to-layer") == result.get("id"))
        ]
        added = self._add_layer(f"{tensor}/{operator}", operator, opset, **data)
        number = _get(added, "id")
        inputs = ET.SubElement(added, "input")
        inputs.append(_port("0", before))
        self._connect(source, number, "0")
        for place, values in enumerate(constants, start=1):
            constant = self._add_constant(f"{tensor}/{operator}/{place}", values)
            inputs.append(_port(str(place), _child(_child(constant, "output"), "port")))
            self._connect((_get(constant, "id"), "0"), number, str(place))
        after = _port(str(len(inputs)), before)
        after.set("names", before.attrib.pop("names"))
        ET.SubElement(added, "output").append(after)
        for edge in readers:
            edge.set("from-layer", number)
            edge.set("from-port", _get(after, "id"))
            self._sources[_get(edge, "to-layer"), _get(edge, "to-port")] = (number, _get(after, "id"))

    def _add_layer(self, name: str, kind: str, opset: str, **data: str) -> ET.Element:
        number = str(1 + max(map(int, self._layers)))
        attributes = {"id": number, "name": f"{name}/{number}", "type": kind, "version": opset}
        layer = ET.SubElement(_child(self._tree.getroot(), "layers"), "layer", attributes)
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
        return next(item for item in self._layers[number].iterfind("output/port") if _get(item, "id") == port)


def _get(element: ET.Element, key: str) -> str:
    value = element.get(key)
    if value is None:
        raise NotThereError(f"<{element.tag}> has no {key}")
    return value


def _child(element: ET.Element, tag: str) -> ET.Element:
    child = element.find(tag)
    if child is None:
        raise NotThereError(f"<{element.tag}> has no <{tag}>")
    return child


def _port(number: str, like: ET.Element) -> ET.Element:
    """Return a port with the type and shape of another port."""
    port = ET.Element("port", id=number, precision=_get(like, "precision"))
    for size in like.iterfind("dim"):
        ET.SubElement(port, "dim").text = size.text
    return port


def _element_type(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{8 * dtype.itemsize}"


def _original_name(layer: ET.Element) -> str:
    """Return the layer's name in the original network. OpenVINO appends suffixes to the parts of a split layer."""
    return _get(layer, "name").partition("/")[0]
