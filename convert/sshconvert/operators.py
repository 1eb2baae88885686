"""What each MXNet operator means: attributes, shapes, cost, ONNX form. A new one is added here and nowhere else.

Each is a frozen class that holds what its attributes say; `OPERATORS`, at the end, is the registry. Layouts are
NC followed by the spatial axes. The rules are those of the parameter structures under `src/operator` of MXNet 1.9.1.

Costs are counted per element of the output, the way Open Model Zoo's model cards were: convolution
2 * (Cin / groups) * kernel, plus 1 for a bias; deconvolution the same, divided by the strides; ReLU 2; max pooling
the kernel; elementwise addition 1; softmax 5; moving data 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import MAX_INTEGER, Attributes
from sshconvert.onnx.reshaping import emit_reshape

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# Hints for MXNet's own kernels, which choose an algorithm and never change the result.
KERNEL_HINTS: Final = ("workspace", "cudnn_tune", "cudnn_off")
CHANNELS_FIRST: Final = ("NCHW", "NCW", "NCDHW")
MAX_AXES: Final = 3  # that a kernel moves over


class Operator(ABC):
    """One operator with its attributes read. The defaults suit an elementwise operator of one input."""

    @classmethod
    @abstractmethod
    def read(cls, attributes: Attributes) -> Operator:
        """Ask `attributes` for everything the operator honours; problems are collected there."""

    @abstractmethod
    def emit(self, build: NodeBuilder) -> None:
        """Emit ONNX nodes that compute the output."""

    def input_count(self) -> int:
        return 1

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        """Shapes of the inputs that follow the data, when they are parameters."""
        return ()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output. Raises ShapeError, without a node's name, if the inputs do not fit."""
        return inputs[0]

    def flops(self, *inputs: Shape) -> float:
        """Operations per element of the output."""
        return 0


@dataclass(frozen=True)
class _Filters(Operator):
    """What convolution and deconvolution share: a bank of filters that moves over the spatial axes."""

    kernel: Shape
    stride: Shape
    dilate: Shape
    pad: Shape
    filters: int
    groups: int
    bias: bool

    def input_count(self) -> int:
        return 3 if self.bias else 2

    def _check(self, data: Shape) -> None:
        _need(len(data) == 2 + len(self.kernel), f"a {len(self.kernel)}-dimensional kernel cannot run over {data}")
        _need(
            data[1] % self.groups == 0 and self.filters % self.groups == 0,
            f"{data[1]} channels and {self.filters} filters do not divide into {self.groups} groups",
        )

    def _with_bias(self, weight: Shape) -> tuple[Shape, ...]:
        return (weight, (self.filters,)) if self.bias else (weight,)

    def _onnx_attributes(self) -> dict[str, Any]:
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "dilations": self.dilate,
            "pads": self.pad * 2,
            "group": self.groups,
        }


def _read_filters(attributes: Attributes, *, no_bias: bool) -> dict[str, Any]:
    """The fields of `_Filters`; `no_bias` is the operator's default."""
    kernel = attributes.integers("kernel", least=1, most=MAX_AXES)
    attributes.without_effect(*KERNEL_HINTS)
    attributes.choice("layout", CHANNELS_FIRST, "NCHW")
    return {
        "kernel": kernel,
        "stride": attributes.integers("stride", (1,) * len(kernel), least=1, length=len(kernel) or None),
        "dilate": attributes.integers("dilate", (1,) * len(kernel), least=1, length=len(kernel) or None),
        "pad": attributes.integers("pad", (0,) * len(kernel), length=len(kernel) or None),
        "filters": attributes.integer("num_filter", least=1),
        "groups": attributes.integer("num_group", 1, least=1),
        "bias": not attributes.boolean("no_bias", default=no_bias),
    }


@dataclass(frozen=True)
class Convolution(_Filters):
    """Weights [filters, channels / groups, *kernel]."""

    @classmethod
    def read(cls, attributes: Attributes) -> Convolution:
        return cls(**_read_filters(attributes, no_bias=False))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        self._check(data)
        return self._with_bias((self.filters, data[1] // self.groups, *self.kernel))

    def output_shape(self, *inputs: Shape) -> Shape:
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilate, strict=True)]
        return (inputs[0][0], self.filters, *_windows(inputs[0][2:], spans, self.stride, self.pad))

    def flops(self, *inputs: Shape) -> float:
        return 2 * math.prod(inputs[1][1:]) + self.bias

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Conv", build.inputs, **self._onnx_attributes())


