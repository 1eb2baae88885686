"""Mathematical functions of one tensor, element by element.

`round` rounds halves away from zero, and `rint` rounds them down, as MXNet does. Functions whose results are integers
for integers take integers too; MXNet truncates the results of the others, which are unsupported for integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.binary import is_integer, need_computable, number
from sshconvert.operators.registry import register, register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# The largest float32 below 1/2. Added to a float32, it reaches the next integer exactly from a half upward.
_ALMOST_HALF: Final = float(np.nextafter(np.float32(0.5), np.float32(0)))


@dataclass(frozen=True)
class Function:
    """A function: its definition in NumPy, the ONNX nodes that finish an MXNet node, and its operations per element."""

    evaluate: Callable[[Array], Array]
    emit: Callable[[NodeBuilder, str], None]
    takes_integers: bool = False
    flops: int = 1


def _node(operator: str) -> Callable[[NodeBuilder, str], None]:
    return lambda build, data: build.finish(operator, [data])


def _whole(emit: Callable[[NodeBuilder, str], None]) -> Callable[[NodeBuilder, str], None]:
    """Leave integers as they are."""
    return lambda build, data: build.finish("Identity", [data]) if is_integer(build) else emit(build, data)


def _scaled(operator: str, factor: float) -> Callable[[NodeBuilder, str], None]:
    """Finish with the multiple of a function."""
    return lambda build, data: build.finish(
        "Mul", [build.node("unscaled", operator, [data]), number(build, "factor", factor)]
    )


def _times(factor: float) -> Callable[[NodeBuilder, str], None]:
    return lambda build, data: build.finish("Mul", [data, number(build, "factor", factor)])


def sigmoid(data: Array) -> Array:
    """Return 1 / (1 + exp(-data)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -data)))


def _emit_relu(build: NodeBuilder, data: str) -> None:
    if is_integer(build):
        build.finish("Max", [data, number(build, "zero", 0)])
    else:
        build.finish("Relu", [data])


def _emit_square(build: NodeBuilder, data: str) -> None:
    build.finish("Mul", [data, data])


def _emit_reciprocal_root(build: NodeBuilder, data: str) -> None:
    build.finish("Reciprocal", [build.node("root", "Sqrt", [data])])


def _cube_root(build: NodeBuilder, data: str) -> list[str]:
    """Return the two factors of a cube root: its size and its sign."""
    size = build.node("size", "Pow", [build.node("absolute", "Abs", [data]), number(build, "third", 1 / 3)])
    return [size, build.node("sign", "Sign", [data])]


def _emit_cube_root(build: NodeBuilder, data: str) -> None:
    build.finish("Mul", _cube_root(build, data))


def _emit_reciprocal_cube_root(build: NodeBuilder, data: str) -> None:
    build.finish("Reciprocal", [build.node("root", "Mul", _cube_root(build, data))])


def _emit_toward_zero(build: NodeBuilder, data: str) -> None:
    below = build.node("below", "Floor", [build.node("absolute", "Abs", [data])])
    build.finish("Mul", [below, build.node("sign", "Sign", [data])])


def _emit_round(build: NodeBuilder, data: str) -> None:
    raised = build.node("raised", "Add", [build.node("size", "Abs", [data]), number(build, "half", _ALMOST_HALF)])
    build.finish("Mul", [build.node("rounded", "Floor", [raised]), build.node("sign", "Sign", [data])])


def _round(data: Array) -> Array:
    return np.asarray(np.copysign(np.trunc(np.abs(data)) + (np.abs(data) % 1 >= 0.5), data))


def _emit_rint(build: NodeBuilder, data: str) -> None:
    below, above = build.node("below", "Floor", [data]), build.node("above", "Ceil", [data])
    distances = [build.node("down", "Sub", [data, below]), build.node("up", "Sub", [above, data])]
    build.finish("Where", [build.node("is_nearer", "LessOrEqual", distances), below, above])


