"""The conversion of a checkpoint into artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Contract
from sshconvert.errors import PrecisionError, PreprocessingError, ShapeError
from sshconvert.export import export
from sshconvert.files import check_replaceable, staging_folder
from sshconvert.formats.base import ExportedNetwork
from sshconvert.formats.registry import FORMATS, artifact_files
from sshconvert.graph import Dimensions, Shape
from sshconvert.model_api import model_info, onnx_entries
from sshconvert.models.spec import InputSpec, ModelSpec
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Dynamic, InputType, Layout, Options, Precision
from sshconvert.passes.base import Pass
from sshconvert.passes.fp16 import StoreWeightsAsFp16
from sshconvert.passes.input_form import TakeBytes, TakeChannelsFirst, TakeChannelsLast
from sshconvert.passes.preprocessing import BakePreprocessing

if TYPE_CHECKING:
    from sshconvert.passes.int8 import Quantization

# The dimensions that an option may free, by their letters in a layout. Channels are never free.
BATCH: Final = {"N": "batch"}
SIZES: Final = {"D": "depth", "H": "height", "W": "width"}
USUAL_LAYOUTS: Final = {3: "NCW", 4: "NCHW", 5: "NCDHW"}  # by the number of dimensions
LARGER: Final = 64  # offset between the two probe sizes that reveal size-dependent nodes


@dataclass(frozen=True)
class Artifact:
    """One converted model: the key of its format, the file to open, and all files that belong to it."""

    format: str
    precision: Precision
    path: Path
    files: tuple[Path, ...]


def plan(model_name: str, output_dir: Path, options: Options) -> tuple[Artifact, ...]:
    """Return the artifacts that `convert` writes, in Open Model Zoo's layout `<model>/<precision>/<model>.<suffix>`."""
    artifacts = []
    for precision in dict.fromkeys(options.precisions):
        for key in dict.fromkeys(options.formats):
            path = output_dir / model_name / precision.value / f"{model_name}{FORMATS[key].suffix}"
            artifacts.append(Artifact(key, precision, path, artifact_files(path)))
    return tuple(artifacts)


def convert(
    checkpoint: Checkpoint,
    output_dir: Path,
    options: Options,
    *,
    quantization: Quantization | None = None,
    release: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Artifact, ...]:
    """Write the artifacts of `plan`.

    An earlier artifact stays complete until the new one replaces it. If an artifact has two files, its main file is
    removed before the other is replaced.

    Args:
        checkpoint: the network and its weights.
        output_dir: the folder in which the model's folder lies.
        options: the formats and precisions, and how the artifacts take their input.
        quantization: the levels of the checkpoint (`sshconvert.calibration`), which INT8 needs.
        release: free the memory of the checkpoint's parameters after writing them. This lowers the peak by a quarter,
            and ends the use of the checkpoint.
        progress: receives the name of each step.

    Raises UnsupportedGraphError, ShapeError, PreprocessingError, PrecisionError, FormatError,
    RuntimeUnavailableError and OutputError.

    """
    if Precision.INT8 in options.precisions and quantization is None:
        raise PrecisionError("INT8: the levels are missing; calibrate with images first")
    artifacts = plan(checkpoint.model.name, output_dir, options)
    for path in (path for artifact in artifacts for path in artifact.files):
        check_replaceable(path)
    for key in options.formats:
        FORMATS[key].accept(options)  # before anything is written
        FORMATS[key].require()
    progress("reading the network")
    floats = [artifact for artifact in artifacts if artifact.precision is not Precision.INT8]
    integers = [artifact for artifact in artifacts if artifact.precision is Precision.INT8]
    if integers:
        _write(checkpoint, options, integers, output_dir, progress, quantization=quantization)
    if floats:
        _write(checkpoint, options, floats, output_dir, progress, release=release)
    return tuple(replace(artifact, files=artifact_files(artifact.path)) for artifact in artifacts)


def _write(
    checkpoint: Checkpoint,
    options: Options,
    artifacts: Sequence[Artifact],
    output_dir: Path,
    progress: Callable[[str], None],
    *,
    quantization: Quantization | None = None,
    release: bool = False,
) -> None:
    """Write artifacts that share the models of one `ExportedNetwork`."""
    models = _models(checkpoint, options, quantization)
    contracts: dict[str, dict[Path, Contract]] = {}
    for artifact in artifacts:
        precision = artifact.precision.value  # no name for the model, which would keep its weights in memory
        contract = _contract(checkpoint, options, artifact.precision, quantization)
        info = model_info(checkpoint.model, options, models[precision].outputs)
        declared = contract.declaring(models[precision], info)
        contracts.setdefault(artifact.format, {})[artifact.path] = declared
    with staging_folder(output_dir) as staging:
        released = checkpoint.release if release else lambda: None
        network = ExportedNetwork(models, staging, release=released, progress=progress)
        for key in sorted(contracts, key=lambda key: FORMATS[key].reads_file):
            FORMATS[key].write(network, contracts[key])
        network.close()


def _models(checkpoint: Checkpoint, options: Options, quantization: Quantization | None) -> dict[str, OnnxModel]:
    """Return the models by precision. Raises PrecisionError for weights that exceed a requested FP16."""
    model = to_onnx(checkpoint, options, quantization)
    if quantization:
        return {Precision.INT8.value: model}
    models = {Precision.FP32.value: model}
    if Precision.FP16 in options.precisions:
        half = StoreWeightsAsFp16().apply(model)
        models[Precision.FP16.value] = _with_metadata(half, checkpoint, options, Precision.FP16)
    return models


