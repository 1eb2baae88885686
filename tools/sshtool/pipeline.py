"""Every step from a checkpoint to a package: download, convert, verify, package, check."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import Checkpoint, CheckpointFiles, locate
from sshconvert.convert import Artifact, convert, plan
from sshconvert.errors import CheckpointError, OutputError, PackageError
from sshconvert.files import scratch_folder
from sshconvert.libraries import JINJA, PILLOW, YAML, require
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options, Precision
from sshconvert.tasks.detection import THRESHOLD
from sshconvert.tasks.faults import Size
from sshtool.candidates import Candidate
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.checkpoint.fetch import Report, no_report
from sshtool.package.build import PackageOptions, package
from sshtool.package.check import Checker
from sshtool.parity.pack import demo_pack, has_demo_pack, write_pack
from sshtool.parity.reference import LiveReference, Reference, all_answers, half_answers
from sshtool.parity.samples import SCENE
from sshtool.parity.verification import ConvertedAgain, VerifyOptions, VerifyResult, find_reference, write_record
from sshtool.parity.verify import ArtifactReport, VerifyReport, verify
from sshtool.picture import save_picture
from sshtool.progress import Progress, silent
from sshtool.quantization import QuantizationOptions, check, quantization_for, quantization_needs
from sshtool.report.verification import ReportFiles
from sshtool.runtimes.exact import EXACT
from sshtool.runtimes.mxnet import MXNET
from sshtool.workspace import Workspace

# The sample of the picture. The demo's heads were not fitted on this scene.
PICTURED: Final = f"{SCENE}0"


@dataclass(frozen=True)
class RunResult:
    """The paths of the files and the comparison with the original.

    `report` is None with `dry_run`. `package` is None if an artifact failed.
    """

    model: str
    weights: str
    artifacts: tuple[Path, ...]
    picture: Path | None
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
    quantization_options: QuantizationOptions = QuantizationOptions(),  # noqa: B008  # it is frozen
    *,
    checkpoint: Path | CheckpointFiles | None = None,
    source: DownloadOptions = DownloadOptions(),  # noqa: B008  # it is frozen
    live: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    report_transfer: Report = no_report,
) -> RunResult:
    """Get the checkpoint, convert it, and compare every artifact with the original on every sample.

    The original is MXNet, for the demo checkpoint its shipped answers unless `live`. Without either, it is the exact
    evaluation. The report names it. `run` downloads a checkpoint if `source` names one or the output folder has none.
    Raises what the steps raise, and RuntimeUnavailableError if MXNet is missing and `live`.
    """
    model = workspace.model
    if not dry_run:
        needs = (*quantization_needs(options, quantization_options), *((MXNET,) if live else ()))
        require(PILLOW, JINJA, YAML, *needs)
    has_source = source.demo or source.from_archive is not None or bool(source.sources)
    is_here = checkpoint is not None or workspace.files is not None
    if not is_here and (has_source or not _has_checkpoint(workspace.checkpoint, model)):
        download(workspace, source, dry_run=dry_run, progress=progress, report=report_transfer)
    paths = tuple(artifact.path for artifact in plan(model.name, workspace.folder, options))
    folder = workspace.artifacts
    picture = folder / "scene.png" if model.takes_image else None
    result = RunResult(model.name, "", paths, picture, folder / "verification.html", None)
    if dry_run:
        return result
    path = workspace.source(checkpoint)
    notes: list[str] = []
    with opened(path, model, allow_nonfinite=source.allow_nonfinite) as loaded:
        check(loaded, options, quantization_options)
        quantization = quantization_for(loaded, options, quantization_options, progress=progress, note=notes.append)
        artifacts = convert(loaded, workspace.folder, options, quantization=quantization, progress=progress)
        reference = find_original(loaded, options, live=live, progress=progress)
        report = _verify(loaded, artifacts, reference, progress)
        _save_picture(result.picture, reference, model, options)
        ReportFiles(result.page).write(VerifyResult(report), reference)
        result = replace(result, weights=loaded.weights, report=report, notes=tuple(notes))
        if report.passed:
            result = replace(result, package=_package(workspace, loaded, reference, report, progress))
        return result


def find_original(
    checkpoint: Checkpoint, options: Options, *, live: bool = False, progress: Progress = silent
) -> Reference:
    """Return the shipped answers of the demo at this size, MXNet, or the exact evaluation."""
    model = checkpoint.model
    if checkpoint.is_demo and has_demo_pack(model) and not live:
        shipped = demo_pack(model)
        if shipped.image_size == _size(model, options):
            return shipped
    reference = find_reference(model, checkpoint, VerifyOptions(), progress=progress)
    if isinstance(reference, LiveReference):
        return reference
    return find_reference(model, checkpoint, VerifyOptions(against=EXACT), progress=progress)


def _has_checkpoint(folder: Path, model: ModelSpec) -> bool:
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


def _package(
    workspace: Workspace, checkpoint: Checkpoint, reference: Reference, report: VerifyReport, progress: Progress
) -> Path:
    """Package the verified artifacts with the original's answers, and check the package.

    The check compares hashes with those of the verified files, and does not run the models again.
    """
    model = workspace.model
    write_record(workspace.verification, VerifyResult(report))
    size = report.artifacts[0].declaration.sample_size(model)
    shipped = checkpoint.is_demo and has_demo_pack(model) and size == model.image_shape[2:]
    if isinstance(reference, LiveReference) and not shipped:
        _keep_answers(workspace.reference_pack, checkpoint, reference, report)
    options = PackageOptions(artifacts=tuple(item.path for item in report.artifacts))
    folder = package(workspace, options, progress=progress).folder
    for finding in Checker(folder, progress).run(models=False).findings:
        raise PackageError(f"{folder}: {finding.path}: {finding.message}; the package has changed, run again")
    return folder


def _keep_answers(path: Path, checkpoint: Checkpoint, reference: LiveReference, report: VerifyReport) -> None:
    """Write a reference pack. A pack that would be too large is left out of the package, which says so."""
    size = report.artifacts[0].declaration.sample_size(checkpoint.model)
    other = reference.other_size()
    with contextlib.suppress(OutputError):
        answers = all_answers(reference, size)
        write_pack(
            path,
            checkpoint,
            reference.source,
            answers,
            one_size=checkpoint.model.takes_image and other is None,
            yardstick=reference.yardstick(*size),
            halves=half_answers(reference, (item.path for item in report.artifacts if _is_halved(item)), size),
        )


def _is_halved(artifact: ArtifactReport) -> bool:
    """Return whether the weights of an artifact are rounded to halves."""
    return artifact.rounded and artifact.profile.name == Precision.FP16.value


def _save_picture(path: Path | None, reference: Reference, model: ModelSpec, options: Options) -> None:
    size = _size(model, options)
    answer = reference.answer(PICTURED, *size) if path else None
    if path and answer is not None:
        boxes = model.task.rows(answer.outputs, size, None)[0]
        save_picture(path, answer.sample.images[0], boxes, least=THRESHOLD)


def _size(model: ModelSpec, options: Options) -> Size:
    return (options.input_shape or model.image_shape)[2:] if model.takes_image else ()
