"""The conversion: one checkpoint in, ONNX and OpenVINO IR out, each in the precisions that were asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Contract
from sshconvert.errors import PrecisionError, PreprocessingError, ShapeError
from sshconvert.files import check_replaceable, replace_files, staging_folder
from sshconvert.formats.openvino import IntermediateRepresentation
from sshconvert.graph import Shape
from sshconvert.libraries import import_openvino
from sshconvert.network import resolve
from sshconvert.onnx.export import export
from sshconvert.onnx.model import OnnxModel, move_model, weights_path
from sshconvert.options import Color, Dynamic, Format, InputType, Layout, Options, Precision
from sshconvert.passes.fp16 import store_weights_as_fp16
from sshconvert.passes.input_form import take_bytes, take_channels_last
from sshconvert.passes.int8 import Quantization, quantize
from sshconvert.passes.preprocessing import bake_preprocessing
from sshconvert.reading import is_there
from sshconvert.tasks.postprocessing import append_postprocessing

# Of the input's dimensions: their names where every run may choose them, and what frees them.
FREE_DIMENSIONS: Final = ("batch", "", "height", "width")
FREED_BY: Final = (Dynamic.BATCH, None, Dynamic.SIZE, Dynamic.SIZE)
LARGER: Final = 64  # by so much the sizes differ for which the network is looked at, to see what depends on them


@dataclass(frozen=True)
class Artifact:
    """One converted model: the file to open, and all the files that belong to it."""

    format: Format
    precision: Precision
    path: Path
    files: tuple[Path, ...]


def plan(model_name: str, output_dir: Path, options: Options) -> tuple[Artifact, ...]:
    """What `convert` would write, in Open Model Zoo's layout: `<model>/<precision>/<model>.{onnx,xml,bin}`."""
    artifacts = []
    for precision in dict.fromkeys(options.precisions):
        for kind in dict.fromkeys(options.formats):
            suffix = ".onnx" if kind is Format.ONNX else ".xml"
            path = output_dir / model_name / precision.value / f"{model_name}{suffix}"
            artifacts.append(Artifact(kind, precision, path, artifact_files(path)))
    return tuple(artifacts)


def artifact_files(path: Path) -> tuple[Path, ...]:
    """All files that belong to the converted model whose main file is `path`."""
    if path.suffix == ".xml":
        return (path, path.with_suffix(".bin"))
    weights = weights_path(path)
    return (path, weights) if is_there(weights) else (path,)


def convert(
    checkpoint: Checkpoint,
    output_dir: Path,
    options: Options,
    *,
    quantization: Quantization | None = None,
    release: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Artifact, ...]:
    """Write the artifacts of `plan`. `progress` is told what is being made. INT8 needs a `quantization` of the
    checkpoint (`sshconvert.calibration`).

    With `release`, the checkpoint gives its parameters' memory back as soon as they are written, which takes a quarter
    off the peak: it cannot be converted again.

    Raises UnsupportedGraphError, ShapeError, PreprocessingError, PrecisionError and OutputError. A file that was there
    before stays whole until the new one replaces it; of two files that are one model, the first, by which the other is
    found, disappears in between.
    """
    if Precision.INT8 in options.precisions and quantization is None:
        raise PrecisionError("INT8: nothing says to which levels to round; calibrate with images first")
    artifacts = plan(checkpoint.model.name, output_dir, options)
    for path in (path for artifact in artifacts for path in artifact.files):
        check_replaceable(path)
    by_kind = {(artifact.format, artifact.precision): artifact for artifact in artifacts}
    if any(artifact.format is Format.OPENVINO for artifact in artifacts):
        import_openvino()  # before anything is written, in case it is not there
    progress("reading the network")
    if quantization and Precision.INT8 in options.precisions:
        _write_int8(checkpoint, options, quantization, by_kind, output_dir, progress)
    if any(artifact.precision is not Precision.INT8 for artifact in artifacts):
        _write_float(checkpoint, options, by_kind, output_dir, progress, release=release)
    return tuple(replace(artifact, files=artifact_files(artifact.path)) for artifact in artifacts)


def _write_float(
    checkpoint: Checkpoint,
    options: Options,
    by_kind: Mapping[tuple[Format, Precision], Artifact],
    output_dir: Path,
    progress: Callable[[str], None],
    *,
    release: bool,
) -> None:
    fp32 = to_onnx(checkpoint, options)
    if Precision.FP16 in options.precisions:
        halves = store_weights_as_fp16(fp32)  # refuses weights that FP16 cannot hold, for every format
        if artifact := by_kind.get((Format.ONNX, Precision.FP16)):
            progress("writing ONNX FP16")
            metadata = _contract(checkpoint, options, Precision.FP16).metadata
            replace(halves, metadata=metadata).write(artifact.path)
        del halves
    whole = by_kind.get((Format.ONNX, Precision.FP32))
    keys = ((Format.OPENVINO, precision) for precision in (Precision.FP32, Precision.FP16))
    representations = [by_kind[key] for key in keys if key in by_kind]
    if whole or representations:
        with staging_folder(output_dir) as staging:
            progress("writing ONNX FP32")
            source = staging / f"{checkpoint.model.name}.onnx"
            fp32.write(source)
            if representations:
                linked = _link(fp32, source, staging / "linked.onnx")
                del fp32
                if release:
                    checkpoint.release()
                _write_ir(checkpoint, options, linked, representations, staging, progress)
            if whole:
                whole.path.parent.mkdir(parents=True, exist_ok=True)
                move_model(source, whole.path, staging)