def _rint(data: Array) -> Array:
    below, above = np.floor(data), np.ceil(data)
    return np.where(data - below <= above - data, below, above)


def _emit_log1p(build: NodeBuilder, data: str) -> None:
    """Near 0, where 1 + x loses the digits of x, log(1 + x) is 2 artanh(x / (2 + x))."""
    far = build.node("far", "Log", [build.node("increased", "Add", [data, number(build, "one", 1)])])
    ratio = build.node("ratio", "Div", [data, build.node("sum", "Add", [data, number(build, "two", 2)])])
    near = build.node("near", "Mul", [build.node("half", "Atanh", [ratio]), number(build, "double", 2)])
    size = build.node("size", "Abs", [data])
    build.finish("Where", [build.node("is_near", "Less", [size, number(build, "limit", 0.5)]), near, far])


def _emit_expm1(build: NodeBuilder, data: str) -> None:
    """Compute exp(x) - 1 as tanh(x / 2) (exp(x) + 1), which keeps its digits near 0."""
    slope = build.node("slope", "Tanh", [build.node("halved", "Mul", [data, number(build, "half", 0.5)])])
    total = build.node("total", "Add", [build.node("exponential", "Exp", [data]), number(build, "one", 1)])
    build.finish("Mul", [slope, total])


def _emit_not(build: NodeBuilder, data: str) -> None:
    build.finish_cast(build.node("is_zero", "Equal", [data, number(build, "zero", 0)]))


def _erf(data: Array) -> Array:
    return np.array([math.erf(value) for value in data.flat]).reshape(data.shape)


FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "abs": Function(np.abs, _node("Abs"), takes_integers=True),
        "sign": Function(np.sign, _node("Sign"), takes_integers=True),
        "negative": Function(np.negative, _node("Neg"), takes_integers=True),
        "square": Function(np.square, _emit_square, takes_integers=True),
        "logical_not": Function(lambda data: (data == 0).astype(data.dtype), _emit_not, takes_integers=True),
        "round": Function(_round, _whole(_emit_round), takes_integers=True),
        "rint": Function(_rint, _whole(_emit_rint), takes_integers=True),
        "ceil": Function(np.ceil, _whole(_node("Ceil")), takes_integers=True),
        "floor": Function(np.floor, _whole(_node("Floor")), takes_integers=True),
        "trunc": Function(np.trunc, _whole(_emit_toward_zero), takes_integers=True),
        "fix": Function(np.trunc, _whole(_emit_toward_zero), takes_integers=True),
        "reciprocal": Function(np.reciprocal, _node("Reciprocal")),
        "sqrt": Function(np.sqrt, _node("Sqrt")),
        "rsqrt": Function(lambda data: 1 / np.sqrt(data), _emit_reciprocal_root),
        "cbrt": Function(np.cbrt, _emit_cube_root),
        "rcbrt": Function(lambda data: 1 / np.cbrt(data), _emit_reciprocal_cube_root),
        "exp": Function(np.exp, _node("Exp")),
        "log": Function(np.log, _node("Log")),
        "log10": Function(np.log10, _scaled("Log", 1 / math.log(10))),
        "log2": Function(np.log2, _scaled("Log", 1 / math.log(2))),
        "log1p": Function(np.log1p, _emit_log1p),
        "expm1": Function(np.expm1, _emit_expm1),
        "sin": Function(np.sin, _node("Sin")),
        "cos": Function(np.cos, _node("Cos")),
        "tan": Function(np.tan, _node("Tan")),
        "arcsin": Function(np.arcsin, _node("Asin")),
        "arccos": Function(np.arccos, _node("Acos")),
        "arctan": Function(np.arctan, _node("Atan")),
        "sinh": Function(np.sinh, _node("Sinh")),
        "cosh": Function(np.cosh, _node("Cosh")),
        "tanh": Function(np.tanh, _node("Tanh")),
        "arcsinh": Function(np.arcsinh, _node("Asinh")),
        "arccosh": Function(np.arccosh, _node("Acosh")),
        "arctanh": Function(np.arctanh, _node("Atanh")),
        "degrees": Function(np.degrees, _times(180 / math.pi)),
        "radians": Function(np.radians, _times(math.pi / 180)),
        "erf": Function(_erf, _node("Erf")),
        "relu": Function(lambda data: np.maximum(data, 0), _emit_relu, takes_integers=True, flops=2),
        "sigmoid": Function(sigmoid, _node("Sigmoid"), flops=2),
        "softsign": Function(lambda data: data / (1 + np.abs(data)), _node("Softsign"), flops=2),
    }
)
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "relu": ("_npx_relu", "_sparse_relu"),
    "sigmoid": ("_npx_sigmoid", "_sparse_sigmoid"),
}


