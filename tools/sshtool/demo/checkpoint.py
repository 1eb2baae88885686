"""The demo checkpoint: SSH's architecture with weights that detect drawn faces, the same bytes on every platform.

The trained weights are not available. The demo combines a body from a seed, bilinear upsampling, and heads that
`sshtool.demo.fitting` fitted and the package contains. Each convolution of the VGG16 body passes half of its input
channels and computes the others with random filters of He's scale: after thirteen layers of random filters alone, a
linear head cannot detect a face. The demo detects drawn faces only.
"""

from __future__ import annotations

import math
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.arrays import Doubles, Floats
from sshconvert.errors import ModelError
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import read_params, write_params
from sshconvert.network import output_names, parse_symbol, resolve
from sshtool.demo.symbol import ssh_vgg16_symbol

SEED: Final = 20180322
PASSED_ON: Final = 0.5  # the share of input channels that each convolution of the body passes unchanged
FIRST: Final = "conv1_1_weight"
UPSAMPLING: Final = "ssh_m2_red_upsampling_weight"
HEADS_FILE: Final = "demo_heads.params"
HEAD_PREFIX: Final = "rpn_"

# Random filters are integers over `_STEPS`: their sums are exact on every platform.
_STEPS: Final = 1 << 20


def write_checkpoint(folder: Path, model: ModelSpec) -> None:
    """Write the demo's symbol and parameters into `folder`, under the model's file names.

    Raises ModelError for a model of another network.
    """
    if not has_its_outputs(model):
        raise ModelError(f"{model.name}: is no SSH with VGG16; `demo.network` makes the demos of other models")
    symbol, params = model.file_names
    (folder / symbol).write_text(ssh_vgg16_symbol(), encoding="utf-8")
    write_params(folder / params, {f"arg:{name}": array for name, array in parameters(model).items()})


def has_its_outputs(model: ModelSpec) -> bool:
    """Whether a model has the inputs and outputs of SSH with VGG16."""
    graph = parse_symbol(ssh_vgg16_symbol())
    return set(model.input_shapes) <= set(graph.variables) and model.tensors == output_names(graph)


def parameters(model: ModelSpec) -> dict[str, Floats]:
    """All parameters by name, in the graph's order."""
    arrays = body(model) | fitted_heads()
    return {name: arrays[name] for name in parameter_shapes(model)}


def parameter_shapes(model: ModelSpec) -> dict[str, Shape]:
    """Name and shape of every parameter, in the graph's order."""
    inputs = model.input_shapes
    return resolve(parse_symbol(ssh_vgg16_symbol()), inputs).parameters(inputs)


def body(model: ModelSpec, seed: int = SEED) -> dict[str, Floats]:
    """All parameters except the heads', by name: float32."""
    random: Any = np.random.RandomState(seed)  # NumPy guarantees the sequence of this generator only
    shapes = {name: shape for name, shape in parameter_shapes(model).items() if not name.startswith(HEAD_PREFIX)}
    return {name: _parameter(name, shape, random) for name, shape in shapes.items()}


def fitted_heads() -> dict[str, Floats]:
    """The twelve fitted parameters of the six heads, by name."""
    with as_file(files(__package__).joinpath(HEADS_FILE)) as path:
        return {name.removeprefix("arg:"): np.array(array) for name, array in read_params(path).items()}


def _parameter(name: str, shape: Shape, random: Any) -> Floats:
    if name.endswith("_bias"):
        return np.zeros(shape, np.float32)
    if name == UPSAMPLING:
        return _bilinear(shape)
    draws = random.randint(-_STEPS, _STEPS, shape, dtype=np.int64)
    weights = draws / _STEPS * math.sqrt(6 / math.prod(shape[1:]))
    if name == FIRST:
        weights = _edges(draws, shape)
    elif name.startswith("conv"):
        _pass_on(weights, shape)
    return np.asarray(weights, np.float32)


def _edges(draws: npt.NDArray[np.int64], shape: Shape) -> Doubles:
    """Filters for edges rather than brightness: less 0.8 of each channel's mean, at twice He's scale."""
    taps = math.prod(shape[2:])
    edges = draws * (5 * taps) - 4 * draws.sum(axis=(2, 3), keepdims=True)  # 5 * taps * (draw - 0.8 * mean), exact
    return np.asarray(edges / (5 * taps * _STEPS) * (2 * math.sqrt(6 / math.prod(shape[1:]))))


def _pass_on(weights: Doubles, shape: Shape) -> None:
    passed = int(PASSED_ON * shape[1])
    weights[:passed] = 0
    weights[range(passed), range(passed), shape[2] // 2, shape[3] // 2] = 1


def _bilinear(shape: Shape) -> Floats:
    """Upsampling by 2 with a 4x4 kernel for each channel."""
    taps = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    return np.array(np.broadcast_to(np.outer(taps, taps), shape))