def _write_int8(
    checkpoint: Checkpoint,
    options: Options,
    quantization: Quantization,
    by_kind: Mapping[tuple[Format, Precision], Artifact],
    output_dir: Path,
    progress: Callable[[str], None],
) -> None:
    """Both formats hold the same quantized network: the IR is made of the ONNX file."""
    progress("writing ONNX INT8")
    quantized = to_onnx(checkpoint, options, quantization)
    whole, representation = (by_kind.get((kind, Precision.INT8)) for kind in (Format.ONNX, Format.OPENVINO))
    with staging_folder(output_dir) as staging:
        source = staging / f"{checkpoint.model.name}.onnx"
        quantized.write(source)
        if representation:
            _write_ir(checkpoint, options, source, [representation], staging, progress, quantization)
        if whole:
            whole.path.parent.mkdir(parents=True, exist_ok=True)
            move_model(source, whole.path, staging)


def _link(model: OnnxModel, whole: Path, path: Path) -> Path:
    """A file for OpenVINO to read, which has its weights in another."""
    if is_there(weights_path(whole)):
        return whole
    model.write_linked(path, whole)
    return path


def to_onnx(checkpoint: Checkpoint, options: Options, quantization: Quantization | None = None) -> OnnxModel:
    """The ONNX model of a checkpoint, FP32 or with `quantization` INT8, with metadata that says what it is and how to
    feed it.
    """
    model = checkpoint.model
    name, shape = model.image_input.name, options.input_shape or model.image_input.shape
    if len(shape) != 4 or shape[1] != model.image_input.shape[1]:
        raise ShapeError(f"input shape {shape}: expected N, {model.image_input.shape[1]}, H, W")
    if not options.preprocessing and options.input_type is InputType.UINT8:
        raise PreprocessingError("uint8 holds no pixels minus a mean: build the preprocessing in, or feed float32")
    converted = _export(checkpoint, name, shape, options.dynamic)
    if options.preprocessing:
        reverse = options.color is Color.BGR
        converted = bake_preprocessing(converted, input_name=name, mean=model.image.mean, reverse=reverse)
    if quantization:
        converted = quantize(converted, quantization)
    if options.faces:
        converted = append_postprocessing(
            converted,
            input_name=name,
            rules=options.faces.rules(model),
            top_k=options.faces.top_k,
            keep_heads=options.faces.keep_heads,
        )
    if options.input_type is InputType.UINT8:
        converted = take_bytes(converted, input_name=name)
    if options.layout is Layout.NHWC:
        converted = take_channels_last(converted, input_name=name)
    precision = Precision.INT8 if quantization else Precision.FP32
    return replace(converted, metadata=_contract(checkpoint, options, precision, quantization).metadata)


def _contract(
    checkpoint: Checkpoint, options: Options, precision: Precision, quantization: Quantization | None = None
) -> Contract:
    record = quantization.metadata if quantization else {}
    return Contract.of(checkpoint.model, checkpoint.weights, options, precision.value, record)


def _export(checkpoint: Checkpoint, name: str, shape: Shape, dynamic: Dynamic) -> OnnxModel:
    graph, title = checkpoint.graph, checkpoint.model.name
    network = resolve(graph, {name: shape})
    if dynamic is Dynamic.NOTHING:
        return export(network, checkpoint.parameters, {name: shape}, name=title)
    freed = [kind is not None and dynamic in (kind, Dynamic.ALL) for kind in FREED_BY]
    named = tuple(free if is_free else size for size, free, is_free in zip(shape, FREE_DIMENSIONS, freed, strict=True))
    larger = tuple(size + LARGER * is_free for size, is_free in zip(shape, freed, strict=True))
    return export(
        network,
        checkpoint.parameters,
        {name: named},
        name=title,
        larger=resolve(graph, {name: larger}),
    )


def _write_ir(
    checkpoint: Checkpoint,
    options: Options,
    source: Path,
    artifacts: Sequence[Artifact],
    staging: Path,
    progress: Callable[[str], None],
    quantization: Quantization | None = None,
) -> None:
    progress("optimising for OpenVINO")
    info = _contract(checkpoint, options, artifacts[0].precision, quantization).model_api
    ir = IntermediateRepresentation(source, name=checkpoint.model.name, info=info, layout=options.layout.value)
    for artifact in sorted(artifacts, key=lambda artifact: artifact.precision is Precision.FP16):
        progress(f"writing IR {artifact.precision.value}")
        if artifact.precision is Precision.FP16:
            ir.compress_to_fp16()
        with _staged_pair(artifact, staging) as path:
            ir.save(path, precision=artifact.precision.value)


@contextlib.contextmanager
def _staged_pair(artifact: Artifact, staging: Path) -> Iterator[Path]:
    """Give a path for the .xml; move both files into place so that no .xml ever stands beside another's .bin."""
    folder = staging / artifact.precision.value
    folder.mkdir()
    yield folder / artifact.path.name
    artifact.path.parent.mkdir(parents=True, exist_ok=True)
    replace_files([folder / path.name for path in artifact.files], artifact.files, staging)
