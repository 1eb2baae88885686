"""`sshtool verify`: whether artifacts compute what the original computes, with the evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Group, RenderableType

from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration
from sshconvert.convert import convert
from sshconvert.digest import bytes_sha256
from sshconvert.errors import ArtifactError, ImageError, RuntimeUnavailableError, UsageError
from sshconvert.files import check_replaceable, scratch_folder, staged
from sshconvert.libraries import JINJA, PILLOW, require
from sshconvert.messages import name_text
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Format, Options, Precision
from sshconvert.reading import is_file, is_folder
from sshtool.candidates import Candidate
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import checkpoint_folder
from sshtool.document import dump_result
from sshtool.images import Resize, fit, read_image
from sshtool.limits import MOST_VERIFIED, check_number
from sshtool.parity.layers import Divergence, first_divergence
from sshtool.parity.pack import PackReference, demo_pack, read_pack
from sshtool.parity.recompute import check_answers, prove
from sshtool.parity.reference import Draw, LiveReference, Reference
from sshtool.parity.samples import OTHER_SHAPE, Sample
from sshtool.parity.selftest import SelfTestReport, self_test
from sshtool.parity.tolerances import PROFILES
from sshtool.parity.verify import ArtifactReport, Rules, VerifyReport, verify
from sshtool.progress import Progress, silent
from sshtool.report.comparison import comparison_table, self_test_table
from sshtool.report.html import pictured, render_html
from sshtool.report.junit import render_junit
from sshtool.report.markdown import render_markdown
from sshtool.report.terminal import lines
from sshtool.runtimes import F32, Images, Runtime, Settings, able_of, load, usual_runtime
from sshtool.runtimes.mxnet import Mxnet
from sshtool.selection import select_images

# Of the verification of all that `convert` left, beside it: by this, `sshtool package` knows what passed.
RECORD: Final = "verification.json"


@dataclass(frozen=True)
class VerifyOptions:
    """What to compare, with what, how strictly. `profile` and `runtime` hold for all artifacts; "" decides by file."""

    artifacts: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    reference: Path | None = None
    images: tuple[str, ...] = ()
    scenes: int = 2
    profile: str = ""
    runtime: str = ""
    layers: bool = False
    self_test: bool = False
    html: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class VerifyResult:
    """The report, where failing artifacts begin to differ (if that was asked for), and the files it was written to."""

    report: VerifyReport
    divergences: tuple[Divergence, ...] = ()
    self_test: SelfTestReport | None = None
    written: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every artifact is the same detector, and, if the check itself was tested, it noticed every fault."""
        return self.report.passed and (self.self_test is None or self.self_test.passed)


def verify_artifacts(
    model_name: str, output_dir: Path, options: VerifyOptions, *, progress: Progress = silent
) -> VerifyResult:
    """Hold artifacts (by default all that `convert` left) to MXNet, or to a reference pack.

    Raises UsageError, ArtifactError if there is nothing to verify, RuntimeUnavailableError if there is no original to
    compare with, ReferencePackError, and what opening the checkpoint raises.
    """
    _check(options)
    model = load_model(model_name)
    candidates = find_candidates(model, output_dir, options)
    with open_if_needed(model, output_dir, options) as checkpoint, scratch_folder() as folder:
        if options.layers and checkpoint is None:
            raise UsageError("--layers: there is no checkpoint to compare the layers with; give --checkpoint")
        reference = find_reference(model, checkpoint, options, progress=progress)
        claims = _claims(reference, checkpoint, options, progress)
        again = ConvertedAgain(model, checkpoint, folder)
        report = verify(model, reference, candidates, options.rules, convert_again=again.path, progress=progress)
        report = replace(report, notes=(*report.notes, *claims, *left_out(model, output_dir, options)))
        result = VerifyResult(report)
        if options.layers:
            result = replace(result, divergences=_divergences(report, reference, again, options, progress))
        if options.self_test:
            tested = self_test(
                model,
                reference,
                candidates,
                options.rules,
                verified=report,
                convert_again=again.path,
                progress=progress,
            )
            result = replace(result, self_test=tested)
        result = replace(result, written=write_reports(result, reference, options))
        if not options.artifacts:
            write_record(output_dir / model.name / RECORD, result)
        return result