@dataclass(frozen=True)
class _Unary(Operator):
    """A function of each element."""

    function: ClassVar[Function]

    @classmethod
    def read(cls, attributes: Attributes) -> _Unary:
        return cls()

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        need(self.function.takes_integers or inputs[0].kind == "f", f"cannot compute {self.name} of {inputs[0]}")
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return self.function.flops

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.function.evaluate(inputs[0])).astype(inputs[0].dtype),)

    def emit(self, build: NodeBuilder) -> None:
        self.function.emit(build, build.inputs[0])


for _name, _function in FUNCTIONS.items():
    register_kind(_Unary, _name, *_ALIASES.get(_name, ()), function=_function)


@register
@dataclass(frozen=True)
class Clip(Operator):
    """Each element, or the nearer limit if it is outside `a_min` to `a_max`."""

    name = "clip"
    restrictions = "`a_min` is at most `a_max`."

    least: float
    most: float

    @classmethod
    def read(cls, attributes: Attributes) -> Clip:
        limits = [attributes.number(name, None, least=-MAX_FLOAT32) for name in ("a_min", "a_max")]
        if limits[0] > limits[1]:
            attributes.problems.append(f"attribute a_min='{limits[0]:g}' is larger than a_max='{limits[1]:g}'")
        return cls(*limits)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return 2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        kind = np.float32 if inputs[0].dtype.kind == "f" else np.int64
        limits = (np.array(limit, kind).astype(inputs[0].dtype) for limit in (self.least, self.most))
        return (np.clip(inputs[0], *limits),)

    def emit(self, build: NodeBuilder) -> None:
        limits = [number(build, "least", self.least), number(build, "most", self.most)]
        build.finish("Clip", [*build.inputs, *limits])


@register
@dataclass(frozen=True)
class SmoothL1(Operator):
    """Half the square of scalar times x where it is at most 1 / scalar² from 0, and beyond |x| - 1 / (2 scalar²)."""

    name = "smooth_l1"

    scalar: float

    @classmethod
    def read(cls, attributes: Attributes) -> SmoothL1:
        return cls(attributes.number("scalar", 1, least=-MAX_FLOAT32))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need(inputs[0] == np.float32, f"cannot compute {self.name} of {inputs[0]}")
        return inputs

    def flops(self, *inputs: Shape) -> float:
        return 5

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        size, square = np.abs(inputs[0]), self.scalar**2
        if square == 0:  # no element is beyond an infinite distance
            return (np.zeros_like(size),)
        return (np.where(size > 1 / square, size - 0.5 / square, 0.5 * square * size**2),)

    def emit(self, build: NodeBuilder) -> None:
        square = self.scalar**2
        squares = build.node("square", "Mul", [build.inputs[0], build.inputs[0]])
        near = build.node("near", "Mul", [squares, number(build, "factor", 0.5 * square)])
        size = build.node("size", "Abs", [build.inputs[0]])
        limit = 1 / square if square else math.inf
        far = build.node("far", "Sub", [size, number(build, "half", min(0.5 * limit, MAX_FLOAT32))])
        build.finish("Where", [build.node("is_far", "Greater", [size, number(build, "limit", limit)]), far, near])
