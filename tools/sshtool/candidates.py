"""Chooses the artifacts that a verb runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshconvert.convert import plan
from sshconvert.errors import ArtifactError, UsageError
from sshconvert.formats.registry import format_key
from sshconvert.messages import name_text
from sshconvert.options import Options, Precision
from sshconvert.reading import is_file
from sshtool.runtimes.base import F32
from sshtool.runtimes.registry import RUNTIMES, native_formats, runtimes_for, usual_runtime
from sshtool.workspace import Workspace

# Names of folders that state the precision of the artifacts in them.
PRECISIONS: Final = (*(precision.value for precision in Precision), "BF16")


@dataclass(frozen=True)
class Candidate:
    """An artifact to run.

    `profile` is the tolerance profile of its folder, "" for that of its metadata; `forced_profile` overrides both.
    `runtime` is a runtime's key, "" for the usual one.
    """

    path: Path
    profile: str = ""
    runtime: str = ""
    forced_profile: str = ""


def find_candidates(
    workspace: Workspace,
    artifacts: Sequence[Path] = (),
    *,
    runtime: str = "",
    inference_precision: str = F32,
    profile: str = "",
) -> tuple[Candidate, ...]:
    """The given artifacts, or all converted ones whose runtime computes in that precision.

    Raises UsageError for a missing artifact or an unsupported precision, ArtifactError if there are no artifacts.
    """
    check_artifacts(artifacts)
    if not (artifacts or workspace.converted()):
        raise ArtifactError(f"{workspace.artifacts}: has no artifacts; run `sshtool convert`, or give --artifact")
    paths = artifacts or _supported(workspace, runtime, inference_precision)
    if not paths:
        raise UsageError(
            f"--inference-precision: no runtime of the artifacts in {workspace.artifacts} computes in "
            f"{inference_precision}; give --runtime {' or '.join(runtimes_for(inference_precision))}"
        )
    return tuple(Candidate(path, _folder_precision(path), runtime, profile) for path in paths)


def usual_artifact(workspace: Workspace, runtime: str = "", inference_precision: str = F32) -> Path:
    """The artifact to detect with: FP32 before FP16 before INT8, in the format that the runtime loads first.

    Without `runtime`, the usual runtime of a format must compute in `inference_precision`. If no artifact exists, the
    first path that `convert` would write: loading it raises the error with the remedy.
    """
    runtime_type = RUNTIMES.get(runtime)
    paths = [
        artifact.path
        for precision in (Precision.FP32, Precision.FP16, Precision.INT8)
        for key in (native_formats() if runtime_type is None else runtime_type.formats)
        for artifact in plan(workspace.model.name, workspace.folder, Options((key,), (precision,)))
        if (runtime_type or inference_precision in usual_runtime(artifact.path).inference_precisions)
    ]
    first = plan(workspace.model.name, workspace.folder, Options())[0].path
    return next(filter(is_file, paths), paths[0] if paths else first)


def check_artifacts(artifacts: Sequence[Path]) -> None:
    """Raises UsageError that lists the missing artifacts."""
    missing = [str(path) for path in artifacts if not is_file(path)]
    if missing:
        raise UsageError(f"--artifact: {', '.join(missing)} does not exist; give a file that `sshtool convert` wrote")


def left_out(
    workspace: Workspace, artifacts: Sequence[Path], *, runtime: str = "", inference_precision: str = F32
) -> tuple[str, ...]:
    """A note that lists the converted artifacts that `find_candidates` leaves out because of the precision."""
    supported = _supported(workspace, runtime, inference_precision)
    unsupported = [str(path) for path in workspace.converted() if path not in supported]
    if artifacts or not unsupported:
        return ()
    return (f"left out, because their runtimes do not compute in {inference_precision}: {', '.join(unsupported)}",)


def labelled(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """The distinct candidates by unique labels, for example "onnx FP16"."""
    distinct = list(dict.fromkeys(candidates))
    labels = [_label(candidate) for candidate in distinct]
    return {
        label if labels.count(label) == 1 else f"{label} ({name_text(candidate.path)})": candidate
        for label, candidate in zip(labels, distinct, strict=True)
    }


def _supported(workspace: Workspace, runtime: str, inference_precision: str) -> tuple[Path, ...]:
    """The converted artifacts whose runtime computes in that precision, whether or not it loads their format."""
    return tuple(
        path
        for path in workspace.converted()
        if inference_precision == F32 or inference_precision in usual_runtime(path, runtime).inference_precisions
    )


def _folder_precision(path: Path) -> str:
    name = path.resolve().parent.name
    return name if name in PRECISIONS else ""


def _label(candidate: Candidate) -> str:
    parts = [format_key(candidate.path), candidate.profile or name_text(candidate.path.parent.name)]
    return " ".join(parts) + (f" ({candidate.runtime})" if candidate.runtime else "")
