"""The preprocessing pass: the network takes a raw image, subtracts the mean and reverses the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx

from sshconvert.errors import PreprocessingError
from sshconvert.onnx.builder import Builder, rewired
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.convolution import Convolution
from sshconvert.passes.base import Pass

CHANNELS: Final = 3

# Operators that compute each value alone: with a scalar, they do the same to every channel.
_ELEMENTWISE: Final = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})


@dataclass(frozen=True)
class BakePreprocessing(Pass):
    """Subtract the mean, divide by the divisors and reverse the channels inside the network.

    Needs: an input [N, 3, H, W] that a node reads. Raises PreprocessingError otherwise.

    Changes: the input is raw BGR, float32 [N, 3, H, W], 0-255, instead of RGB minus the mean; without `reverse` it is
    raw RGB. `mean` and `divisors` are in R, G, B order. For an original that takes BGR, exchange the two.

    Keeps: the outputs, for the same image. The reversal costs nothing if the input feeds one convolution, directly or
    through arithmetic with scalars: it reverses the input channels of the convolution's weights, which changes the
    order of the same products. Otherwise a Gather reverses the channels. The mean stays a Sub: folded into the bias it
    would be wrong at the borders, where the convolution pads with zeros after the subtraction.
    """

    input_name: str
    mean: Sequence[float]
    divisors: Sequence[float] = (1, 1, 1)
    reverse: bool = True

    def apply(self, model: OnnxModel) -> OnnxModel:
        if not any(model.consumers(self.input_name)) or model.inputs[self.input_name][1] != CHANNELS:
            raise PreprocessingError(
                f"input {self.input_name}: preprocessing cannot be built in, because no node reads {CHANNELS} channels "
                "of it; convert with --no-preprocessing"
            )
        order = slice(None, None, -1 if self.reverse else 1)
        build = Builder.of(model, f"{self.input_name}_")
        mean, divisors = (
            np.array(values, np.float32)[order].reshape(1, CHANNELS, 1, 1) for values in (self.mean, self.divisors)
        )
        image = self.input_name
        if mean.any():
            image = build.node("minus_mean", "Sub", [image, build.constant("mean", mean)])
        if (divisors != 1).any():
            image = build.node("divided", "Div", [image, build.constant("divisors", divisors)])
        weight_name = _weights_of_first_convolution(model, self.input_name) if self.reverse else ""
        if self.reverse and not weight_name:
            reversed_order = build.integers("order", range(CHANNELS)[::-1])
            image = build.node("reversed", "Gather", [image, reversed_order], axis=1)
        weights = {weight_name: model.initializers[weight_name][:, order]} if weight_name else {}
        nodes = tuple(_reading(node, self.input_name, image) for node in model.nodes)
        return replace(
            model, nodes=(*build.nodes, *nodes), initializers={**model.initializers, **build.constants, **weights}
        )


def _reading(node: onnx.NodeProto, before: str, after: str) -> onnx.NodeProto:
    """Return the node, or a copy that reads the tensor `after` instead of `before`."""
    if before == after or before not in node.input:
        return node
    return rewired(node, [after if name == before else name for name in node.input])


def _weights_of_first_convolution(model: OnnxModel, tensor: str) -> str:
    """Return the name of the weights whose input channels are those of the image, and of nothing else; "" if none are.

    Between the image and the convolution may be arithmetic with scalars.
    """
    while True:
        consumers = list(model.consumers(tensor))
        if len(consumers) != 1 or list(consumers[0].input).count(tensor) != 1 or tensor in model.outputs:
            return ""
        (node,) = consumers
        if node.op_type == Convolution.weights.onnx:
            weights = model.initializers.get(node.input[1])
            shared = len(list(model.consumers(node.input[1]))) > 1
            is_over_image = weights is not None and node.input[0] == tensor and weights.shape[1] == CHANNELS
            return node.input[1] if is_over_image and not shared else ""
        others = [model.initializers.get(name) for name in node.input if name != tensor]
        if node.op_type not in _ELEMENTWISE or any(other is None or other.size != 1 for other in others):
            return ""
        tensor = node.output[0]
