"""`sshtool check`: whether a package is whole, and its models answer as the original did. Offline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType

from sshconvert.checkpoint import Checkpoint, file_sha256
from sshconvert.convert import Color, Dynamic, Faces, Format, InputType, Layout, Options, Precision, convert
from sshconvert.errors import PackageError
from sshconvert.files import scratch_folder
from sshconvert.models import load_model
from sshtool.checkpoint.archive import opened as opened_checkpoint
from sshtool.package.check import Checker, Finding, Rebuild
from sshtool.package.manifest import Manifest, PackagedModel
from sshtool.package.opening import opened
from sshtool.parity.reference import Progress, silent
from sshtool.report.terminal import lines, table


@dataclass(frozen=True)
class CheckResult:
    """What was checked and found. `parity` is for each model its largest difference from the original's answers."""

    path: Path
    model: str
    weights: str
    verification: str
    passed: bool
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    parity: Mapping[str, float | None]


def check(
    path: Path,
    *,
    signers: Path | None = None,
    rebuild: Path | None = None,
    progress: Progress = silent,
) -> CheckResult:
    """Check a package, a folder or an archive. With `rebuild`, a checkpoint, convert it again and compare the bytes.

    Raises PackageError if there is nothing that can be checked, RuntimeUnavailableError, and what opening the
    checkpoint raises.
    """
    with opened(path) as folder, _rebuilder(rebuild) as again:
        report = Checker(folder, progress).run(signers=signers, rebuild=again)
    manifest, parity = report.manifest, report.parity
    return CheckResult(
        path,
        manifest.model if manifest else "",
        manifest.source.weights if manifest else "",
        manifest.verification.status if manifest else "",
        report.passed,
        report.checks,
        report.findings,
        report.notes,
        {item.label: item.largest for item in parity.artifacts} if parity else {},
    )


@contextlib.contextmanager
def _rebuilder(checkpoint: Path | None) -> Iterator[Rebuild | None]:
    if checkpoint is None:
        yield None
        return
    with scratch_folder() as scratch:

        def again(manifest: Manifest, number: int) -> Mapping[str, str]:
            model = load_model(manifest.model)
            with opened_checkpoint(checkpoint, model) as loaded:
                _check_checkpoint(checkpoint, loaded, manifest)
                item = manifest.models[number]
                made = convert(loaded, scratch / str(number), options_of(item))[0]
                return {place: file_sha256(path) for place, path in zip(item.files, made.files, strict=True)}

        yield again


def _check_checkpoint(path: Path, checkpoint: Checkpoint, manifest: Manifest) -> None:
    if dict(checkpoint.sha256) != dict(manifest.source.checkpoint) or checkpoint.weights != manifest.source.weights:
        raise PackageError(f"{path}: is not the checkpoint that the package was made from; name that one")


def options_of(item: PackagedModel) -> Options:
    """The options that make such a model. Raises PackageError for one that takes more than options."""
    if item.precision not in (Precision.FP32.value, Precision.FP16.value):
        raise PackageError(f"{item.path}: {item.precision} is not made from a checkpoint alone; leave out --rebuild")
    sizes = dict(zip(item.input_layout, item.input.shape, strict=True))
    free = {name for name, size in sizes.items() if size < 1}
    dynamic = {(False, False): Dynamic.NOTHING, (True, False): Dynamic.BATCH, (False, True): Dynamic.SIZE}
    inside = item.postprocessing
    faces = None
    if inside:
        kept = len(item.outputs) > 3
        faces = Faces(inside.score_threshold, inside.iou_threshold, inside.top_k, kept)
    shape = tuple(max(sizes[name], 1 if name == "N" else 640) if name in free else sizes[name] for name in "NCHW")
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


def render(result: CheckResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    verdict = "is whole, and its models are what they are said to be" if result.passed else "is NOT what it says"
    parts: list[RenderableType] = [lines(f"{result.path}: {verdict}")]
    if result.parity:
        rows = [[label, "" if value is None else f"{value:.2g}"] for label, value in result.parity.items()]
        parts.append(table(["model", ">largest difference from the original"], rows, plain=plain))
    if result.findings:
        rows = [[item.check, item.path, item.message] for item in result.findings]
        parts.append(table(["check", "file", "what is wrong"], rows, plain=plain, keys=2))
    said = [f"checked: {', '.join(result.checks)}", *result.notes]
    if result.verification == "unverified":
        said.append("the package itself says that it holds models that were not verified")
    return Group(*parts, lines(*said))
