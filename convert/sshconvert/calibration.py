"""Calibration for INT8: NNCF's post-training quantization measures quantization levels on images.

NNCF measures the original network at one size, without preprocessing or post-processing. The levels hold for every
conversion of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx

from sshconvert.arrays import Array, Pixels
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import PRESET, QUANTIZED_BY
from sshconvert.convert import original_onnx
from sshconvert.errors import PrecisionError, SSHToolError
from sshconvert.files import scratch_folder
from sshconvert.libraries import import_onnxruntime
from sshconvert.models.spec import ModelSpec
from sshconvert.nncf import import_nncf, silenced
from sshconvert.onnx.builder import Builder, renamed
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.registry import value_preserving, weight_inputs
from sshconvert.options import Dynamic, InputType, Layout, Options
from sshconvert.passes.int8 import Levels, Place, Quantization, Quantize, WeightLevels
from sshconvert.schema import one_line

Progress = Callable[[str, int, int], None]

# NNCF's preset of symmetric levels. The output of a ReLU uses all 256 levels, from zero on.
SYMMETRIC: Final = "performance"

# Operators that round, and Shape, which reads no values.
UNROUNDED: Final = ("QuantizeLinear", "DequantizeLinear", "Shape")


@dataclass(frozen=True)
class CalibrationImages:
    """Images of the network's input size.

    `read(number)` returns one, uint8 [H, W, 3], BGR, for a number below `count`; callers may repeat numbers.
    `record` is metadata about the images.
    """

    count: int
    read: Callable[[int], Pixels]
    record: Mapping[str, str]


def calibrate(
    checkpoint: Checkpoint,
    options: Options,
    images: CalibrationImages,
    *,
    progress: Progress = lambda _step, _done, _total: None,
) -> Quantization:
    """Measure the levels of a checkpoint's network at the input size of `options` (by default the model's).

    The convolutions of the heads stay in float: they are a thousandth of the work and compute the result. The same
    images and versions of the libraries give the same levels.

    Raises:
        PrecisionError: NNCF fails.
        RuntimeUnavailableError: NNCF or ONNX Runtime is missing.
        SSHToolError: The conversion or `images.read` fails.

    """
    nncf = import_nncf()
    plain = original(checkpoint, options)
    ends = _ends(plain)
    feed = _feeder(checkpoint.model, images, progress)
    with silenced():
        quantized = _quantized(nncf, plain, ends, nncf.Dataset(range(images.count), feed), images.count)
    record = {**images.record, PRESET: SYMMETRIC, QUANTIZED_BY: f"nncf {nncf.__version__}"}
    ignored = tuple(node.name for node in plain.nodes if node.name in ends and node.op_type in weight_inputs())
    return replace(_read(quantized, plain), ignored=ignored, record=record)


def original(checkpoint: Checkpoint, options: Options) -> OnnxModel:
    """Return the original network: one image of a fixed size, RGB minus the mean, as input; the heads as outputs."""
    _, channels, height, width = options.input_shape or checkpoint.model.image_shape
    return original_onnx(
        checkpoint,
        replace(
            options,
            input_shape=(1, channels, height, width),
            preprocessing=False,
            dynamic=Dynamic.NOTHING,
            layout=Layout.NCHW,
            input_type=InputType.FLOAT32,
            postprocessing=None,
        ),
    )


def rank_layers(
    checkpoint: Checkpoint,
    options: Options,
    quantization: Quantization,
    images: CalibrationImages,
    *,
    progress: Progress = lambda _step, _done, _total: None,
) -> tuple[str, ...]:
    """Return the quantized layers by their disturbance, the largest first.

    Each layer runs twice on its exact inputs: exactly, and with its inputs and weights rounded. Its disturbance is the
    mean over the images of sum((exact - rounded)²) / sum(exact²).
    """
    runtime = import_onnxruntime()
    compared, outputs = _with_twins(original(checkpoint, options), quantization)
    feed = _feeder(checkpoint.model, images, progress)
    totals = dict.fromkeys(outputs, 0.0)
    with scratch_folder() as folder, silenced():
        compared.write(folder / "compared.onnx")
        session = runtime.InferenceSession(str(folder / "compared.onnx"), providers=["CPUExecutionProvider"])
        for number in range(images.count):
            sums = session.run([name for pair in outputs.values() for name in pair], feed(number))
            for layer, difference, power in zip(outputs, sums[::2], sums[1::2], strict=True):
                totals[layer] += float(difference) / max(float(power), float(np.finfo(np.float32).tiny))
    return tuple(sorted(totals, key=lambda layer: -totals[layer]))


def _feeder(model: ModelSpec, images: CalibrationImages, progress: Progress) -> Callable[[int], dict[str, Any]]:
    def feed(number: int) -> dict[str, Any]:
        progress("calibrating", number, images.count)
        image = model.image.prepared(images.read(number))
        return {model.image_input.name: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}

    return feed


def _ends(plain: OnnxModel) -> tuple[str, ...]:
    """Return the nodes that stay in float: those from each output back to the first convolution."""
    makers = {node.output[0]: node for node in plain.nodes}
    ends: dict[str, None] = {}
    for output in plain.outputs:
        tensor = output
        while node := makers.get(tensor):
            ends[node.name] = None
            if node.op_type in weight_inputs():
                break
            tensor = node.input[0]
    return tuple(ends)


def _quantized(nncf: Any, plain: OnnxModel, ignored: Sequence[str], dataset: Any, count: int) -> onnx.ModelProto:
    with scratch_folder() as folder:
        plain.write(folder / "original.onnx")
        model = onnx.load(folder / "original.onnx")
    try:
        quantized: onnx.ModelProto = nncf.quantize(
            model,
            dataset,
            preset=nncf.QuantizationPreset(SYMMETRIC),
            subset_size=count,
            ignored_scope=nncf.IgnoredScope(names=list(ignored)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Otherwise each channel before a depthwise convolution gets its own levels, which runtimes do not fuse.
                activations_quantization_params=nncf.quantization.advanced_parameters.QuantizationParameters(
                    per_channel=False
                ),
                # The fix halves the levels of the first layer's weights for processors without VNNI. It costs more
                # accuracy than it saves, even there.
                overflow_fix=nncf.OverflowFix.DISABLE,
                # The correction takes half of the memory and changes no layer of this network: biases are near zero.
                disable_bias_correction=True,
            ),
        )
    except SSHToolError:  # an image that cannot be read
        raise
    except Exception as error:  # NNCF and ONNX Runtime raise a dozen classes
        raise PrecisionError(f"INT8: NNCF cannot quantize this network ({one_line(error)}); convert to FP16") from error
    return quantized


def _read(quantized: onnx.ModelProto, plain: OnnxModel) -> Quantization:
    """Return the levels that NNCF put into the network."""
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    pairs = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    inputs: dict[Place, Levels] = {}
    weights: dict[str, WeightLevels] = {}
    for node in quantized.graph.node:
        for number, tensor in enumerate(node.input):
            if tensor in pairs:
                source, scale, zero = pairs[tensor].input
                step, offset = (onnx.numpy_helper.to_array(constants[name]) for name in (scale, zero))
                if source in constants:
                    if offset.any():
                        raise PrecisionError(f"INT8: NNCF moved the zero of {node.name}'s weights; convert to FP16")
                    weights[node.name] = WeightLevels(step, _axis(pairs[tensor]))
                elif node.op_type not in UNROUNDED:
                    levels = Levels(
                        _of_all_channels(step, node), int(offset), offset.dtype == np.int8, _served(plain, node.name)
                    )
                    inputs[node.name, number] = levels
    return Quantization(inputs, weights)


def _of_all_channels(step: Array, node: onnx.NodeProto) -> float:
    """Return the step of a layer's input. Raises PrecisionError if each channel has its own."""
    if step.size != 1:
        raise PrecisionError(
            f"INT8: NNCF gives each channel before {node.name} its own levels, as it does before a depthwise "
            "convolution, and this is not supported; convert to FP16"
        )
    return float(step)


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


