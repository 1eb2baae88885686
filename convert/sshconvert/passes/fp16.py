"""FP16 for ONNX: float16 weights with a cast to float32, which halve the file. The runtime chooses its precision.

Runtimes fold the casts when they load the model, so the speed is that of FP32, and only the weights are rounded. Small
tensors stay float32: the mean, the biases, the heads and the first convolution make a thousandth of the file and a
quarter of the error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.errors import PrecisionError
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.registry import weight_inputs
from sshconvert.passes.base import Pass

# Smaller weights stay exact, in ONNX and in IR.
SMALLEST_HALVED: Final = 32768

# Halfway between the largest float16, 65504, and 65536: larger numbers round to infinity.
INFINITE: Final = 65520

# Elements to check at a time: the intermediate results stay in the processor's cache.
_CHUNK: Final = 1 << 16


class StoreWeightsAsFp16(Pass):
    """Store the large weights of (de)convolutions as float16.

    Needs: no such weight is beyond 65504. Raises PrecisionError otherwise.

    Changes: the type of those weights in the file; in memory they stay float32.

    Keeps: inputs, outputs, and the types of the nodes' inputs.
    """

    def apply(self, model: OnnxModel) -> OnnxModel:
        places = weight_inputs()
        weights = {node.input[places[node.op_type]]: None for node in model.nodes if node.op_type in places}
        initializers = dict(model.initializers)
        build, halved = Builder.of(model), {}
        for name in weights:
            if name in initializers and initializers[name].size >= SMALLEST_HALVED:
                _check_fits(name, initializers[name])
                stored = build.name(f"{name}_fp16")
                initializers[stored] = initializers.pop(name)
                halved[stored] = np.float16
                build.output(name, "Cast", [stored], to=onnx.TensorProto.FLOAT)
        nodes, types = (*build.nodes, *model.nodes), {**model.stored, **halved}
        return replace(model, nodes=nodes, initializers=initializers, stored=types)


def _check_fits(name: str, array: Array) -> None:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        magnitudes = np.abs(flat[start : start + _CHUNK])
        if magnitudes.max() < INFINITE:  # false for NaN
            continue
        # float16 has NaN and infinities too; the checkpoint's reader allows or refuses them.
        largest = magnitudes.max(where=np.isfinite(magnitudes), initial=0)
        if largest >= INFINITE:
            raise PrecisionError(
                f"{name}: weights up to {largest:g} do not fit into FP16 (65504); convert to FP32 instead"
            )
