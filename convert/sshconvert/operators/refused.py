"""Operators that are refused on purpose, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Losses and targets. They serve training: the network ends before them.
LOSSES: Final[Mapping[str, str]] = {
    "MakeLoss": "a loss",
    "make_loss": "a loss",
    "CTCLoss": "the CTC loss",
    "ctc_loss": "the CTC loss",
    "_contrib_CTCLoss": "the CTC loss",
    "_contrib_ctc_loss": "the CTC loss",
    "WarpCTC": "a plug-in's CTC loss",
    "softmax_cross_entropy": "a loss",
    "MultiBoxTarget": "the targets of a loss",
    "_contrib_MultiBoxTarget": "the targets of a loss",
    "_contrib_box_encode": "the targets of a loss",
    "_contrib_bipartite_matching": "the targets of a loss",
    "Custom": "Python code of the trainer, which the file does not hold",
    "_Native": "Python code of the trainer, which the file does not hold",
    "_NDArray": "Python code of the trainer, which the file does not hold",
    "MoonOutput": "a fork's loss",
}

_QUANTIZED: Final = "quantized to 8 bits by MXNet; convert the original checkpoint with --precision INT8"
_BINARY: Final = "of BMXNet, a fork with weights of one bit"
_CONTROL: Final = "control flow, whose body runs a number of times that depends on the values"
_SELECTION: Final = "rows where a mask is not 0, whose number depends on the values; `where` keeps all rows"
_REGIONS: Final = "a pooling of moved or turned regions, which ONNX has no operator for"
_RANDOM: Final = "random numbers, which differ from run to run"

OTHERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("QConvolution", "QConvolution_v1", "QFullyConnected", "QActivation"), _BINARY),
    "ChannelwiseConvolution": "of a fork; MXNet has Convolution with num_group for it",
    **dict.fromkeys(("_contrib_boolean_mask", "_npi_boolean_mask"), _SELECTION),
    **dict.fromkeys(("_contrib_DeformablePSROIPooling", "DeformablePSROIPooling"), _REGIONS),
    **dict.fromkeys(("_contrib_RROIAlign", "RROIAlign"), _REGIONS),
    **dict.fromkeys(("_foreach", "_while_loop", "_cond"), _CONTROL),
    **dict.fromkeys(("_contrib_quantize", "_contrib_quantize_v2", "_contrib_dequantize"), _QUANTIZED),
    **dict.fromkeys(("_contrib_requantize", "_contrib_quantized_conv", "_contrib_quantized_pooling"), _QUANTIZED),
    **dict.fromkeys(("_contrib_quantized_fully_connected", "_contrib_quantized_flatten"), _QUANTIZED),
    **dict.fromkeys(("_contrib_quantized_concat", "_contrib_quantized_elemwise_add"), _QUANTIZED),
    **dict.fromkeys(("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected"), _QUANTIZED),
    **dict.fromkeys(("_random_uniform", "_random_normal", "uniform", "normal"), _RANDOM),
}


def description(operator: str) -> str:
    """Return what a refused operator is, "" for any other."""
    return LOSSES.get(operator) or OTHERS.get(operator, "")
