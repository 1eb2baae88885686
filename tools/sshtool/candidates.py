"""Which artifacts a verb runs: those that the user names, or the converted ones that can do what is asked for."""

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
from sshtool.runtimes.registry import RUNTIMES, able_of, native_formats, usual_runtime
from sshtool.workspace import Workspace

# Folders whose names say what precision the artifacts in them have.
PRECISIONS: Final = (*(precision.value for precision in Precision), "BF16")


@dataclass(frozen=True)
class Candidate:
    """An artifact to run: the profile of its folder ("": the file says it), the key of its runtime ("": the usual one),
    and the profile that overrides all others, if the user names one.
    """

    path: Path
    profile: str = ""
    runtime: str = ""
    held_to: str = ""


def find_candidates(
    workspace: Workspace,
    artifacts: Sequence[Path] = (),
    *,
    runtime: str = "",
    inference_precision: str = F32,
    profile: str = "",
) -> tuple[Candidate, ...]:
    """The named artifacts, or all converted ones whose runtime computes in that precision.

    Raises UsageError for an artifact that is not there or a precision that none can have, ArtifactError without any.
    """
    check_artifacts(artifacts)
    if not (artifacts or workspace.converted()):
        raise ArtifactError(
            f"{workspace.artifacts}: there are no artifacts; make them with `sshtool convert`, or name --artifact"
        )
    paths = artifacts or _able(workspace, runtime, inference_precision)
    if not paths:
        raise UsageError(
            f"--inference-precision: no artifact in {workspace.artifacts} is for a runtime that can be asked for "
            f"{inference_precision}; give --runtime {' or '.join(able_of(inference_precision))}"
        )
    return tuple(Candidate(path, _folder_precision(path), runtime, profile) for path in paths)


def usual_artifact(workspace: Workspace, runtime: str = "", inference_precision: str = F32) -> Path:
    """The artifact to detect with: FP32 before FP16 before INT8, in the format that the runtime loads first.

    Without `runtime`, a format counts if its usual runtime computes in `inference_precision`. If none of them is
    there, the first that `convert` would write: loading it raises the error that says what to do.
    """
    kind = RUNTIMES.get(runtime)
    paths = [
        artifact.path
        for precision in (Precision.FP32, Precision.FP16, Precision.INT8)
        for key in (kind.formats if kind is not None else native_formats())
        for artifact in plan(workspace.model.name, workspace.folder, Options((key,), (precision,)))
        if (kind or inference_precision in usual_runtime(artifact.path).inference_precisions)
    ]
    first = plan(workspace.model.name, workspace.folder, Options())[0].path
    return next(filter(is_file, paths), paths[0] if paths else first)


def check_artifacts(artifacts: Sequence[Path]) -> None:
    """Raises UsageError that lists those that are not there."""
    missing = [str(path) for path in artifacts if not is_file(path)]
    if missing:
        raise UsageError(f"--artifact: {', '.join(missing)} is not there; name a file that `sshtool convert` made")


def left_out(
    workspace: Workspace, artifacts: Sequence[Path], *, runtime: str = "", inference_precision: str = F32
) -> tuple[str, ...]:
    """A note that lists the converted artifacts that `find_candidates` leaves out because of the precision."""
    able = _able(workspace, runtime, inference_precision)
    unable = [str(path) for path in workspace.converted() if path not in able]
    if artifacts or not unable:
        return ()
    return (f"left out, because their runtimes cannot be asked for {inference_precision}: {', '.join(unable)}",)


def labelled(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """Each candidate once, by a unique label, for example "onnx FP16"."""
    short = [_label(candidate) for candidate in dict.fromkeys(candidates)]
    return {
        label if short.count(label) == 1 else f"{label} ({name_text(candidate.path)})": candidate
        for label, candidate in zip(short, dict.fromkeys(candidates), strict=True)
    }


def _able(workspace: Workspace, runtime: str, inference_precision: str) -> tuple[Path, ...]:
    """The converted artifacts whose runtime computes in that precision. Loading refuses what a runtime cannot load."""
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
