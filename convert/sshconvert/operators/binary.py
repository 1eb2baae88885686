"""Functions of two numbers, which operators apply to two tensors or to a tensor and a scalar.

Comparisons and logical functions return 0 or 1 in the type of their inputs. Integer division truncates, and the
remainder has the sign of the divisor, and is 0 for a divisor of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Array, DType
from sshconvert.operators.base import need

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

Emit = Callable[["NodeBuilder", str, str], None]

# The types that ONNX Runtime and OpenVINO compute with.
COMPUTABLE: Final = ("float32", "int32", "int64")


@dataclass(frozen=True)
class Function:
    """A function: its definition in NumPy, and the ONNX nodes that compute a node's output from two tensors."""

    evaluate: Callable[[Array, Array], Array]
    emit: Emit
    takes_integers: bool = True
    restrictions: str = ""


def is_integer(build: NodeBuilder) -> bool:
    return build.output_dtypes[0].kind == "i"


def number(build: NodeBuilder, role: str, value: float) -> str:
    """Add a constant in the type of the output."""
    return build.constant(role, np.array(value, build.output_dtypes[0]))


def need_operands(name: str, function: Function, *dtypes: DType) -> None:
    """Raise ShapeError unless the function takes inputs of these types."""
    need_computable(*dtypes)
    need(function.takes_integers or dtypes[0].kind == "f", f"cannot compute {name} of {dtypes[0]}")


def need_computable(*dtypes: DType) -> None:
    """Raise ShapeError unless the inputs have one type, and both runtimes compute with it."""
    need(len(set(dtypes)) == 1, f"inputs of the types {', '.join(map(str, dtypes))}, expected one type")
    need(dtypes[0] in COMPUTABLE, f"cannot compute with {dtypes[0]}")


def _node(operator: str) -> Emit:
    return lambda build, lhs, rhs: build.finish(operator, [lhs, rhs])


def _truth(build: NodeBuilder, operator: str, *inputs: str) -> None:
    """Finish with a comparison, as 0 or 1 in the type of the output."""
    build.finish_cast(build.node("holds", operator, inputs))


def _comparison(operator: str) -> Emit:
    return lambda build, lhs, rhs: _truth(build, operator, lhs, rhs)


def _emit_not_equal(build: NodeBuilder, lhs: str, rhs: str) -> None:
    _truth(build, "Not", build.node("equal", "Equal", [lhs, rhs]))


def _logical(operator: str, *, negated: bool) -> Emit:
    """Combine whether the inputs are zero. By De Morgan's laws, the negated `Or` is the conjunction."""

    def emit(build: NodeBuilder, lhs: str, rhs: str) -> None:
        zero = number(build, "zero", 0)
        zeros = [build.node(role, "Equal", [side, zero]) for role, side in (("lhs", lhs), ("rhs", rhs))]
        if negated:
            _truth(build, "Not", build.node("both", operator, zeros))
        else:
            _truth(build, operator, *zeros)

    return emit


def _divide(lhs: Array, rhs: Array) -> Array:
    if lhs.dtype.kind == "f":
        return np.asarray(lhs / rhs)
    return np.asarray(np.abs(lhs) // np.abs(rhs) * np.sign(lhs) * np.sign(rhs))


def _emit_divide(build: NodeBuilder, lhs: str, rhs: str) -> None:
    """OpenVINO rounds quotients of integers down, so it divides absolute values."""
    if not is_integer(build):
        build.finish("Div", [lhs, rhs])
        return
    sizes = (build.node(role, "Abs", [side]) for role, side in (("dividend", lhs), ("divisor", rhs)))
    quotient = build.node("quotient", "Div", [*sizes])
    sign = build.node("sign", "Mul", [build.node(role, "Sign", [s]) for role, s in (("up", lhs), ("down", rhs))])
    build.finish("Mul", [quotient, sign])


def _modulo(lhs: Array, rhs: Array) -> Array:
    return np.where(rhs == 0, np.zeros_like(lhs), np.mod(lhs, np.where(rhs == 0, np.ones_like(rhs), rhs)))


def _emit_modulo(build: NodeBuilder, lhs: str, rhs: str) -> None:
    """ONNX Runtime ends the process for integers modulo 0, so the divisor is 1 there; x modulo 1 is 0."""
    zero = number(build, "zero", 0)
    is_zero = build.node("is_zero", "Equal", [rhs, zero])
    if is_integer(build):
        build.finish("Mod", [lhs, build.node("divisor", "Where", [is_zero, number(build, "one", 1), rhs])])
        return
    remainder = build.node("remainder", "Mod", [lhs, rhs], fmod=1)  # with the sign of lhs
    signs = build.node("signs", "Mul", [build.node("sign", "Sign", [remainder]), rhs])
    differ = build.node("differ", "Less", [signs, zero])
    shifted = build.node("modulo", "Where", [differ, build.node("shifted", "Add", [remainder, rhs]), remainder])
    build.finish("Where", [is_zero, zero, shifted])


def _power(lhs: Array, rhs: Array) -> Array:
    """Powers of integers are those of float64, truncated."""
    return np.asarray(np.power(lhs.astype(np.float64), rhs)).astype(lhs.dtype)


def _emit_power(build: NodeBuilder, lhs: str, rhs: str) -> None:
    if is_integer(build):
        lhs, rhs = (build.cast(role, side, np.float64) for role, side in (("base", lhs), ("exponent", rhs)))
        build.finish_cast(build.node("power", "Pow", [lhs, rhs]))
    else:
        build.finish("Pow", [lhs, rhs])


def _emit_hypot(build: NodeBuilder, lhs: str, rhs: str) -> None:
    squares = [build.node(role, "Mul", [side, side]) for role, side in (("lhs_square", lhs), ("rhs_square", rhs))]
    build.finish("Sqrt", [build.node("squares", "Add", squares)])


def _logic(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda lhs, rhs: np.asarray(function(lhs, rhs)).astype(lhs.dtype)


_MODULO: Final = "Of fractions, OpenVINO rounds: a dividend within 1e-7 of a multiple counts as that multiple."
_HYPOT: Final = "The inputs are float32, and their squares too."

ARITHMETIC: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "add": Function(np.add, _node("Add")),
        "sub": Function(np.subtract, _node("Sub")),
        "mul": Function(np.multiply, _node("Mul")),
        "div": Function(_divide, _emit_divide),
        "mod": Function(_modulo, _emit_modulo, restrictions=_MODULO),
        "power": Function(_power, _emit_power),
        "maximum": Function(np.maximum, _node("Max")),
        "minimum": Function(np.minimum, _node("Min")),
        "hypot": Function(np.hypot, _emit_hypot, takes_integers=False, restrictions=_HYPOT),
    }
)
COMPARISONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "equal": Function(_logic(np.equal), _comparison("Equal")),
        "not_equal": Function(_logic(np.not_equal), _emit_not_equal),
        "greater": Function(_logic(np.greater), _comparison("Greater")),
        "greater_equal": Function(_logic(np.greater_equal), _comparison("GreaterOrEqual")),
        "lesser": Function(_logic(np.less), _comparison("Less")),
        "lesser_equal": Function(_logic(np.less_equal), _comparison("LessOrEqual")),
        "logical_and": Function(_logic(np.logical_and), _logical("Or", negated=True)),
        "logical_or": Function(_logic(np.logical_or), _logical("And", negated=True)),
        "logical_xor": Function(_logic(np.logical_xor), _logical("Xor", negated=False)),
    }
)
FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType({**ARITHMETIC, **COMPARISONS})
