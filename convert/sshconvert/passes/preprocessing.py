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


@dataclass(frozen=True)
class BakePreprocessing(Pass):
    """Subtract the mean, divide by the divisors and reverse the channels inside the network.

    Needs: the input feeds one convolution and nothing else, as data, with 3 channels in one group, and no other node
    shares its weights. Raises PreprocessingError otherwise.

    Changes: the input is raw BGR, float32 [N, 3, H, W], 0-255, instead of RGB minus the mean; without `reverse` it is
    raw RGB. `mean` and `divisors` are in R, G, B order. For an original that takes BGR, exchange the two.

    Keeps: the outputs, for the same image. The reversal costs nothing: it reverses the input channels of the first
    convolution's weights, which changes the order of the same products. The mean stays a Sub: folded into the bias it
    would be wrong at the borders, where the convolution pads with zeros after the subtraction.
    """

    input_name: str
    mean: Sequence[float]
    divisors: Sequence[float] = (1, 1, 1)
    reverse: bool = True

    def apply(self, model: OnnxModel) -> OnnxModel:
        first = _only_convolution(model, self.input_name)
        weight_name = first.input[1]
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
        place = model.nodes.index(first)
        convolution = rewired(first, [image, *first.input[1:]])
        nodes = (*model.nodes[:place], *build.nodes, convolution, *model.nodes[place + 1 :])
        weights = {weight_name: model.initializers[weight_name][:, order]}
        return replace(model, nodes=nodes, initializers={**model.initializers, **build.constants, **weights})


def _only_convolution(model: OnnxModel, input_name: str) -> onnx.NodeProto:
    consumers = list(model.consumers(input_name))
    if (
        len(consumers) != 1
        or consumers[0].op_type != Convolution.weights.onnx
        or list(consumers[0].input).count(input_name) != 1
    ):
        readers = ", ".join(f"{node.name} ({node.op_type})" for node in consumers) or "nothing"
        raise _refusal(input_name, f"feeds {readers}, not one convolution")
    convolution = consumers[0]
    weight = model.initializers.get(convolution.input[1])
    if weight is None or convolution.input[0] != input_name or weight.shape[1] != CHANNELS:
        raise _refusal(input_name, f"does not feed a convolution over {CHANNELS} channels in one group")
    sharing = [node.name for node in model.consumers(convolution.input[1])]
    if sharing != [convolution.name]:
        raise _refusal(input_name, f"feeds a convolution whose weights {', '.join(sharing)} share")
    if model.inputs[input_name][1] != CHANNELS:
        raise _refusal(input_name, f"has shape {model.inputs[input_name]}, so the convolution is grouped")
    return convolution


def _refusal(input_name: str, reason: str) -> PreprocessingError:
    return PreprocessingError(
        f"input {input_name}: preprocessing cannot be built in because it {reason}; convert with --no-preprocessing"
    )
