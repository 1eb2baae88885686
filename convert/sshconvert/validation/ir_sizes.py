"""The sizes of all tensors that an OpenVINO model computes, by OpenVINO's shape rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from sshconvert.schema import one_line
from sshconvert.validation.sizes import CORNERS, SLOW, SORTED, Tally, neighbours, region_work, shapes_to_try

Key = tuple[str, int]  # an operation's name and the number of an output

# Inputs whose values decide the size of the output, which may be larger than all inputs.
_GROWING: Final = {"Broadcast": (1,), "Interpolate": (1, 2), "Pad": (1, 2), "Range": (0, 1, 2), "Tile": (1,)}

_ELEMENTWISE: Final = frozenset(
    {"Add", "Divide", "Equal", "FloorMod", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr"}
    | {"LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "NotEqual", "Power", "Select", "Subtract"}
)
# Value-preserving operations on sizes, and Range, which counts up to one.
_CHOOSING: Final = frozenset(
    {"Broadcast", "Concat", "Convert", "Gather", "Maximum", "Minimum", "Range", "Reshape", "ShapeOf"}
    | {"Slice", "Squeeze", "StridedSlice", "Unsqueeze"}
)
_CONVOLUTIONS: Final = frozenset({"Convolution", "GroupConvolution"})
_TRANSPOSED: Final = frozenset({"ConvolutionBackpropData", "GroupConvolutionBackpropData"})

_RECURRENT: Final = ("GRUSequence", "LSTMSequence", "RNNSequence")


def check(model: Any) -> None:
    """Raise ValueError for sizes beyond the bounds and for sizes that depend on data."""
    declared: dict[str, list[int | None]] = {}
    for number, data in enumerate(model.inputs):
        if data.partial_shape.rank.is_dynamic:
            raise ValueError("one of its inputs has no shape")
        sizes = [size.get_length() if size.is_static and size.get_length() else None for size in data.partial_shape]
        declared[str(number)] = sizes
    is_fixed = all(None not in sizes for sizes in declared.values())
    weights = sum(_elements(op.output(0)) for op in model.get_ops() if op.get_type_name() == "Constant")
    for shapes in shapes_to_try(declared):
        tally = Tally(shapes, weights, fixed=is_fixed)
        shaped = model
        if not is_fixed:
            shaped = model.clone()
            try:
                shaped.reshape({shaped.inputs[int(number)]: list(shape) for number, shape in shapes.items()})
            except RuntimeError as error:
                raise ValueError(f"its shapes do not follow from {shapes} ({one_line(error)})") from None
        _Sizes(tally).run(shaped)


class _Sizes:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._most: dict[Key, tuple[int, ...]] = {}  # shapes, or the largest possible ones if they depend on data
        self._loose: set[Key] = set()  # tensors that need not grow with the input
        self._fixed: set[Key] = set()  # tensors computed only from constants
        self._sizes: set[Key] = set()  # tensors computed only from sizes and constants

    def run(self, model: Any) -> None:
        for op in model.get_ordered_ops():
            op_type = op.get_type_name()
            try:
                for number, output in enumerate(op.outputs()):
                    key = (op.get_name(), number)
                    self._most[key] = self._bound(op, op_type, output)
                    self._trace(op, op_type, key)
                    if self._is_loose(op, op_type, key):
                        self._loose.add(key)
                if op_type not in ("Constant", "Parameter", "Result"):
                    self._add(op, op_type)
            except ValueError as error:
                raise ValueError(f"{one_line(op.get_friendly_name())!r} ({op_type}): {error}") from None

    def _add(self, op: Any, op_type: str) -> None:
        for number in range(op.get_output_size()):
            self._tally.add(self._most[op.get_name(), number], self._work(op, op_type) if number == 0 else 0)

    def _bound(self, op: Any, op_type: str, output: Any) -> tuple[int, ...]:
        shape = output.partial_shape
        if shape.is_static:
            return tuple(shape.to_shape())
        if op_type == "NonMaxSuppression":
            return self._selected(op, output)
        if op_type == "Range":
            return (self._longest_range(op),)
        most = [self._most[key] for key in _keys(op)]
        if shape.rank.is_static and most and op_type in ("Convert", "Gather", "ScatterNDUpdate", *_ELEMENTWISE):
            size = max(map(math.prod, most))
            known = [size.get_max_length() for size in shape]
            if op_type == "Gather":  # along the second axis, by indices that data decide
                return tuple(_either(length, most[0], axis) for axis, length in enumerate(known))
            return next(shape for shape in most if math.prod(shape) == size)
        raise ValueError("the size of its result is not known beforehand")

    def _selected(self, op: Any, output: Any) -> tuple[int, ...]:
        """At most every box of every class. The third output is their number."""
        batch, classes, boxes = self._most[_keys(op)[1]]
        most = batch * classes * boxes
        return (most, 3) if output.partial_shape.rank.get_length() == 2 else (1,)

    def _longest_range(self, op: Any) -> int:
        """The length of a Range between a size and a constant, the only size that may depend on data."""
        counted, constant, step = self._counted(op)
        while counted.get_type_name() in ("Convert", "Gather", "Reshape", "Squeeze"):
            counted = counted.input_value(0).get_node()
        if counted.get_type_name() != "ShapeOf":
            raise ValueError("it makes as much as the data decide")
        distance = max(self._most[_keys(counted)[0]]) - constant
        return max(0, math.ceil(distance / abs(step)))

    def _counts(self, op: Any, growing: list[int]) -> bool:
        counted, *_ = self._counted(op)
        return [op.input_value(number).get_node().get_name() for number in growing] == [counted.get_name()]

    @staticmethod
    def _counted(op: Any) -> tuple[Any, int, int]:
        """The number that a Range counts down from or up to, its other end, and the step."""
        start, limit, step = (value.get_node() for value in op.input_values())
        if step.get_type_name() == "Constant" and step.data.item() != 0:
            counted, other = (start, limit) if step.data.item() < 0 else (limit, start)
            if other.get_type_name() == "Constant":
                return counted, int(other.data.item()), int(step.data.item())
        raise ValueError("it makes as much as the data decide")

    def _trace(self, op: Any, op_type: str, output: Key) -> None:
        keys = set(_keys(op))
        is_rank = op_type == "ShapeOf" and op.input_value(0).get_node().get_type_name() == "ShapeOf"
        if op_type == "Constant" or is_rank or (keys and keys <= self._fixed):
            self._fixed.add(output)
        elif op_type == "ShapeOf" or (keys and keys <= self._fixed | self._sizes):
            self._sizes.add(output)

    def _is_loose(self, op: Any, op_type: str, output: Key) -> bool:
        keys, shape = _keys(op), self._most[output]
        growing = [number for number in _GROWING.get(op_type, ()) if number < len(keys) and keys[number] in self._loose]
        if growing and not (op_type == "Range" and self._counts(op, growing) and self._longest_range(op) >= 0):
            raise ValueError("it makes as much as the data, or arithmetic, decide")
        if op_type == "NonMaxSuppression" or (output in self._sizes and op_type not in _CHOOSING):
            return True
        if op_type in _ELEMENTWISE:
            largest = [key for key in keys if self._most[key] == shape]
            return all(key in self._loose for key in largest or keys)
        # The result has the size of the first input. A split into one part fails for another length.
        if op_type == "ScatterNDUpdate" or (op_type == "VariadicSplit" and op.get_output_size() == 1):
            return keys[0] in self._loose
        return any(key in self._loose for key in keys)

    def _work(self, op: Any, op_type: str) -> int:  # noqa: PLR0911  # a rule for each kind
        """The work in products."""
        elements = math.prod(self._most[op.get_name(), 0])
        shapes = [self._most[key] for key in _keys(op)]
        inputs = math.prod(shapes[0]) if shapes else 0
        if op_type in _CONVOLUTIONS:
            return elements * math.prod(shapes[1][2 if op_type.startswith("Group") else 1 :])
        if op_type in _TRANSPOSED:
            return inputs * math.prod(shapes[1][2 if op_type.startswith("Group") else 1 :])
        if op_type in _RECURRENT:
            batch, time, _ = shapes[0]
            return batch * time * sum(math.prod(shape) for shape in shapes[-3:-1])  # the weights, before the bias
        if op_type == "MatMul":
            return elements * shapes[0][-2 if op.get_attributes()["transpose_a"] and len(shapes[0]) > 1 else -1]
        if op_type == "ROIPooling":
            return elements * region_work(shapes[0])
        if op_type == "ROIAlign":
            return elements * region_work(shapes[0], int(op.get_attributes()["sampling_ratio"]))
        if op_type in ("AvgPool", "MaxPool"):
            return SLOW * elements * math.prod(map(int, op.get_attributes().get("kernel", ())))
        if op_type == "LRN":
            return elements * neighbours(int(op.get_attributes()["size"]), shapes[0][1])
        if op_type == "NonMaxSuppression":
            return SLOW * inputs // CORNERS * math.prod(shapes[1][1:])
        return max(elements, inputs) * (SORTED if op_type == "TopK" else 1)


def _keys(op: Any) -> list[Key]:
    return [(value.get_node().get_name(), value.get_index()) for value in op.input_values()]


def _either(length: int, shape: Sequence[int], axis: int) -> int:
    """The bound `length` of a size, or the size of the source tensor if the length is unknown (-1)."""
    return length if length >= 0 or axis >= len(shape) else shape[axis]


def _elements(output: Any) -> int:
    return math.prod(output.get_shape())
