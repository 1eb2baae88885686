"""A look at a converted model before a runtime gets it: runtimes trust a file, and follow it to others.

What is checked here is what a runtime would crash on, allocate for, print about or fetch from elsewhere. All else is
left to it: its errors are caught.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

import onnx

from sshconvert.errors import ArtifactError
from sshconvert.onnx.model import weights_path
from sshconvert.reading import open_regular, read_small
from sshconvert.recognition import IR, ONNX, mistaken
from sshconvert.schema import one_line

# What one protobuf message can have, and far more than the description of a network takes.
LARGEST_ONNX: Final = 2**31 - 1
LARGEST_XML: Final = 64 << 20
DEEPEST_XML: Final = 100

# Of weights, so that no runtime's 64-bit arithmetic is at its end; and of what is computed from one layer to the next:
# 64 channels of 16 million pixels. Beyond, runtimes take all memory there is, and OpenVINO may wait for ever.
MOST_WEIGHTS: Final = 1 << 40
MOST_COMPUTED: Final = 1 << 30

# Weights from here on are no shapes to compute with, but only have one.
_LARGE_WEIGHTS: Final = 1 << 10

# Bytes of an element, by ONNX's number of its type.
_BYTES: Final[Mapping[int, int]] = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.INT64: 8,
}

# Others OpenVINO takes for no IR, and asks all its readers, of which one prints.
_ROOTS: Final = {("net", "10"), ("net", "11")}

# Bits of an element, by OpenVINO's names; what is not here (strings, packed types) is left to OpenVINO.
_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("boolean", "i8", "u8", "f8e4m3", "f8e5m2"), 8),
    **dict.fromkeys(("i4", "u4", "nf4", "f4e2m1"), 4),
}


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse and check an .onnx file: one input of four dimensions, weights of the sizes that they claim, and inside, or
    in the one file beside it where `sshconvert` puts those of a large model.

    Raises ArtifactError.
    """
    model = onnx.ModelProto()
    try:
        _parse_onnx(model, read_small(path, LARGEST_ONNX))
        _check_graph(model.graph, weights_path(path))
        check_sizes(_inferred_shapes(model))
    except (OSError, ValueError) as error:
        raise _refused(path, error, ONNX) from None
    return model


def check_sizes(shapes: Iterable[Sequence[int]]) -> None:
    """Raises ValueError for a tensor inside a model that no honest model computes."""
    for shape in shapes:
        if math.prod(shape) > MOST_COMPUTED:
            raise ValueError(f"it computes a tensor of shape {list(shape)[:8]}")


def check_ir(path: Path) -> None:
    """Check an OpenVINO IR: an .xml that stands alone, and a .bin beside it that has all that it refers to.

    Raises ArtifactError.
    """
    try:
        text = read_small(path, LARGEST_XML)
        weights = path.with_suffix(".bin")
        size = _size(weights) if weights.exists() or weights.is_symlink() else None
        constants = _Constants(size)
        _parse_xml(text, constants.look_at)
        constants.finish(weights.name)
    except expat.ExpatError as error:
        raise _refused(path, ValueError(f"is not well-formed XML ({one_line(error)})"), IR) from None
    except (OSError, ValueError) as error:
        raise _refused(path, error, IR) from None


def _refused(path: Path, error: OSError | ValueError, wanted: str) -> ArtifactError:
    what = mistaken(path, wanted)
    if what:
        return ArtifactError(f"{path}: is {what}, and not {wanted}; give what `sshtool convert` wrote")
    reason = error.strerror if isinstance(error, OSError) else error
    return ArtifactError(f"{path}: {one_line(reason)}; convert again")


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _parse_onnx(model: onnx.ModelProto, data: bytes) -> None:
    try:
        model.ParseFromString(data)
        _decode_texts(model)
    except Exception:  # noqa: BLE001  # each implementation of protobuf has its own, and text that is none is another
        raise ValueError("is no ONNX file, or a damaged one") from None


def _decode_texts(message: Any) -> None:
    """Look at every text in a message: those that are not UTF-8 raise an error here, and not inside of a runtime."""
    for field, value in message.ListFields():
        values = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
        if field.type == field.TYPE_STRING:
            "".join(values)
        elif field.type == field.TYPE_MESSAGE:
            for inner in values:
                _decode_texts(inner)


def _check_graph(graph: onnx.GraphProto, apart: Path) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or not graph.output:
        raise ValueError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs, expected 1 and some")
    size = _size_apart(apart) if any(_is_apart(tensor, apart) for tensor in graph.initializer) else 0
    for tensor in graph.initializer:
        if _is_apart(tensor, apart):
            _check_shape(tensor, _length_apart(tensor, apart.name, size))
        else:
            _check_inside(tensor)
    for tensor in _inner_tensors(graph):
        _check_inside(tensor)


