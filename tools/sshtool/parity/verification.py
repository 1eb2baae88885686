"""The verification of artifacts against MXNet or a reference pack."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.checkpoint import Checkpoint, CheckpointFiles
from sshconvert.contract import Declaration
from sshconvert.convert import convert
from sshconvert.digest import bytes_sha256
from sshconvert.errors import FormatError, ImageError, ReferencePackError, RuntimeUnavailableError, UsageError
from sshconvert.files import scratch_folder, staged
from sshconvert.formats.registry import format_key, format_of
from sshconvert.libraries import PILLOW, require
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Options, Precision
from sshconvert.reading import is_folder
from sshconvert.tasks.tolerances import PROFILES
from sshtool.candidates import Candidate, find_candidates, left_out
from sshtool.checkpoint.archive import opened
from sshtool.document import dump_result
from sshtool.images import Resize, fit, read_image
from sshtool.limits import MOST_VERIFIED, check_number
from sshtool.parity.layers import Divergence, first_divergence
from sshtool.parity.pack import PackReference, demo_pack, has_demo_pack, read_pack
from sshtool.parity.recompute import check_answers, is_of, prove, require_of
from sshtool.parity.reference import Draw, LiveReference, Reference
from sshtool.parity.samples import OTHER_SHAPE, OTHER_TENSORS, Sample, seeded
from sshtool.parity.selftest import SelfTestReport, self_test
from sshtool.parity.verify import ArtifactReport, Rules, VerifyReport, other_shapes, verify
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import F32, Runtime, Settings
from sshtool.runtimes.exact import EXACT, Exact
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet
from sshtool.selection import select_images
from sshtool.stores import ImageFile
from sshtool.workspace import Workspace

BOTH: Final = "both"
REFERENCES: Final = (Mxnet.key, EXACT, BOTH)
_PROVEN: Final = (
    "the exact outputs are the network's in double precision, by the definitions of its operators, each tested against "
    "MXNet 1.9.1"
)
NOTES: Final = {
    BOTH: f"{_PROVEN}, which computed this network here too",
    EXACT: f"{_PROVEN}; MXNet did not run here",
    Mxnet.key: "the expected outputs are MXNet's in float32: how far they are from the exact result is not known",
}


@dataclass(frozen=True)
class VerifyOptions:
    """What to verify, and how. `profile` and `runtime` apply to all artifacts; if "", each file has its own.

    `against` is a member of REFERENCES; "" is BOTH where MXNet is installed, otherwise the demo's pack or EXACT. `seed`
    adds samples that are drawn with it.
    """

    artifacts: tuple[Path, ...] = ()
    checkpoint: Path | CheckpointFiles | None = None
    reference: Path | None = None
    against: str = ""
    images: tuple[str, ...] = ()
    scenes: int = 2
    seed: int | None = None
    profile: str = ""
    runtime: str = ""
    layers: bool = False
    self_test: bool = False
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class VerifyResult:
    """The report, the first layers that differ (with `layers`), the self-test, and the paths of the written reports."""

    report: VerifyReport
    divergences: tuple[Divergence, ...] = ()
    self_test: SelfTestReport | None = None
    written: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every artifact agrees with the reference and the self-test, if any, passed."""
        return self.report.passed and (self.self_test is None or self.self_test.passed)


# Writes reports of a result while the reference is open, and returns their paths.
Write = Callable[[VerifyResult, Reference], tuple[Path, ...]]


def verify_artifacts(
    workspace: Workspace,
    options: VerifyOptions,
    *,
    write: Write = lambda _result, _reference: (),
    progress: Progress = silent,
) -> VerifyResult:
    """Compare artifacts (by default all converted ones) with MXNet or a reference pack.

    Raises UsageError, ArtifactError if there are no artifacts, RuntimeUnavailableError if there is no reference,
    ReferencePackError, and the errors of opening the checkpoint.
    """
    _check(options)
    try:
        return _verify_artifacts(workspace, options, write, progress)
    except ReferencePackError:
        if options.reference is not None:
            raise
    # The pack that ships has the demo's answers at the model's own size only.
    return _verify_artifacts(workspace, replace(options, against=EXACT), write, progress)


def _verify_artifacts(workspace: Workspace, options: VerifyOptions, write: Write, progress: Progress) -> VerifyResult:
    model, settings = workspace.model, options.rules.settings
    choice = {"runtime": options.runtime, "inference_precision": settings.inference_precision}
    candidates = find_candidates(workspace, options.artifacts, **choice, profile=options.profile)
    with open_if_needed(workspace, options) as stored, scratch_folder() as folder:
        reference = find_reference(model, stored, options, progress=progress)
        checkpoint = _of_reference(reference, stored, options)
        if options.layers and checkpoint is None:
            raise UsageError("--layers: there is no checkpoint to compare the layers with; give --checkpoint")
        claims = _claims(model, reference, checkpoint, options, progress)
        again = ConvertedAgain(model, checkpoint, folder)
        report = verify(model, reference, candidates, options.rules, convert_again=again.path, progress=progress)
        report = replace(report, notes=(*report.notes, *claims, *left_out(workspace, options.artifacts, **choice)))
        result = VerifyResult(report)
        if options.layers:
            result = replace(result, divergences=_divergences(report, reference, again, options, progress))
        if options.self_test:
            planted = self_test(
                model,
                reference,
                candidates,
                options.rules,
                verified=report,
                convert_again=again.path,
                progress=progress,
            )
            result = replace(result, self_test=planted)
        result = replace(result, written=write(result, reference))
        if not options.artifacts:
            write_record(workspace.verification, result)
        return result


