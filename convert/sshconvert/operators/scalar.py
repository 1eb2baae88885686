"""Functions of a tensor and a scalar attribute, which is the right operand, or the left one of a `_r…_scalar`.

MXNet converts the scalar to the tensor's type: it rounds to float32, and truncates for integers. With `is_int=False`,
integers become floating-point numbers first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import MAX_FLOAT32, Attributes
from sshconvert.operators.base import Operator
from sshconvert.operators.binary import FUNCTIONS, Function, need_computable, need_operands, number
from sshconvert.operators.registry import register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# Names of functions in names of operators.
_NAMES: Final[Mapping[str, str]] = MappingProxyType({"add": "plus", "sub": "minus"})
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"_plus_scalar": ("_scatter_plus_scalar",), "_minus_scalar": ("_scatter_minus_scalar",)}
)
_REVERSED: Final = ("sub", "div", "mod", "power")


@dataclass(frozen=True)
class Scalar(Operator):
    """A function of a tensor and a scalar."""

    function: ClassVar[Function]
    is_reversed: ClassVar[bool]

    scalar: float
    is_int: bool

    @classmethod
    def read(cls, attributes: Attributes) -> Scalar:
        return cls(attributes.number("scalar", 1, least=-MAX_FLOAT32), attributes.boolean("is_int", default=True))

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        outputs = inputs if self.is_int else (np.dtype(np.float32),)
        need_computable(*inputs)
        need_operands(self.name, self.function, *outputs)
        return outputs

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data = inputs[0] if self.is_int else inputs[0].astype(np.float64)
        scalar = np.array(self.scalar, np.float32 if data.dtype.kind == "f" else np.int64).astype(data.dtype)
        with np.errstate(all="ignore"):
            return (self.function.evaluate(*((scalar, data) if self.is_reversed else (data, scalar))),)

    def emit(self, build: NodeBuilder) -> None:
        (data,) = build.inputs
        if build.input_dtypes != list(build.output_dtypes):
            data = build.cast("data", data, build.output_dtypes[0])
        scalar = number(build, "scalar", self.scalar)
        self.function.emit(build, *((scalar, data) if self.is_reversed else (data, scalar)))


def _add_operators() -> None:
    for key, function in FUNCTIONS.items():
        for is_reversed in (False, True) if key in _REVERSED else (False,):
            kind = _NAMES.get(key, key)
            name = f"_{'r' * is_reversed}{kind}_scalar"
            # Old symbols write `_RMinusScalar` and `_GreaterEqualScalar`.
            old = f"_{'R' * is_reversed}{''.join(word.capitalize() for word in kind.split('_'))}Scalar"
            members = {"function": function, "is_reversed": is_reversed, "restrictions": function.restrictions}
            register_kind(Scalar, name, old, *_ALIASES.get(name, ()), **members)


_add_operators()
