"""The sizes of all tensors that an OpenVINO model computes, by OpenVINO's own rules, as `onnx_sizes` for ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from sshconvert.schema import one_line
from sshconvert.validation.sizes import SLOW, SORTED, Tally, shapes_to_try

Key = tuple[str, int]  # an operation's name and the number of an output

# Inputs whose values decide the size of the output, which may be larger than all inputs.
_GROWING: Final = {"Broadcast": (1,), "Interpolate": (1, 2), "Range": (0, 1, 2)}

_ELEMENTWISE: Final = frozenset({"Add", "Divide", "Maximum", "Minimum", "Multiply", "Power", "Select", "Subtract"})
# Operations that choose among sizes, or count up to one.
_CHOOSING: Final = frozenset(
    {"Concat", "Convert", "Gather", "Maximum", "Minimum", "Range", "Reshape", "ShapeOf"}
    | {"Slice", "Squeeze", "StridedSlice", "Unsqueeze"}
)
_CONVOLUTIONS: Final = frozenset({"Convolution", "GroupConvolution"})
_TRANSPOSED: Final = frozenset({"ConvolutionBackpropData", "GroupConvolutionBackpropData"})


def check(model: Any) -> None:
    """Raise ValueError beyond the bounds, and for a size that the data decide."""
    shape = model.inputs[0].partial_shape
    if shape.rank.is_dynamic:
        raise ValueError("its input has no shape")
    declared = [size.get_length() if size.is_static and size.get_length() else None for size in shape]
    weights = sum(_elements(op.output(0)) for op in model.get_ops() if op.get_type_name() == "Constant")
    for wanted in shapes_to_try(declared):
        tally = Tally(wanted, weights, fixed=shape.is_static)
        shaped = model
        if shape.is_dynamic:
            shaped = model.clone()
            try:
                shaped.reshape({shaped.inputs[0]: list(wanted)})
            except RuntimeError as error:
                raise ValueError(f"its shapes do not follow from {list(wanted)} ({one_line(error)})") from None
        _Sizes(tally).run(shaped)


class _Sizes:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._most: dict[Key, tuple[int, ...]] = {}  # shapes; the largest possible ones where data decide
        self._loose: set[Key] = set()  # tensors that need not grow with the input
        self._fixed: set[Key] = set()  # tensors computed from constants alone
        self._sizes: set[Key] = set()  # tensors computed from sizes and constants alone

    def run(self, model: Any) -> None:
        for op in model.get_ordered_ops():
            kind = op.get_type_name()
            try:
                for number, output in enumerate(op.outputs()):
                    key = (op.get_name(), number)
                    self._most[key] = self._bound(op, kind, output)
                    self._trace(op, kind, key)
                    if self._is_loose(op, kind, key):
                        self._loose.add(key)
                if kind not in ("Constant", "Parameter", "Result"):
                    self._add(op, kind)
            except ValueError as error:
                raise ValueError(f"{one_line(op.get_friendly_name())!r} ({kind}): {error}") from None

    def _add(self, op: Any, kind: str) -> None:
        for number in range(op.get_output_size()):
            self._tally.add(self._most[op.get_name(), number], self._work(op, kind) if number == 0 else 0)

    # --- shapes

    def _bound(self, op: Any, kind: str, output: Any) -> tuple[int, ...]:
        shape = output.partial_shape
        if shape.is_static:
            return tuple(shape.to_shape())
        if kind == "NonMaxSuppression":
            return self._selected(op, output)
        if kind == "Range":
            return (self._longest_range(op),)
        most = [self._most[key] for key in _keys(op)]
        if shape.rank.is_static and most and kind in ("Convert", "Gather", "ScatterNDUpdate", *_ELEMENTWISE):
            size = max(map(math.prod, most))
            known = [size.get_max_length() for size in shape]
            if kind == "Gather":  # along the second axis, by indices that data decide
                return tuple(_either(length, most[0], axis) for axis, length in enumerate(known))
            return next(shape for shape in most if math.prod(shape) == size)
        raise ValueError("the size of its result is not known beforehand")

    def _selected(self, op: Any, output: Any) -> tuple[int, ...]:
        """At most each box of each class. The third output is their number."""
        batch, classes, boxes = self._most[_keys(op)[1]]
        most = batch * classes * boxes
        return (most, 3) if output.partial_shape.rank.get_length() == 2 else (1,)

    def _longest_range(self, op: Any) -> int:
        """The one allowed size that data decide: a Range from a number down to a constant."""
        start, limit, step = (value.get_node() for value in op.input_values())
        if not limit.get_type_name() == step.get_type_name() == "Constant" or step.data.item() >= 0:
            raise ValueError("it makes as much as the data decide")
        node = start
        while node.get_type_name() in ("Convert", "Gather", "Reshape", "Squeeze"):
            node = node.input_value(0).get_node()
        if node.get_type_name() != "ShapeOf":
            raise ValueError("it makes as much as the data decide")
        longest = max(self._most[_keys(node)[0]]) - int(limit.data.item())
        return max(0, math.ceil(longest / -int(step.data.item())))

    # --- dependencies of sizes

    def _trace(self, op: Any, kind: str, output: Key) -> None:
        keys = set(_keys(op))
        if kind == "Constant" or (keys and keys <= self._fixed):
            self._fixed.add(output)
        elif kind == "ShapeOf" or (keys and keys <= self._fixed | self._sizes):
            self._sizes.add(output)

    def _is_loose(self, op: Any, kind: str, output: Key) -> bool:
        keys, shape = _keys(op), self._most[output]
        growing = [number for number in _GROWING.get(kind, ()) if number < len(keys) and keys[number] in self._loose]
        if growing and not (kind == "Range" and growing == [0] and self._longest_range(op) >= 0):
            raise ValueError("it makes as much as the data, or arithmetic, decide")
        if kind == "NonMaxSuppression" or (output in self._sizes and kind not in _CHOOSING):
            return True
        if kind in _ELEMENTWISE:
            whole = [key for key in keys if self._most[key] == shape]
            return all(key in self._loose for key in whole or keys)
        if kind == "ScatterNDUpdate":
            return keys[0] in self._loose
        return any(key in self._loose for key in keys)

    # --- work

    def _work(self, op: Any, kind: str) -> int:
        """The number of products, or of operations that take as long."""
        elements = math.prod(self._most[op.get_name(), 0])
        shapes = [self._most[key] for key in _keys(op)]
        given = math.prod(shapes[0]) if shapes else 0
        if kind in _CONVOLUTIONS:
            return elements * math.prod(shapes[1][2 if kind.startswith("Group") else 1 :])
        if kind in _TRANSPOSED:
            return given * math.prod(shapes[1][2 if kind.startswith("Group") else 1 :])
        if kind in ("AvgPool", "MaxPool"):
            return SLOW * elements * math.prod(_numbers(op.get_attributes().get("kernel", ())))
        if kind == "NonMaxSuppression":
            return SLOW * given * math.prod(shapes[1][1:])
        return max(elements, given) * (SORTED if kind == "TopK" else 1)


def _keys(op: Any) -> list[Key]:
    return [(value.get_node().get_name(), value.get_index()) for value in op.input_values()]


def _either(length: int, shape: Sequence[int], axis: int) -> int:
    """A size of at most `length`, or (-1) that of the source tensor."""
    return length if length >= 0 or axis >= len(shape) else shape[axis]


def _numbers(value: Any) -> list[int]:
    return [int(item) for item in value]


def _elements(output: Any) -> int:
    return math.prod(output.get_shape())
