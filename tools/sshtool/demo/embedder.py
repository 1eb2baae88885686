"""MobileFaceNet with seeded weights: the demo of embeddings.

The architecture is that of InsightFace's `fmobilefacenet` with its smallest number of blocks, which Open Model Zoo's
face-recognition-mobilefacenet-arcface is too: the same nodes, names and shapes, about a million parameters. The weights
are random filters of He's scale from a seed, so that the network knows nothing about faces. It still gives similar
images similar vectors, which is all that drawn identities need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.graph import Shape
from sshtool.demo.layers import Layer, symbol_json, variable

MXNET_VERSION: Final = 10000
SEED: Final = 1804  # of the paper, 1804.07573
STEPS: Final = 1 << 20  # random filters are integers over STEPS: the same on every platform

# The unit of each stage: its name, width, and the number of blocks behind the one that halves the size.
STAGES: Final = (("23", 64, 128, "res_3", 4), ("34", 128, 256, "res_4", 6), ("45", 128, 512, "res_5", 2))


def mobilefacenet_symbol(size: int = 128, *, data: str = "data", output: str = "fc1", normalized: bool = False) -> str:
    """The symbol JSON text of a network that reads `data` and computes vectors of `size` numbers.

    They come from the dense layer `pre_fc1` and the BatchNorm `fc1` behind it. Another `output` is the BatchNorm's name
    instead, or with `normalized` that of an L2 normalisation behind it.
    """
    names = (f"_plus{number}" for number in count())
    layer = Layer("_minus_scalar", "_minusscalar0", {"scalar": "127.5"}, (variable(data),))
    layer = Layer("_mul_scalar", "_mulscalar0", {"scalar": "0.0078125"}, (layer,))
    layer = _convolution(layer, "conv_1", 64, kernel=3, stride=2)
    layer = _convolution(layer, "conv_2_dw", 64, kernel=3, groups=64)
    for name, width, inner, blocks, number in STAGES:
        layer = _bottleneck(layer, f"dconv_{name}", width, inner, stride=2)
        for block in range(number):
            residual = _bottleneck(layer, f"{blocks}_block{block}", width, min(inner, 2 * width), stride=1)
            layer = Layer("elemwise_add", next(names), {}, (residual, layer))
    layer = _convolution(layer, "conv_6sep", 512)
    layer = _convolution(layer, "conv_6dw7_7", 512, kernel=7, pad=0, groups=512, linear=True)
    dense = (layer, variable("fc1_weight"), variable("pre_fc1_bias"))
    layer = Layer("FullyConnected", "pre_fc1", {"num_hidden": str(size)}, dense)
    name = "fc1" if normalized or output == "pre_fc1" else output
    attributes = {"eps": "2e-05", "fix_gamma": "True", "momentum": "0.9"}
    layer = Layer("BatchNorm", name, attributes, (layer, *_statistics(name)))
    if normalized:
        layer = Layer("L2Normalization", output, {"mode": "instance"}, (layer,))
    return symbol_json([layer], MXNET_VERSION)


def seeded_parameters(shapes: dict[str, Shape], seed: int = SEED) -> Iterator[tuple[str, Floats]]:
    """Yield each parameter, float32, by name, in the order of `shapes`."""
    random: Any = np.random.RandomState(seed)  # NumPy guarantees the sequence of this generator only
    for name, shape in shapes.items():
        yield name, _parameter(name, shape, random)


def _parameter(name: str, shape: Shape, random: Any) -> Floats:
    if name.endswith("_weight"):
        draws = random.randint(-STEPS, STEPS, shape, dtype=np.int64)
        return np.asarray(draws / STEPS * math.sqrt(6 / math.prod(shape[1:])), np.float32)
    if name.endswith("_relu_gamma"):
        return np.full(shape, 0.25, np.float32)
    if name.endswith("proj_batchnorm_gamma"):  # a residual is added to the sum of all before it
        return np.full(shape, 0.5, np.float32)
    return np.full(shape, 1 if name.endswith(("_gamma", "_moving_var")) else 0, np.float32)


def _bottleneck(data: Layer, name: str, width: int, inner: int, *, stride: int) -> Layer:
    data = _convolution(data, f"{name}_conv_sep", inner)
    data = _convolution(data, f"{name}_conv_dw", inner, kernel=3, stride=stride, groups=inner)
    return _convolution(data, f"{name}_conv_proj", width, linear=True)


def _convolution(
    data: Layer,
    name: str,
    width: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    pad: int | None = None,
    groups: int = 1,
    linear: bool = False,
) -> Layer:
    """A convolution without a bias, its BatchNorm, and unless it is `linear` a PReLU."""
    pad = kernel // 2 if pad is None else pad
    sizes = {"kernel": kernel, "pad": pad, "stride": stride}
    attributes = {key: f"({value}, {value})" for key, value in sizes.items()}
    attributes |= {"no_bias": "True", "num_filter": str(width), "num_group": str(groups)}
    layer = Layer("Convolution", f"{name}_conv2d", attributes, (data, variable(f"{name}_conv2d_weight")))
    statistics = _statistics(f"{name}_batchnorm")
    layer = Layer("BatchNorm", f"{name}_batchnorm", {"fix_gamma": "False", "momentum": "0.9"}, (layer, *statistics))
    if linear:
        return layer
    return Layer("LeakyReLU", f"{name}_relu", {"act_type": "prelu"}, (layer, variable(f"{name}_relu_gamma")))


def _statistics(name: str) -> tuple[Layer, ...]:
    return tuple(variable(f"{name}_{role}") for role in ("gamma", "beta", "moving_mean", "moving_var"))