def _claims(
    reference: Reference, checkpoint: Checkpoint | None, options: VerifyOptions, progress: Progress
) -> tuple[str, ...]:
    """What a pack says of itself and nothing here proves. Raises ReferencePackError if it is wrong."""
    if not isinstance(reference, PackReference):
        return ()
    if checkpoint is not None and options.checkpoint is not None and not reference.is_shipped:
        check_answers(reference, checkpoint, progress)
        return ()
    claim = prove(reference, checkpoint, load_model(reference.contents.model), progress)
    return (claim,) if claim else ()


def write_record(path: Path, result: VerifyResult) -> None:
    """Write the document that `--json` prints, for `sshtool package`. Raises OutputError."""
    _write(path, dump_result("verify", result, passed=result.passed))


def write_reports(result: VerifyResult, reference: Reference, options: VerifyOptions) -> tuple[Path, ...]:
    """Write the reports that were asked for, each whole or not at all. Raises OutputError."""
    report = result.report
    if options.html:
        _write(options.html, render_html(report, images_of(report, reference), result.divergences))
    if options.junit:
        _write(options.junit, render_junit(report))
    if options.markdown:
        _write(options.markdown, render_markdown(report))
    return tuple(filter(None, _report_paths(options)))


def _write(path: Path, text: str) -> None:
    with staged(path) as part:
        part.write_text(text, encoding="utf-8")


def _report_paths(options: VerifyOptions) -> tuple[Path | None, ...]:
    return options.html, options.junit, options.markdown


def _check(options: VerifyOptions) -> None:
    """Refuse what contradicts itself, or lacks something, before minutes of work. Raises UsageError,
    RuntimeUnavailableError and OutputError.
    """
    paths = [path.resolve() for path in _report_paths(options) if path]
    if len(set(paths)) < len(paths):
        raise UsageError("--html, --junit and --markdown: two name the same file; give each its own")
    if options.reference is not None and options.images:
        raise UsageError("--images needs MXNet: a reference pack has no answers for them; leave out --reference")
    if options.self_test and options.rules.settings.inference_precision != F32:
        raise UsageError("--self-test plants faults that bf16 rounds away; leave out --inference-precision")
    if options.profile and options.profile not in PROFILES:
        raise UsageError(f"--profile: {options.profile} is not one of {', '.join(PROFILES)}")
    require(*((PILLOW, JINJA) if options.html else ()), *((PILLOW,) if options.images else ()))
    for path in filter(None, _report_paths(options)):
        check_replaceable(path)


def images_of(report: VerifyReport, reference: Reference) -> dict[str, Images]:
    """The images of the samples that have a picture in the report, by name."""
    found = {}
    chosen = pictured(report)
    for sample in (sample for sample in report.samples if sample.name in chosen):
        answer = reference.answer(sample.name, *sample.shape[1:3])
        if answer is not None:
            found[sample.name] = answer.sample.images
    return found


def find_candidates(model: ModelSpec, output_dir: Path, options: VerifyOptions) -> tuple[Candidate, ...]:
    """The artifacts that were named, or all that are there and that can be computed in the precision asked for.

    A precision's folder says what its files are held to.
    """
    folder = output_dir / model.name
    missing = [str(path) for path in options.artifacts if not is_file(path)]
    if missing:
        raise UsageError(f"--artifact: {', '.join(missing)} is not there; name a file that `sshtool convert` made")
    there, able = converted(model, output_dir), _able(model, output_dir, options)
    if not (options.artifacts or there):
        raise ArtifactError(f"{folder}: there are no artifacts; make them with `sshtool convert`, or name --artifact")
    if not (options.artifacts or able):
        precision = options.rules.settings.inference_precision
        raise UsageError(
            f"--inference-precision: no artifact in {folder} is for a runtime that can be asked for {precision}; give "
            f"--runtime {' or '.join(able_of(precision))}"
        )
    return tuple(Candidate(path, _place(path), options.runtime, options.profile) for path in options.artifacts or able)


