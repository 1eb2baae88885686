"""INT8 for ONNX: QuantizeLinear and DequantizeLinear round weights and the tensors between layers to 256 levels.

A `Quantization` holds the levels; `sshconvert.calibration` measures them once, at one size. `Quantize` puts them into a
network of any size, with any input, because the nodes have the same names. It stores weights as int8, with one scale
for each output channel. Before a layer that computes with integers, a pair of nodes rounds a tensor to its levels.
Runtimes that know this convention, such as OpenVINO and ONNX Runtime, compute with integers between such pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx

from sshconvert.arrays import Array
from sshconvert.contract import IN_FLOAT
from sshconvert.errors import PrecisionError
from sshconvert.onnx.builder import Builder, rewired
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.registry import weight_inputs
from sshconvert.passes.base import Pass

Place = tuple[str, int]  # a node's name and the number of one of its inputs

LEAST, LARGEST = -128, 127


@dataclass(frozen=True)
class Levels:
    """The 256 levels of a tensor: `scale` times (q - `zero_point`), where q is int8 if `signed`, else uint8.

    `serves` are the layers that these levels let compute with integers: the reader of the tensor, or the layers behind
    a reader with a value-preserving operator.
    """

    scale: float
    zero_point: int
    signed: bool
    serves: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WeightLevels:
    """The step of a layer's weights, float32: a scalar, or one for each index along `axis`. The zero point is 0."""

    scale: Array
    axis: int


@dataclass(frozen=True)
class Quantization:
    """The levels by the places that the network rounds. `ignored` are the layers that stay in float.

    `record` states the images and the method of the measurement, by the keys of `sshconvert.contract.QUANTIZATION`.
    """

    inputs: Mapping[Place, Levels]
    weights: Mapping[str, WeightLevels]
    ignored: tuple[str, ...] = ()
    record: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """The nodes that compute with integers, in the network's order."""
        served = {layer for levels in self.inputs.values() for layer in levels.serves}
        return tuple(dict.fromkeys([*self.weights, *sorted(served)]))

    def without(self, layers: Collection[str]) -> Quantization:
        """Return the quantization without these layers."""
        excluded = set(layers)
        return replace(
            self,
            inputs={place: levels for place, levels in self.inputs.items() if levels.serves - excluded},
            weights={name: levels for name, levels in self.weights.items() if name not in excluded},
            ignored=(*self.ignored, *sorted(excluded - set(self.ignored))),
        )

    @property
    def metadata(self) -> dict[str, str]:
        """The entries of the contract."""
        return {**self.record, IN_FLOAT: " ".join(self.ignored)}


@dataclass(frozen=True)
class Quantize(Pass):
    """Put a quantization into a network.

    Needs: the network has all nodes that the quantization names. Raises PrecisionError otherwise.

    Changes: the weights and the tensors between layers that the quantization names.

    Keeps: inputs and outputs.
    """

    quantization: Quantization

    def apply(self, model: OnnxModel) -> OnnxModel:
        named = {*self.quantization.weights, *(name for name, _ in self.quantization.inputs)}
        missing = named - {node.name for node in model.nodes}
        if missing:
            raise PrecisionError(f"{min(missing)}: has levels, but is not in the network; calibrate on this checkpoint")
        return _Quantizer(model, self.quantization).run()


class _Quantizer:
    def __init__(self, model: OnnxModel, quantization: Quantization) -> None:
        self.model, self.quantization = model, quantization
        self.build = Builder.of(model)
        self.rounded: dict[tuple[str, Levels], str] = {}
        self.stored: dict[str, str] = {}

    def run(self) -> OnnxModel:
        for node in self.model.nodes:
            self.build.nodes.append(self.rewritten(node))
        used = {name for node in self.build.nodes for name in node.input}
        initializers = {**self.model.initializers, **self.build.constants}
        kept = {name: array for name, array in initializers.items() if name in used}
        return replace(self.model, nodes=tuple(self.build.nodes), initializers=kept)

    def rewritten(self, node: onnx.NodeProto) -> onnx.NodeProto:
        inputs = list(node.input)
        for number, tensor in enumerate(node.input):
            levels = self.quantization.inputs.get((node.name, number))
            if levels is not None:
                inputs[number] = self.round(tensor, levels)
        if node.name in self.quantization.weights:
            place = weight_inputs()[node.op_type]
            inputs[place] = self.store(node.input[place], self.quantization.weights[node.name])
        return rewired(node, inputs)

    def round(self, tensor: str, levels: Levels) -> str:
        """Round a tensor to levels. Nodes that read a tensor at the same levels share the rounding."""
        key = (tensor, replace(levels, serves=frozenset()))
        if key not in self.rounded:
            kind = np.int8 if levels.signed else np.uint8
            scale = self.build.floats(f"{tensor}_scale", levels.scale)
            zero = self.build.constant(f"{tensor}_zero_point", np.array(levels.zero_point, kind))
            quantized = self.build.node(f"{tensor}_quantized", "QuantizeLinear", [tensor, scale, zero])
            parts = [quantized, scale, zero]
            self.rounded[key] = self.build.node(f"{tensor}_dequantized", "DequantizeLinear", parts)
        return self.rounded[key]

    def store(self, weight: str, levels: WeightLevels) -> str:
        """Store weights as int8, once for all nodes that share them."""
        if weight not in self.stored:
            values = _round(weight, self.model.initializers[weight], levels)
            parts = [
                self.build.constant(f"{weight}_quantized", values),
                self.build.constant(f"{weight}_scale", levels.scale),
                self.build.constant(f"{weight}_zero_point", np.zeros(levels.scale.shape, np.int8)),
            ]
            self.stored[weight] = self.build.node(f"{weight}_dequantized", "DequantizeLinear", parts, axis=levels.axis)
        return self.stored[weight]


def _round(name: str, weights: Array, levels: WeightLevels) -> npt.NDArray[np.int8]:
    """Return the weights as multiples of the scale."""
    shape = [1] * weights.ndim
    if levels.scale.ndim:
        shape[levels.axis] = -1
    steps = np.rint(weights / levels.scale.reshape(shape))
    if not np.isfinite(steps).all():
        raise PrecisionError(f"{name}: NaN or infinite weights do not fit into INT8; convert to FP32 instead")
    return np.asarray(np.clip(steps, LEAST, LARGEST), np.int8)
