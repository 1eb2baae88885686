"""FP16 for ONNX: weights stored as float16 and cast back, so that the file halves and the runtime computes as it likes.

Runtimes fold the casts when they load the model, so speed is that of FP32, and only the weights are rounded. What is
small stays float32: the mean, the biases, the heads and the first convolution make a thousandth of the file, and a
quarter of the error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.errors import PrecisionError
from sshconvert.onnx.model import OnnxModel, unused_name
from sshconvert.precision import SMALLEST_HALVED

# Operators whose second input is a weight tensor.
WEIGHTED: Final = ("Conv", "ConvTranspose")


def store_weights_as_fp16(model: OnnxModel) -> OnnxModel:
    """Store the large weights of (de)convolutions as float16. Raises PrecisionError for weights beyond 65504."""
    weights = {node.input[1]: None for node in model.nodes if node.op_type in WEIGHTED}
    initializers = dict(model.initializers)
    taken = model.names
    casts = []
    for name in weights:
        if name in initializers and initializers[name].size >= SMALLEST_HALVED:
            stored = unused_name(f"{name}_fp16", taken)
            taken.add(stored)
            initializers[stored] = _to_fp16(name, initializers.pop(name))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], name=name, to=onnx.TensorProto.FLOAT))
    return replace(model, nodes=(*casts, *model.nodes), initializers=initializers)


def _to_fp16(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16)
    if not np.array_equal(np.isfinite(rounded), np.isfinite(array)):
        largest = float(np.abs(array).max())
        raise PrecisionError(f"{name}: weights up to {largest:g} do not fit into FP16 (65504); convert to FP32 instead")
    return rounded