def _of_reference(reference: Reference, stored: Checkpoint | None, options: VerifyOptions) -> Checkpoint | None:
    """Return the checkpoint of the reference. None if the output folder holds none or another than a pack names.

    Raises ReferencePackError if `options` names another checkpoint than the pack.
    """
    if stored is None or not isinstance(reference, PackReference):
        return stored
    if options.checkpoint is not None:
        require_of(reference, stored)
    if not is_of(reference, stored):
        return None
    reference.exact = Exact(stored, _as_stored(options.rules.settings))
    return stored


def _claims(
    model: ModelSpec,
    reference: Reference,
    checkpoint: Checkpoint | None,
    options: VerifyOptions,
    progress: Progress,
) -> tuple[str, ...]:
    """Return a pack's claims that cannot be proven here. Raises ReferencePackError for a wrong claim."""
    if not isinstance(reference, PackReference):
        return ()
    if checkpoint is not None and options.checkpoint is not None and not reference.is_shipped:
        check_answers(reference, checkpoint, progress)
        return ()
    claim = prove(reference, checkpoint, model, progress)
    return (claim,) if claim else ()


def write_record(path: Path, result: VerifyResult) -> None:
    """Write the document that `--json` prints, for `sshtool package`. Raises OutputError."""
    with staged(path) as part:
        part.write_text(dump_result("verify", result, passed=result.passed), encoding="utf-8")


def _check(options: VerifyOptions) -> None:
    """Check the options before the long work. Raises UsageError, and RuntimeUnavailableError without Pillow."""
    if options.against not in ("", *REFERENCES):
        raise UsageError(f"--against: {options.against} is not one of {', '.join(REFERENCES)}")
    if options.reference is not None and options.against:
        raise UsageError("--against and --reference name two references; give one")
    for option, value in (("--images", options.images), ("--seed", options.seed is not None)):
        if options.reference is not None and value:
            raise UsageError(f"{option}: a reference pack has no answers for new samples; leave out --reference")
    if options.self_test and options.rules.settings.inference_precision != F32:
        raise UsageError("--self-test plants faults that bf16 rounds away; leave out --inference-precision")
    if options.profile and options.profile not in PROFILES:
        raise UsageError(f"--profile: {options.profile} is not one of {', '.join(PROFILES)}")
    require(*((PILLOW,) if options.images else ()))


@contextlib.contextmanager
def open_if_needed(workspace: Workspace, options: VerifyOptions) -> Iterator[Checkpoint | None]:
    """Open the named or the downloaded checkpoint. Yield None if there is none and a reference pack replaces it."""
    path = workspace.source(options.checkpoint)
    is_stored = isinstance(path, Path) and is_folder(path)
    if options.checkpoint is None and options.reference is not None and not is_stored:
        yield None
        return
    with opened(path, workspace.model, allow_nonfinite=options.rules.settings.allow_nonfinite) as checkpoint:
        yield checkpoint


def find_reference(
    model: ModelSpec, checkpoint: Checkpoint | None, options: VerifyOptions, *, progress: Progress = silent
) -> Reference:
    """Return the named pack, or the checkpoint's reference.

    Raises RuntimeUnavailableError if MXNet is requested and missing.
    """
    if options.reference is not None:
        return read_pack(options.reference, model)
    assert checkpoint is not None  # `open_if_needed` yields None only with a pack
    settings = _as_stored(options.rules.settings)
    images = {**user_images(options.images, model), **seeded(options.seed, model)}
    exact = Exact(checkpoint, settings)
    build = partial(LiveReference, model=model, scenes=options.scenes, images=images, progress=progress)
    if options.against != EXACT:
        try:
            mxnet = Mxnet(checkpoint, settings)
            if options.against == Mxnet.key:
                return build(mxnet, note=NOTES[Mxnet.key])
            return build(mxnet, exact=exact, note=NOTES[BOTH])
        except RuntimeUnavailableError as error:
            if options.against:
                raise RuntimeUnavailableError(f"{error}; or give --against exact, or --reference") from None
        if has_demo_pack(model) and checkpoint.is_demo and not images:
            pack = demo_pack(model)
            pack.exact = exact
            return pack
    return build(exact.in_float32(), exact=exact, every=True, note=NOTES[EXACT])


