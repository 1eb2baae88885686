"""Converting a packaged model's checkpoint again, with the options that the manifest says it was converted with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Color, Dynamic, Faces, Format, InputType, Layout, Options, Precision, convert
from sshconvert.digest import file_sha256
from sshconvert.errors import PackageError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.postprocessing import OUTPUTS as FACES
from sshtool.package.manifest import Manifest, PackagedModel

REBUILT: Final = (Precision.FP32.value, Precision.FP16.value)  # from a checkpoint alone


def check_rebuildable(manifest: Manifest, checkpoint: Checkpoint) -> None:
    """Raises PackageError if the package was made from another checkpoint, or from more than one."""
    if dict(checkpoint.sha256) != dict(manifest.source.checkpoint) or checkpoint.weights != manifest.source.weights:
        raise PackageError(
            f"{checkpoint.params_path.parent}: is not the checkpoint that the package was made from; name that one"
        )
    for item in manifest.models:
        if item.precision not in REBUILT:
            raise PackageError(
                f"{item.path}: {item.precision} is not made from a checkpoint alone; leave out --rebuild"
            )


def rebuilt(item: PackagedModel, checkpoint: Checkpoint, folder: Path) -> Mapping[str, str]:
    """Convert again into an empty folder: the SHA-256 that each of the model's files should have."""
    made = convert(checkpoint, folder, options_of(item, checkpoint.model))[0]
    return {place: file_sha256(path) for place, path in zip(item.files, made.files, strict=True)}


def options_of(item: PackagedModel, model: ModelSpec) -> Options:
    """The options that make such a model. Raises ValueError where none do."""
    sizes = dict(zip(item.input_layout, item.input.shape, strict=True))
    free = {name for name, size in sizes.items() if size < 1}
    dynamic = {(False, False): Dynamic.NOTHING, (True, False): Dynamic.BATCH, (False, True): Dynamic.SIZE}
    inside = item.postprocessing
    faces = None
    if inside:
        kept = len(item.outputs) > len(FACES)
        faces = Faces(inside.score_threshold, inside.iou_threshold, inside.top_k, kept)
    shape = tuple(
        own if name in free and name != "N" else max(sizes[name], 1)
        for name, own in zip("NCHW", model.image_input.shape, strict=True)
    )
    return Options(
        (Format(item.format),),
        (Precision(item.precision),),
        shape,
        preprocessing=not any(item.mean_values),
        dynamic=dynamic.get(("N" in free, "H" in free), Dynamic.ALL),
        layout=Layout(item.input_layout),
        input_type=InputType.UINT8 if item.input.dtype == "uint8" else InputType.FLOAT32,
        color=Color(item.color_order.lower()),
        faces=faces,
    )
