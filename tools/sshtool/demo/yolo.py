"""A small YOLOv3 with seeded weights: the demo of `yolo_detection`.

The body is a Darknet of one convolution for each stride, and coarse features join finer ones as in YOLOv3. The weights
are random, so that the network knows no objects. Objectness has a bias, so that few anchors pass the threshold.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.cutting import SUFFIX
from sshconvert.errors import ModelError
from sshconvert.graph import VARIABLE
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.yolo_detection import YoloDetection
from sshconvert.tasks.yolo_heads import BOX, CLASSES, OBJECTNESS
from sshtool.demo.layers import Layer, symbol_json, variable
from sshtool.demo.seeding import parameter_shapes, seeded

MXNET_VERSION: Final = 10500
MEAN: Final = (123.675, 116.28, 103.53)  # R, G, B, as GluonCV's
DEVIATION: Final = (58.395, 57.12, 57.375)
WIDTHS: Final = (16, 32, 64, 64, 96)  # at the strides 2, 4, 8, 16, 32
STRIDES: Final = (8, 16, 32)
ROUTED: Final = 32  # channels of coarse features that join finer ones

# Scales of the random logits, by their place in an anchor, and the biases of scores.
SPREAD: Final = 0.5
RARE: Final = -3.0


def yolo_network(model: ModelSpec) -> tuple[str, dict[str, Floats]]:
    """The symbol's text, and the parameters by name. Raises ModelError for heads of other strides."""
    task = model.task
    if not isinstance(task, YoloDetection) or any(head.stride not in STRIDES for head in task.heads):
        raise ModelError(
            f"{model.name}: --demo makes heads of the strides {', '.join(map(str, STRIDES))}; give a checkpoint of "
            "this model with --checkpoint"
        )
    width = CLASSES + len(task.labels)
    names = {head.output: model.outputs.get(head.output, head.output).removesuffix(SUFFIX) for head in task.heads}
    features = _features(model)
    heads = [_convolution(features[head.stride], names[head.output], len(head.anchors) * width) for head in task.heads]
    symbol = symbol_json(heads, MXNET_VERSION)
    parameters = seeded(parameter_shapes(symbol, model))
    for name in names.values():
        _temper(parameters, name, width)
    if model.image_input.is_channels_last:
        parameters |= {"mean": np.array(MEAN, np.float32), "deviation": np.array(DEVIATION, np.float32)}
        parameters |= {name: parameters[name].reshape(1, 1, 1, 3) for name in ("mean", "deviation")}
    return symbol, parameters


def _temper(parameters: dict[str, Floats], head: str, width: int) -> None:
    """Make the boxes of a head resemble the anchors, and high objectness rare."""
    weight, bias = f"{head}_weight", f"{head}_bias"
    roles = np.arange(len(parameters[bias])) % width
    scales = np.where(roles < BOX, SPREAD, 1).astype(np.float32)
    parameters[weight] = parameters[weight] * scales.reshape(-1, 1, 1, 1)
    parameters[bias] = np.where(roles == OBJECTNESS, RARE, 0).astype(np.float32)


def _features(model: ModelSpec) -> dict[int, Layer]:
    """The features at each stride, on an image of raw pixels."""
    layer = variable(model.image_input.name)
    if model.image_input.is_channels_last:
        layer = Layer("broadcast_sub", "centred", {}, (layer, Layer(VARIABLE, "mean", {"__shape__": "(1, 1, 1, 3)"})))
        deviation = Layer(VARIABLE, "deviation", {"__shape__": "(1, 1, 1, 3)"})
        layer = Layer("broadcast_div", "scaled", {}, (layer, deviation))
        layer = Layer("transpose", "channels_first", {"axes": "(0, 3, 1, 2)"}, (layer,))
    else:
        layer = Layer("_mul_scalar", "scaled", {"scalar": "0.015625"}, (layer,))
    scales: dict[int, Layer] = {}
    for number, width in enumerate(WIDTHS, start=1):
        layer = scales[2**number] = _normalised(layer, f"body{number}", width, kernel=3, stride=2)
    features = {32: scales[32]}
    for stride in (16, 8):
        routed = _normalised(features[2 * stride], f"route{stride}", ROUTED)
        enlarged = {"scale": "2", "sample_type": "nearest", "num_args": "1"}
        routed = Layer("UpSampling", f"up{stride}", enlarged, (routed,))
        joined = Layer("Concat", f"concat{stride}", {"dim": "1", "num_args": "2"}, (routed, scales[stride]))
        features[stride] = _normalised(joined, f"joined{stride}", WIDTHS[2], kernel=3)
    return features


def _normalised(data: Layer, name: str, width: int, *, kernel: int = 1, stride: int = 1) -> Layer:
    sizes = {"kernel": kernel, "pad": kernel // 2, "stride": stride}
    attributes = {key: f"({value}, {value})" for key, value in sizes.items()}
    attributes |= {"num_filter": str(width), "no_bias": "True"}
    layer = Layer("Convolution", f"{name}_conv", attributes, (data, variable(f"{name}_conv_weight")))
    statistics = tuple(variable(f"{name}_bn_{role}") for role in ("gamma", "beta", "running_mean", "running_var"))
    layer = Layer("BatchNorm", f"{name}_bn", {"fix_gamma": "False", "eps": "1e-05"}, (layer, *statistics))
    return Layer("LeakyReLU", f"{name}_leaky", {"act_type": "leaky", "slope": "0.1"}, (layer,))


def _convolution(data: Layer, name: str, width: int) -> Layer:
    attributes = {"kernel": "(1, 1)", "num_filter": str(width)}
    return Layer("Convolution", name, attributes, (data, variable(f"{name}_weight"), variable(f"{name}_bias")))
