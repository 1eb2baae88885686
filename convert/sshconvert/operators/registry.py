"""The registry of operators, and what other modules ask of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from sshconvert.mxnet.symbol import Signature
from sshconvert.operators.base import Operator
from sshconvert.registry import Registry

Kind = TypeVar("Kind", bound=type[Operator])

# The class of each operator by its name and aliases.
OPERATORS: Final[Registry[type[Operator]]] = Registry("sshconvert.operators")

# What the reader of symbols knows of unsupported operators, so that messages give them the names of MXNet 1.9.
_OTHERS: Final = (
    Signature("FullyConnected", ("data", "weight", "bias")),
    *(Signature(name, old_defaults={"axis": "-1"}) for name in ("argmax", "argmin")),  # over all axes
)
_SCALARS: Final = ("Plus", "Minus", "RMinus", "Mul", "Div", "RDiv", "Power", "RPower", "Maximum", "Minimum")
_ALIASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("_Minus", "_minus", "_sub"), "elemwise_sub"),
    **dict.fromkeys(("_Mul", "_mul"), "elemwise_mul"),
    **dict.fromkeys(("_Div", "_div"), "elemwise_div"),
    **{f"_{name}Scalar": f"_{name.lower()}_scalar" for name in _SCALARS},
    "ElementWiseSum": "add_n",
    "Softmax": "SoftmaxOutput",
    "broadcast_plus": "broadcast_add",
    "broadcast_minus": "broadcast_sub",
    "flatten": "Flatten",
    "swapaxes": "SwapAxis",
    "cast": "Cast",
}


def register(operator: Kind) -> Kind:
    """Add a class to `OPERATORS` under its name and aliases."""
    return OPERATORS.register(operator.name, *operator.aliases)(operator)  # type: ignore[return-value]  # the same class


def signatures() -> dict[str, Signature]:
    """Return what the reader of symbols needs to know, by the operators' names and aliases."""
    return {
        **{alias: Signature(name) for alias, name in _ALIASES.items()},
        **{signature.name: signature for signature in _OTHERS},
        **{name: Signature(kind.name, kind.inputs, kind.auxiliaries) for name, kind in OPERATORS.items()},
    }


def weight_inputs() -> dict[str, int]:
    """Return the ONNX operators that read weights, and the number of the input that they read them from."""
    return {kind.weights.onnx: kind.weights.input for kind in OPERATORS.values() if kind.weights}


def weighted_operations() -> frozenset[str]:
    """Return OpenVINO's operations that read weights."""
    return frozenset(name for kind in OPERATORS.values() if kind.weights for name in kind.weights.openvino)


def value_preserving() -> frozenset[str]:
    """Return the ONNX operators that choose among the values of their input."""
    return frozenset(name for kind in OPERATORS.values() for name in kind.value_preserving)
