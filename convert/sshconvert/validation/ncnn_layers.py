"""ncnn's layers: the parameters that each takes, its weights, and the shapes that it computes.

The rules are those of ncnn's `docs/developer-guide/operators.md` and its layers' `load_param`, `load_model` and
`forward`. ncnn itself checks little: a layer whose weights do not fit its input reads beyond them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

Shape = tuple[int, ...]

# The shapes that a layer writes, and the numbers of its weights in the order of the .bin: positive behind a mark of
# their type, negative without (plain float32).
Result = tuple[list[Shape], tuple[int, ...]]
Rule = Callable[["Parameters", list[Shape]], Result]

UNSET: Final = -233  # ncnn's value for "not given"
ARRAY: Final = -23300  # the key of an array is this minus its number
MOST: Final = (1 << 31) - 1
LARGEST_SIDE: Final = 1 << 16  # of a kernel, a stride or a padding
MOST_SCALE: Final = 64.0

_ENTRY: Final = re.compile(r"(-?[0-9]{1,5})=(\S{1,4000})")
_WHOLE: Final = re.compile(r"-?[0-9]{1,10}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,40})?(e[-+]?[0-9]{1,3})?")


class Parameters:
    """The parameters of a layer by their numbers. `finish` refuses those that no rule has read."""

    def __init__(self, text: str, writes: int) -> None:
        """Take "0=16 1=3 -23310=2,1,2" and the number of blobs that the layer writes. Raises ValueError."""
        self.writes = writes
        self._values: dict[int, str] = {}
        for word in text.split():
            entry = _ENTRY.fullmatch(word)
            if not entry or int(entry[1]) in self._values:
                raise ValueError(f"{word[:80]!r} is no parameter, or is given twice")
            self._values[int(entry[1])] = entry[2]

    def whole(self, key: int, default: int = 0, least: int = 0, most: int = MOST) -> int:
        """Return a whole number from `least` to `most`. Raises ValueError."""
        text = self._values.pop(key, str(default))
        if not _WHOLE.fullmatch(text) or not (least <= int(text) <= most or int(text) == default):
            raise ValueError(f"its parameter {key} is {text[:80]!r}, which no converted network has")
        return int(text)

    def number(self, key: int, default: float = 0.0) -> float:
        """Return a number. Raises ValueError."""
        text = self._values.pop(key, str(default))
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"its parameter {key} is {text[:80]!r}, expected a number")
        return float(text)

    def numbers(self, number: int) -> list[float]:
        """Return an array of numbers, empty if it is not given. Raises ValueError."""
        count, *values = self._values.pop(ARRAY - number, "0").split(",")
        if not all(map(_NUMBER.fullmatch, [count, *values])) or count != str(len(values)):
            raise ValueError(f"its array {number} has another length than it declares")
        return [float(value) for value in values]

    def wholes(self, number: int) -> list[int]:
        """Return an array of whole numbers, empty if it is not given. Raises ValueError."""
        values = self.numbers(number)
        if any(value != int(value) or abs(value) > MOST for value in values):
            raise ValueError(f"its array {number} holds no whole numbers")
        return [int(value) for value in values]

    def expect(self, **values: int) -> None:
        """Read parameters that must have these values, by names such as `p8`. Raises ValueError."""
        for name, value in values.items():
            self.whole(int(name[1:]), value, value, value)

    def finish(self, written: int) -> None:
        """Raise ValueError for parameters that are left, or another number of blobs than `written`."""
        need(written == self.writes, f"writes {self.writes} blobs, expected {written}")
        if self._values:
            raise ValueError(f"its parameter {min(self._values)} is in no converted network")


def _one(inputs: list[Shape]) -> Shape:
    need(len(inputs) == 1, f"reads {len(inputs)} blobs, expected one")
    return inputs[0]


def need(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _axis(value: int, shape: Shape) -> int:
    need(-len(shape) <= value < len(shape), f"its axis {value} is not one of {list(shape)}")
    return value % len(shape)


def _input(parameters: Parameters, inputs: list[Shape]) -> Result:
    need(not inputs, "is no input")
    return [_stored_shape(parameters)], ()


def _stored_shape(parameters: Parameters) -> Shape:
    """Return the shape in parameters for the width, height, depth and channels; 0 stands for no such dimension."""
    width, height, channels, depth = (parameters.whole(key) for key in (0, 1, 2, 11))
    shape = (channels, depth, height, width)
    given = tuple(size for size in shape if size)
    need(bool(width) and (not channels or bool(height)) and (not depth or bool(channels)), "has no whole shape")
    return given


def _memory(parameters: Parameters, inputs: list[Shape]) -> Result:
    need(not inputs, "is no constant")
    kind = parameters.whole(21, 1, 0, 1)
    shape = _stored_shape(parameters)
    number = math.prod(shape)
    return [shape], (-number if kind else number,)


def _split(parameters: Parameters, inputs: list[Shape]) -> Result:
    return [_one(inputs)] * parameters.writes, ()


def _pointwise(*numbers: int, kinds: int = -1) -> Rule:
    """Return the rule of a function of each value. `kinds` is the number of functions that parameter 0 selects from."""

    def rule(parameters: Parameters, inputs: list[Shape]) -> Result:
        if kinds >= 0:
            parameters.whole(0, 0, 0, kinds)
        for key in numbers:
            parameters.number(key)
        return [_one(inputs)], ()

    return rule


def _slopes(parameters: Parameters, inputs: list[Shape]) -> Result:
    slopes, shape = parameters.whole(0, 0, 1), _one(inputs)
    need(slopes in (1, shape[0]), f"has {slopes} slopes for {shape[0]} channels")
    return [shape], (-slopes,)


def _normalisation(parameters: Parameters, inputs: list[Shape]) -> Result:
    channels, shape = parameters.whole(0, 0, 1), _one(inputs)
    parameters.number(1)
    need(channels == shape[0], f"normalises {channels} channels of {shape[0]}")
    return [shape], (-channels,) * 4


def _softmax(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape, axis = _one(inputs), parameters.whole(0, 0, -4, 3)
    if len(shape) > 1:  # of a vector, ncnn takes all values
        _axis(axis, shape)
    parameters.whole(1, 0, 0, 1)
    return [shape], ()


def _binary(parameters: Parameters, inputs: list[Shape]) -> Result:
    parameters.whole(0, 0, 0, 11)
    if parameters.whole(1, 0, 0, 1):
        parameters.number(2)
        return [_one(inputs)], ()
    need(len(inputs) == 2, f"reads {len(inputs)} blobs, expected two")
    shorter, longer = sorted(inputs, key=len)
    missing = (1,) * (len(longer) - len(shorter))
    # ncnn aligns a blob of fewer dimensions with the channels if it fits them, else with the columns.
    aligned = shorter + missing if missing and shorter[0] == longer[0] else missing + shorter
    for one, other in zip(aligned, longer, strict=True):
        need(one == other or 1 in (one, other), f"combines {list(inputs[0])} with {list(inputs[1])}")
    return [tuple(map(max, aligned, longer))], ()


def _concat(parameters: Parameters, inputs: list[Shape]) -> Result:
    need(bool(inputs), "joins nothing")
    axis = _axis(parameters.whole(0, 0, -4, 3), inputs[0])
    rests = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    need(len(rests) == 1, f"joins the shapes {[list(shape) for shape in inputs][:4]}")
    return [(*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])], ()


def _window(parameters: Parameters) -> tuple[list[tuple[int, int, int]], int]:
    """Return the dilated kernel, the stride and the padding in each direction, and the kernel's elements."""
    kernel_width = parameters.whole(1, 0, 1, LARGEST_SIDE)
    kernels = (parameters.whole(11, kernel_width, 1, LARGEST_SIDE), kernel_width)
    dilation = parameters.whole(2, 1, 1, LARGEST_SIDE)
    dilations = (parameters.whole(12, dilation, 1, LARGEST_SIDE), dilation)
    stride = parameters.whole(3, 1, 1, LARGEST_SIDE)
    strides = (parameters.whole(13, stride, 1, LARGEST_SIDE), stride)
    left = parameters.whole(4, 0, 0, LARGEST_SIDE)
    top = parameters.whole(14, left, 0, LARGEST_SIDE)
    right, bottom = parameters.whole(15, left, 0, LARGEST_SIDE), parameters.whole(16, top, 0, LARGEST_SIDE)
    extents = [dilations[axis] * (kernels[axis] - 1) + 1 for axis in (0, 1)]
    return list(zip(extents, strides, (top + bottom, left + right), strict=True)), math.prod(kernels)


