"""A small octave ResNet that knows colours: the demo of classification.

The architecture is OctConv's for ImageNet in small: a stem, four units of octave convolutions with a quarter of the
channels at half the size, an average of all pixels, a dense layer and a softmax. The filters are random, of He's scale,
from a seed, except for the first six channels: the stem splits each colour into its parts above and below the mean, and
all shortcuts pass these on, so that the average of all pixels holds the image's mean colours. The dense layer compares
them with the colours of the first classes, `COLOURS`; all further classes are unlikely.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Doubles, Floats
from sshconvert.graph import Shape
from sshconvert.models.spec import ImageSpec
from sshtool.demo.layers import Layer, symbol_json, variable

MXNET_VERSION: Final = 10300
SEED: Final = 1904  # of the paper, 1904.05049
STEPS: Final = 1 << 20  # random filters are integers over STEPS: the same on every platform

STEM: Final = 16
PASSED_ON: Final = 6  # channels: R, G, B above the mean, then below it
# The units: name, channels outside and inside, stride; the last has no low frequencies.
UNITS: Final = (("L2_B01", 64, 16, 1), ("L3_B01", 96, 32, 2), ("L4_B01", 128, 32, 2), ("L5_B01", 160, 48, 2))
LOW: Final = 4  # one in four channels

# B, G, R, of the first classes, and their names.
COLOURS: Final = {
    "red": (40, 40, 200),
    "orange": (40, 120, 220),
    "yellow": (50, 210, 220),
    "green": (60, 160, 50),
    "cyan": (200, 190, 60),
    "blue": (200, 70, 40),
    "purple": (170, 50, 130),
    "pink": (190, 130, 230),
    "brown": (40, 70, 110),
    "grey": (120, 120, 120),
}
SHARPNESS: Final = 6.0  # of the softmax
OTHERS: Final = 0.02  # of the weights of all other channels, so that the whole network takes part
GAIN: Final = 0.6  # of random filters, relative to He's scale: sums of shortcuts stay as small as the colours
UNLIKELY: Final = -60.0  # the bias of all other classes


def octave_symbol(classes: int, *, data: str = "data", output: str = "softmax", probabilities: bool = True) -> str:
    """The symbol JSON text of a network that reads `data` and computes `output`: probabilities, or logits."""
    layer = _normalised(_convolution(variable(data), "conv1_conv", STEM, kernel=7, stride=2), "conv1")
    pooling = {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "max", "stride": "(2, 2)"}
    high, low = Layer("Pooling", "pool1", pooling, (layer,)), None
    for name, width, inner, stride in UNITS:
        high, low = _unit(high, low, name, width, inner, stride, merges=name == UNITS[-1][0])
    attributes = {"global_pool": "True", "kernel": "(7, 7)", "pool_type": "avg", "stride": "(1, 1)"}
    pooled = Layer("Pooling", "global-pool", attributes, (_normalised(high, "tail"),))
    dense = (Layer("Flatten", "flatten", {}, (pooled,)), variable("classifier_weight"), variable("classifier_bias"))
    name = "classifier" if probabilities else output
    scores = Layer("FullyConnected", name, {"num_hidden": str(classes)}, dense)
    if probabilities:
        scores = Layer("SoftmaxOutput", output, {}, (scores, variable(f"{output}_label")))
    return symbol_json([scores], MXNET_VERSION)


def octave_parameters(shapes: dict[str, Shape], image: ImageSpec, seed: int = SEED) -> dict[str, Floats]:
    """Each parameter, float32, by name. `image` describes the network's input."""
    random: Any = np.random.RandomState(seed)  # NumPy guarantees the sequence of this generator only
    return {name: np.asarray(_parameter(name, shape, image, random), np.float32) for name, shape in shapes.items()}


def _parameter(name: str, shape: Shape, image: ImageSpec, random: Any) -> Doubles:
    if name == "classifier_weight":
        weights: Doubles = random.randint(-STEPS, STEPS, shape, dtype=np.int64) / STEPS * OTHERS
        weights[: len(COLOURS), :PASSED_ON] = 2 * SHARPNESS * _known(image)[: shape[0]]
        return weights
    if name == "classifier_bias":
        biases = np.full(shape, UNLIKELY)
        known = _known(image)[: shape[0]]
        biases[: len(known)] = -SHARPNESS * (known * known).sum(axis=1)
        return biases
    if not name.endswith("_weight"):
        return np.full(shape, 1.0 if name.endswith(("_gamma", "_moving_var")) else 0.0)
    draws = random.randint(-STEPS, STEPS, shape, dtype=np.int64)
    weights = draws / STEPS * (GAIN * math.sqrt(6 / math.prod(shape[1:])))
    if name == "conv1_conv_weight":
        weights[:PASSED_ON] = 0
        for channel in range(PASSED_ON):
            weights[channel, channel % 3] = (1 if channel < 3 else -1) / (shape[2] * shape[3])
    elif name.endswith("_conv4_conv-h2h_weight"):
        weights[:PASSED_ON] = 0
        weights[range(PASSED_ON), range(PASSED_ON)] = 1
    elif name.endswith(("_conv3_conv-h2h_weight", "_conv3_conv-l2h_weight", "_conv4_conv-l2h_weight")):
        weights[:PASSED_ON] = 0
    return np.asarray(weights)


