"""The base class of the operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@dataclass(frozen=True)
class Weights:
    """Where an operator takes its weights from: what FP16 halves and INT8 quantizes.

    `onnx` is the ONNX operator that reads the weights as its input number `input`; `openvino` are the operations that
    OpenVINO makes of it.
    """

    onnx: str
    openvino: tuple[str, ...]
    input: int = 1


class Operator(ABC):
    """One operator with the attributes of one node. The defaults suit an elementwise operator with one input.

    Attributes:
        name: The operator's name in MXNet 1.9.
        aliases: Its other names, in old symbols too.
        inputs: MXNet's names of its inputs; none if their number depends on the attributes.
        auxiliaries: How many of the inputs, the last, are auxiliary states. MXNet 0.8 leaves them out.
        weights: Where it takes weights from, if it has any.
        value_preserving: ONNX operators of `emit` that choose among the values of their input. INT8 may as well round
            in front of them.
        restrictions: What it refuses beside attributes, for the table in `convert/README.md`.

    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("data",)
    auxiliaries: ClassVar[int] = 0
    weights: ClassVar[Weights | None] = None
    value_preserving: ClassVar[tuple[str, ...]] = ()
    restrictions: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def read(cls, attributes: Attributes) -> Operator:
        """Take each attribute that the operator honours. `attributes` collects the problems."""

    @abstractmethod
    def emit(self, build: NodeBuilder) -> None:
        """Add the ONNX nodes that compute the outputs. Raises ShapeError for what ONNX cannot express."""

    def input_count(self) -> int:
        return len(self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """MXNet's names of the outputs."""
        return ("output",)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        """Return the shapes of the parameters: the inputs behind the first one, whose shape is `data`."""
        return ()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """Return the shape of each output. Raises ShapeError, without a node's name, for inputs that do not fit."""
        return (inputs[0],)

    def flops(self, *inputs: Shape) -> float:
        """Return the operations for each element of the first output."""
        return 0


def need(condition: bool, problem: str) -> None:
    """Raise ShapeError with the problem unless the condition holds."""
    if not condition:
        raise ShapeError(problem)
