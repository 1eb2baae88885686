"""The registry of operators, and the names that other modules read from it."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

from sshconvert.mxnet.symbol import Signature
from sshconvert.operators.base import Operator
from sshconvert.registry import Registry

OperatorClass = TypeVar("OperatorClass", bound=type[Operator])

# The class of each operator by its name and aliases.
OPERATORS: Final[Registry[type[Operator]]] = Registry("sshconvert.operators")


def register(operator: OperatorClass) -> OperatorClass:
    """Add a class to `OPERATORS` under its name and aliases."""
    return OPERATORS.register(operator.name, *operator.aliases)(operator)  # type: ignore[return-value]  # the same class


def register_kind(base: type[Operator], name: str, *aliases: str, **members: Any) -> None:
    """Register a class that differs from `base` only in its name, its aliases and these class attributes."""
    namespace = {"__module__": base.__module__, "__doc__": base.__doc__, "name": name, "aliases": aliases, **members}
    register(cast("type[Operator]", type(name, (base,), namespace)))


def signatures() -> dict[str, Signature]:
    """Return the signatures that the symbol reader needs, by the operators' names and aliases."""
    return {
        name: Signature(operator.name, operator.inputs, operator.auxiliaries, operator.old_defaults)
        for name, operator in OPERATORS.items()
    }


def weight_inputs() -> dict[str, int]:
    """Return the number of the weight input by ONNX operator."""
    return {operator.weights.onnx: operator.weights.input for operator in OPERATORS.values() if operator.weights}


def weighted_operations() -> frozenset[str]:
    """Return the OpenVINO operations that read weights."""
    return frozenset(name for operator in OPERATORS.values() if operator.weights for name in operator.weights.openvino)


def value_preserving() -> frozenset[str]:
    """Return the ONNX operators whose outputs hold only values of their input."""
    return frozenset(name for operator in OPERATORS.values() for name in operator.value_preserving)
