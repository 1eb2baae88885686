"""The allow-list of ONNX files: their structure, operators, attributes and types.

It accepts the files of sshtool, also after onnxsim, onnxslim, NNCF and ONNX Runtime's optimiser up to its level
"extended". It rejects files of the optimiser's last level, which run on one type of processor only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.unknown_fields import UnknownFieldSet

from sshconvert.onnx.model import weights_path
from sshconvert.reading import is_there, open_regular, read_small
from sshconvert.schema import one_line
from sshconvert.validation.onnx_sizes import add_up
from sshconvert.validation.sizes import Tally, parse_size, shapes_to_try

LARGEST_ONNX: Final = 2**31 - 1  # bytes of a protobuf message
MOST_WEIGHTS: Final = 1 << 40  # elements; more may overflow 64 bits in a runtime
MOST_NODES: Final = 20_000  # networks have hundreds; some steps of runtimes take quadratic time
LONGEST_TEXT: Final = 64  # of an attribute, such as the name of a mode
OLDEST_OPSET: Final = 11

_BYTES: Final[Mapping[int, int]] = {
    **dict.fromkeys((onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64), 8),
    **dict.fromkeys((onnx.TensorProto.FLOAT, onnx.TensorProto.INT32), 4),
    **dict.fromkeys((onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16), 2),
    **dict.fromkeys((onnx.TensorProto.BOOL, onnx.TensorProto.INT8, onnx.TensorProto.UINT8), 1),
}

# The allowed fields of each message. They exclude functions, training, subgraphs, sparse tensors and string tensors.
_DESCRIBING: Final = {"name", "doc_string", "metadata_props"}
_FIELDS: Final[Mapping[str, set[str]]] = {
    "ModelProto": {"domain", "doc_string", "graph", "ir_version", "metadata_props", "model_version"}
    | {"opset_import", "producer_name", "producer_version"},
    "GraphProto": {*_DESCRIBING, "initializer", "input", "node", "output", "value_info"},
    "NodeProto": {*_DESCRIBING, "attribute", "domain", "input", "op_type", "output"},
    "AttributeProto": {"doc_string", "f", "floats", "i", "ints", "name", "s", "strings", "t", "type"},
    "TensorProto": {*_DESCRIBING, "data_location", "data_type", "dims", "external_data"}
    | {"double_data", "float_data", "int32_data", "int64_data", "raw_data"},
    "ValueInfoProto": {*_DESCRIBING, "type"},
    "TypeProto": {"denotation", "tensor_type"},
    "Tensor": {"elem_type", "shape"},
    "TensorShapeProto": {"dim"},
    "Dimension": {"denotation", "dim_param", "dim_value"},
    "OperatorSetIdProto": {"domain", "version"},
    "StringStringEntryProto": {"key", "value"},
}

_NONE: Final[frozenset[str]] = frozenset()
_AXES: Final = frozenset({"axes"})
_WINDOWS: Final = frozenset({"auto_pad", "dilations", "kernel_shape", "pads", "strides"})
_CONVOLUTION: Final = _WINDOWS | {"group"}
_REDUCTION: Final = frozenset({"axes", "keepdims", "noop_with_empty_axes"})
_QUANTIZATION: Final = frozenset({"axis", "saturate"})
_RECURRENT: Final = frozenset({"activations", "direction", "hidden_size", "linear_before_reset"})

# Operators that only arrange elements anew, beside those of `OPERATORS`.
_ARRANGING: Final[Mapping[str, AbstractSet[str]]] = {
    "DepthToSpace": {"blocksize", "mode"},
    "GatherElements": {"axis"},
    "Pad": {"mode"},
    "ReverseSequence": {"batch_axis", "time_axis"},
    "ScatterElements": {"axis", "reduction"},
    "SpaceToDepth": {"blocksize"},
    "Tile": _NONE,
}

# Functions of one number and of two, without attributes.
_UNARY: Final = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
    *("Identity", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Tan", "Tanh"),
)
_BINARY: Final = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul"),
    *("Or", "Pow", "Sub", "Xor"),
)

# Operators of ONNX with their attributes.
OPERATORS: Final[Mapping[str, AbstractSet[str]]] = {
    **_ARRANGING,
    **dict.fromkeys((*_UNARY, *_BINARY), _NONE),
    **dict.fromkeys(("Clip", "Expand", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "PRelu", "Range"), _NONE),
    **dict.fromkeys(("Shape", "Slice", "Where"), _NONE),
    **dict.fromkeys(("ArgMax", "ArgMin"), frozenset({"axis", "keepdims", "select_last_index"})),
    **dict.fromkeys(("Elu", "LeakyRelu"), frozenset({"alpha"})),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"), _REDUCTION),
    **dict.fromkeys(("ReduceProd", "ReduceSum"), _REDUCTION),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _QUANTIZATION),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _AXES),
    "AveragePool": _WINDOWS | {"ceil_mode", "count_include_pad"},
    "BatchNormalization": {"epsilon", "momentum", "training_mode"},
    "Cast": {"saturate", "to"},
    "Concat": {"axis"},
    "Constant": {"value"},
    "Conv": _CONVOLUTION,
    "ConvTranspose": _CONVOLUTION | {"output_padding", "output_shape"},
    "CumSum": {"exclusive", "reverse"},
    "Flatten": {"axis"},
    "Gather": {"axis"},
    "GatherND": {"batch_dims"},
    "Gemm": {"alpha", "beta", "transA", "transB"},
    "GridSample": {"align_corners", "mode", "padding_mode"},
    "HardSigmoid": {"alpha", "beta"},
    "InstanceNormalization": {"epsilon"},
    "LRN": {"alpha", "beta", "bias", "size"},
    "LogSoftmax": {"axis"},
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _RECURRENT),
    "MaxRoiPool": {"pooled_shape", "spatial_scale"},
    "MaxPool": _WINDOWS | {"ceil_mode", "storage_order"},
    "Mod": {"fmod"},
    "NonMaxSuppression": {"center_point_box"},
    "QLinearConv": _CONVOLUTION,
    "Reshape": {"allowzero"},
    "Resize": {"coordinate_transformation_mode", "cubic_coeff_a", "mode", "nearest_mode"}
    | {"exclude_outside", "extrapolation_value"},
    "RoiAlign": {"coordinate_transformation_mode", "mode", "output_height", "output_width"}
    | {"sampling_ratio", "spatial_scale"},
    "ScatterND": {"reduction"},
    "Selu": {"alpha", "gamma"},
    "Softmax": {"axis"},
    "Split": {"axis", "num_outputs"},
    "TopK": {"axis", "largest", "sorted"},
    "Transpose": {"perm"},
}

# Operators of ONNX Runtime that its optimiser writes on any processor.
CONTRIBUTED: Final = "com.microsoft"
CONTRIBUTED_OPERATORS: Final[Mapping[str, AbstractSet[str]]] = {
    "FusedConv": _CONVOLUTION | {"activation", "activation_params"},
    "QLinearAdd": set(),
    "QLinearConcat": {"axis"},
}

# Attributes that must be 0: a normalisation in training mode changes its results from run to run.
_ZERO: Final = ("training_mode",)


def parse(path: Path) -> onnx.ModelProto:
    """Read and check an .onnx file. Raises OSError and ValueError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(read_small(path, LARGEST_ONNX))
        _decode_texts(model)
    except OSError:
        raise
    except Exception:  # noqa: BLE001  # implementations of protobuf raise different errors, also for invalid text
        raise ValueError("is no ONNX file, or a damaged one") from None
    _check_fields(model)
    _check_graph(model.graph, weights_path(path))
    for node in model.graph.node:
        _check_node(node)
    _check_sizes(model)
    return model


