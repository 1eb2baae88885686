"""MTCNN's four networks as symbols: the demos of `mtcnn-det1` to `mtcnn-det4`, with seeded weights."""

from __future__ import annotations

from typing import Final

from sshconvert.graph import VARIABLE
from sshtool.demo.layers import Layer, Output, symbol_json, variable

MXNET_VERSION: Final = 10400
PATCHES: Final = 5  # around the landmarks, for the fourth network

# The outputs of each network.
DET1: Final = ("conv4_2", "prob1")
DET2: Final = ("conv5_2", "prob1")
DET3: Final = ("conv6_3", "conv6_2", "prob1")
DET4: Final = ("fc5_1", "fc5_2", "fc5_3", "fc5_4", "fc5_5")


def mtcnn_symbol(outputs: tuple[str, ...]) -> str | None:
    """The symbol JSON text of the network with these outputs; None if MTCNN has none."""
    makers = {DET1: _det1, DET2: _det2, DET3: _det3, DET4: _det4}
    return symbol_json(makers[outputs](), MXNET_VERSION) if outputs in makers else None


def _det1() -> list[Layer]:
    layer = _pooled(_filtered(variable("data"), "1", 10, 3), "1", 2)
    layer = _filtered(_filtered(layer, "2", 16, 3), "3", 32, 3)
    scores = Layer("SoftmaxActivation", "prob1", {"mode": "channel"}, (_convolution(layer, "conv4_1", 2, 1),))
    return [_convolution(layer, "conv4_2", 4, 1), scores]


def _det2() -> list[Layer]:
    layer = _dense(_features(variable("data"), "", (28, 48, 64)), "conv4", "prelu4", 128)
    return [_full(layer, "conv5_2", 4), _softmax(_full(layer, "conv5_1", 2))]


def _det3() -> list[Layer]:
    layer = _pooled(_filtered(variable("data"), "1", 32, 3), "1", 3)
    layer = _pooled(_filtered(layer, "2", 64, 3), "2", 3)
    layer = _filtered(_pooled(_filtered(layer, "3", 64, 3), "3", 2), "4", 128, 2)
    layer = _dense(layer, "conv5", "prelu5", 256)
    scores = _softmax(_full(layer, "conv6_1", 2))
    return [_full(layer, "conv6_3", 10), _full(layer, "conv6_2", 4), scores]


def _det4() -> list[Layer]:
    attributes = {"axis": "1", "num_outputs": str(PATCHES), "squeeze_axis": "False"}
    patches = Layer("SliceChannel", "slice", attributes, (variable("data"),), PATCHES)
    branches = [_features(patches.output(number), f"_{number + 1}", (28, 48, 64)) for number in range(PATCHES)]
    layer = Layer("Concat", "concat", {"dim": "1", "num_args": str(PATCHES)}, tuple(branches))
    layer = _dense(layer, "fc4", "prelu4", 256)
    return [
        _full(_dense(layer, f"fc4_{number}", f"prelu4_{number}", 64), f"fc5_{number}", 2)
        for number in range(1, PATCHES + 1)
    ]


def _features(data: Layer | Output, end: str, widths: tuple[int, int, int]) -> Layer:
    """Three convolutions of a network for patches of 24x24."""
    layer = _pooled(_filtered(data, f"1{end}", widths[0], 3), f"1{end}", 3)
    layer = _pooled(_filtered(layer, f"2{end}", widths[1], 3), f"2{end}", 3)
    return _filtered(layer, f"3{end}", widths[2], 2)


def _filtered(data: Layer | Output, number: str, width: int, kernel: int) -> Layer:
    return _prelu(_convolution(data, f"conv{number}", width, kernel), f"prelu{number}")


def _convolution(data: Layer | Output, name: str, width: int, kernel: int) -> Layer:
    attributes = {"kernel": f"({kernel},{kernel})", "num_filter": str(width), "pad": "(0,0)", "stride": "(1,1)"}
    return Layer("Convolution", name, attributes, (data, variable(f"{name}_weight"), variable(f"{name}_bias")))


def _prelu(data: Layer, name: str) -> Layer:
    slope = Layer(VARIABLE, f"{name}_gamma", {"__init__": '["Constant", {"value": 0.25}]'})
    return Layer("LeakyReLU", name, {"act_type": "prelu", "slope": "0.25"}, (data, slope))


def _pooled(data: Layer, number: str, kernel: int) -> Layer:
    attributes = {"kernel": f"({kernel},{kernel})", "pad": "(0,0)", "pool_type": "max", "stride": "(2,2)"}
    return Layer("Pooling", f"pool{number}", attributes | {"pooling_convention": "full"}, (data,))


def _full(data: Layer, name: str, width: int) -> Layer:
    parameters = (variable(f"{name}_weight"), variable(f"{name}_bias"))
    return Layer("FullyConnected", name, {"num_hidden": str(width)}, (data, *parameters))


def _dense(data: Layer, name: str, activation: str, width: int) -> Layer:
    return _prelu(_full(data, name, width), activation)


def _softmax(scores: Layer) -> Layer:
    return Layer("SoftmaxOutput", "prob1", {}, (scores, variable("prob1_label")))
