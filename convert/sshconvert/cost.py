"""The cost of a network, by two rules.

By the first rule, `Network.flops` counts the operations of the original network (`Operator.flops`, for each element of
an output): a product and a sum for each weight of a convolution and each row of a FullyConnected, 1 for a bias, 2 for
an activation and a BatchNorm, the window for a pooling, 5 for a softmax, k - 1 for a sum of k tensors, 1 for arithmetic
with two operands, 0 for what moves values. MParams are all values of the parameter file.

Open Model Zoo's tool `model_analyzer` counts the network that its converter wrote. For ssh-mxnet this gives the first
rule's figures. The cards of the other MXNet models are of a time in which the tool differed from it (`folded`):

- a BatchNorm behind a convolution or a FullyConnected becomes its bias; one before a FullyConnected joins its weights
- a bias costs nothing
- arithmetic with k operands costs 2k - 1, and with a scalar 2; a tensor of which only the shape is read costs nothing
- the subtraction of an image's mean and the division cost 2 together
- parameters are the weights, one bias for each filter, the slopes of PReLU, and two values for each channel of another
  BatchNorm
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.network import Network
from sshconvert.operators.base import Operator
from sshconvert.operators.elementwise import AddN, Binary
from sshconvert.operators.normalisation import BatchNorm
from sshconvert.operators.scalar import Scalar

SHAPE_LIKE = "shape_like"  # MXNet's name of an input of which an operator reads the shape alone


@dataclass(frozen=True)
class Cost:
    """Operations of a run, and the number of parameters."""

    flops: float
    parameters: int


def original_cost(network: Network, model: ModelSpec, shapes: Mapping[str, Shape]) -> Cost:
    """Count the original network at the shapes of its inputs, and the steps of an image's preprocessing, one each."""
    parameters = sum(map(math.prod, network.parameters(shapes).values()))
    return Cost(network.flops() + _pixels(model, shapes) * sum(_steps(model)), parameters)


def folded_cost(network: Network, model: ModelSpec, shapes: Mapping[str, Shape]) -> Cost:
    """Count the converted network as Open Model Zoo's cards do, at the shapes of its inputs."""
    folded = _Folded(network, shapes)
    flops: float = 2 * _pixels(model, shapes) * any(_steps(model))
    for number, operator in enumerate(network.operators):
        if operator is not None:
            flops += folded.flops(number, operator) * math.prod(network.shapes[number][0])
    return Cost(flops, folded.parameters())


def _pixels(model: ModelSpec, shapes: Mapping[str, Shape]) -> int:
    return math.prod(*shapes.values()) if model.takes_image else 0


def _steps(model: ModelSpec) -> tuple[bool, bool]:
    """Return whether an image is reduced by a mean, and whether it is divided."""
    return (any(model.image.mean), set(model.image.divisors) != {1}) if model.takes_image else (False, False)


class _Folded:
    """A network whose BatchNorms have joined convolutions and FullyConnecteds."""

    def __init__(self, network: Network, inputs: Collection[str]) -> None:
        self.network, self.inputs, self.nodes = network, inputs, network.graph.nodes
        self.readers: dict[int, list[int]] = defaultdict(list)
        for number, node in enumerate(self.nodes):
            operator = network.operators[number]
            names = operator.inputs if operator else ()
            for place, entry in enumerate(node.inputs):
                if names[place : place + 1] != (SHAPE_LIKE,):
                    self.readers[entry.node].append(number)
        self.ends = {entry.node for entry in network.graph.outputs}

    def flops(self, number: int, operator: Operator) -> float:
        """Return the operations for each element of a node's first output."""
        node = self.nodes[number]
        if self._is_unread(number) or (isinstance(operator, BatchNorm) and self._joins(number)):
            return 0
        if isinstance(operator, Binary | AddN):
            return 2 * len(node.inputs) - 1
        if isinstance(operator, Scalar):
            return 2
        return operator.flops(*self.network.input_shapes(node)) - _has_bias(operator)

    def parameters(self) -> int:
        """Return the number of values that the nodes read, after the folding."""
        return sum(
            self._parameters(number, operator)
            for number, operator in enumerate(self.network.operators)
            if operator is not None and not self._is_unread(number)
        )

    def _parameters(self, number: int, operator: Operator) -> int:
        node = self.nodes[number]
        if isinstance(operator, BatchNorm):
            return 0 if self._joins(number) else 2 * self.network.input_shapes(node)[1][0]
        own = sum(
            math.prod(self.network.shape(entry))
            for entry in node.inputs
            if self.nodes[entry.node].is_variable and self.nodes[entry.node].name not in self.inputs
        )
        reader = self._only_reader(number)
        gains_bias = operator.weights and not _has_bias(operator) and reader is not None and self._is_norm(reader)
        return own + (self.network.shapes[number][0][1] if gains_bias else 0)

    def _joins(self, number: int) -> bool:
        """Return whether a BatchNorm joins the convolution or FullyConnected before it, or a FullyConnected behind."""
        source = self.nodes[number].inputs[0].node
        before = self.network.operators[source]
        if before is not None and before.weights and self._only_reader(source) == number:
            return True
        behind = self._only_reader(number)
        while behind is not None and self._moves(behind):
            behind = self._only_reader(behind)
        operator = self.network.operators[behind] if behind is not None else None
        return operator is not None and operator.weights is not None and operator.weights.onnx == "Gemm"

    def _is_norm(self, number: int) -> bool:
        return isinstance(self.network.operators[number], BatchNorm)

    def _moves(self, number: int) -> bool:
        operator = self.network.operators[number]
        return operator is not None and operator.flops(*self.network.input_shapes(self.nodes[number])) == 0

    def _only_reader(self, number: int) -> int | None:
        readers = self.readers[number]
        return readers[0] if len(readers) == 1 and number not in self.ends else None

    def _is_unread(self, number: int) -> bool:
        return number not in self.ends and not self.readers[number]


def _has_bias(operator: Operator) -> bool:
    return bool(operator.weights and getattr(operator, "bias", False))
