"""The sizes of all tensors that an ONNX graph computes for one input shape, by ONNX's shape rules.

Every size must be known. Value-preserving operators compute sizes that grow with the input, so a few input shapes
represent all. Sizes that depend on arithmetic or data, such as a crop or the number of detections, are bounded by
another tensor and may not set the size of a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sshconvert.arrays import Array
from sshconvert.schema import one_line
from sshconvert.validation.sizes import CORNERS, SLOW, SORTED, Shape, Tally, neighbours, region_work

Rule = Callable[[onnx.NodeProto, list[Array]], Array]  # from a node and the values of its inputs

_MOST_VALUES: Final = 1 << 10  # elements of a constant that may hold sizes

# Inputs whose values decide the size of the output, which may be larger than all inputs.
_GROWING: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(("Expand", "Pad", "Tile"), (1,)),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
}

# Value-preserving and arithmetic operators on sizes. After arithmetic, a size need not grow with the input.
_CHOOSING: Final[Mapping[str, Rule]] = {
    "Concat": lambda node, values: np.concatenate(values, axis=_attribute(node, "axis", 0)),
    "Gather": lambda node, values: np.take(values[0], values[1], axis=_attribute(node, "axis", 0)),
    "Identity": lambda _, values: values[0],
    "Min": lambda _, values: np.asarray(np.minimum.reduce(np.broadcast_arrays(*values))),
    "Squeeze": lambda _, values: values[0].reshape(()) if values[0].size == 1 else values[0],
    "Unsqueeze": lambda _, values: values[0].reshape((1,)) if values[0].size == 1 else values[0],
}
_ARITHMETIC: Final[Mapping[str, Rule]] = {
    "Add": lambda _, values: values[0] + values[1],
    "Div": lambda _, values: values[0] // values[1],
    "Mul": lambda _, values: values[0] * values[1],
    "Sub": lambda _, values: values[0] - values[1],
}

# Operators without a shape rule, and operators with the same shapes.
_LIKE: Final = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}

# Operators whose result has the shape of the largest input.
_ELEMENTWISE: Final = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul"}
    | {"Or", "Pow", "QLinearAdd", "Sub", "Where", "Xor"}
)


def add_up(graph: onnx.GraphProto, opset: int, shapes: Mapping[str, Shape], tally: Tally) -> None:
    """Count all tensors of the graph for inputs of these shapes. Raises ValueError."""
    _Sizes(graph, opset, shapes, tally).run()


class _Sizes:
    def __init__(self, graph: onnx.GraphProto, opset: int, shapes: Mapping[str, Shape], tally: Tally) -> None:
        self._graph, self._opset, self._tally = graph, opset, tally
        self._imports = [helper.make_opsetid("", opset)]
        self._types: dict[str, onnx.TypeProto] = {}
        self._values: dict[str, Array] = {}
        self._loose: set[str] = set()  # tensors whose sizes, or values, need not grow with the input
        weights = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._keep(tensor.name, tensor)
        for value in graph.input:
            if value.name not in weights:
                element = value.type.tensor_type.elem_type
                self._types[value.name] = helper.make_tensor_type_proto(element, shapes[value.name])

    def run(self) -> None:
        for node in _in_order(self._graph.node):
            try:
                self._add(node)
            except _RefusedError:
                raise
            except ValueError as error:
                raise _RefusedError(f"{_title(node)}: {error}") from None
        missing = [value.name for value in self._graph.output if value.name not in self._types]
        if missing:
            raise ValueError(f"nothing computes its output {one_line(missing[0])!r}")

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        if not tensor.external_data and math.prod(tensor.dims) <= _MOST_VALUES:
            self._values[name] = numpy_helper.to_array(tensor)

    def _add(self, node: onnx.NodeProto) -> None:
        for name in filter(None, node.input):
            if name not in self._types:
                raise ValueError(f"its input {one_line(name)!r} is not computed before")
        outputs = self._inferred(node)
        is_loose = self._is_loose(node, outputs)
        for name, tensor_type in outputs.items():
            if name in self._types:
                raise ValueError(f"it computes {one_line(name)!r}, which exists already")
            self._types[name] = tensor_type
            if is_loose:
                self._loose.add(name)
        self._compute(node)
        first = next(iter(outputs))
        for name, tensor_type in outputs.items():
            self._tally.add(_shape_of(tensor_type), self._work(node) if name == first else 0)

    def _inferred(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        if node.domain:
            return {node.output[0]: _CONTRIBUTED[node.op_type](self, node)}
        schema = onnx.defs.get_schema(_LIKE.get(node.op_type, node.op_type), self._opset, "")
        types = {name: self._types[name] for name in node.input if name}
        data = {name: numpy_helper.from_array(self._values[name]) for name in types if name in self._values}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._imports)
        except Exception as error:  # noqa: BLE001  # ONNX's errors have no public base class
            raise ValueError(f"its shape does not follow ({one_line(error)})") from None
        if node.op_type == "NonMaxSuppression":
            return {node.output[0]: self._selected(node)}
        for name in filter(None, node.output):
            if name not in inferred or not inferred[name].HasField("tensor_type") or not _is_known(inferred[name]):
                raise ValueError("the size of its result is not known beforehand")
        return {name: inferred[name] for name in node.output if name}

    def _selected(self, node: onnx.NodeProto) -> onnx.TypeProto:
        """At most every box of every class, and at most the number that an input gives."""
        batch, classes, boxes = self.shape(node.input[1])
        limit = self._values.get(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        most = boxes if limit is None else max(0, min(boxes, int(limit.reshape(-1)[0])))
        return helper.make_tensor_type_proto(onnx.TensorProto.INT64, (batch * classes * most, 3))

    def shape(self, name: str) -> Shape:
        return _shape_of(self._types[name])

    def element_type(self, name: str) -> int:
        return int(self._types[name].tensor_type.elem_type)

    def _is_loose(self, node: onnx.NodeProto, outputs: Mapping[str, onnx.TypeProto]) -> bool:
        growing = [name for name in _inputs(node, _GROWING) if name in self._loose]
        if growing and not self._counts(node, growing):
            raise ValueError("it makes as much as the data, or arithmetic, decide")
        if node.op_type == "NonMaxSuppression" or self._is_arithmetic(node):
            return True
        if node.op_type in _ELEMENTWISE:
            largest = _shape_of(next(iter(outputs.values())))
            largest_inputs = [name for name in node.input if name and self.shape(name) == largest]
            return all(name in self._loose for name in largest_inputs or node.input)
        # The result has the size of the first input. A split into one part fails for another length.
        if node.op_type == "ScatterND" or (node.op_type == "Split" and len(node.output) == 1):
            return node.input[0] in self._loose
        return any(name in self._loose for name in node.input if name)

    def _is_arithmetic(self, node: onnx.NodeProto) -> bool:
        known = [self._values.get(name) for name in node.input]
        return node.op_type in _ARITHMETIC and all(
            value is not None and np.issubdtype(value.dtype, np.integer) for value in known
        )

    def _counts(self, node: onnx.NodeProto, loose: Sequence[str]) -> bool:
        """Whether the node is a Range between a number and a constant, the only size that may depend on data."""
        start, limit, delta = node.input if node.op_type == "Range" else ("", "", "")
        exact = [name for name in (start, limit, delta) if name in self._values and name not in self._loose]
        counted = start if delta in exact and int(self._values[delta]) < 0 else limit
        return list(loose) == [counted] and len(exact) == 2

    def _compute(self, node: onnx.NodeProto) -> None:
        """Compute and keep the values of sizes whose inputs are known."""
        name, values = node.output[0], [self._values.get(name) for name in node.input if name]
        if node.op_type == "Shape" and not node.attribute:
            self._values[name] = np.array(self.shape(node.input[0]), np.int64)
        elif node.op_type == "Constant":
            self._keep(name, helper.get_node_attr_value(node, "value"))
        elif node.op_type == "Cast" and values[0] is not None and self.element_type(name) == onnx.TensorProto.INT64:
            self._values[name] = values[0].astype(np.int64)
        elif node.domain == "" and (rule := {**_CHOOSING, **_ARITHMETIC}.get(node.op_type)):
            known = [value for value in values if value is not None]
            if len(known) == len(values) and all(np.issubdtype(value.dtype, np.integer) for value in known):
                self._put(name, rule, node, known)

    def _put(self, name: str, rule: Rule, node: onnx.NodeProto, known: list[Array]) -> None:
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(rule(node, known))
        except (ValueError, IndexError):
            return
        if value.shape == self.shape(name) and value.size <= _MOST_VALUES:
            self._values[name] = value

    def _work(self, node: onnx.NodeProto) -> int:
        """The work in products."""
        elements = math.prod(self.shape(node.output[0]))
        inputs = math.prod(self.shape(node.input[0])) if node.input and node.input[0] else 0
        if node.op_type == "ConvTranspose":
            return inputs * math.prod(self.shape(node.input[1])[1:])
        if node.op_type == "NonMaxSuppression":
            return SLOW * inputs // CORNERS * math.prod(self.shape(node.input[1])[1:])
        if products := self._products(node):
            return elements * products
        return max(elements, inputs) * (SORTED if node.op_type == "TopK" else 1)

    def _products(self, node: onnx.NodeProto) -> int:
        """The products for each element of the result, 0 for operators that need none."""
        if node.op_type in ("Conv", "FusedConv"):
            return math.prod(self.shape(node.input[1])[1:])
        if node.op_type == "QLinearConv":
            return math.prod(self.shape(node.input[3])[1:])
        if node.op_type in ("GRU", "LSTM", "RNN"):
            weight, recurrence = self.shape(node.input[1]), self.shape(node.input[2])
            return weight[1] * (weight[2] + recurrence[2]) // max(1, recurrence[2])
        if node.op_type in ("Gemm", "MatMul"):
            return self.shape(node.input[0])[-2 if _attribute(node, "transA", 0) else -1]
        if node.op_type in ("AveragePool", "MaxPool"):
            return SLOW * math.prod(map(int, _attribute(node, "kernel_shape", ())))
        return self._regions(node)

    def _regions(self, node: onnx.NodeProto) -> int:
        """The products for each element of pooled regions or of sums over channels, 0 for other operators."""
        if node.op_type == "LRN":
            return neighbours(_attribute(node, "size", 1), self.shape(node.input[0])[1])
        if node.op_type == "MaxRoiPool":
            return region_work(self.shape(node.input[0]))
        if node.op_type == "RoiAlign":
            return region_work(self.shape(node.input[0]), _attribute(node, "sampling_ratio", 0))
        return 0

    # --- operators of ONNX Runtime, without shape rules in ONNX

    def _fused_convolution(self, node: onnx.NodeProto) -> onnx.TypeProto:
        convolution = onnx.NodeProto(op_type="Conv", input=node.input[:3], output=node.output)
        convolution.attribute.extend(item for item in node.attribute if not item.name.startswith("activation"))
        return self._inferred(convolution)[node.output[0]]

    def _sum(self, node: onnx.NodeProto) -> onnx.TypeProto:
        if len(node.input) < 4:  # a, its scale and zero, and b
            raise ValueError("it has too few inputs")
        shape = np.broadcast_shapes(self.shape(node.input[0]), self.shape(node.input[3]))
        return helper.make_tensor_type_proto(self.element_type(node.input[0]), shape)

    def _joined(self, node: onnx.NodeProto) -> onnx.TypeProto:
        """The shape of a concatenation. The inputs are a scale and a zero, then each tensor with its own."""
        shapes = [self.shape(name) for name in node.input[2::3]]
        axis = _attribute(node, "axis", 0)
        if not shapes or any(not -len(shape) <= axis < len(shape) for shape in shapes):
            raise ValueError("it joins nothing, or along no axis")
        joined = list(shapes[0])
        joined[axis] = sum(shape[axis] for shape in shapes)
        return helper.make_tensor_type_proto(self.element_type(node.input[2]), joined)


class _RefusedError(ValueError):
    """An error that names the node."""


_CONTRIBUTED: Final[Mapping[str, Callable[[_Sizes, onnx.NodeProto], onnx.TypeProto]]] = {
    "FusedConv": _Sizes._fused_convolution,  # noqa: SLF001  # in this module
    "QLinearAdd": _Sizes._sum,  # noqa: SLF001  # in this module
    "QLinearConcat": _Sizes._joined,  # noqa: SLF001  # in this module
}


def _in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes in an order of computation: some converters append a node that earlier nodes read.

    Nodes of a cycle come last, and the caller rejects them.
    """
    producers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    waits = [{producers[name] for name in node.input if name in producers} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for number, needed in enumerate(waits):
        for producer in needed:
            readers[producer].append(number)
    ready = [number for number, needed in enumerate(waits) if not needed]
    order: dict[int, None] = {}
    while ready:
        number = ready.pop()
        order[number] = None
        for reader in readers[number]:
            waits[reader].discard(number)
            if not waits[reader]:
                ready.append(reader)
    return [nodes[number] for number in (*order, *(number for number in range(len(nodes)) if number not in order))]


def _inputs(node: onnx.NodeProto, table: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [node.input[number] for number in table.get(node.op_type, ()) if number < len(node.input)]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _title(node: onnx.NodeProto) -> str:
    return f"{one_line(node.name or node.output[0])!r} ({one_line(node.op_type)})"


def _is_known(type_: onnx.TypeProto) -> bool:
    tensor = type_.tensor_type
    sizes = tensor.shape.dim
    return tensor.HasField("shape") and all(size.HasField("dim_value") and size.dim_value >= 0 for size in sizes)


def _shape_of(type_: onnx.TypeProto) -> Shape:
    return tuple(size.dim_value for size in type_.tensor_type.shape.dim)
