"""The allow-list of OpenVINO IR files: their structure, layers and attributes.

It accepts the files of sshtool, of OpenVINO's own conversion and of NNCF.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set as AbstractSet
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from sshconvert.reading import is_there, open_regular, read_small
from sshconvert.schema import one_line
from sshconvert.validation.sizes import parse_size

# Far above the size of a network's description.
LARGEST_XML: Final = 64 << 20
DEEPEST_XML: Final = 100
MOST_LAYERS: Final = 20_000

# OpenVINO tries all its readers for other roots, and one of them prints.
_ROOTS: Final = {("net", "10"), ("net", "11")}

_OPSETS: Final = frozenset(f"opset{number}" for number in range(1, 17))

# Bits of an element, by OpenVINO's names.
_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("boolean", "i8", "u8", "f8e4m3", "f8e5m2"), 8),
    **dict.fromkeys(("i4", "u4", "nf4", "f4e2m1"), 4),
}

# The allowed children of each element outside descriptions, and the allowed attributes.
_CHILDREN: Final[Mapping[str, set[str]]] = {
    "net": {"layers", "edges", "rt_info", "meta_data", "cli_parameters", "quantization_parameters"},
    "layers": {"layer"},
    "layer": {"data", "input", "output", "rt_info"},
    "input": {"port"},
    "output": {"port"},
    "port": {"dim", "rt_info"},
    "edges": {"edge"},
}
_ATTRIBUTES: Final[Mapping[str, set[str]]] = {
    "net": {"name", "version"},
    "layer": {"id", "name", "output_names", "type", "version"},
    "port": {"id", "names", "precision"},
    "edge": {"from-layer", "from-port", "to-layer", "to-port"},
}
# Descriptions, with any content.
_DESCRIBING: Final = {"rt_info", "meta_data", "cli_parameters", "quantization_parameters"}

_NONE: Final[frozenset[str]] = frozenset()
_KEEP: Final = frozenset({"keep_dims"})
_BROADCAST: Final = frozenset({"auto_broadcast"})
_WINDOWS: Final = frozenset({"auto_pad", "dilations", "pads_begin", "pads_end", "strides"})
_RECURRENT: Final = frozenset(
    {"activations", "activations_alpha", "activations_beta", "clip", "direction", "hidden_size"}
)
_POOLING: Final = _WINDOWS | {"axis", "index_element_type", "kernel", "rounding_type"}

# Layers that only arrange elements anew, beside those of `LAYERS`.
_ARRANGING: Final[Mapping[str, AbstractSet[str]]] = {
    "DepthToSpace": {"block_size", "mode"},
    "GatherElements": {"axis"},
    "ReverseSequence": {"batch_axis", "seq_axis"},
    "ScatterElementsUpdate": {"reduction", "use_init_val"},
    "ScatterNDUpdate": {"reduction"},
    "SpaceToDepth": {"block_size", "mode"},
}

LAYERS: Final[Mapping[str, AbstractSet[str]]] = {
    **_ARRANGING,
    **dict.fromkeys(("Add", "Greater", "GreaterEqual", "Maximum", "Minimum"), _BROADCAST),
    "Divide": _BROADCAST | {"m_pythondiv"},
    **dict.fromkeys(("Multiply", "PRelu", "Power", "Select", "Subtract"), _BROADCAST),
    **dict.fromkeys(("Equal", "FloorMod", "Less", "LessEqual", "Mod", "NotEqual", "SquaredDifference"), _BROADCAST),
    **dict.fromkeys(("LogicalAnd", "LogicalOr", "LogicalXor"), _BROADCAST),
    **dict.fromkeys(("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceiling", "Cos", "Cosh"), _NONE),
    **dict.fromkeys(("Erf", "Floor", "HSigmoid", "HSwish", "Log", "LogicalNot", "Mish", "Negative", "PReLU"), _NONE),
    **dict.fromkeys(("HardSigmoid", "IsNaN", "Selu", "Sign", "Sin", "Sinh", "Sqrt", "Swish", "Tan"), _NONE),
    **dict.fromkeys(("Convolution", "GroupConvolution"), _WINDOWS),
    **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), _WINDOWS | {"output_padding"}),
    **dict.fromkeys(
        ("Exp", "Identity", "ReLU", "Relu", "Result", "Sigmoid", "SoftPlus", "SoftSign", "Squeeze", "Tanh"), _NONE
    ),
    **dict.fromkeys(("Slice", "Transpose", "Unsqueeze", "VariadicSplit"), _NONE),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _KEEP),
    "AvgPool": _POOLING | {"exclude-pad"},
    "BatchNormInference": {"epsilon"},
    "Broadcast": {"mode"},
    "Clamp": {"max", "min"},
    "Concat": {"axis"},
    "Const": {"element_type", "offset", "shape", "size"},
    "CumSum": {"exclusive", "reverse"},
    "Convert": {"destination_type"},
    "Elu": {"alpha"},
    "FakeQuantize": _BROADCAST | {"levels"},
    "Gather": {"batch_dims"},
    "GatherND": {"batch_dims"},
    "Gelu": {"approximation_mode"},
    "Interpolate": {"antialias", "coordinate_transformation_mode", "cube_coeff", "mode", "nearest_mode"}
    | {"pads_begin", "pads_end", "shape_calculation_mode"},
    "GRUSequence": _RECURRENT | {"linear_before_reset"},
    "GridSample": {"align_corners", "mode", "padding_mode"},
    "LRN": {"alpha", "beta", "bias", "size"},
    "LSTMSequence": _RECURRENT,
    "MatMul": {"transpose_a", "transpose_b"},
    "LogSoftmax": {"axis"},
    "MaxPool": _POOLING,
    "MVN": {"eps", "eps_mode", "normalize_variance"},
    "NonMaxSuppression": {"box_encoding", "output_type", "sort_result_descending"},
    "NormalizeL2": {"eps", "eps_mode"},
    "Pad": {"pad_mode"},
    "Parameter": {"element_type", "shape"},
    "RNNSequence": _RECURRENT,
    "ROIAlign": {"aligned_mode", "mode", "pooled_h", "pooled_w", "sampling_ratio", "spatial_scale"},
    "ROIPooling": {"method", "output_roi", "output_size", "pooled_h", "pooled_w", "spatial_scale"},
    "Range": {"output_type"},
    "Reshape": {"special_zero"},
    "Round": {"mode"},
    "ShapeOf": {"output_type"},
    "SoftMax": {"axis"},
    "Softmax": {"axis"},
    "Split": {"axis", "num_splits"},
    "StridedSlice": {"begin_mask", "ellipsis_mask", "end_mask", "new_axis_mask", "shrink_axis_mask"},
    "Tile": set(),
    "TopK": {"axis", "index_element_type", "mode", "sort", "stable"},
}


def check(path: Path) -> None:
    """Check a file. Raises OSError, ValueError and ExpatError."""
    text = read_small(path, LARGEST_XML)
    weights = path.with_suffix(".bin")
    size = None
    if is_there(weights) or weights.is_symlink():
        with open_regular(weights) as file:
            size = file.seek(0, 2)
    layers = _Layers(size)
    _parse_xml(text, layers.check_element)
    layers.finish(weights.name)


# Takes every element: the names of its ancestors, its own name and its attributes.
_Visitor = Callable[[list[str], str, Mapping[str, str]], None]


def _parse_xml(text: bytes, visit: _Visitor) -> None:
    """Pass every element to `visit`.

    Raises ExpatError, and ValueError for a document type, which can define entities that expand or that read files.
    """
    parser = expat.ParserCreate()
    ancestors: list[str] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if len(ancestors) >= DEEPEST_XML:
            raise ValueError(f"its XML is nested more than {DEEPEST_XML} deep")
        if not ancestors and (name, attributes.get("version")) not in _ROOTS:
            root = f"{one_line(name)!r} {one_line(attributes)}"
            raise ValueError(f"its XML is {root}, expected a 'net' of version 10 or 11")
        visit(ancestors, name, attributes)
        ancestors.append(name)

    def end(_: str) -> None:
        ancestors.pop()

    def reject(*_: Any) -> None:
        raise ValueError("its XML has a document type, which no IR has")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = reject
    parser.Parse(text, True)


class _Layers:
    """Compares elements with the allow-list, and constants with the size of the .bin (None if it is missing)."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._last = 0
        self._inputs = 0
        self._outputs = 0
        self._layers = 0
        self._once: set[str] = set()
        self._type = ""

    def check_element(self, ancestors: list[str], name: str, attributes: Mapping[str, str]) -> None:
        if not _DESCRIBING.isdisjoint(ancestors):
            return
        self._check_place(ancestors, name)
        if name == "layer":
            self._begin(attributes)
        elif name == "data" and self._type == "Const":
            self._check_constant(attributes)
        known = LAYERS[self._type] if name == "data" else _ATTRIBUTES.get(name, set())
        unknown = sorted(set(attributes) - known)
        if unknown and name not in _DESCRIBING:
            owner = self._type if name == "data" else name
            raise ValueError(f"the attribute {one_line(unknown[0])!r} of {owner} is in no converted network")

    def _check_place(self, ancestors: list[str], name: str) -> None:
        if ancestors and name not in _CHILDREN.get(ancestors[-1], set()):
            raise ValueError(f"it has a {one_line(name)!r} in a {ancestors[-1]}, which no converted network has")
        if len(ancestors) == 1:
            if name in self._once:
                raise ValueError(f"it has {name} twice: it is more than one network")
            self._once.add(name)

    def _begin(self, attributes: Mapping[str, str]) -> None:
        self._type = attributes.get("type", "")
        if self._type not in LAYERS:
            raise ValueError(f"its layer {one_line(self._type)!r} is in no converted network")
        version = attributes.get("version", "")
        if version not in _OPSETS:
            raise ValueError(f"its layer {self._type} is of the operator set {one_line(version)!r}, which is unknown")
        self._layers += 1
        if self._layers > MOST_LAYERS:
            raise ValueError(f"it has more than {MOST_LAYERS} layers; no network has as many")
        self._inputs += self._type == "Parameter"
        self._outputs += self._type == "Result"

    def _check_constant(self, attributes: Mapping[str, str]) -> None:
        missing = {"element_type", "offset", "shape", "size"} - set(attributes)
        if missing:
            raise ValueError(f"a constant has no {min(missing)}")
        offset, size = (parse_size(attributes[key]) for key in ("offset", "size"))
        self._last = max(self._last, offset + size)
        bits = _BITS.get(attributes["element_type"])
        if bits is None:
            raise ValueError(f"a constant is of type {one_line(attributes['element_type'])!r}, which is unknown")
        elements = math.prod(parse_size(part.strip()) for part in attributes["shape"].split(",") if part.strip())
        if (elements * bits + 7) // 8 != size:
            raise ValueError(f"a constant claims {elements} elements in {size} bytes")

    def finish(self, weights: str) -> None:
        if self._last > (self._size or 0):
            actual = "is missing" if self._size is None else f"has {self._size} bytes"
            raise ValueError(f"its constants take {self._last} bytes of {weights}, which {actual}")
        if not self._inputs or not self._outputs:
            raise ValueError(f"it has {self._inputs} inputs and {self._outputs} outputs, expected some of both")