def _inner_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors that are stored in a graph apart from its own weights, and those of the graphs inside it too."""
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for inner in (attribute.g, *attribute.graphs):
            yield from inner.initializer
            yield from _inner_tensors(inner)


def _check_inside(tensor: onnx.TensorProto) -> None:
    if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
        raise ValueError(f"the weights {tensor.name!r} are said to be in another file; a whole model is in one")
    _check_shape(tensor, len(tensor.raw_data) or None)


def _check_shape(tensor: onnx.TensorProto, length: int | None) -> None:
    """`length` is that of the bytes, None if there are none: then the values are in a field of their type."""
    name = tensor.name
    elements = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or elements > MOST_WEIGHTS:
        raise ValueError(f"the weights {name!r} claim the shape {list(tensor.dims)[:8]}")
    if tensor.data_type in _BYTES and length not in (None, elements * _BYTES[tensor.data_type]):
        raise ValueError(f"the weights {name!r} claim {elements} elements in {length} bytes")


def _is_apart(tensor: onnx.TensorProto, apart: Path) -> bool:
    """Whether weights are said to be where a large model has them; that they are anywhere else, nobody believes."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    is_complete = len(tensor.external_data) == len(said) and said.keys() == {"location", "offset", "length"}
    return tensor.data_location == onnx.TensorProto.EXTERNAL and is_complete and said["location"] == apart.name


def _length_apart(tensor: onnx.TensorProto, file: str, size: int) -> int:
    said = {entry.key: _whole(entry.value) for entry in tensor.external_data if entry.key != "location"}
    if tensor.data_type not in _BYTES or tensor.raw_data:
        raise ValueError(f"the weights {tensor.name!r} cannot be in {file}: they are here too, or of an unknown type")
    end = said["offset"] + said["length"]
    if end > size:
        raise ValueError(f"the weights {tensor.name!r} end at byte {end} of {file}, which has {size} bytes")
    return said["length"]


def _size_apart(path: Path) -> int:
    if path.is_symlink():
        raise ValueError(f"its weights are in {path.name}, which is a link")
    if not path.exists():
        raise ValueError(f"its weights are in {path.name}, which is not there")
    return _size(path)


def _inferred_shapes(model: onnx.ModelProto) -> Iterator[list[int]]:
    """Shapes of what is computed, as far as they can be known. Of large weights, which are not copied, only the shape
    counts.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "light"
    for field in ("node", "input", "output"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if not tensor.external_data and len(tensor.raw_data) < _LARGE_WEIGHTS:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except Exception:  # noqa: BLE001  # it has its own; the runtime will say what is wrong with the graph
        return
    for value in (*inferred.value_info, *inferred.output):
        yield [size.dim_value for size in value.type.tensor_type.shape.dim if size.HasField("dim_value")]


# --- OpenVINO IR ------------------------------------------------------------------------------------------------------

_Look = Callable[[str, Mapping[str, str]], None]


def _parse_xml(text: bytes, look: _Look) -> None:
    """Show every element to `look`. Raises ExpatError, and ValueError for a document type: with it, XML defines
    entities that grow or that are other files.
    """
    parser = expat.ParserCreate()
    depth = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST_XML:
            raise ValueError(f"its XML is nested more than {DEEPEST_XML} deep")
        if depth == 1 and (name, attributes.get("version")) not in _ROOTS:
            found = f"{one_line(name)!r} {one_line(attributes)}"
            raise ValueError(f"its XML is {found}, expected a 'net' of version 10 or 11")
        look(name, attributes)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: Any) -> None:
        raise ValueError("its XML has a document type, which no IR has")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(text, True)


class _Constants:
    """Holds what the constants of an IR refer to against the size of the .bin, None if there is none."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._last = 0
        self._inputs = 0
        self._outputs = 0

    def look_at(self, name: str, attributes: Mapping[str, str]) -> None:
        kind = attributes.get("type") if name == "layer" else ""
        self._inputs += kind == "Parameter"
        self._outputs += kind == "Result"
        if name == "data" and {"offset", "size"} <= set(attributes):
            self._check(attributes)

    def _check(self, attributes: Mapping[str, str]) -> None:
        offset, size = (_whole(attributes[key]) for key in ("offset", "size"))
        self._last = max(self._last, offset + size)
        bits = _BITS.get(attributes.get("element_type", ""))
        if bits is not None:
            elements = math.prod(_whole(part) for part in _parts(attributes.get("shape", "")))
            if (elements * bits + 7) // 8 != size:
                raise ValueError(f"a constant claims {elements} elements in {size} bytes")

    def finish(self, weights: str) -> None:
        if self._last > (self._size or 0):
            what = "is not there" if self._size is None else f"has {self._size} bytes"
            raise ValueError(f"its constants take {self._last} bytes of {weights}, which {what}")
        if self._inputs != 1 or not self._outputs:
            raise ValueError(f"it has {self._inputs} inputs and {self._outputs} outputs, expected 1 and some")


def _parts(shape: str) -> Iterable[str]:
    return (part.strip() for part in shape.split(",") if part.strip())


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(f"a constant has {one_line(text)!r} where a number is expected")
    return int(text)


def _size(path: Path) -> int:
    with open_regular(path) as file:
        return file.seek(0, 2)