def left_out(model: ModelSpec, output_dir: Path, options: VerifyOptions) -> tuple[str, ...]:
    """Says of which artifacts that are there `find_candidates` takes none, because of the precision asked for."""
    able = _able(model, output_dir, options)
    unable = [str(path) for path in converted(model, output_dir) if path not in able]
    if options.artifacts or not unable:
        return ()
    precision = options.rules.settings.inference_precision
    return (f"left out, because their runtimes cannot be asked for {precision}: {', '.join(unable)}",)


def converted(model: ModelSpec, output_dir: Path) -> tuple[Path, ...]:
    """The artifacts that are where `convert` puts them."""
    folder = output_dir / model.name
    standard = (folder / name / f"{model.name}{suffix}" for name in PROFILES for suffix in (".onnx", ".xml"))
    return tuple(path for path in standard if is_file(path))


def _able(model: ModelSpec, output_dir: Path, options: VerifyOptions) -> tuple[Path, ...]:
    """Those of which the runtime can be asked for the precision. What the runtime does not load, it says itself."""
    precision = options.rules.settings.inference_precision
    return tuple(
        path
        for path in converted(model, output_dir)
        if precision == F32 or precision in usual_runtime(path, options.runtime).inference_precisions
    )


@contextlib.contextmanager
def open_if_needed(model: ModelSpec, output_dir: Path, options: VerifyOptions) -> Iterator[Checkpoint | None]:
    """The checkpoint that was named or downloaded; None if there is none and a reference pack stands in for it."""
    path = options.checkpoint or checkpoint_folder(output_dir, model)
    if options.checkpoint is None and options.reference is not None and not is_folder(path):
        yield None
        return
    with opened(path, model, allow_nonfinite=options.rules.settings.allow_nonfinite) as checkpoint:
        yield checkpoint


def find_reference(
    model: ModelSpec, checkpoint: Checkpoint | None, options: VerifyOptions, *, progress: Progress = silent
) -> Reference:
    """The pack that was named; otherwise MXNet; otherwise, for the demo checkpoint, the pack that ships with sshtool.

    Raises RuntimeUnavailableError if none of them is to be had.
    """
    if options.reference is not None:
        return read_pack(options.reference, model)
    assert checkpoint is not None  # only a pack stands in for it
    try:
        runtime = Mxnet(checkpoint, _as_stored(options.rules.settings))
    except RuntimeUnavailableError as error:
        if checkpoint.is_demo and not options.images:
            return demo_pack(model)
        raise RuntimeUnavailableError(f"{error}; or give --reference, a pack made where MXNet is installed") from None
    return LiveReference(
        runtime, model, scenes=options.scenes, images=user_images(options.images, model), progress=progress
    )


def user_images(given: Sequence[str], model: ModelSpec) -> dict[str, Draw]:
    """The user's own images (files, folders, patterns) as samples, letterboxed, by name; each read when it is drawn.

    Raises UsageError where there is none, or too many; drawing one raises ImageError if it cannot be read.
    """
    paths = select_images(given) if given else ()
    check_number("--images", paths, MOST_VERIFIED)
    return {name_text(path): UserImage(path, model) for path in paths}


class UserImage:
    """An image that is read whenever it is drawn, and has to be the same each time."""

    def __init__(self, path: Path, model: ModelSpec) -> None:
        self._path, self._model = path, model
        self._hash = ""

    def __call__(self, height: int, width: int) -> Sample:
        image = read_image(self._path)
        found = bytes_sha256(image.tobytes())
        if found != (self._hash or found):
            raise ImageError(f"{name_text(self._path)}: was changed meanwhile; verify again")
        self._hash = found
        pixels, _ = fit(image, height, width, Resize.LETTERBOX, self._model.image.mean_pixel)
        return Sample(name_text(self._path), "given with --images", pixels[None])