@dataclass(frozen=True)
class Deconvolution(_Filters):
    """Transposed convolution; weights [channels, filters / groups, *kernel]."""

    adjust: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Deconvolution:
        filters = _read_filters(attributes, no_bias=True)
        # A target shape makes MXNet ignore pad and adj and choose its own; no known detector uses it.
        attributes.choice("target_shape", ("()", "[]", "(0,)", "(0, 0)", "(0,0)"), "()")
        axes = len(filters["kernel"])
        return cls(**filters, adjust=attributes.integers("adj", (0,) * axes, length=axes or None))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        self._check(data)
        return self._with_bias((data[1], self.filters // self.groups, *self.kernel))

    def output_shape(self, *inputs: Shape) -> Shape:
        adjusted = all(adjust < stride for adjust, stride in zip(self.adjust, self.stride, strict=True))
        _need(adjusted, f"adj {self.adjust} is not smaller than the stride {self.stride}")
        sizes = tuple(
            stride * (size - 1) + dilate * (kernel - 1) + 1 - 2 * pad + adjust
            for size, kernel, stride, dilate, pad, adjust in zip(
                inputs[0][2:], self.kernel, self.stride, self.dilate, self.pad, self.adjust, strict=True
            )
        )
        _need(all(size > 0 for size in sizes), f"the padding {self.pad} leaves nothing of {inputs[0]}")
        return (inputs[0][0], self.filters, *sizes)

    def flops(self, *inputs: Shape) -> float:
        products = 2 * (inputs[0][1] // self.groups) * math.prod(self.kernel)
        return products / math.prod(self.stride) + self.bias

    def emit(self, build: NodeBuilder) -> None:
        build.finish("ConvTranspose", build.inputs, output_padding=self.adjust, **self._onnx_attributes())


@dataclass(frozen=True)
class Activation(Operator):
    """One of MXNet's fixed functions, elementwise."""

    function: str

    ONNX = MappingProxyType(
        {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    )

    @classmethod
    def read(cls, attributes: Attributes) -> Activation:
        return cls(attributes.choice("act_type", tuple(cls.ONNX)))

    def flops(self, *inputs: Shape) -> float:
        return 2

    def emit(self, build: NodeBuilder) -> None:
        build.finish(self.ONNX[self.function], build.inputs)


@dataclass(frozen=True)
class Pooling(Operator):
    """Maximum or average over windows; `valid` rounds the number of windows down, `full` rounds it up."""

    kernel: Shape
    stride: Shape
    pad: Shape
    kind: str
    convention: str
    whole: bool
    count_padding: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Pooling:
        whole = attributes.boolean("global_pool", default=False)
        kernel = attributes.integers("kernel", () if whole else None, least=1, most=MAX_AXES)
        attributes.without_effect(*KERNEL_HINTS)
        attributes.choice("layout", CHANNELS_FIRST, "NCHW")
        return cls(
            kernel=kernel,
            stride=attributes.integers("stride", (1,) * len(kernel), least=1, length=len(kernel) or None),
            pad=attributes.integers("pad", (0,) * len(kernel), length=len(kernel) or None),
            kind=attributes.choice("pool_type", ("max", "avg"), "max"),
            convention=attributes.choice("pooling_convention", ("valid", "full"), "valid"),
            whole=whole,
            count_padding=attributes.boolean("count_include_pad", default=True),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        _need(len(inputs[0]) > 2, f"{inputs[0]} has no axes behind its channels")
        batch, channels, *sizes = inputs[0]
        if self.whole:
            return (batch, channels, *(1 for _ in sizes))
        _need(len(sizes) == len(self.kernel), f"a {len(self.kernel)}-dimensional kernel cannot run over {inputs[0]}")
        return (batch, channels, *_windows(sizes, self.kernel, self.stride, self.pad, up=self.convention == "full"))

    def flops(self, *inputs: Shape) -> float:
        return math.prod(inputs[0][2:] if self.whole else self.kernel)

    def emit(self, build: NodeBuilder) -> None:
        name = "MaxPool" if self.kind == "max" else "AveragePool"
        if self.whole:
            build.finish(f"Global{name}", build.inputs)
            return
        count = {} if self.kind == "max" else {"count_include_pad": int(self.count_padding)}
        if self.convention == "valid" or set(self.stride) == {1}:
            self._need_data_everywhere(self.pad)
            build.finish(name, build.inputs, **self._windows_of(self.pad), **count)
        elif not any(self.pad) and all(k >= s for k, s in zip(self.kernel, self.stride, strict=True)):
            # Without padding and gaps, all runtimes read `ceil_mode` as MXNet does. Nothing that hangs over is counted.
            count = dict.fromkeys(count, 0)
            build.finish(name, build.inputs, **self._windows_of(self.pad), ceil_mode=1, **count)
        else:
            self._round_up(build, name, count)

    def _round_up(self, build: NodeBuilder, name: str, count: Mapping[str, int]) -> None:
        """Rounding up means that the last window hangs over the edge. Explicit padding says so without `ceil_mode`,
        which runtimes read differently here. It belongs to one size, so that no other gets through.
        """
        _need(not any(build.free_output[2:]), "pooling that rounds up, with padding or gaps, needs a fixed size")
        after = self._padding_after(build.input_shapes[0], build.output_shapes[0])
        self._need_data_everywhere(after)
        _need(not count or after == self.pad, "average pooling whose padded last window hangs over is not supported")
        build.finish(name, [self._only_of_size(build)], **self._windows_of(after), **count)

    @staticmethod
    def _only_of_size(build: NodeBuilder) -> str:
        """The input, whose axes behind the channels have the sizes of now: a run of others fails."""
        tensor = build.inputs[0]
        for axis, size in enumerate(build.input_shapes[0][2:], 2):
            tensor = build.node(f"size{axis}", "Split", [tensor, build.integers(f"only{axis}", (size,))], axis=axis)
        return tensor

    def _windows_of(self, after: Shape) -> dict[str, Any]:
        return {"kernel_shape": self.kernel, "strides": self.stride, "pads": self.pad + after}

    def _need_data_everywhere(self, after: Shape) -> None:
        inside = all(pad < kernel for pad, kernel in zip(self.pad + after, self.kernel * 2, strict=True))
        _need(inside, "windows that lie in the padding alone are not supported")

    def _padding_after(self, data: Shape, output: Shape) -> Shape:
        needed = (
            (windows - 1) * stride + kernel - size - pad
            for windows, stride, kernel, size, pad in zip(
                output[2:], self.stride, self.kernel, data[2:], self.pad, strict=True
            )
        )
        return tuple(max(pad, need) for pad, need in zip(self.pad, needed, strict=True))


@dataclass(frozen=True)
class Concat(Operator):
    """Inputs side by side along one axis."""

    count: int
    axis: int

    @classmethod
    def read(cls, attributes: Attributes) -> Concat:
        return cls(attributes.integer("num_args", least=1), attributes.integer("dim", 1))

    def input_count(self) -> int:
        return self.count

    def output_shape(self, *inputs: Shape) -> Shape:
        first = inputs[0]
        _need(self.axis < len(first), f"axis {self.axis} is not an axis of {first}")
        rest = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in inputs}
        _need(len(rest) == 1, f"the inputs {shown(list(inputs))} differ outside axis {self.axis}")
        return (*first[: self.axis], sum(shape[self.axis] for shape in inputs), *first[self.axis + 1 :])

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Concat", build.inputs, axis=self.axis)


@dataclass(frozen=True)
class Crop(Operator):
    """A window of the first input: as high and wide as the second input, or as `size` without one."""

    count: int
    offset: Shape
    size: Shape
    centre: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Crop:
        crop = cls(
            count=attributes.integer("num_args", least=1),
            offset=attributes.integers("offset", (0, 0), length=2),
            size=attributes.integers("h_w", (0, 0), length=2),
            centre=attributes.boolean("center_crop", default=False),
        )
        if crop.count > 2:
            attributes.problems.append(f"num_args={crop.count} is not supported: expected 1 or 2")
        return crop

    def input_count(self) -> int:
        return self.count

    def output_shape(self, *inputs: Shape) -> Shape:
        _need(all(len(shape) == 4 for shape in inputs), f"only NCHW data can be cropped, not {list(inputs)}")
        size = inputs[1][2:] if self.count == 2 else self.size
        _need(min(size) > 0, f"a crop of {size} is empty")
        for begin, length, whole in zip(self._begin(inputs[0], size), size, inputs[0][2:], strict=True):
            _need(begin >= 0 and begin + length <= whole, f"{size} at {self.offset} is not inside {inputs[0]}")
        return (*inputs[0][:2], *size)

    def emit(self, build: NodeBuilder) -> None:
        """Crop by the shapes of the run. A Slice takes what there is of its window, where MXNet refuses one that does
        not lie inside: then a Split into one part of the right size fails.
        """
        if self.count == 2:
            like = build.node("like", "Shape", [build.inputs[1]])
            sizes = [
                build.node(role, "Gather", [like, build.integers(f"{role}_axis", (axis,))])
                for role, axis in (("height", 2), ("width", 3))
            ]
        else:
            sizes = [build.integers(role, (size,)) for role, size in zip(("height", "width"), self.size, strict=True)]
        size, axes = build.node("size", "Concat", sizes, axis=0), build.integers("axes", (2, 3))
        if self.centre:
            whole = build.node("whole", "Gather", [build.node("shape", "Shape", [build.inputs[0]]), axes])
            margin = build.node("margin", "Sub", [whole, size])
            begin = build.node("begin", "Div", [margin, build.integers("two", (2,))])
        else:
            begin = build.integers("begin", self.offset)
        end = build.node("end", "Add", [begin, size]) if self.centre or any(self.offset) else size
        window = build.node("window", "Slice", [build.inputs[0], begin, end, axes])
        build.finish("Split", [build.node("rows", "Split", [window, sizes[0]], axis=2), sizes[1]], axis=3)

    def _begin(self, data: Shape, size: Shape) -> Shape:
        if not self.centre:
            return self.offset
        return tuple((whole - length) // 2 for whole, length in zip(data[2:], size, strict=True))


@dataclass(frozen=True)
class ElementwiseAdd(Operator):
    """Sum of two tensors of one shape; MXNet does not broadcast here."""

    @classmethod
    def read(cls, attributes: Attributes) -> ElementwiseAdd:
        return cls()

    def input_count(self) -> int:
        return 2

    def output_shape(self, *inputs: Shape) -> Shape:
        _need(inputs[0] == inputs[1], f"shapes {inputs[0]} and {inputs[1]} differ")
        return inputs[0]

    def flops(self, *inputs: Shape) -> float:
        return 1

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Add", build.inputs)


@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in another shape. Codes: 0 keeps a dimension, -1 takes what is left, -2 copies the rest,
    -3 joins two dimensions, -4 splits one into the two numbers that follow (one of them may be -1).
    """

    codes: Shape

    @classmethod
    def read(cls, attributes: Attributes) -> Reshape:
        codes = attributes.integers("shape", least=-4)
        if attributes.boolean("reverse", default=False):
            attributes.problems.append("attribute reverse='True' is not supported")
        if _is_misplaced(codes):
            attributes.problems.append(
                f"attribute shape='{codes}' is not supported: MXNet misplaces a -1 behind -2 or -4"
            )
        # The predecessors of `shape`: without effect once `shape` is given.
        attributes.without_effect("target_shape", "keep_highest")
        return cls(codes)

    def output_shape(self, *inputs: Shape) -> Shape:
        left, shape, codes = list(inputs[0]), [], list(self.codes)
        try:
            while codes:
                shape.extend(self._apply(codes, left))
        except IndexError:
            raise ShapeError(f"shape codes {self.codes} ask for more dimensions than {inputs[0]} has") from None
        return _fill(shape, math.prod(inputs[0]), f"{inputs[0]} cannot be reshaped by {self.codes}")

    @staticmethod
    def _apply(codes: list[int], left: list[int]) -> list[int]:
        code = codes.pop(0)
        if code == -2:
            rest, left[:] = list(left), []
            return rest
        if code == -3:
            return [left.pop(0) * left.pop(0)]
        if code == -4:
            whole = left.pop(0)
            return list(_fill([codes.pop(0), codes.pop(0)], whole, f"a dimension of {whole} does not split so"))
        if code == 0:
            return [left.pop(0)]
        if left:
            left.pop(0)
        return [code]

    def emit(self, build: NodeBuilder) -> None:
        emit_reshape(build, self.codes)


@dataclass(frozen=True)
class SoftmaxActivation(Operator):
    """Softmax over the channels. The other mode, over whole instances, is the default, and no detector uses it."""

    @classmethod
    def read(cls, attributes: Attributes) -> SoftmaxActivation:
        if attributes.choice("mode", ("channel", "instance"), "instance") == "instance":
            attributes.problems.append("attribute mode='instance' is not supported: expected channel")
        return cls()

    def output_shape(self, *inputs: Shape) -> Shape:
        _need(len(inputs[0]) > 2, f"{inputs[0]} has no axes behind its channels")
        return inputs[0]

    def flops(self, *inputs: Shape) -> float:
        return 5

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Softmax", build.inputs, axis=1)


@dataclass(frozen=True)
class BatchNorm(Operator):
    """Normalisation with stored statistics. Beware of the defaults: eps 1e-3, and `fix_gamma`, which makes gamma 1."""

    eps: float
    fix_gamma: bool

    @classmethod
    def read(cls, attributes: Attributes) -> BatchNorm:
        attributes.without_effect("momentum", "use_global_stats", "cudnn_off")
        if attributes.integer("axis", 1) != 1:
            attributes.problems.append("attribute axis is not supported: expected 1")
        if attributes.boolean("output_mean_var", default=False):
            attributes.problems.append("attribute output_mean_var='True' is not supported")
        return cls(attributes.number("eps", 1e-3), attributes.boolean("fix_gamma", default=True))

    def input_count(self) -> int:
        return 5

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        _need(len(data) >= 2, f"{data} has no channels")
        return ((data[1],),) * 4

    def flops(self, *inputs: Shape) -> float:
        return 2

    def emit(self, build: NodeBuilder) -> None:
        data, gamma, *rest = build.inputs
        if self.fix_gamma:
            gamma = build.constant("gamma", np.broadcast_to(np.float32(1), build.input_shapes[1]))
        build.finish("BatchNormalization", [data, gamma, *rest], epsilon=self.eps)


@dataclass(frozen=True)
class UpSampling(Operator):
    """Nearest-neighbour enlargement of one input by a whole factor."""

    scale: int

    @classmethod
    def read(cls, attributes: Attributes) -> UpSampling:
        attributes.without_effect("workspace", "num_filter", "multi_input_mode")
        attributes.choice("sample_type", ("nearest",))
        if attributes.integer("num_args", 1, least=1) != 1:
            attributes.problems.append("attribute num_args is not supported: expected 1")
        return cls(attributes.integer("scale", least=1))

    def output_shape(self, *inputs: Shape) -> Shape:
        _need(len(inputs[0]) == 4, f"only NCHW data can be upsampled, not {inputs[0]}")
        return (*inputs[0][:2], *(size * self.scale for size in inputs[0][2:]))

    def emit(self, build: NodeBuilder) -> None:
        scales = build.constant("scales", np.array([1, 1, self.scale, self.scale], np.float32))
        build.finish(
            "Resize",
            [build.inputs[0], "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


OPERATORS: Final[Mapping[str, type[Operator]]] = MappingProxyType(
    {
        "Activation": Activation,
        "BatchNorm": BatchNorm,
        "Concat": Concat,
        "Convolution": Convolution,
        "Crop": Crop,
        "Deconvolution": Deconvolution,
        "Pooling": Pooling,
        "Reshape": Reshape,
        "SoftmaxActivation": SoftmaxActivation,
        "UpSampling": UpSampling,
        "elemwise_add": ElementwiseAdd,
    }
)


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise ShapeError(problem)


def _is_misplaced(codes: Sequence[int]) -> bool:
    """Whether a -1 follows -2 or -4. MXNet takes its place among the codes for its place in the shape, which they
    shift: it gives other shapes, or writes behind the shape's end.
    """
    left = iter(codes)
    shifted = False
    for code in left:
        if code == -1 and shifted:
            return True
        shifted = shifted or code in (-2, -4)
        if code == -4:
            next(left, None), next(left, None)  # the numbers that it splits into
    return False


def _windows(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Sequence[int], *, up: bool = False
) -> Shape:
    """How many windows of `spans` fit into each axis."""
    counts = []
    for size, span, stride, pad in zip(sizes, spans, strides, pads, strict=True):
        _need(size + 2 * pad <= MAX_INTEGER, f"{size} padded by {pad} is larger than {MAX_INTEGER}")
        room = size + 2 * pad - span
        _need(room >= 0, f"a window of {span} does not fit into {size} padded by {pad}; use a larger input")
        counts.append((room + stride - 1 if up else room) // stride + 1)
    return tuple(counts)


def _fill(shape: list[int], elements: int, problem: str) -> Shape:
    """Replace the one -1 of `shape`, so that it holds `elements`."""
    known = math.prod(size for size in shape if size != -1)
    _need(shape.count(-1) <= 1 and all(size > 0 or size == -1 for size in shape), problem)
    filled = tuple(elements // known if size == -1 else size for size in shape)
    _need(math.prod(filled) == elements, problem)
    return filled
