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

# Aliases of operators that are not supported: messages give an operator the name of MXNet 1.9.
OTHER_ALIASES: Final[Mapping[str, str]] = {
    "_Minus": "elemwise_sub",
    "_minus": "elemwise_sub",
    "_sub": "elemwise_sub",
    "_Mul": "elemwise_mul",
    "_mul": "elemwise_mul",
    "_Div": "elemwise_div",
    "_div": "elemwise_div",
    "_PlusScalar": "_plus_scalar",
    "_MinusScalar": "_minus_scalar",
    "_RMinusScalar": "_rminus_scalar",
    "_MulScalar": "_mul_scalar",
    "_DivScalar": "_div_scalar",
    "_RDivScalar": "_rdiv_scalar",
    "_PowerScalar": "_power_scalar",
    "_RPowerScalar": "_rpower_scalar",
    "_MaximumScalar": "_maximum_scalar",
    "_MinimumScalar": "_minimum_scalar",
    "ElementWiseSum": "add_n",
    "Softmax": "SoftmaxOutput",
    "broadcast_plus": "broadcast_add",
    "broadcast_minus": "broadcast_sub",
    "flatten": "Flatten",
    "swapaxes": "SwapAxis",
    "cast": "Cast",
}


# What else the reader of symbols knows of operators that are not supported.
OTHER_SIGNATURES: Final = (
    Signature("FullyConnected", ("data", "weight", "bias")),
    *(Signature(name, old_defaults={"axis": "-1"}) for name in ("argmax", "argmin")),  # over all axes
)


def register(operator: Kind) -> Kind:
    """Add a class to `OPERATORS` under its name and aliases."""
    return OPERATORS.register(operator.name, *operator.aliases)(operator)  # type: ignore[return-value]  # the same class


def supported() -> tuple[type[Operator], ...]:
    """Return the class of each operator once, in the order of names."""
    return tuple(sorted(set(OPERATORS.values()), key=lambda operator: operator.name.lower()))


def signatures() -> dict[str, Signature]:
    """Return what the reader of symbols needs to know, by the operators' names and aliases."""
    return {
        **{alias: Signature(name) for alias, name in OTHER_ALIASES.items()},
        **{signature.name: signature for signature in OTHER_SIGNATURES},
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