def user_images(images: Sequence[str], model: ModelSpec) -> dict[str, Draw]:
    """Return the user's images (files, folders, patterns) as letterboxed samples by name.

    Drawing a sample reads its image. Raises UsageError if a folder or pattern has no images, or for too many images.
    """
    if images and not model.takes_image:
        raise UsageError(f"--images: {model.name} takes tensors, not images; omit the option")
    paths = select_images(images) if images else ()
    check_number("--images", paths, MOST_VERIFIED)
    return {name_text(path): UserImage(path, model) for path in paths}


class UserImage:
    """Reads its image for each drawing. Raises ImageError if the image cannot be read or has changed."""

    def __init__(self, path: ImageFile, model: ModelSpec) -> None:
        self._path, self._model = path, model
        self._hash = ""

    def __call__(self, height: int, width: int) -> Sample:
        image = read_image(self._path)
        sha256 = bytes_sha256(image.tobytes())
        if sha256 != (self._hash or sha256):
            raise ImageError(f"{name_text(self._path)}: was changed meanwhile; verify again")
        self._hash = sha256
        pixels, _ = fit(image, height, width, Resize.LETTERBOX, self._model.image.mean_pixel)
        return Sample(name_text(self._path), "given with --images", pixels[None])


class ConvertedAgain:
    """Converts the checkpoint again, to shapes that the artifacts do not take."""

    def __init__(self, model: ModelSpec, checkpoint: Checkpoint | None, folder: Path) -> None:
        self.model, self._checkpoint, self._folder = model, checkpoint, folder
        self._folders: dict[Options, int] = {}  # the number of each conversion's folder

    def path(self, candidate: Candidate, declaration: Declaration) -> Path | None:
        """Convert to the candidate's format and precision at OTHER_SHAPE. Returns None if that is impossible."""
        name = declaration.precision or candidate.profile or Precision.FP32.value
        # The calibration images of INT8 are unknown.
        if self._checkpoint is None or name not in {Precision.FP32.value, Precision.FP16.value}:
            return None
        own = declaration.options(format_key(candidate.path), name, self.model)
        options = replace(own, input_shape=OTHER_SHAPE, dynamic=Dynamic.NOTHING)
        try:
            format_of(candidate.path).accept(options)
        except FormatError:  # ncnn has no batch
            return None
        number = self._folders.setdefault(options, len(self._folders))
        return convert(self._checkpoint, self._folder / str(number), options)[0].path

    def original(self, sample: Sample) -> Path:
        """Convert to FP32 ONNX at the shape of a sample."""
        assert self._checkpoint is not None  # `verify_artifacts` requires one for `layers`
        shape = tuple(sample.shape[axis] for axis in (0, 3, 1, 2)) if sample.is_pictured else None
        options = Options(("onnx",), (Precision.FP32,), shape)
        return convert(self._checkpoint, self._folder / "original", options)[0].path


def _divergences(
    report: VerifyReport, reference: Reference, again: ConvertedAgain, options: VerifyOptions, progress: Progress
) -> tuple[Divergence, ...]:
    """Return the first layer that differs, for each artifact with an output out of tolerance, on its worst sample."""
    divergences = []
    for artifact in report.artifacts:
        failures = (item for item in report.failures if item.artifact == artifact.label and item.check == "tensor")
        worst = next(failures, None)
        if worst is not None:
            progress(f"{artifact.label}: looking for the first layer that differs")
            divergences.append(_first_layer(artifact, worst.sample, reference, again, options))
    return tuple(divergences)


def _first_layer(
    artifact: ArtifactReport, sample: str, reference: Reference, again: ConvertedAgain, options: VerifyOptions
) -> Divergence:
    model, declaration = again.model, artifact.declaration
    answer = reference.answer(sample, *declaration.sample_size(model))
    if sample == OTHER_TENSORS:
        answer = reference.at_shapes(other_shapes(declaration, model))
    assert answer is not None  # the report compares with it
    path = artifact.path
    if any(item.sample == sample and item.converted_again for item in artifact.samples):
        path = again.path(Candidate(path, artifact.profile.name), declaration) or path
    settings = options.rules.settings
    runtime = load(path, model, settings, key=options.runtime)
    feed = answer.sample.feed
    expected = _original(reference, again, answer.sample, settings).layers(feed)
    shared = slice(None)
    if isinstance(feed, np.ndarray):
        batch = runtime.declaration.input_shape[0] or len(feed)
        shared = slice(min(batch, len(feed)))  # the images that both sides compute
        feed = feed[np.arange(batch) % len(feed)]
    actual = runtime.layers(feed)
    return first_divergence(
        artifact.label,
        sample,
        {name: array[shared] for name, array in expected.items()},
        {name: array[shared] for name, array in actual.items()},
        artifact.profile.layer,
    )


def _original(reference: Reference, again: ConvertedAgain, sample: Sample, settings: Settings) -> Runtime:
    """Return the runtime of the expected layers: MXNet, or without it a new conversion to FP32."""
    if isinstance(reference, LiveReference):
        return reference.runtime if reference.exact is None else reference.exact
    return load(again.original(sample), again.model, _as_stored(settings))


def _as_stored(settings: Settings) -> Settings:
    """Return the settings for the original, which is always computed in float32."""
    return replace(settings, inference_precision=F32)
