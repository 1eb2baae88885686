"""The SSH VGG16 network as a symbol, with the nodes and attributes that mxnet-SSH's code creates."""

from __future__ import annotations

from typing import Final

from sshconvert.graph import VARIABLE
from sshtool.demo.layers import Layer, symbol_json

MXNET_VERSION: Final = 10100  # of the symbol's dialect

VGG_BLOCKS: Final = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def ssh_vgg16_symbol() -> str:
    """The symbol JSON text, in the dialect of MXNet 1.1."""
    features = ssh_features(Layer(VARIABLE, "data", {}))
    return symbol_json([head for stride in features for head in _heads(features[stride], stride)], MXNET_VERSION)


def ssh_features(data: Layer) -> dict[int, Layer]:
    """The features that the heads of each stride read. `data` is R, G, B minus the mean."""
    relu4_3, relu5_3 = _vgg16(data)
    pool5 = Layer(
        "Pooling", "pooling0", {"kernel": "(2, 2)", "pad": "(0, 0)", "pool_type": "max", "stride": "(2, 2)"}, (relu5_3,)
    )
    return {
        32: _detection_module(pool5, 256, "ssh_m3_det"),
        16: _detection_module(relu5_3, 256, "ssh_m2_det"),
        8: _detection_module(_fuse(relu4_3, relu5_3), 128, "ssh_m1_det"),
    }


def _vgg16(data: Layer) -> tuple[Layer, Layer]:
    """VGG16 up to relu5_3. Its variables repeat their layer's attributes, like those of MXNet 0.8's model zoo."""
    layer, ends = data, []
    for block, widths in enumerate(VGG_BLOCKS, start=1):
        for number, width in enumerate(widths, start=1):
            name = f"{block}_{number}"
            attributes = {"kernel": "(3, 3)", "num_filter": str(width), "pad": "(1, 1)", "workspace": "2048"}
            parameters = [Layer(VARIABLE, f"conv{name}_{role}", attributes) for role in ("weight", "bias")]
            layer = _relu(Layer("Convolution", f"conv{name}", attributes, (layer, *parameters)), f"relu{name}")
        ends.append(layer)
        pooling = {"kernel": "(2, 2)", "pool_type": "max", "stride": "(2, 2)"}
        layer = Layer("Pooling", f"pool{block}", pooling, (layer,))
    return ends[3], ends[4]


def _detection_module(data: Layer, width: int, name: str) -> Layer:
    """The concatenation of a 3x3 branch and two deeper branches with more context."""
    context = _relu(_convolution(data, f"{name}_context_conv1", width // 2))
    deeper = _relu(_convolution(context, f"{name}_context_conv3_1", width // 2))
    branches = (
        _convolution(data, f"{name}_conv1", width),
        _convolution(context, f"{name}_context_conv2", width // 2),
        _convolution(deeper, f"{name}_context_conv3_2", width // 2),
    )
    return _relu(Layer("Concat", f"{name}_concat", {"dim": "1", "num_args": "3"}, branches))


def _fuse(fine: Layer, coarse: Layer) -> Layer:
    """The features of stride 8: the reduced features of stride 8 plus the upsampled ones of stride 16."""
    fine = _relu(_convolution(fine, "ssh_m1_red_conv", 128, kernel=1, bias_decay="1.0"))
    coarse = _relu(_convolution(coarse, "ssh_m2_red_conv", 128, kernel=1, bias_decay="1.0"))
    attributes = {"__lr_mult__": "0.0", "__wd_mult__": "0.0", "kernel": "(4, 4)", "no_bias": "True"}
    attributes |= {"num_filter": "128", "num_group": "128", "pad": "(1, 1)", "stride": "(2, 2)"}
    weight = Layer(VARIABLE, "ssh_m2_red_upsampling_weight", attributes)
    enlarged = Layer("Deconvolution", "ssh_m2_red_upsampling", attributes, (coarse, weight))
    cropped = Layer("Crop", "crop0", {"num_args": "2"}, (fine, enlarged))
    fused = Layer("elemwise_add", "_plus0", {}, (cropped, enlarged))
    return _relu(_convolution(fused, "ssh_m1_conv", 128, bias_decay="1.0"))


def _heads(features: Layer, stride: int) -> tuple[Layer, Layer]:
    """Scores (softmax over background and face, for two anchors) and box deltas."""
    scores = _convolution(features, f"rpn_cls_score_stride{stride}", 4, kernel=1)
    pairs = Layer("Reshape", f"rpn_cls_score_reshape_stride{stride}", {"shape": "(0, 2, -1, 0)"}, (scores,))
    softmax = Layer("SoftmaxActivation", f"rpn_cls_prob_stride{stride}", {"mode": "channel"}, (pairs,))
    probabilities = Layer("Reshape", f"rpn_cls_prob_reshape_stride{stride}", {"shape": "(0, 4, -1, 0)"}, (softmax,))
    return probabilities, _convolution(features, f"rpn_bbox_pred_stride{stride}", 8, kernel=1)


def _convolution(data: Layer, name: str, width: int, *, kernel: int = 3, bias_decay: str = "0.0") -> Layer:
    pad = kernel // 2
    size = {"kernel": f"({kernel}, {kernel})", "num_filter": str(width), "pad": f"({pad}, {pad})", "stride": "(1, 1)"}
    weight = {"__init__": '["normal", {"sigma": 0.01}]', "__lr_mult__": "1.0"}
    bias = {"__init__": '["constant", {"value": 0.0}]', "__lr_mult__": "2.0", "__wd_mult__": bias_decay}
    parameters = (Layer(VARIABLE, f"{name}_weight", weight), Layer(VARIABLE, f"{name}_bias", bias))
    return Layer("Convolution", name, size, (data, *parameters))


def _relu(data: Layer, name: str | None = None) -> Layer:
    return Layer("Activation", name or f"{data.name}_relu", {"act_type": "relu"}, (data,))
