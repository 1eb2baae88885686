"""Facts about a model and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sshconvert.contract import Contract, licence_of
from sshconvert.convert import plan
from sshconvert.errors import ArtifactError
from sshconvert.finite import NonFinite
from sshconvert.formats.registry import format_of
from sshconvert.graph import Shape
from sshconvert.messages import name_text
from sshconvert.options import Options, Precision
from sshconvert.reading import is_file
from sshtool.checkpoint.archive import opened
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class InfoResult:
    """Facts of the checkpoint, beside the published ones."""

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
    published_at: Shape  # input shape of `published_gflops`
    license_code: str
    license_weights: str
    license_note: str
    nonfinite: tuple[NonFinite, ...]  # weights that are NaN or infinite
    quantized: Mapping[str, Mapping[str, str]]  # for each INT8 file among the artifacts, how it was made


def info(
    workspace: Workspace,
    *,
    checkpoint: Path | None = None,
    input_shape: Shape | None = None,
    allow_nonfinite: bool = False,
) -> InfoResult:
    """Describe a checkpoint (by default the downloaded one) at an input shape (by default the model's).

    Raises the errors of opening the checkpoint and of inferring its shapes.
    """
    model = workspace.model
    path = checkpoint or workspace.checkpoint
    with opened(path, model, allow_nonfinite=allow_nonfinite) as loaded:
        shape = input_shape or model.image_input.shape
        network = loaded.resolve({model.image_input.name: shape})
        operators = [node.operator for node in loaded.graph.nodes if not node.is_variable]
        parameters = sum(array.size for array in loaded.parameters.values())
        # The model card counts the mean subtraction: one operation per input value.
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
            quantized=_quantized(workspace),
        )


def _quantized(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The quantization record of each INT8 artifact, or the error of reading it, by path."""
    records: dict[str, dict[str, str]] = {}
    for artifact in plan(workspace.model.name, workspace.folder, Options(precisions=(Precision.INT8,))):
        if is_file(artifact.path):
            try:
                record = Contract(format_of(artifact.path).read_metadata(artifact.path)).quantization
            except ArtifactError as error:
                record = {"error": str(error)}
            records[name_text(artifact.path)] = record
    return records
