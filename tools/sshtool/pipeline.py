"""The whole way from a checkpoint to a package: download, convert, verify, package, check."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import Checkpoint, locate
from sshconvert.convert import Artifact, convert, plan
from sshconvert.errors import CheckpointError, OutputError, PackageError, ReferencePackError, RuntimeUnavailableError
from sshconvert.files import scratch_folder
from sshconvert.libraries import JINJA, PILLOW, YAML, require
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options
from sshconvert.tasks.detection import THRESHOLD
from sshtool.candidates import Candidate
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.checkpoint.fetch import Report, no_report
from sshtool.package.build import PackageOptions, package
from sshtool.package.check import Checker
from sshtool.parity.pack import write_pack
from sshtool.parity.reference import LiveReference, Reference
from sshtool.parity.samples import SCENE
from sshtool.parity.verification import (
    ConvertedAgain,
    VerifyOptions,
    VerifyResult,
    find_reference,
    write_record,
)
from sshtool.parity.verify import VerifyReport, verify
from sshtool.progress import Progress, silent
from sshtool.quantization import QuantizationOptions, check, quantization_for, quantization_needs
from sshtool.report.picture import save_picture
from sshtool.report.verification import ReportFiles
from sshtool.runtimes.loading import load
from sshtool.workspace import Workspace

# The sample of the picture: a scene that the demo's heads were not fitted on.
PICTURED: Final = f"{SCENE}0"


@dataclass(frozen=True)
class RunResult:
    """What was made and how it compares with the original. `report` is None if nothing was written or compared.

    `package` is None if something did not pass, or was not compared with the original. `notes` say what else to know.
    """

    model: str
    weights: str
    artifacts: tuple[Path, ...]
    picture: Path
    page: Path
    report: VerifyReport | None
    package: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.report is None or self.report.passed


def run(
    workspace: Workspace,
    options: Options,
    wanted: QuantizationOptions = QuantizationOptions(),  # noqa: B008  # it is frozen
    *,
    checkpoint: Path | None = None,
    source: DownloadOptions = DownloadOptions(),  # noqa: B008  # as above
    dry_run: bool = False,
    progress: Progress = silent,
    report_transfer: Report = no_report,
) -> RunResult:
    """Get the checkpoint, convert it, and compare every artifact with the original on every sample.

    The original is MXNet, or its shipped answers for the demo checkpoint. Without either, the first artifact replaces
    it, and a note of the report says so. An existing checkpoint is used, unless `source` names another. Raises what
    the steps raise.
    """
    model = workspace.model
    if not dry_run:
        require(PILLOW, JINJA, YAML, *quantization_needs(options, wanted))
    named = source.demo or source.from_archive is not None or bool(source.sources)
    if checkpoint is None and (named or not _is_there(workspace.checkpoint, model)):
        download(workspace, source, dry_run=dry_run, progress=progress, report=report_transfer)
    result = _planned(workspace, options)
    if dry_run:
        return result
    path = checkpoint or workspace.checkpoint
    notes: list[str] = []
    with opened(path, model, allow_nonfinite=source.allow_nonfinite) as loaded:
        check(loaded, options, wanted)
        quantization = quantization_for(loaded, options, wanted, progress=progress, note=notes.append)
        artifacts = convert(loaded, workspace.folder, options, quantization=quantization, progress=progress)
        reference, is_original = _find_reference(loaded, artifacts, options, progress)
        report = _verify(loaded, artifacts, reference, progress)
        _save_picture(result.picture, reference, model, options)
        ReportFiles(result.page).write(VerifyResult(report), reference)
        result = replace(result, weights=loaded.weights, report=report, notes=tuple(notes))
        if report.passed and is_original:
            result = replace(result, package=_package(workspace, loaded, reference, report, progress))
        return result


def _is_there(folder: Path, model: ModelSpec) -> bool:
    try:
        locate(folder, model)
    except CheckpointError:
        return False
    return True


def _verify(
    checkpoint: Checkpoint, artifacts: Sequence[Artifact], reference: Reference, progress: Progress
) -> VerifyReport:
    candidates = [Candidate(artifact.path, artifact.precision.value) for artifact in artifacts]
    with scratch_folder() as folder:
        again = ConvertedAgain(checkpoint.model, checkpoint, folder)
        return verify(checkpoint.model, reference, candidates, convert_again=again.path, progress=progress)


def _find_reference(
    checkpoint: Checkpoint, artifacts: Sequence[Artifact], options: Options, progress: Progress
) -> tuple[Reference, bool]:
    """The reference, and whether it is the original: MXNet or a pack with answers for this size, or else the first
    artifact.
    """
    model = checkpoint.model
    try:
        reference = find_reference(model, checkpoint, VerifyOptions(), progress=progress)
        reference.answers(*_size(model, options))
    except (RuntimeUnavailableError, ReferencePackError) as error:
        first = load(artifacts[0].path, model)
        note = f"this shows only that the formats agree with {first}, not with the original: {error}"
        return LiveReference(first, model, note=note, progress=progress), False
    return reference, True


def _package(
    workspace: Workspace, checkpoint: Checkpoint, reference: Reference, report: VerifyReport, progress: Progress
) -> Path:
    """Package the verified artifacts with the original's answers, and check the package.

    The check does not run the models again: their hashes are those of the verified files.
    """
    model = workspace.model
    write_record(workspace.verification, VerifyResult(report))
    shipped = checkpoint.is_demo and report.artifacts[0].declaration.image_size(model) == model.image_input.shape[2:]
    if isinstance(reference, LiveReference) and not shipped:
        _keep_answers(workspace.reference_pack, checkpoint, reference, report)
    options = PackageOptions(artifacts=tuple(item.path for item in report.artifacts))
    made = package(workspace, options, progress=progress).folder
    found = Checker(made, progress).run(models=False).findings
    if found:
        raise PackageError(f"{made}: {found[0].path}: {found[0].message}; it was changed meanwhile, run it again")
    return made


def _keep_answers(path: Path, checkpoint: Checkpoint, reference: LiveReference, report: VerifyReport) -> None:
    """Write a reference pack. If it would be too large, the package goes without and says so."""
    size = report.artifacts[0].declaration.image_size(checkpoint.model)
    other = reference.other_size()
    with contextlib.suppress(OutputError):
        write_pack(path, checkpoint, reference.source, [*reference.answers(*size), *((other,) if other else ())])


def _save_picture(path: Path, reference: Reference, model: ModelSpec, options: Options) -> None:
    size = _size(model, options)
    answer = reference.answer(PICTURED, *size)
    if answer is not None:
        boxes = model.task.rows(answer.outputs, size, None)[0]
        save_picture(path, answer.sample.images[0], boxes, least=THRESHOLD)


def _size(model: ModelSpec, options: Options) -> tuple[int, int]:
    _, _, height, width = options.input_shape or model.image_input.shape
    return height, width


def _planned(workspace: Workspace, options: Options) -> RunResult:
    model, folder = workspace.model, workspace.artifacts
    paths = tuple(artifact.path for artifact in plan(model.name, workspace.folder, options))
    return RunResult(model.name, "", paths, folder / "scene.png", folder / "verification.html", None)