class ConvertedAgain:
    """Converts the checkpoint once more: to other shapes than those of an artifact."""

    def __init__(self, model: ModelSpec, checkpoint: Checkpoint | None, folder: Path) -> None:
        self.model, self._checkpoint, self._folder = model, checkpoint, folder
        self._made: dict[Options, int] = {}  # and the number of its folder

    def path(self, candidate: Candidate, declaration: Declaration) -> Path | None:
        """The candidate's format and precision at the shape of the batch of another size; None where that cannot be."""
        name = declaration.precision or candidate.profile or Precision.FP32.value
        form = Format.OPENVINO if candidate.path.suffix == ".xml" else Format.ONNX
        if self._checkpoint is None or name not in {item.value for item in Precision}:
            return None
        if name == Precision.INT8.value:  # what it was calibrated on is not here
            return None
        own = declaration.options(form, name, self.model)
        options = replace(own, input_shape=OTHER_SHAPE, dynamic=Dynamic.NOTHING)
        made = self._made.setdefault(options, len(self._made))
        return convert(self._checkpoint, self._folder / str(made), options)[0].path

    def original(self, sample: Sample) -> Path:
        """FP32 ONNX at the shape of a sample; there has to be a checkpoint."""
        assert self._checkpoint is not None  # `verify_artifacts` sees to that
        count, height, width, channels = sample.images.shape
        options = Options((Format.ONNX,), (Precision.FP32,), (count, channels, height, width))
        return convert(self._checkpoint, self._folder / "original", options)[0].path


def _place(path: Path) -> str:
    return path.resolve().parent.name if path.resolve().parent.name in PROFILES else ""


def _divergences(
    report: VerifyReport, reference: Reference, again: ConvertedAgain, options: VerifyOptions, progress: Progress
) -> tuple[Divergence, ...]:
    """For each artifact with an output out of tolerance: where it begins, on the sample where it is worst."""
    found = []
    for artifact in report.artifacts:
        failures = (item for item in report.failures if item.artifact == artifact.label and item.check == "tensor")
        worst = next(failures, None)
        if worst is not None:
            progress(f"{artifact.label}: looking for the first layer that differs")
            found.append(_first_layer(artifact, worst.sample, reference, again, options))
    return tuple(found)


def _first_layer(
    artifact: ArtifactReport, sample: str, reference: Reference, again: ConvertedAgain, options: VerifyOptions
) -> Divergence:
    model, declaration = again.model, artifact.declaration
    answer = reference.answer(sample, *declaration.image_size(model))
    assert answer is not None  # the report has just been made from it
    path = artifact.path
    if any(item.sample == sample and item.converted_again for item in artifact.samples):
        path = again.path(Candidate(path, artifact.profile.name), declaration) or path
    settings = options.rules.settings
    runtime = load(path, model, settings, key=options.runtime)
    images = answer.sample.images
    batch = runtime.declaration.input_shape[0] or len(images)
    both = slice(min(batch, len(images)))  # the images that both sides compute
    found = runtime.layers(images[np.arange(batch) % len(images)])
    expected = _original(reference, again, answer.sample, settings).layers(images)
    return first_divergence(
        artifact.label,
        sample,
        {name: array[both] for name, array in expected.items()},
        {name: array[both] for name, array in found.items()},
        artifact.profile.layer,
    )


def _original(reference: Reference, again: ConvertedAgain, sample: Sample, settings: Settings) -> Runtime:
    """What computes the layers as they should be: MXNet, or where it is not here a new conversion to FP32."""
    if isinstance(reference, LiveReference):
        return reference.runtime
    return load(again.original(sample), again.model, _as_stored(settings))


def _as_stored(settings: Settings) -> Settings:
    """Of the original, which is never computed in a shorter type."""
    return replace(settings, inference_precision=F32)


def render(result: VerifyResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    parts = [comparison_table(result.report, plain=plain)]
    if result.divergences:
        parts.append(lines(*map(_where, result.divergences)))
    if result.self_test:
        parts.append(self_test_table(result.self_test, plain=plain))
    if result.written:
        parts.append(lines(*(f"report: {path}" for path in result.written)))
    return Group(*parts)


def _where(divergence: Divergence) -> str:
    place = f"{divergence.artifact} on {divergence.sample}"
    if not divergence.layer:
        return f"{place}: all {divergence.compared} tensors inside agree to {divergence.limit:g} of their range"
    before = f"; {divergence.before}, before it, agrees" if divergence.before else ""
    return (
        f"{place}: {divergence.layer} is the first to differ, by {divergence.relative:.2g} of its range "
        f"({divergence.limit:g} allowed){before}"
    )
