"""Activation functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator, need_floats
from sshconvert.operators.registry import register
from sshconvert.operators.unary import FUNCTIONS, Function

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


_FUNCTIONS: Final = {
    "relu": FUNCTIONS["relu"],
    "sigmoid": FUNCTIONS["sigmoid"],
    "tanh": FUNCTIONS["tanh"],
    "softrelu": Function(lambda data: np.logaddexp(0, data), lambda build, data: build.finish("Softplus", [data])),
    "softsign": FUNCTIONS["softsign"],
}


@register
@dataclass(frozen=True)
class Activation(Operator):
    """An elementwise activation function without parameters, of floating-point numbers."""

    name = "Activation"
    aliases = ("_npx_activation",)
    value_preserving = ("Relu",)

    function: str

    @classmethod
    def read(cls, attributes: Attributes) -> Activation:
        return cls(attributes.choice("act_type", tuple(_FUNCTIONS)))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        with np.errstate(invalid="ignore"):  # the softsign of infinity is NaN, also in MXNet
            return (_FUNCTIONS[self.function].evaluate(inputs[0]),)

    def emit(self, build: NodeBuilder) -> None:
        _FUNCTIONS[self.function].emit(build, build.inputs[0])


@register
@dataclass(frozen=True)
class HardSigmoid(Operator):
    """alpha * x + beta, clipped to 0 and 1."""

    name = "hard_sigmoid"

    alpha: float
    beta: float

    @classmethod
    def read(cls, attributes: Attributes) -> HardSigmoid:
        alpha, beta = (
            attributes.number(name, value, least=-MAX_FLOAT32) for name, value in (("alpha", 0.2), ("beta", 0.5))
        )
        return cls(float(np.float32(alpha)), float(np.float32(beta)))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 4

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.clip(self.alpha * inputs[0] + self.beta, 0, 1),)

    def emit(self, build: NodeBuilder) -> None:
        if self.alpha and self.beta:
            build.finish("HardSigmoid", build.inputs, alpha=self.alpha, beta=self.beta)
            return
        # OpenVINO 2026.4 computes wrong values where one of them is 0.
        scaled = build.node("scaled", "Mul", [build.inputs[0], build.floats("alpha", self.alpha)])
        moved = build.node("moved", "Add", [scaled, build.floats("beta", self.beta)])
        build.finish("Clip", [moved, build.floats("zero", 0), build.floats("one", 1)])


def _error_function(data: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(data), np.float64)


@register
@dataclass(frozen=True)
class LeakyReLU(Operator):
    """Rectifiers that let negative values through: x where x > 0, and a function of x elsewhere.

    `leaky` multiplies by `slope`, `prelu` by the learned gamma, and `rrelu`, at inference, by the middle of its bounds.
    `elu` is slope * (exp(x) - 1), `selu` has fixed constants, and `gelu` is x times the normal distribution function
    of x, at every x.
    """

    name = "LeakyReLU"
    aliases = ("_npx_leaky_relu",)
    inputs = ("data", "gamma")
    shapes_given = True
    restrictions = "The `gelu` of minus infinity is 0, not NaN."

    kind: str
    slope: float

    _KINDS = ("leaky", "prelu", "rrelu", "elu", "selu", "gelu")
    _SELU_ALPHA = 1.6732632423543772848170429916717
    _SELU_SCALE = 1.0507009873554804934193349852946

    @classmethod
    def read(cls, attributes: Attributes) -> LeakyReLU:
        kind = attributes.choice("act_type", cls._KINDS, "leaky")
        slope, lower, upper = (
            np.float32(attributes.number(name, default, least=-MAX_FLOAT32))
            for name, default in (("slope", 0.25), ("lower_bound", 0.125), ("upper_bound", 0.334))
        )
        return cls(kind, float((lower + upper) / np.float32(2) if kind == "rrelu" else slope))

    def input_count(self) -> int:
        return 2 if self.kind == "prelu" else 1

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return ((data[1] if len(data) > 1 else 1,),) if self.kind == "prelu" else ()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if self.kind == "prelu":
            _last_axis(inputs[1], inputs[0])
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_floats(inputs[0])
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 2

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0]
        negative = np.minimum(data, 0)
        if self.kind == "elu":
            below = self.slope * np.expm1(negative)
        elif self.kind == "selu":
            below = self._SELU_SCALE * self._SELU_ALPHA * np.expm1(negative)
            return (np.where(data > 0, self._SELU_SCALE * data, below),)
        elif self.kind == "gelu":
            with np.errstate(invalid="ignore"):
                below = data * (1 + _error_function(data / np.sqrt(2))) / 2
            return (np.where(np.isneginf(data), 0, below),)
        elif self.kind == "prelu":
            behind = data.ndim - 1 - _last_axis(inputs[1].shape, data.shape)
            below = negative * inputs[1].reshape(*inputs[1].shape, *[1] * behind)
        else:
            below = negative * self.slope
        return (np.where(data > 0, data, below),)

    def emit(self, build: NodeBuilder) -> None:
        data = build.inputs[0]
        if self.kind == "elu":
            build.finish("Elu", [data], alpha=self.slope)
        elif self.kind == "selu":
            build.finish("Selu", [data], alpha=self._SELU_ALPHA, gamma=self._SELU_SCALE)
        elif self.kind == "gelu":
            scaled = build.node("scaled", "Div", [data, build.floats("root", np.sqrt(2))])
            shifted = build.node("shifted", "Add", [build.node("erf", "Erf", [scaled]), build.floats("one", 1)])
            build.finish("Mul", [build.node("doubled", "Mul", [data, shifted]), build.floats("half", 0.5)])
        elif self.kind == "prelu":
            build.finish("PRelu", [data, self._emit_gamma(build)])
        else:
            build.finish("LeakyRelu", [data], alpha=self.slope)

    @staticmethod
    def _emit_gamma(build: NodeBuilder) -> str:
        gamma, shape, data = build.inputs[1], build.input_shapes[1], build.input_shapes[0]
        behind = () if shape == (1,) else range(len(shape), len(shape) + len(data) - 1 - _last_axis(shape, data))
        if not behind:
            return gamma
        if gamma in build.values:
            return build.floats("slopes", np.expand_dims(build.values[gamma], tuple(behind)))
        return build.node("slopes", "Unsqueeze", [gamma, build.integers("behind", tuple(behind))])


def _last_axis(gamma: Shape, data: Shape) -> int:
    """Return the axis of the data at which the last axis of gamma lies, 0 or 1. Raises ShapeError if none fits.

    Any other axes of gamma lie before it, and gamma broadcasts.
    """
    for last in range(min(1, len(data) - 1), -1, -1):
        if len(gamma) <= last + 1 and gamma[-1] in (1, data[last]) and gamma[:-1] in ((), (1,), data[:1]):
            return last
    raise ShapeError(f"gamma of shape {gamma} does not fit {data}")


@register
@dataclass(frozen=True)
class Dropout(Operator):
    """Dropout in training: at inference, the input itself."""

    name = "Dropout"
    aliases = ("_npx_dropout",)
    value_preserving = ("Identity",)

    @classmethod
    def read(cls, attributes: Attributes) -> Dropout:
        attributes.without_effect("p", "axes", "cudnn_off")
        attributes.choice("mode", ("training",), "training")
        return cls()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0],)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Identity", build.inputs)
