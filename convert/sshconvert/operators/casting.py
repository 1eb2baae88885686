"""Conversions between types, and copies.

Artifacts compute in float32: float16, bfloat16 and float64 become float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator
from sshconvert.operators.registry import register, register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

FLOATS: Final = ("float32", "float16", "bfloat16", "float64")
INTEGERS: Final = ("int32", "int64", "int8", "uint8")
DTYPES: Final[Mapping[str, DType]] = MappingProxyType(
    {**dict.fromkeys(FLOATS, np.dtype(np.float32)), **{name: np.dtype(name) for name in INTEGERS}}
)


def read_dtype(attributes: Attributes, default: str | None = "float32") -> DType:
    """Take `dtype`, one of `DTYPES`. Without a default the attribute is required."""
    return DTYPES[attributes.choice("dtype", tuple(DTYPES), default)]


def converted(array: Array, dtype: DType) -> Array:
    """Convert an array of the evaluation to the values of a type, in the evaluation's types."""
    if dtype.kind == "f":
        return array.astype(np.float64)
    return np.trunc(array).astype(np.int64).astype(dtype).astype(np.int64)


@dataclass(frozen=True)
class _Conversion(Operator):
    """Conversion to another type. Floating-point numbers are truncated to integers, which keep their last bits."""

    restrictions = "float16, bfloat16 and float64 become float32. A number fits into the integer type."

    dtype: DType

    @classmethod
    def read(cls, attributes: Attributes) -> _Conversion:
        return cls(read_dtype(attributes, None))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return (self.dtype,)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (converted(inputs[0], self.dtype),)

    def emit(self, build: NodeBuilder) -> None:
        if build.input_dtypes[0] == build.output_dtypes[0]:
            build.finish("Identity", build.inputs)
        else:
            build.finish_cast(build.inputs[0])


@register
@dataclass(frozen=True)
class Cast(_Conversion):
    """Conversion to another type."""

    name = "Cast"
    aliases = ("cast",)


@register
@dataclass(frozen=True)
class AmpCast(_Conversion):
    """Conversion between floating-point types, by automatic mixed precision. It leaves integers as they are."""

    name = "amp_cast"

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return inputs if inputs[0].kind != "f" else (self.dtype,)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return inputs if inputs[0].dtype.kind != "f" else super().evaluate(*inputs)


@register
@dataclass(frozen=True)
class AmpMulticast(Operator):
    """Conversion of several tensors to their widest or narrowest floating-point type, which is float32 here."""

    name = "amp_multicast"
    inputs = ()
    restrictions = "Floating-point types become float32."

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> AmpMulticast:
        attributes.without_effect("cast_narrow")
        return cls(attributes.integer("num_outputs", least=1))

    def input_count(self) -> int:
        return self.count

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{number}" for number in range(self.count))

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return inputs

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        return inputs

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return inputs

    def emit(self, build: NodeBuilder) -> None:
        for source, output in zip(build.inputs, build.outputs, strict=True):
            build.output(output, "Identity", [source])


@dataclass(frozen=True)
class Copy(Operator):
    """The input."""

    value_preserving = ("Identity",)

    @classmethod
    def read(cls, attributes: Attributes) -> Copy:
        return cls()

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0],)

    def emit(self, build: NodeBuilder) -> None:
        build.finish("Identity", build.inputs[:1])


register_kind(Copy, "_copy", "identity", "_copyto", "_CrossDeviceCopy")
# Training treats it as a constant.
register_kind(Copy, "BlockGrad", "stop_gradient")
# The second input gives attributes of storage to the first.
register_kind(Copy, "_identity_with_attr_like_rhs", inputs=("lhs", "rhs"), ignored=("rhs",))
