"""Functions of two tensors, element by element, and sums of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.messages import shown
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator
from sshconvert.operators.binary import FUNCTIONS, Function, need_computable, need_operands
from sshconvert.operators.registry import register, register_kind

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# MXNet's names, with their aliases, of the functions that need two tensors of the same shape.
_ELEMENTWISE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "add": ("elemwise_add", "_add", "_plus", "_Plus", "_grad_add"),
        "sub": ("elemwise_sub", "_sub", "_minus", "_Minus"),
        "mul": ("elemwise_mul", "_mul", "_Mul"),
        "div": ("elemwise_div", "_div", "_Div", "_scatter_elemwise_div"),
        "mod": ("_mod", "_Mod"),
        "power": ("_power", "_Power"),
        "maximum": ("_maximum", "_Maximum"),
        "minimum": ("_minimum", "_Minimum"),
        "hypot": ("_hypot", "_Hypot"),
        "equal": ("_equal", "_Equal"),
        "not_equal": ("_not_equal", "_Not_Equal"),
        "greater": ("_greater", "_Greater"),
        "greater_equal": ("_greater_equal", "_Greater_Equal"),
        "lesser": ("_lesser", "_Lesser"),
        "lesser_equal": ("_lesser_equal", "_Lesser_Equal"),
        "logical_and": ("_logical_and", "_Logical_And"),
        "logical_or": ("_logical_or", "_Logical_Or"),
        "logical_xor": ("_logical_xor", "_Logical_Xor"),
    }
)
_BROADCAST_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"add": ("broadcast_plus",), "sub": ("broadcast_minus",)}
)


@dataclass(frozen=True)
class Binary(Operator):
    """A function of two tensors of one type."""

    inputs = ("lhs", "rhs")

    function: ClassVar[Function]

    @classmethod
    def read(cls, attributes: Attributes) -> Binary:
        return cls()

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_operands(self.name, self.function, *inputs)
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (self.function.evaluate(*inputs),)

    def emit(self, build: NodeBuilder) -> None:
        self.function.emit(build, *build.inputs)


class _Elementwise(Binary):
    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return (data,)


class _Broadcasting(Binary):
    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        try:
            return (np.broadcast_shapes(*inputs),)
        except ValueError:
            raise ShapeError(f"the shapes {shown(list(inputs))} do not broadcast") from None


def _add_operators() -> None:
    for key, function in FUNCTIONS.items():
        same = f"Both inputs have the same shape. {function.restrictions}".strip()
        register_kind(_Elementwise, *_ELEMENTWISE[key], function=function, restrictions=same)
        name, aliases = f"broadcast_{key}", _BROADCAST_ALIASES.get(key, ())
        register_kind(_Broadcasting, name, *aliases, function=function, restrictions=function.restrictions)


_add_operators()


@register
@dataclass(frozen=True)
class AddN(Operator):
    """Sum of tensors of the same shape."""

    name = "add_n"
    aliases = ("ElementWiseSum", "_sum", "elemwise_sum")
    inputs = ()
    restrictions = "All inputs have the same shape."

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> AddN:
        return cls(attributes.integer("num_args", least=1))

    def input_count(self) -> int:
        return self.count

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        return (data,) * (self.count - 1)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        need_computable(*inputs)
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        return self.count - 1

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (reduce(add, inputs),)

    def emit(self, build: NodeBuilder) -> None:
        total, *others = build.inputs
        for other in others[:-1]:
            total = build.node("sum", "Add", [total, other])
        build.finish(*("Add", [total, others[-1]]) if others else ("Identity", [total]))
