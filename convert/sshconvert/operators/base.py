"""The base class of the operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from sshconvert.arrays import Array, DType
from sshconvert.errors import ShapeError
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder


@dataclass(frozen=True)
class Weights:
    """The weight input that FP16 halves and INT8 quantizes.

    The ONNX operator `onnx` reads the weights as its input number `input`. OpenVINO converts it to the operations
    `openvino`.
    """

    onnx: str
    openvino: tuple[str, ...]
    input: int = 1


class Operator(ABC):
    """One operator with the attributes of one node. The defaults suit an elementwise operator with one input.

    Attributes:
        name: The operator's name in MXNet 1.9.
        aliases: Its other names, including those in old symbols.
        inputs: MXNet's names of its inputs; empty if the attributes decide their number.
        auxiliaries: The number of trailing inputs that are auxiliary states. MXNet 0.8 omits them from symbols.
        shapes_given: True if the parameters may have other shapes in the file than those of `parameter_shapes`.
        ignored: Names of inputs that have no effect at inference, such as labels. `cutting` removes them.
        old_defaults: Attribute values that meant the default before MXNet 0.9.5.
        reads_values: False for an operator whose outputs depend only on the shapes of its inputs.
        weights: Its weight input, if it has one.
        value_preserving: The ONNX operators of `emit` whose outputs hold only values of their input. Quantization
            gives the same values before and after them.
        restrictions: Its restrictions beside attributes, for the table in `convert/README.md`.

    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("data",)
    auxiliaries: ClassVar[int] = 0
    shapes_given: ClassVar[bool] = False
    ignored: ClassVar[tuple[str, ...]] = ()
    old_defaults: ClassVar[Mapping[str, str]] = MappingProxyType({})
    reads_values: ClassVar[bool] = True
    weights: ClassVar[Weights | None] = None
    value_preserving: ClassVar[tuple[str, ...]] = ()
    restrictions: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def read(cls, attributes: Attributes) -> Operator:
        """Read each attribute that the operator supports. `attributes` collects the problems."""

    @abstractmethod
    def emit(self, build: NodeBuilder) -> None:
        """Add the ONNX nodes that compute the outputs. Raises ShapeError if ONNX cannot express the operator."""

    @abstractmethod
    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        """Compute the outputs by the operator's definition, independent of `emit`.

        Floating-point arrays are float64, and integers are int64. Constants of MXNet keep the precision that MXNet
        gives them: a scalar attribute is rounded to float32 first.
        """

    @property
    def opset(self) -> int:
        """The oldest operator set of ONNX that has the nodes of `emit`; 0 is the oldest that sshtool writes."""
        return 0

    def input_count(self) -> int:
        return len(self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """MXNet's names of the outputs."""
        return ("output",)

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        """Return the shapes of the inputs after the first, whose shape is `data`, as far as they follow from it.

        An empty shape is unknown.
        """
        return ()

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """Return the shape of each output. Raises ShapeError, without a node's name, for unsupported input shapes."""
        return (inputs[0],)

    def output_dtypes(self, *inputs: DType) -> tuple[DType, ...]:
        """Return the type of each output: by default that of the first input."""
        return (inputs[0],) * len(self.output_names())

    def with_shape(self, shape: Shape) -> Operator:
        """Return an operator without inputs whose output has this shape, if its own attributes leave sizes open (0)."""
        return self

    def flops(self, *inputs: Shape) -> float:
        """Return the number of operations for each element of the first output."""
        return 0


def need(condition: bool, problem: str) -> None:
    """Raise ShapeError with the problem unless the condition holds."""
    if not condition:
        raise ShapeError(problem)


def need_floats(*dtypes: DType) -> None:
    """Raise ShapeError for a type on which MXNet does not compute the operator."""
    need(all(dtype.kind == "f" for dtype in dtypes), "integers are not supported")
