"""`sshtool run`: the whole way, from a checkpoint to converted models that were compared with the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, Format, Options, Precision, convert, plan
from sshconvert.detection import detect
from sshconvert.errors import RuntimeUnavailableError
from sshconvert.models import Model, load_model
from sshtool.checkpoint.archive import opened
from sshtool.commands.download import checkpoint_folder, download
from sshtool.parity.compare import DetectionMatch, TensorDifference, compare_tensors, match_detections
from sshtool.report.picture import save_picture
from sshtool.report.terminal import table
from sshtool.runtimes import Images, Outputs, Runtime
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.runtimes.openvino import OpenVino
from sshtool.scenes import draw_scene

# A scene on which the demo's heads were not fitted.
SCENE_SEED: Final = 0

# Largest difference from the reference, over all elements of the six outputs, that is still the same detector. Two
# float32 runtimes add up the same products in another order; FP16 rounds each weight by up to 1/2048 of itself.
TOLERANCES: Final = {Precision.FP32: 1e-4, Precision.FP16: 5e-2}

_RUNTIMES: Final[dict[Format, Callable[[Path], Runtime]]] = {Format.ONNX: OnnxRuntime, Format.OPENVINO: OpenVino}


@dataclass(frozen=True)
class Comparison:
    """One artifact beside the reference, on one image."""

    format: str
    precision: str
    runtime: str
    tensors: tuple[TensorDifference, ...]
    detections: DetectionMatch
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class RunResult:
    """What was made and how it compares. `reference` names the runtime that the others were held to."""

    model: str
    weights: str
    reference: str
    note: str
    detections: int
    comparisons: tuple[Comparison, ...]
    artifacts: tuple[Path, ...]
    picture: Path
    passed: bool


def run(
    model_name: str,
    output_dir: Path,
    options: Options,
    *,
    demo_checkpoint: bool = False,
    from_archive: Path | None = None,
    checkpoint: Path | None = None,
    allow_unverified: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Get the checkpoint, convert it, run original and artifacts on a drawn scene, and compare.

    The reference is MXNet where it is installed, otherwise the first artifact, and `note` says so. Raises what the
    steps raise.
    """
    model = load_model(model_name)
    if checkpoint is None and (demo_checkpoint or from_archive is not None):
        download(
            model_name,
            output_dir,
            demo_checkpoint=demo_checkpoint,
            from_archive=from_archive,
            allow_unverified=allow_unverified,
            dry_run=dry_run,
            progress=progress,
        )
    picture = output_dir / model.name / "scene.png"
    if dry_run:
        return _planned(model, output_dir, options, picture)
    with opened(checkpoint or checkpoint_folder(output_dir, model), model) as loaded:
        artifacts = convert(loaded, output_dir, options, progress=progress)
        return _compare(loaded, artifacts, options, picture, progress)


def _compare(
    checkpoint: Checkpoint,
    artifacts: tuple[Artifact, ...],
    options: Options,
    picture: Path,
    progress: Callable[[str], None],
) -> RunResult:
    model = checkpoint.model
    batch, _, height, width = options.input_shape or model.input.shape
    scene = draw_scene(SCENE_SEED, height, width)
    images = np.repeat(scene.image[None], batch, axis=0)
    reference, expected, note = _run_reference(checkpoint, artifacts[0], images, progress)
    faces = detect(expected, (height, width), model.detection)[0]
    comparisons = []
    for artifact in artifacts:
        progress(f"running {artifact.format.value} {artifact.precision.value}")
        comparisons.append(_compare_one(artifact, images, expected, model))
    save_picture(picture, scene.image, faces)
    return RunResult(
        model=model.name,
        weights=checkpoint.weights,
        reference=reference,
        note=note,
        detections=len(faces),
        comparisons=tuple(comparisons),
        artifacts=tuple(artifact.path for artifact in artifacts),
        picture=picture,
        passed=all(comparison.passed for comparison in comparisons),
    )


def _compare_one(artifact: Artifact, images: Images, expected: Outputs, model: Model) -> Comparison:
    runtime = _RUNTIMES[artifact.format](artifact.path)
    outputs = runtime.run(images)
    tensors = compare_tensors(expected, outputs)
    size = images.shape[1], images.shape[2]
    faces, found = (detect(heads, size, model.detection)[0] for heads in (expected, outputs))
    tolerance = TOLERANCES[artifact.precision]
    return Comparison(
        format=artifact.format.value,
        precision=artifact.precision.value,
        runtime=f"{runtime.name} {runtime.version}",
        tensors=tensors,
        detections=match_detections(faces, found),
        tolerance=tolerance,
        passed=all(tensor.largest is not None and tensor.largest <= tolerance for tensor in tensors),
    )


def _run_reference(
    checkpoint: Checkpoint,
    first: Artifact,
    images: Images,
    progress: Callable[[str], None],
) -> tuple[str, Outputs, str]:
    runtime: Runtime
    try:
        runtime, note = Mxnet(checkpoint), ""
    except RuntimeUnavailableError as error:
        runtime = _RUNTIMES[first.format](first.path)
        note = (
            f"MXNet is not there, so this shows only that the formats agree with {runtime.name}, "
            f"not with the original: {error}"
        )
    progress(f"running {runtime.name}, the reference")
    return f"{runtime.name} {runtime.version}", runtime.run(images), note


def _planned(model: Model, output_dir: Path, options: Options, picture: Path) -> RunResult:
    paths = tuple(artifact.path for artifact in plan(model.name, output_dir, options))
    return RunResult(model.name, "", "", "nothing was written or compared", 0, (), paths, picture, passed=True)


def render(result: RunResult, plain: bool) -> RenderableType:
    """The result as text for a person: a row an output, a column an artifact."""
    columns = ["max / mean difference", *(f">{item.format} {item.precision}" for item in result.comparisons)]
    tensors = zip(*(item.tensors for item in result.comparisons), strict=True)
    rows = [[row[0].output, *(_difference(tensor) for tensor in row)] for row in tensors]
    rows.append(["detections matched", *(_matches(item.detections) for item in result.comparisons)])
    rows.append(["tolerance", *(f"{item.tolerance:g}" for item in result.comparisons)])
    rows.append(["verdict", *("same" if item.passed else "DIFFERENT" for item in result.comparisons)])
    rows.append(["runtime", *(item.runtime for item in result.comparisons)])
    title = f"{result.model}, weights {result.weights}, against {result.reference}: {result.detections} detections"
    notes = [line for line in (result.note, f"picture: {result.picture}", *map(str, result.artifacts)) if line]
    return Group(table(columns, rows, title=title, plain=plain), Text("\n".join(notes)))


def _difference(tensor: TensorDifference) -> str:
    if tensor.largest is None or tensor.mean is None:
        return "not comparable"
    return f"{tensor.largest:.2e} / {tensor.mean:.2e}"


def _matches(match: DetectionMatch) -> str:
    extra = f", {match.extra} extra" if match.extra else ""
    return f"{match.matched} of {match.matched + match.missing}{extra}"