def to_onnx(checkpoint: Checkpoint, options: Options, quantization: Quantization | None = None) -> OnnxModel:
    """Return the ONNX model of a checkpoint with its contract as metadata: FP32, or INT8 with `quantization`."""
    model = _export(checkpoint, options)
    for step in passes(checkpoint.model, options, quantization):
        model = step.apply(model)
    precision = Precision.INT8 if quantization else Precision.FP32
    return _with_metadata(model, checkpoint, options, precision, quantization)


def _with_metadata(
    model: OnnxModel,
    checkpoint: Checkpoint,
    options: Options,
    precision: Precision,
    quantization: Quantization | None = None,
) -> OnnxModel:
    """Return the model with its contract as metadata, and what Model API reads."""
    metadata = _contract(checkpoint, options, precision, quantization).metadata
    return replace(model, metadata={**metadata, **onnx_entries(model_info(checkpoint.model, options, model.outputs))})


def original_onnx(checkpoint: Checkpoint, options: Options) -> OnnxModel:
    """Return the ONNX model of a checkpoint's own network, without preprocessing, post-processing and metadata."""
    return _export(checkpoint, options)


def passes(spec: ModelSpec, options: Options, quantization: Quantization | None = None) -> Iterator[Pass]:
    """Yield the passes from the exported network to the model that formats write, in order."""
    if not spec.takes_image:
        _check_tensors(spec, options, quantization)
        return
    name = spec.image_input.name
    if options.preprocessing:
        image = spec.image
        yield BakePreprocessing(name, image.mean, image.divisors, reverse=options.color.value != image.color)
    elif set(spec.image.divisors) != {1}:
        raise PreprocessingError(f"{spec.name} divides its image by {spec.image.divisors}: build the preprocessing in")
    elif options.input_type is InputType.UINT8:
        raise PreprocessingError("uint8 holds no pixels minus a mean: build the preprocessing in, or feed float32")
    if quantization:
        from sshconvert.passes.int8 import Quantize

        yield Quantize(quantization)
    if options.postprocessing:
        from sshconvert.passes.postprocessing import AppendPostprocessing

        yield AppendPostprocessing(name, options.postprocessing.task(spec), options.postprocessing)
    if options.input_type is InputType.UINT8:
        yield TakeBytes(name)
    if options.layout is Layout.NHWC:
        yield TakeChannelsLast(name)


def _check_tensors(spec: ModelSpec, options: Options, quantization: Quantization | None) -> None:
    """Raise PreprocessingError for an option that needs an image."""
    wanted = {
        "the type uint8": options.input_type is InputType.UINT8,
        "the layout NHWC": options.layout is Layout.NHWC,
        "INT8": quantization is not None,
        "post-processing inside": options.postprocessing is not None,
    }
    for option in (option for option, is_wanted in wanted.items() if is_wanted):
        raise PreprocessingError(
            f"{spec.name}: {option} needs an image, and its inputs {', '.join(spec.input_shapes)} are tensors; "
            "describe an input [N, 3, H, W] as one, with --color"
        )


def _contract(
    checkpoint: Checkpoint, options: Options, precision: Precision, quantization: Quantization | None = None
) -> Contract:
    record = quantization.metadata if quantization else {}
    return Contract.of(checkpoint.model, checkpoint.weights, options, precision.value, record)


def _export(checkpoint: Checkpoint, options: Options) -> OnnxModel:
    model = checkpoint.model
    shapes = model.input_shapes
    if options.input_shape:
        name = _checked(model, options.input_shape)
        shapes = {name: model.image_input.laid_out(options.input_shape)}
    named = {item.name: _named(model, item, shapes[item.name], options.dynamic) for item in model.inputs}
    network = larger = checkpoint.resolve(shapes)
    if named != shapes:
        enlarged = {
            name: tuple(size + LARGER * (free != size) for size, free in zip(shape, named[name], strict=True))
            for name, shape in shapes.items()
        }
        larger = checkpoint.resolve(enlarged)
    elif options.dynamic is not Dynamic.NOTHING:
        raise ShapeError(f"{model.name}: no dimension of {', '.join(shapes)} is one that {options.dynamic.value} frees")
    exported = export(network, checkpoint.parameters, named, name=model.name, larger=larger)
    if model.takes_image and model.image_input.is_channels_last:
        return TakeChannelsFirst(model.image_input.name).apply(exported)  # all passes take [N, C, H, W]
    return exported


def _checked(model: ModelSpec, shape: Shape) -> str:
    """Return the name of the image whose shape this is. Raises ShapeError."""
    if not model.takes_image:
        raise ShapeError(f"{model.name}: one input shape, but its inputs are tensors with their own shapes")
    own = model.image_shape
    if len(shape) != len(own) or shape[1] != own[1]:
        raise ShapeError(f"input shape {shape}: expected N, {own[1]}, H, W")
    return model.image_input.name


def _named(model: ModelSpec, item: InputSpec, shape: Shape, dynamic: Dynamic) -> Dimensions:
    """Return the shape of an input with names for the dimensions that `dynamic` frees.

    If there are several inputs, each has sizes of its own, and all have the same batch.
    """
    letters = item.layout or USUAL_LAYOUTS.get(len(shape), "N" + "C" * (len(shape) - 1))
    free = BATCH if dynamic in (Dynamic.BATCH, Dynamic.ALL) else {}
    if dynamic in (Dynamic.SIZE, Dynamic.ALL):
        prefix = f"{item.name}_" if len(model.inputs) > 1 else ""
        free = free | {letter: f"{prefix}{name}" for letter, name in SIZES.items()}
    return tuple(free.get(letter, size) for letter, size in zip(letters, shape, strict=True))
