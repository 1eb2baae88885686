"""`sshtool info`: what a model and its checkpoint are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from sshconvert.contract import CALIBRATION_IMAGES, Contract, licence_of
from sshconvert.convert import plan
from sshconvert.errors import ArtifactError
from sshconvert.finite import NonFinite, summary
from sshconvert.graph import Shape
from sshconvert.messages import name_text
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.network import resolve
from sshconvert.options import Options, Precision
from sshconvert.reading import is_file
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import checkpoint_folder
from sshtool.metadata import read_metadata
from sshtool.report.terminal import table


@dataclass(frozen=True)
class InfoResult:
    """Facts read from the checkpoint, beside those that were published."""

    model: str
    title: str
    weights: str
    input_name: str
    input_shape: Shape
    outputs: Mapping[str, Shape]
    operators: Mapping[str, int]
    mparams: float
    published_mparams: float | None
    gflops: float
    published_gflops: float | None
    published_at: Shape  # the input that it is of
    license_code: str
    license_weights: str
    license_note: str
    nonfinite: tuple[NonFinite, ...]  # weights that are NaN or infinite
    quantized: Mapping[str, Mapping[str, str]]  # for each INT8 file among the artifacts, how it was made


def info(
    model_name: str,
    output_dir: Path,
    *,
    checkpoint: Path | None = None,
    input_shape: Shape | None = None,
    allow_nonfinite: bool = False,
) -> InfoResult:
    """Read a checkpoint (by default the downloaded one) and describe it at `input_shape` (by default the model's).

    Raises what opening it and inferring its shapes raise.
    """
    model = load_model(model_name)
    path = checkpoint or checkpoint_folder(output_dir, model)
    with opened(path, model, allow_nonfinite=allow_nonfinite) as loaded:
        shape = input_shape or model.image_input.shape
        network = resolve(loaded.graph, {model.image_input.name: shape})
        operators = [node.operator for node in loaded.graph.nodes if not node.is_variable]
        parameters = sum(array.size for array in loaded.parameters.values())
        # The model card counts the mean subtraction: one operation an input value.
        flops = network.flops() + math.prod(shape)
        return InfoResult(
            model=model.name,
            title=model.title,
            weights=loaded.weights,
            input_name=model.image_input.name,
            input_shape=shape,
            outputs=network.output_shapes(),
            operators={name: operators.count(name) for name in sorted(set(operators))},
            mparams=parameters / 1e6,
            published_mparams=model.published.mparams,
            gflops=flops / 1e9,
            published_gflops=model.published.gflops,
            published_at=model.image_input.shape,
            license_code=model.licence.code,
            license_weights=licence_of(model, loaded.weights),
            license_note="" if loaded.is_demo else model.licence.note,
            nonfinite=loaded.nonfinite,
            quantized=_quantized(model, output_dir),
        )


def _quantized(model: ModelSpec, output_dir: Path) -> dict[str, dict[str, str]]:
    """What INT8 files say of their quantization. One that cannot be read says why: this is about the checkpoint."""
    found: dict[str, dict[str, str]] = {}
    for artifact in plan(model.name, output_dir, Options(precisions=(Precision.INT8,))):
        if is_file(artifact.path):
            try:
                record = Contract(read_metadata(artifact.path)).quantization
            except ArtifactError as error:
                record = {"error": str(error)}
            found[name_text(artifact.path)] = record
    return found


def render(result: InfoResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    licences = {
        "licence of the code": result.license_code,
        "licence of the weights": result.license_weights,
        "note": result.license_note,
    }
    rows = [
        ["weights", result.weights],
        *([["", summary(result.nonfinite)]] if result.nonfinite else []),
        ["input", f"{result.input_name} {_dimensions(result.input_shape)}, original network: RGB minus mean"],
        *(["output", f"{name} {_dimensions(shape)}"] for name, shape in result.outputs.items()),
        ["operators", ", ".join(f"{count} {name}" for name, count in result.operators.items())],
        ["MParams", f"{result.mparams:.4f}{_published(result.published_mparams)}"],
        ["GFLOPs", f"{result.gflops:.4f}{_published(result.published_gflops, result.published_at)}"],
        *([name, text] for name, text in licences.items() if text),
        *([path, _how(said)] for path, said in result.quantized.items()),
    ]
    return table([result.model, result.title], rows, plain=plain)


def _published(figure: float | None, shape: Shape = ()) -> str:
    place = f" at {_dimensions(shape)}" if shape else ""
    return "" if figure is None else f" (published {figure}{place})"


def _how(said: Mapping[str, str]) -> str:
    """Without the names of the images, of which there may be hundreds."""
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in said.items() if key != CALIBRATION_IMAGES)


def _dimensions(shape: Shape) -> str:
    return "x".join(map(str, shape))