def _known(image: ImageSpec) -> Doubles:
    """The six channels of an image of each colour, [10, 6]."""
    colours = image.prepared(np.array(list(COLOURS.values()), np.uint8)).astype(np.float64)
    return np.concatenate([np.maximum(colours, 0), np.maximum(-colours, 0)], axis=1)


def _unit(
    high: Layer, low: Layer | None, name: str, width: int, inner: int, stride: int, *, merges: bool
) -> tuple[Layer, Layer | None]:
    """A bottleneck with pre-activation, and a shortcut by a 1x1 convolution. With `merges`, all becomes high."""
    outer_low = 0 if merges else width // LOW
    inner_low = 0 if merges else inner // LOW
    active = _active(high, low, f"{name}_conv1")
    data = _octave(*active, f"{name}_conv1", inner - inner_low, inner_low, kernel=1, stride=1)
    data = _octave(
        *_active(*data, f"{name}_conv2"), f"{name}_conv2", inner - inner_low, inner_low, kernel=3, stride=stride
    )
    data = _octave(*_active(*data, f"{name}_conv3"), f"{name}_conv3", width - outer_low, outer_low, kernel=1, stride=1)
    active = _active(high, low, f"{name}_conv4")
    short = _octave(*active, f"{name}_conv4", width - outer_low, outer_low, kernel=1, stride=stride)
    total = _sum(f"{name}_sum-h", short[0], data[0])
    return total, _sum(f"{name}_sum-l", short[1], data[1]) if short[1] and data[1] else None


def _octave(
    high: Layer, low: Layer | None, name: str, width: int, width_low: int, *, kernel: int, stride: int
) -> tuple[Layer, Layer | None]:
    """An octave convolution: four convolutions between high and low frequencies.

    A stride of 2 halves the high frequencies first, to the size of the low ones, which need no enlargement then.
    """
    if stride > 1:
        high = _halved(high, f"{name}_pool-h")
    new_high = _convolution(high, f"{name}_conv-h2h", width, kernel=kernel)
    if low:
        added = _convolution(low, f"{name}_conv-l2h", width, kernel=kernel)
        if stride == 1:
            enlarged = {"num_args": "1", "sample_type": "nearest", "scale": "2"}
            added = Layer("UpSampling", f"{name}_up", enlarged, (added,))
        new_high = _sum(f"{name}_conv-h", new_high, added)
    if not width_low:
        return new_high, None
    new_low = _convolution(_halved(high, f"{name}_down"), f"{name}_conv-h2l", width_low, kernel=kernel)
    if low:
        same = _halved(low, f"{name}_pool-l") if stride > 1 else low
        new_low = _sum(f"{name}_conv-l", new_low, _convolution(same, f"{name}_conv-l2l", width_low, kernel=kernel))
    return new_high, new_low


def _active(high: Layer, low: Layer | None, name: str) -> tuple[Layer, Layer | None]:
    return _normalised(high, name, "-h"), _normalised(low, name, "-l") if low else None


def _normalised(data: Layer, name: str, end: str = "") -> Layer:
    roles = ("gamma", "beta", "moving_mean", "moving_var")
    statistics = tuple(variable(f"{name}_bn{end}_{role}") for role in roles)
    data = Layer("BatchNorm", f"{name}_bn{end}", {"fix_gamma": "False"}, (data, *statistics))
    return Layer("Activation", f"{name}_relu{end}", {"act_type": "relu"}, (data,))


def _convolution(data: Layer, name: str, width: int, *, kernel: int = 1, stride: int = 1) -> Layer:
    sizes = {"kernel": kernel, "pad": kernel // 2, "stride": stride}
    attributes = {key: f"({value}, {value})" for key, value in sizes.items()} | {"no_bias": "True"}
    attributes |= {"num_filter": str(width)}
    return Layer("Convolution", name, attributes, (data, variable(f"{name}_weight")))


def _halved(data: Layer, name: str) -> Layer:
    attributes = {"kernel": "(2, 2)", "pool_type": "avg", "stride": "(2, 2)"}
    return Layer("Pooling", name, attributes, (data,))


def _sum(name: str, *layers: Layer) -> Layer:
    return Layer("add_n", name, {"num_args": str(len(layers))}, layers)