def _decode_texts(message: Any) -> None:
    """Decode every text in a message: invalid UTF-8 raises here and not inside a runtime."""
    for field, value in message.ListFields():
        values = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
        if field.type == field.TYPE_STRING:
            "".join(values)
        elif field.type == field.TYPE_MESSAGE:
            for inner in values:
                _decode_texts(inner)


def _check_fields(message: Any) -> None:
    """Raise ValueError for a field, at any depth, outside the allow-list or unknown to this version of ONNX."""
    name = message.DESCRIPTOR.name
    allowed = _FIELDS.get(name, set())
    for field, value in message.ListFields():
        if field.name not in allowed:
            raise ValueError(f"it has a {field.name} in a {name}, which no converted network has")
        if field.type == field.TYPE_MESSAGE:
            for inner in value if isinstance(value, Sequence) else [value]:
                _check_fields(inner)
    if len(UnknownFieldSet(message)):
        raise ValueError(f"it has a field in a {name} that is unknown")


def _check_graph(graph: onnx.GraphProto, apart: Path) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs or not graph.output:
        raise ValueError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs, expected some of both")
    if len(graph.node) > MOST_NODES:
        raise ValueError(f"it has {len(graph.node)} nodes; no network has more than {MOST_NODES}")
    if len(weights) < len(graph.initializer):
        raise ValueError("it has weights of the same name")
    size = _size_apart(apart) if any(_is_apart(tensor, apart) for tensor in graph.initializer) else 0
    for tensor in graph.initializer:
        if _is_apart(tensor, apart):
            _check_shape(tensor, _length_apart(tensor, apart.name, size))
        else:
            _check_inside(tensor)