def _weights(parameters: Parameters, inner: int, outer: int, *, number: int, bias: int) -> tuple[int, ...]:
    """Read the parameters of weights and of the activation behind the layer. Return the numbers of the weights."""
    has_bias = parameters.whole(bias, 0, 0, 1)
    parameters.expect(p8=0)  # INT8
    parameters.whole(9, 0, 0, 7)
    need(len(parameters.numbers(10)) <= 2, "has more than two numbers of its activation")
    need(number == inner * outer, f"has {number} weights, expected {inner * outer}")
    return (number, -outer) if has_bias else (number,)


def _convolution(*, grouped: bool = False) -> Rule:
    def rule(parameters: Parameters, inputs: list[Shape]) -> Result:
        shape = _one(inputs)
        outer, groups = parameters.whole(0, 0, 1), parameters.whole(7, 1, 1, MOST if grouped else 1)
        flat = len(shape) == 1  # ncnn takes a vector as an image of one pixel
        channels, *sizes = (*shape, 1, 1) if flat else shape
        need(len(sizes) == 2, f"reads a tensor of shape {list(shape)}, expected a map")
        windows, elements = _window(parameters)
        parameters.expect(p18=0, p19=0)  # the value of the padding, and weights that another layer computes
        need(channels % groups == outer % groups == 0, f"has {groups} groups of {channels} and {outer} channels")
        counts = _weights(parameters, elements * channels // groups, outer, number=parameters.whole(6, 0, 1), bias=5)
        written = [
            (size + pad - extent) // stride + 1 for size, (extent, stride, pad) in zip(sizes, windows, strict=True)
        ]
        need(min(written) > 0, f"has a kernel larger than {sizes}")
        need(not flat or (elements == 1 and written == [1, 1]), "reads a vector with a window")
        return [(outer,) if flat else (outer, *written)], counts

    return rule


def _deconvolution(*, grouped: bool = False) -> Rule:
    def rule(parameters: Parameters, inputs: list[Shape]) -> Result:
        shape = _one(inputs)
        need(len(shape) == 3, f"reads a tensor of shape {list(shape)}, expected a map")
        channels, *sizes = shape
        outer, groups = parameters.whole(0, 0, 1), parameters.whole(7, 1, 1, MOST if grouped else 1)
        windows, elements = _window(parameters)
        more = parameters.whole(18, 0, 0, LARGEST_SIDE)
        extra = (parameters.whole(19, more, 0, LARGEST_SIDE), more)
        parameters.expect(p20=0, p21=0, p28=0)
        need(channels % groups == outer % groups == 0, f"has {groups} groups of {channels} and {outer} channels")
        counts = _weights(parameters, elements * channels // groups, outer, number=parameters.whole(6, 0, 1), bias=5)
        written = [
            (size - 1) * stride + extent - pad + added
            for size, (extent, stride, pad), added in zip(sizes, windows, extra, strict=True)
        ]
        return [(outer, *written)], counts

    return rule


def _product(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    outer, number = parameters.whole(0, 0, 1), parameters.whole(2, 0, 1)
    rows = len(shape) == 2 and number == outer * shape[1]  # the weights are those of a row of the matrix
    counts = _weights(parameters, shape[1] if rows else math.prod(shape), outer, number=number, bias=1)
    return [(shape[0], outer) if rows and shape[0] > 1 else (outer,)], counts


def _pooling(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    need(len(shape) == 3, f"reads a tensor of shape {list(shape)}, expected a map")
    parameters.whole(0, 0, 0, 1)
    if parameters.whole(4, 0, 0, 1):
        return [(shape[0],)], ()
    if parameters.whole(7, 0, 0, 1):
        width = parameters.whole(8, 0, 1, LARGEST_SIDE)
        return [(shape[0], parameters.whole(18, width, 1, LARGEST_SIDE), width)], ()
    rounding, _ = parameters.whole(5, 0, 0, 1), parameters.whole(6, 0, 0, 1)
    width = parameters.whole(1, 0, 1, LARGEST_SIDE)
    kernels = (parameters.whole(11, width, 1, LARGEST_SIDE), width)
    stride = parameters.whole(2, 1, 1, LARGEST_SIDE)
    strides = (parameters.whole(12, stride, 1, LARGEST_SIDE), stride)
    left = parameters.whole(3, 0, 0, LARGEST_SIDE)
    top = parameters.whole(13, left, 0, LARGEST_SIDE)
    pads = (top + parameters.whole(15, top, 0, LARGEST_SIDE), left + parameters.whole(14, left, 0, LARGEST_SIDE))
    written = []
    for size, kernel, step, pad in zip(shape[1:], kernels, strides, pads, strict=True):
        need(size + pad >= kernel, f"has a kernel larger than {list(shape[1:])}")
        distance = size + pad - kernel
        written.append((distance if rounding else distance + step - 1) // step + 1)
    return [(shape[0], *written)], ()


def _flatten(_: Parameters, inputs: list[Shape]) -> Result:
    return [(math.prod(_one(inputs)),)], ()


def _reshape(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    width, height, channels, depth = (parameters.whole(key, UNSET, -1) for key in (0, 1, 2, 11))
    wanted = [size for size in (channels, depth, height, width) if size != UNSET]
    need(0 not in wanted and bool(wanted) and width != UNSET, "copies sizes, which no converted network does")
    need(wanted.count(-1) <= 1 and (depth == UNSET or channels != UNSET), "leaves its sizes open")
    need(channels == UNSET or height != UNSET, "leaves its height open")
    if -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // rest
    need(math.prod(wanted) == math.prod(shape), f"makes {wanted} of {list(shape)}")
    return [tuple(wanted)], ()


# ncnn's orders of three places; of four, the outermost place of the result is 3, 2, 1, then 0.
_ORDERS_OF_THREE: Final = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0))


def _orders(dimensions: int) -> list[tuple[int, ...]]:
    """Return ncnn's orders of dimensions, each from the innermost place (0) to the outermost."""
    if dimensions < 3:
        return [(0, 1), (1, 0)] if dimensions == 2 else [(0,)]
    if dimensions == 3:
        return list(_ORDERS_OF_THREE)
    rests = {outer: [place for place in range(4) if place != outer] for outer in (3, 2, 1, 0)}
    return [(*(rest[place] for place in order), outer) for outer, rest in rests.items() for order in _ORDERS_OF_THREE]


def _permute(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    orders = _orders(len(shape))
    order = orders[parameters.whole(0, 0, 0, len(orders) - 1)]
    return [tuple(shape[::-1][place] for place in order)[::-1]], ()


def _padding(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    top, bottom, left, right = (parameters.whole(key, 0, 0, LARGEST_SIDE) for key in range(4))
    kind = parameters.whole(4, 0, 0, 2)
    parameters.number(5)
    parameters.expect(p6=0)  # a value for each channel
    front, behind = (parameters.whole(key, 0, 0, LARGEST_SIDE) for key in (7, 8))
    need(len(shape) == 3, f"reads a tensor of shape {list(shape)}, expected a map")
    channels, height, width = shape
    if kind == 2:  # a mirror
        need(max(top, bottom) < height and max(left, right) < width and not front + behind, "mirrors too much")
    return [(channels + front + behind, height + top + bottom, width + left + right)], ()


def _slice(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    axis = _axis(parameters.whole(1, 0, -4, 3), shape)
    parts = parameters.wholes(0)  # without them, ncnn crashes
    written, begun = [], 0
    for number, part in enumerate(parts):
        size = (shape[axis] - begun) // (len(parts) - number) if part == UNSET else part
        need(size > 0, f"cuts {parts} of {shape[axis]}")
        written.append((*shape[:axis], size, *shape[axis + 1 :]))
        begun += size
    need(begun <= shape[axis], f"cuts {parts} of {shape[axis]}")
    return written, ()


def _crop(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = list(_one(inputs))
    starts, ends, axes = (parameters.wholes(number) for number in (9, 10, 11))
    axes = axes or list(range(len(starts)))
    need(len(starts) == len(ends) == len(axes) == len(set(axes)), "has starts and ends of different numbers")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        size = shape[_axis(axis, tuple(shape))]
        last = size if end == UNSET else end + (size if end < 0 else 0)
        need(0 <= start < last <= size, f"cuts {start} to {end} of {size}")
        shape[axis] = last - start
    return [tuple(shape)], ()


def _resize(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    need(len(shape) == 3, f"reads a tensor of shape {list(shape)}, expected a map")
    parameters.whole(0, 0, 1, 3)
    scales = [parameters.number(key, 1.0) for key in (1, 2)]
    sizes = [parameters.whole(key, 0, 0, LARGEST_SIDE) for key in (3, 4)]
    parameters.expect(p5=0)
    parameters.whole(6, 0, 0, 1)
    need(all(0 < scale <= MOST_SCALE for scale in scales), f"scales by {scales}")
    written = [given or int(size * scale) for given, size, scale in zip(sizes, shape[1:], scales, strict=True)]
    return [(shape[0], *written)], ()


def _reduction(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    parameters.whole(0, 0, 0, 10)
    everything, keep = parameters.whole(1, 1, 0, 1), parameters.whole(4, 0, 0, 1)
    parameters.number(2, 1.0)
    parameters.whole(5, 0, 0, 1)
    axes = {_axis(axis, shape) for axis in parameters.wholes(3)}
    # ncnn reduces the one dimension of a vector in any case, and else nothing without axes.
    need(bool(axes) != bool(everything) or (not axes and len(shape) == 1), "reduces no dimension")
    axes = axes or set(range(len(shape)))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
    return [kept or (1,)], ()


def _squeeze(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    axes = {_axis(axis, shape) for axis in parameters.wholes(3)}
    need(bool(axes) and all(shape[axis] == 1 for axis in axes), f"removes dimensions of {list(shape)}")
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes) or (1,)], ()


def _expansion(parameters: Parameters, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    axes = parameters.wholes(3)
    places = len(shape) + len(axes)
    need(bool(axes) and places <= 4 and all(-places <= axis < places for axis in axes), "adds no dimension")
    added = {axis % places for axis in axes}
    need(len(added) == len(axes), "adds a dimension twice")
    rest = iter(shape)
    return [tuple(1 if place in added else next(rest) for place in range(places))], ()


def _gemm(parameters: Parameters, inputs: list[Shape]) -> Result:
    """A matrix times constant weights, plus a constant row."""
    shape = _one(inputs)
    for key in (0, 1):
        parameters.number(key, 1.0)
    parameters.expect(p2=0, p3=1, p4=0, p5=1)
    has_addend = parameters.whole(6, 0, 0, 1)
    rows, columns, inner = (parameters.whole(key, 0, 0) for key in (7, 8, 9))
    kind = parameters.whole(10, 0, -1, 4)
    need(not has_addend or kind == 4, "adds what is no row")
    need(shape == (rows or shape[0], inner), f"multiplies {list(shape)} by {[inner, columns]}")
    return [(shape[0], columns)], (columns * inner, *([columns] if has_addend else []))


def _matrices(parameters: Parameters, inputs: list[Shape]) -> Result:
    """A product of two matrices, or of a stack with one or as many."""
    need(len(inputs) == 2 and min(map(len, inputs)) >= 2, "multiplies no matrices")
    left, right = inputs
    columns, inner = right[-2:] if parameters.whole(0, 0, 0, 1) else right[:-3:-1]
    stack = left[:-2] or right[:-2]
    fits = left[-1] == inner and left[:-2] in ((), stack) and right[:-2] in ((), stack)
    need(fits, f"multiplies {list(left)} by {list(right)}")
    return [(*stack, left[-2], columns)], ()


def _recurrent(gates: int, biases: int) -> Rule:
    def rule(parameters: Parameters, inputs: list[Shape]) -> Result:
        shape = _one(inputs)
        outer, number = parameters.whole(0, 0, 1), parameters.whole(1, 0, 1)
        directions = 2 if parameters.whole(2, 0, 0, 2) == 2 else 1
        parameters.expect(p8=0)
        if gates == 4:  # an LSTM
            need(parameters.whole(3, outer) == outer, "projects its state")
        need(len(shape) == 2, f"reads a tensor of shape {list(shape)}, expected steps and features")
        need(number == shape[1] * outer * gates * directions, f"has {number} weights for {list(shape)}")
        counts = (number, outer * biases * directions, outer * outer * gates * directions)
        return [(shape[0], outer * directions)], counts

    return rule


_FUNCTIONS: Final[Mapping[str, Rule]] = {
    "Clip": _pointwise(0, 1),
    "Dropout": _pointwise(0),
    "ELU": _pointwise(0),
    "HardSigmoid": _pointwise(0, 1),
    "HardSwish": _pointwise(0, 1),
    "ReLU": _pointwise(0),
    "Sigmoid": _pointwise(),
    "Swish": _pointwise(),
    "TanH": _pointwise(),
    "UnaryOp": _pointwise(kinds=20),
}

LAYERS: Final[Mapping[str, Rule]] = {
    **_FUNCTIONS,
    "BatchNorm": _normalisation,
    "BinaryOp": _binary,
    "Concat": _concat,
    "Convolution": _convolution(),
    "ConvolutionDepthWise": _convolution(grouped=True),
    "Crop": _crop,
    "Deconvolution": _deconvolution(),
    "DeconvolutionDepthWise": _deconvolution(grouped=True),
    "ExpandDims": _expansion,
    "Flatten": _flatten,
    "GRU": _recurrent(3, 4),
    "Gemm": _gemm,
    "InnerProduct": _product,
    "Input": _input,
    "Interp": _resize,
    "LSTM": _recurrent(4, 4),
    "MatMul": _matrices,
    "MemoryData": _memory,
    "PReLU": _slopes,
    "Padding": _padding,
    "Permute": _permute,
    "Pooling": _pooling,
    "Reduction": _reduction,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
}