def _served(plain: OnnxModel, name: str) -> frozenset[str]:
    """Return the node, or the readers of its output if its operator is value-preserving."""
    node = next(node for node in plain.nodes if node.name == name)
    if node.op_type not in value_preserving():
        return frozenset([name])
    readers = (reader for reader in plain.consumers(node.output[0]) if reader.op_type not in UNROUNDED)
    return frozenset().union(*(_served(plain, reader.name) for reader in readers))


def _with_twins(plain: OnnxModel, quantization: Quantization) -> tuple[OnnxModel, dict[str, tuple[str, str]]]:
    """Return the network with a rounded twin of each quantized layer, and the names of two outputs for each layer.

    The outputs are sum((exact - rounded)²) and sum(exact²).
    """
    build = Builder(set(), nodes=list(plain.nodes))
    outputs: dict[str, tuple[str, str]] = {}
    makers = {node.output[0]: node for node in plain.nodes}
    for layer in (node for node in plain.nodes if node.name in quantization.layers):
        alone = quantization.without([name for name in quantization.layers if name != layer.name])
        chain = _chain(layer, makers, alone)
        twin = Quantize(alone).apply(replace(plain, nodes=tuple(chain)))
        own = {name: f"{layer.name}/{name}" for node in twin.nodes for name in node.output}
        own |= {name: f"{layer.name}/{name}" for name in twin.initializers.keys() - plain.initializers.keys()}
        build.constants |= {own[name]: twin.initializers[name] for name in twin.initializers.keys() & own.keys()}
        build.nodes += (renamed(node, own) for node in twin.nodes)
        build.prefix, result = f"{layer.name}/", layer.output[0]
        difference = build.node("difference", "Sub", [result, own[result]])
        squares = build.node("squares", "ReduceSumSquare", [difference], keepdims=0)
        power = build.node("power", "ReduceSumSquare", [result], keepdims=0)
        outputs[layer.name] = (squares, power)
    shapes = {name: () for pair in outputs.values() for name in pair}
    return replace(build.extend(replace(plain, nodes=())), outputs=shapes), outputs


def _chain(layer: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], alone: Quantization) -> list[onnx.NodeProto]:
    """Return a layer, after the value-preserving nodes between it and its rounded inputs."""
    chain: list[onnx.NodeProto] = []
    for number, tensor in enumerate(layer.input):
        maker = makers.get(tensor)
        if maker is not None and maker.op_type in value_preserving() and (layer.name, number) not in alone.inputs:
            chain += (node for node in _chain(maker, makers, alone) if node not in chain)
    return [*chain, layer]