def _check_inside(tensor: onnx.TensorProto) -> None:
    if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
        raise ValueError(f"the weights {one_line(tensor.name)!r} refer to another file; a model is in one file")
    _check_shape(tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)


def _check_shape(tensor: onnx.TensorProto, length: int | None) -> None:
    """Check a tensor with `length` bytes of raw data, or None if a typed field holds the values."""
    name = one_line(tensor.name)
    elements = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or elements > MOST_WEIGHTS:
        raise ValueError(f"the weights {name!r} claim the shape {list(tensor.dims)[:8]}")
    if tensor.data_type not in _BYTES:
        raise ValueError(f"the weights {name!r} are of type {tensor.data_type}, which no converted network has")
    if length not in (None, elements * _BYTES[tensor.data_type]):
        raise ValueError(f"the weights {name!r} claim {elements} elements in {length} bytes")


def _is_apart(tensor: onnx.TensorProto, apart: Path) -> bool:
    """Whether a tensor refers to the weights file of a large model, the only other file that is accepted."""
    reference = {entry.key: entry.value for entry in tensor.external_data}
    is_complete = len(tensor.external_data) == len(reference) and reference.keys() == {"location", "offset", "length"}
    return tensor.data_location == onnx.TensorProto.EXTERNAL and is_complete and reference["location"] == apart.name


def _length_apart(tensor: onnx.TensorProto, file: str, size: int) -> int:
    name = one_line(tensor.name)
    reference = {entry.key: parse_size(entry.value) for entry in tensor.external_data if entry.key != "location"}
    if tensor.data_type not in _BYTES or tensor.raw_data:
        raise ValueError(f"the weights {name!r} cannot be in {file}: they are in the model too, or of unknown type")
    end = reference["offset"] + reference["length"]
    if end > size:
        raise ValueError(f"the weights {name!r} end at byte {end} of {file}, which has {size} bytes")
    return reference["length"]


def _size_apart(path: Path) -> int:
    if path.is_symlink():
        raise ValueError(f"its weights are in {path.name}, which is a link")
    if not is_there(path):
        raise ValueError(f"its weights are in {path.name}, which is missing")
    with open_regular(path) as file:
        return file.seek(0, 2)


def _check_node(node: onnx.NodeProto) -> None:
    operators = {"": OPERATORS, CONTRIBUTED: CONTRIBUTED_OPERATORS}.get(node.domain, {})
    name = one_line(f"{node.domain}.{node.op_type}".lstrip("."))
    if node.op_type not in operators:
        raise ValueError(f"its operator {name!r} is in no converted network")
    if not node.output or not node.output[0]:
        raise ValueError(f"one of its nodes ({name}) computes nothing")
    for attribute in node.attribute:
        subject = f"the attribute {one_line(attribute.name)!r} of {name}"
        if attribute.name not in operators[node.op_type]:
            raise ValueError(f"{subject} is in no converted network")
        if attribute.HasField("t"):
            _check_inside(attribute.t)
        longest = max(map(len, attribute.strings), default=len(attribute.s))
        if max(longest, len(attribute.strings)) > LONGEST_TEXT or (attribute.name in _ZERO and attribute.i != 0):
            raise ValueError(f"{subject} has a value that no converted network has")


def _check_sizes(model: onnx.ModelProto) -> None:
    versions = [item.version for item in model.opset_import if item.domain == ""]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise ValueError(f"it is of operator set {versions}, expected one from {OLDEST_OPSET} to {newest}")
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    declared = {
        value.name: [size.dim_value if size.dim_value > 0 else None for size in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in weights
    }
    is_fixed = all(None not in shape for shape in declared.values())
    for shapes in shapes_to_try(declared):
        tally = Tally(shapes, sum(weights.values()), fixed=is_fixed)
        for shape in shapes.values():
            tally.add(shape)
        add_up(model.graph, versions[0], shapes, tally)
