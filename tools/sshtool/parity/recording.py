"""Recording of exact answers in a reference pack, for verification without the checkpoint."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from sshconvert.checkpoint import Checkpoint, CheckpointFiles
from sshconvert.contract import CHANNELS
from sshconvert.convert import convert
from sshconvert.errors import RuntimeUnavailableError, UsageError
from sshconvert.files import check_replaceable, scratch_folder
from sshconvert.formats.registry import FORMATS
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options, Precision
from sshtool.checkpoint.archive import opened
from sshtool.parity.pack import MOST_PIXELS, write_pack
from sshtool.parity.reference import Answer, LiveReference, all_answers, half_answers
from sshtool.parity.samples import sample_names
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Runtime, Settings
from sshtool.runtimes.exact import Exact
from sshtool.runtimes.mxnet import Mxnet
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class ReferenceResult:
    """The written pack. `bytes` is 0 for a dry run; `source` computed the answers."""

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
    """Compute every sample exactly and write the answers to `path`, by default beside the artifacts.

    Raises UsageError if a pack cannot hold the size, OutputError, and the errors of opening the checkpoint.
    """
    model = workspace.model
    target = path or workspace.reference_pack
    size = _size(model, input_shape)
    if math.prod(size) > MOST_PIXELS:
        text = "x".join(map(str, size))
        raise UsageError(f"--input-shape: {text} is more than the {MOST_PIXELS} pixels that a pack holds")
    check_replaceable(target)
    with opened(workspace.source(checkpoint), model, allow_nonfinite=settings.allow_nonfinite) as original:
        live = _reference(original, scenes, settings, progress)
        if not dry_run:
            answers = all_answers(live, size)
            write_pack(
                target,
                original,
                live.source,
                answers,
                one_size=model.takes_image and live.other_size() is None,
                yardstick=live.yardstick(*size),
                halves=_halves(live, original, size),
            )
        written = 0 if dry_run else target.stat().st_size
        names = sample_names(scenes, tensors=not model.takes_image)
        return ReferenceResult(target, written, model.name, original.weights, live.source, names)


def _reference(checkpoint: Checkpoint, scenes: int, settings: Settings, progress: Progress) -> LiveReference:
    """Return the exact answers. Their yardstick is MXNet, or without it the operators in float32."""
    exact = Exact(checkpoint, settings)
    original: Runtime = exact.in_float32()
    with contextlib.suppress(RuntimeUnavailableError):
        original = Mxnet(checkpoint, settings)
    return LiveReference(original, checkpoint.model, exact=exact, every=True, scenes=scenes, progress=progress)


def _halves(live: LiveReference, checkpoint: Checkpoint, size: tuple[int, ...]) -> dict[tuple[str, ...], list[Answer]]:
    """Return the answers for weights that are rounded to halves, as each installed format rounds them."""
    with scratch_folder() as folder:
        shape = (1, CHANNELS, *size) if size else None
        formats = tuple(filter(_is_available, Options().formats))
        artifacts = convert(checkpoint, folder, Options(formats, (Precision.FP16,), shape))
        return half_answers(live, [artifact.path for artifact in artifacts], size)


def _is_available(key: str) -> bool:
    """Return whether the libraries of a format are installed."""
    try:
        FORMATS[key].require()
    except RuntimeUnavailableError:
        return False
    return True


def _size(model: ModelSpec, input_shape: Shape | None) -> tuple[int, ...]:
    """Return the height and width of the samples; () for tensors. Raises UsageError for a shape of tensors."""
    if model.takes_image:
        return (input_shape or model.image_shape)[2:]
    if input_shape:
        raise UsageError(f"--input-shape: {model.name} takes tensors; give their shapes with --input")
    return ()
