"""The demo of any network whose outputs are plain tensors: MTCNN's own networks, or a small stand-in.

The stand-in for a volume is a 3-D U-Net with one descent, whose outputs have the channels and the size of the input,
after a softmax over the channels. For an image or other tensors, it is a convolution or dense layer with one linear
head for each output.
"""

from __future__ import annotations

from typing import Final

from sshconvert.cutting import SUFFIX
from sshconvert.errors import ModelError
from sshconvert.models.spec import ModelSpec
from sshtool.demo.layers import Layer, symbol_json, variable
from sshtool.demo.mtcnn import mtcnn_symbol

MXNET_VERSION: Final = 10400
WIDTH: Final = 8
HEAD: Final = 4  # channels of an output that is no volume


def plain_symbol(model: ModelSpec) -> str:
    """The symbol JSON text of the demo. Raises ModelError for a network of several inputs or of whole numbers."""
    names = tuple(name.removesuffix(SUFFIX) for name in model.tensors)
    if symbol := mtcnn_symbol(names):
        return symbol
    if len(model.inputs) != 1 or model.inputs[0].dtype != "float32" or len(model.inputs[0].shape) not in (2, 4, 5):
        raise ModelError(
            f"{model.name}: --demo makes networks of one float32 input with two, four or five dimensions; give a "
            "checkpoint of this model with --checkpoint"
        )
    data, shape = variable(model.inputs[0].name), model.inputs[0].shape
    if len(shape) == 5:
        return symbol_json(_volumes(data, names, shape[1]), MXNET_VERSION)
    if len(shape) == 4:
        layer = _active(_convolution(data, "conv1", WIDTH, (3, 3)), "relu1")
        return symbol_json([_convolution(layer, name, HEAD, (1, 1)) for name in names], MXNET_VERSION)
    layer = _active(_full(data, "fc1", WIDTH), "relu1")
    return symbol_json([_full(layer, name, HEAD) for name in names], MXNET_VERSION)


def _volumes(data: Layer, names: tuple[str, ...], channels: int) -> list[Layer]:
    fine = _active(_convolution(data, "conv1", WIDTH, (3, 3, 3)), "relu1")
    halved = {"kernel": "(2, 2, 2)", "pool_type": "max", "stride": "(2, 2, 2)"}
    coarse = Layer("Pooling", "pool1", halved, (fine,))
    coarse = _active(_convolution(coarse, "conv2", 2 * WIDTH, (3, 3, 3)), "relu2")
    doubled = {"kernel": "(2, 2, 2)", "stride": "(2, 2, 2)", "num_filter": str(WIDTH), "no_bias": "True"}
    enlarged = Layer("Deconvolution", "up1", doubled, (coarse, variable("up1_weight")))
    joined = Layer("Concat", "concat1", {"dim": "1", "num_args": "2"}, (fine, enlarged))
    return [_segmentation(joined, name, channels) for name in names]


def _segmentation(features: Layer, name: str, channels: int) -> Layer:
    scores = _convolution(features, f"{name}_scores", channels, (1, 1, 1))
    return Layer("BlockGrad", name, {}, (Layer("softmax", f"{name}_softmax", {"axis": "1"}, (scores,)),))


def _convolution(data: Layer, name: str, width: int, kernel: tuple[int, ...]) -> Layer:
    pad = tuple(size // 2 for size in kernel)
    attributes = {"kernel": str(kernel), "num_filter": str(width), "pad": str(pad)}
    return Layer("Convolution", name, attributes, (data, variable(f"{name}_weight"), variable(f"{name}_bias")))


def _full(data: Layer, name: str, width: int) -> Layer:
    parameters = (variable(f"{name}_weight"), variable(f"{name}_bias"))
    return Layer("FullyConnected", name, {"num_hidden": str(width)}, (data, *parameters))


def _active(data: Layer, name: str) -> Layer:
    return Layer("Activation", name, {"act_type": "relu"}, (data,))
