"""Recording of MXNet's answers in a reference pack, for verification where MXNet cannot be installed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sshconvert.checkpoint import CheckpointFiles
from sshconvert.errors import UsageError
from sshconvert.files import check_replaceable
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshtool.checkpoint.archive import opened
from sshtool.parity.pack import MOST_PIXELS, write_pack
from sshtool.parity.reference import LiveReference
from sshtool.parity.samples import sample_names
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.runtimes.mxnet import Mxnet, import_mxnet
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class ReferenceResult:
    """The written pack. `bytes` is 0 for a dry run; `source` is the runtime."""

    path: Path
    bytes: int
    model: str
    weights: str
    source: str
    samples: tuple[str, ...]


def make_reference(
    workspace: Workspace,
    *,
    path: Path | None = None,
    checkpoint: Path | CheckpointFiles | None = None,
    input_shape: Shape | None = None,
    scenes: int = 2,
    settings: Settings = Settings(),  # noqa: B008  # frozen
    dry_run: bool = False,
    progress: Progress = silent,
) -> ReferenceResult:
    """Run MXNet on every sample and write its answers to `path`, by default beside the artifacts.

    Raises UsageError if a pack cannot hold the size, RuntimeUnavailableError without MXNet, OutputError, and the errors
    of opening the checkpoint.
    """
    model = workspace.model
    target = path or workspace.reference_pack
    size = _size(model, input_shape)
    if math.prod(size) > MOST_PIXELS:
        text = "x".join(map(str, size))
        raise UsageError(f"--input-shape: {text} is more than the {MOST_PIXELS} pixels that a pack holds")
    import_mxnet(settings.threads)
    check_replaceable(target)
    source = workspace.source(checkpoint)
    with opened(source, model, allow_nonfinite=settings.allow_nonfinite) as original:
        runtime = Mxnet(original, settings)
        if not dry_run:
            live = LiveReference(runtime, model, scenes=scenes, progress=progress)
            other = live.other_size()
            answers = [*live.answers(*size), *((other,) if other else ())]
            write_pack(target, original, str(runtime), answers, one_size=model.takes_image and other is None)
        written = 0 if dry_run else target.stat().st_size
        names = sample_names(scenes, tensors=not model.takes_image)
        return ReferenceResult(target, written, model.name, original.weights, str(runtime), names)


def _size(model: ModelSpec, input_shape: Shape | None) -> tuple[int, ...]:
    """Return the height and width of the samples; () for tensors. Raises UsageError for a shape of tensors."""
    if model.takes_image:
        return (input_shape or model.image_shape)[2:]
    if input_shape:
        raise UsageError(f"--input-shape: {model.name} takes tensors; give their shapes with --input")
    return ()
