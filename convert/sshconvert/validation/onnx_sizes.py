"""The sizes of all tensors that an ONNX graph computes, for one shape of its input, by ONNX's own rules.

Every size has to be known. A computed size may be chosen among the sizes of tensors and constants: then it grows with
the input, and a few inputs stand for all. A size that arithmetic or data decide, such as a crop or the number of
detections, is bounded by another tensor, and may not decide the size of a larger one.
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
from sshconvert.validation.sizes import SLOW, SORTED, Tally

Shape = tuple[int, ...]

# Constants with more elements are no sizes.
_MOST_VALUES: Final = 1 << 10

# Inputs whose values decide the size of the output, which may be larger than all inputs.
_GROWING: Final[Mapping[str, tuple[int, ...]]] = {"Expand": (1,), "Range": (0, 1, 2), "Resize": (1, 2, 3)}

# Operators on sizes. After arithmetic, a size need not grow with the input.
_CHOOSING: Final[Mapping[str, Callable[[onnx.NodeProto, list[Array]], Array]]] = {
    "Concat": lambda node, values: np.concatenate(values, axis=_attribute(node, "axis", 0)),
    "Gather": lambda node, values: np.take(values[0], values[1], axis=_attribute(node, "axis", 0)),
    "Identity": lambda _, values: values[0],
    "Min": lambda _, values: np.asarray(np.minimum.reduce(np.broadcast_arrays(*values))),
    "Squeeze": lambda _, values: values[0].reshape(()) if values[0].size == 1 else values[0],
    "Unsqueeze": lambda _, values: values[0].reshape((1,)) if values[0].size == 1 else values[0],
}
_ARITHMETIC: Final[Mapping[str, Callable[[onnx.NodeProto, list[Array]], Array]]] = {
    "Add": lambda _, values: values[0] + values[1],
    "Div": lambda _, values: values[0] // values[1],
    "Mul": lambda _, values: values[0] * values[1],
    "Sub": lambda _, values: values[0] - values[1],
}

# ONNX defines the first by the second, without a shape rule of its own.
_LIKE: Final = {"GreaterOrEqual": "Greater"}

# Each element comes from one element of each input; the result has the shape of the largest.
_ELEMENTWISE: Final = frozenset({"Add", "Div", "Max", "Min", "Mul", "QLinearAdd", "Sub", "Where"})


def add_up(graph: onnx.GraphProto, opset: int, shape: Shape, tally: Tally) -> None:
    """Count all tensors of the graph for an input of a shape. Raises ValueError."""
    _Sizes(graph, opset, shape, tally).run()


class _Sizes:
    def __init__(self, graph: onnx.GraphProto, opset: int, shape: Shape, tally: Tally) -> None:
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
                kind = value.type.tensor_type.elem_type
                self._types[value.name] = helper.make_tensor_type_proto(kind, shape)

    def run(self) -> None:
        for node in _in_order(self._graph.node):
            try:
                self._look_at(node)
            except _RefusedError:
                raise
            except ValueError as error:
                raise _RefusedError(f"{_called(node)}: {error}") from None
        missing = [value.name for value in self._graph.output if value.name not in self._types]
        if missing:
            raise ValueError(f"nothing computes its output {one_line(missing[0])!r}")

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        if not tensor.external_data and math.prod(tensor.dims) <= _MOST_VALUES:
            self._values[name] = numpy_helper.to_array(tensor)

    def _look_at(self, node: onnx.NodeProto) -> None:
        for name in filter(None, node.input):
            if name not in self._types:
                raise ValueError(f"its input {one_line(name)!r} is not computed before")
        outputs = self._inferred(node)
        is_loose = self._is_loose(node, outputs)
        for name, kind in outputs.items():
            if name in self._types:
                raise ValueError(f"it computes {one_line(name)!r}, which is there already")
            self._types[name] = kind
            if is_loose:
                self._loose.add(name)
        self._compute(node)
        first = next(iter(outputs))
        for name, kind in outputs.items():
            self._tally.add(_shape_of(kind), self._work(node) if name == first else 0)

    # --- shapes

    def _inferred(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        if node.domain:
            return {node.output[0]: _CONTRIBUTED[node.op_type](self, node)}
        schema = onnx.defs.get_schema(_LIKE.get(node.op_type, node.op_type), self._opset, "")
        types = {name: self._types[name] for name in node.input if name}
        data = {name: numpy_helper.from_array(self._values[name]) for name in types if name in self._values}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._imports)
        except Exception as error:  # noqa: BLE001  # it has its own
            raise ValueError(f"its shape does not follow ({one_line(error)})") from None
        if node.op_type == "NonMaxSuppression":
            return {node.output[0]: self._selected(node)}
        for name in filter(None, node.output):
            if name not in inferred or not inferred[name].HasField("tensor_type") or not _is_known(inferred[name]):
                raise ValueError("the size of its result is not known beforehand")
        return {name: inferred[name] for name in node.output if name}

    def _selected(self, node: onnx.NodeProto) -> onnx.TypeProto:
        """At most each box of each class, and at most the number that an input gives."""
        batch, classes, boxes = self.shape(node.input[1])
        told = self._values.get(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        most = boxes if told is None else max(0, min(boxes, int(told.reshape(-1)[0])))
        return helper.make_tensor_type_proto(onnx.TensorProto.INT64, (batch * classes * most, 3))

    def shape(self, name: str) -> Shape:
        return _shape_of(self._types[name])

    def kind(self, name: str) -> int:
        kind: int = self._types[name].tensor_type.elem_type
        return kind

    # --- dependencies of sizes

    def _is_loose(self, node: onnx.NodeProto, outputs: Mapping[str, onnx.TypeProto]) -> bool:
        growing = [name for name in _inputs(node, _GROWING) if name in self._loose]
        if growing and not self._counts_down(node, growing):
            raise ValueError("it makes as much as the data, or arithmetic, decide")
        if node.op_type == "NonMaxSuppression" or self._is_arithmetic(node):
            return True
        if node.op_type in _ELEMENTWISE:
            largest = _shape_of(next(iter(outputs.values())))
            whole = [name for name in node.input if name and self.shape(name) == largest]
            return all(name in self._loose for name in whole or node.input)
        if node.op_type == "ScatterND":  # as large as what it writes into
            return node.input[0] in self._loose
        return any(name in self._loose for name in node.input if name)

    def _is_arithmetic(self, node: onnx.NodeProto) -> bool:
        known = [self._values.get(name) for name in node.input]
        return node.op_type in _ARITHMETIC and all(
            value is not None and np.issubdtype(value.dtype, np.integer) for value in known
        )

    def _counts_down(self, node: onnx.NodeProto, loose: Sequence[str]) -> bool:
        """The one allowed size that data decide: a Range from a number to a constant."""
        start, limit, delta = node.input if node.op_type == "Range" else ("", "", "")
        exact = [name for name in (limit, delta) if name in self._values and name not in self._loose]
        return list(loose) == [start] and len(exact) == 2 and int(self._values[delta]) < 0

    def _compute(self, node: onnx.NodeProto) -> None:
        """Keep the known values of computed sizes."""
        name, values = node.output[0], [self._values.get(name) for name in node.input if name]
        if node.op_type == "Shape" and not node.attribute:
            self._values[name] = np.array(self.shape(node.input[0]), np.int64)
        elif node.op_type == "Constant":
            self._keep(name, helper.get_node_attr_value(node, "value"))
        elif node.op_type == "Cast" and values[0] is not None and self.kind(name) == onnx.TensorProto.INT64:
            self._values[name] = values[0].astype(np.int64)
        elif node.domain == "" and (rule := {**_CHOOSING, **_ARITHMETIC}.get(node.op_type)):
            known = [value for value in values if value is not None]
            if len(known) == len(values) and all(np.issubdtype(value.dtype, np.integer) for value in known):
                self._put(name, rule, node, known)

    def _put(
        self,
        name: str,
        rule: Callable[[onnx.NodeProto, list[Array]], Array],
        node: onnx.NodeProto,
        known: list[Array],
    ) -> None:
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(rule(node, known))
        except (ValueError, IndexError):
            return
        if value.shape == self.shape(name) and value.size <= _MOST_VALUES:
            self._values[name] = value

    # --- work

    def _work(self, node: onnx.NodeProto) -> int:
        """The number of products, or of operations that take as long."""
        elements = math.prod(self.shape(node.output[0]))
        given = math.prod(self.shape(node.input[0])) if node.input and node.input[0] else 0
        if node.op_type in ("Conv", "FusedConv"):
            return elements * math.prod(self.shape(node.input[1])[1:])
        if node.op_type == "QLinearConv":
            return elements * math.prod(self.shape(node.input[3])[1:])
        if node.op_type == "ConvTranspose":
            return given * math.prod(self.shape(node.input[1])[1:])
        if node.op_type in ("AveragePool", "MaxPool"):
            return SLOW * elements * math.prod(map(int, _attribute(node, "kernel_shape", ())))
        if node.op_type == "NonMaxSuppression":
            return SLOW * given * math.prod(self.shape(node.input[1])[1:])
        return max(elements, given) * (SORTED if node.op_type == "TopK" else 1)

    # --- operators of ONNX Runtime, for which ONNX has no rules

    def _fused_convolution(self, node: onnx.NodeProto) -> onnx.TypeProto:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.domain, plain.op_type = "", "Conv"
        del plain.input[3:]
        kept = [item for item in node.attribute if not item.name.startswith("activation")]
        del plain.attribute[:]
        plain.attribute.extend(kept)
        return self._inferred(plain)[node.output[0]]

    def _sum(self, node: onnx.NodeProto) -> onnx.TypeProto:
        if len(node.input) < 4:  # a, its scale and zero, and b
            raise ValueError("it has too few inputs")
        shape = np.broadcast_shapes(self.shape(node.input[0]), self.shape(node.input[3]))
        return helper.make_tensor_type_proto(self.kind(node.input[0]), shape)

    def _joined(self, node: onnx.NodeProto) -> onnx.TypeProto:
        """The inputs are a scale and a zero, then each tensor with its own."""
        shapes = [self.shape(name) for name in node.input[2::3]]
        axis = _attribute(node, "axis", 0)
        if not shapes or any(not -len(shape) <= axis < len(shape) for shape in shapes):
            raise ValueError("it joins nothing, or along no axis")
        joined = list(shapes[0])
        joined[axis] = sum(shape[axis] for shape in shapes)
        return helper.make_tensor_type_proto(self.kind(node.input[2]), joined)


class _RefusedError(ValueError):
    """An error that names the node."""


_CONTRIBUTED: Final[Mapping[str, Callable[[_Sizes, onnx.NodeProto], onnx.TypeProto]]] = {
    "FusedConv": _Sizes._fused_convolution,  # noqa: SLF001  # in this module
    "QLinearAdd": _Sizes._sum,  # noqa: SLF001  # as above
    "QLinearConcat": _Sizes._joined,  # noqa: SLF001  # as above
}


def _in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes in an order of computation: some converters append a node that others read.

    Nodes of a circle come in no such order, which the caller notices.
    """
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    waits = [{makers[name] for name in node.input if name in makers} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for number, needed in enumerate(waits):
        for maker in needed:
            readers[maker].append(number)
    ready = [number for number, needed in enumerate(waits) if not needed]
    order: dict[int, None] = {}
    while ready:
        number = ready.pop()
        order[number] = None
        for reader in readers[number]:
            waits[reader].discard(number)
            if not waits[reader]:
                ready.append(reader)
    return [nodes[number] for number in (*order, *(left for left in range(len(nodes)) if left not in order))]


def _inputs(node: onnx.NodeProto, table: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [node.input[number] for number in table.get(node.op_type, ()) if number < len(node.input)]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _called(node: onnx.NodeProto) -> str:
    return f"{one_line(node.name or node.output[0])!r} ({one_line(node.op_type)})"


def _is_known(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    sizes = tensor.shape.dim
    return tensor.HasField("shape") and all(size.HasField("dim_value") and size.dim_value >= 0 for size in sizes)


def _shape_of(kind: onnx.TypeProto) -> Shape:
    return tuple(size.dim_value for size in kind.tensor_type.shape.dim)
