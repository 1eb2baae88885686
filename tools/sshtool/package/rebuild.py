"""Converts a checkpoint again with the options that a manifest declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration, Tensor
from sshconvert.convert import convert
from sshconvert.digest import file_sha256
from sshconvert.errors import PackageError
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options, Precision
from sshconvert.tasks.inside import Inside, OutputForm, in_form
from sshtool.package.manifest import Manifest, PackagedModel

REBUILT: Final = (Precision.FP32.value, Precision.FP16.value)  # from a checkpoint alone


def check_rebuildable(manifest: Manifest, checkpoint: Checkpoint) -> None:
    """Raises PackageError if the package has another checkpoint, or a model that needs more than a checkpoint."""
    hashes, expected = (sorted(item.values()) for item in (checkpoint.sha256, manifest.source.checkpoint))
    if hashes != expected or checkpoint.weights != manifest.source.weights:
        raise PackageError(
            f"{checkpoint.params_path.parent}: is not the checkpoint that the package was made from; give that one"
        )
    for item in manifest.models:
        if item.precision not in REBUILT:
            raise PackageError(
                f"{item.path}: {item.precision} is not made from a checkpoint alone; leave out --rebuild"
            )


def rebuilt(item: PackagedModel, checkpoint: Checkpoint, folder: Path) -> Mapping[str, str]:
    """Convert again into an empty folder. Returns the SHA-256 of each of the model's files."""
    artifact = convert(checkpoint, folder, options_of(item, checkpoint.model))[0]
    return {target: file_sha256(path) for target, path in zip(item.files, artifact.files, strict=True)}


def options_of(item: PackagedModel, model: ModelSpec) -> Options:
    """The options of a conversion that gives this model. Raises ValueError if there are none."""
    if not item.input_layout:
        tensors = tuple(Tensor(**tensor.model_dump()) for tensor in (item.input, *item.other_inputs))
        declaration = Declaration(input_layout="", tensors=tensors)
        return declaration.options(item.format, item.precision, model)
    sizes = dict(zip(item.input_layout, item.input.shape, strict=True))
    inside = item.postprocessing
    declaration = Declaration(
        tuple(sizes[axis] if sizes[axis] > 0 else None for axis in "NCHW"),
        item.input_layout,
        item.input.dtype,
        item.color_order,
        item.mean_values,
        faces=Inside(inside.score_threshold, inside.iou_threshold, inside.top_k, inside.form) if inside else None,
    )
    results = in_form(model.task.inside_outputs, inside.form if inside else OutputForm.PLAIN)
    kept = len(item.outputs) > len(results)
    return declaration.options(item.format, item.precision, model, keep_heads=kept)
