"""Measures average precision on WIDER FACE by the two published protocols."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from sshconvert import __version__
from sshconvert.checkpoint import DEMO
from sshconvert.contract import Declaration
from sshconvert.digest import bytes_sha256, file_sha256
from sshconvert.errors import DatasetError, EvaluationError, ImageError, UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.libraries import PILLOW, require
from sshconvert.messages import count, name_text
from sshconvert.models.protocols import OmzRules
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file, is_folder
from sshconvert.schema import one_line
from sshtool.candidates import Candidate, find_candidates, labelled, left_out
from sshtool.cluster.client import Cluster
from sshtool.evaluate import journal
from sshtool.evaluate.feeding import RULES, Feed, Fitted, Omz, Size, UpstreamScales, accepts
from sshtool.evaluate.figures import (
    ArtifactFigures,
    EvaluateResult,
    NotEvaluated,
    compared,
    hardest,
    protocol_figures,
)
from sshtool.evaluate.journal import Header, ImageFinding, Journal, read_findings
from sshtool.evaluate.merge import JOURNAL, read_runs
from sshtool.evaluate.omz import SETTING
from sshtool.evaluate.predictions import prediction_file, read_predictions
from sshtool.evaluate.run import Entry, EvaluateWork, Evaluator, Illustration, Job, judged, save
from sshtool.evaluate.score import PROTOCOLS, finish, score_predictions
from sshtool.images import Resize, read_size
from sshtool.meter import Meter
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Runtime, Settings
from sshtool.runtimes.loading import load
from sshtool.selection import image_of
from sshtool.stores import ImageFile, check_url, is_url
from sshtool.wider_face.ground_truth import GroundTruth, ImageTruth, read_ground_truth
from sshtool.workspace import Workspace

OMZ, WIDER = PROTOCOLS

IMAGES: Final = ("WIDER_val/images", "images")

MOST_SIZES: Final = 3

# Pixels of the warm-up image for an artifact of dynamic size.
SMALL: Final = 64


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how. `shard` is (number, total), from 1; `limit` 0 takes all images.

    `images` is the folder or URL of the images, by default in the dataset. `scheduler` is the address of a Dask
    scheduler, whose workers find the images under the same name. `resize` lets `wider` run on artifacts that cannot
    take upstream's test scale. `merge` (journals, or folders of journals) and `predictions` (a folder in the official
    text format) replace a run.
    """

    dataset: Path | None = None
    artifacts: tuple[Path, ...] = ()
    protocols: tuple[str, ...] = (OMZ,)
    limit: int = 0
    shard: tuple[int, int] = (1, 1)
    resume: bool = False
    merge: tuple[Path, ...] = ()
    predictions: Path | None = None
    save_predictions: Path | None = None
    pyramid: bool = False
    resize: Resize | None = None
    images: str = ""
    scheduler: str = ""
    runtime: str = ""
    settings: Settings = field(default_factory=Settings)


# The figures, and the images with the most faults.
Evaluation = tuple[EvaluateResult, list[Illustration]]
# Writes a page, if the user asks for one, and returns the paths that it wrote.
Write = Callable[[EvaluateResult, Sequence[Illustration]], tuple[Path, ...]]


def evaluate(
    workspace: Workspace,
    options: EvaluateOptions,
    *,
    write: Write = lambda _result, _illustrations: (),
    progress: Progress = silent,
) -> EvaluateResult:
    """Evaluate artifacts (by default all that `convert` wrote), merge journals of shards, or score saved predictions.

    Journals go to `<output_dir>/<model>/evaluation`. An unreadable image counts as an image without predictions.

    Raises UsageError, DatasetError, EvaluationError, OutputError, and the errors of loading and running an artifact.
    """
    _check(options)
    cluster = Cluster(options.scheduler, options.settings, progress) if options.scheduler else None
    assert options.dataset is not None  # `_check` refuses it
    progress(f"reading the ground truth of {options.dataset}")
    truth = _limited(read_ground_truth(options.dataset), options.limit)
    if options.merge:
        result, illustrations = _merge(workspace.model, options, truth, progress)
    elif options.predictions is not None:
        result, illustrations = _score(workspace.model, options, truth, options.predictions)
    else:
        result, illustrations = _Run(workspace, options, truth, progress, cluster).result()
    return replace(result, written=(*result.written, *write(result, illustrations)))


def _check(options: EvaluateOptions) -> None:
    """Validate the options before hours of work. Raises UsageError and RuntimeUnavailableError."""
    run_options = {
        "--artifact": bool(options.artifacts),
        "--shard": options.shard != (1, 1),
        "--resume": options.resume,
        "--save-predictions": options.save_predictions is not None,
        "--scheduler": bool(options.scheduler),
        "--images": bool(options.images),
        "--pyramid": options.pyramid,
        "--resize": options.resize is not None,
    }
    given = [name for name, present in run_options.items() if present]
    source = "--merge" if options.merge else "--predictions" if options.predictions is not None else ""
    if options.merge and options.predictions is not None:
        raise UsageError("--merge and --predictions contradict each other; give one")
    if source and given:
        raise UsageError(f"{source} runs no artifact, so {', '.join(given)} does not apply; leave it out")
    if options.merge and options.limit:
        raise UsageError("--limit does not apply to --merge, which takes whole journals; leave it out")
    if options.dataset is None:
        raise UsageError("--dataset: name the folder of WIDER FACE, or draw one with `sshtool demo-dataset`")
    if options.pyramid and options.resize is not None:
        raise UsageError("--pyramid and --resize contradict each other; give one")
    if (options.pyramid or options.resize is not None) and WIDER not in options.protocols:
        raise UsageError("--pyramid and --resize are for wider; add --protocol wider")
    if not source:
        require(PILLOW)


def _limited(truth: GroundTruth, limit: int) -> GroundTruth:
    return replace(truth, images=truth.images[:limit]) if limit else truth


# --- a run -----------------------------------------------------------------------------------------------------------


class _Run:
    """Evaluates artifacts on the images of a shard, one artifact after another."""

    def __init__(
        self,
        workspace: Workspace,
        options: EvaluateOptions,
        truth: GroundTruth,
        progress: Progress,
        cluster: Cluster | None,
    ) -> None:
        self.model, self.options, self.truth, self.progress = workspace.model, options, truth, progress
        self.cluster = cluster
        assert options.dataset is not None
        self.images = _given_images(options.images) if options.images else images_folder(options.dataset)
        self.journals = workspace.journals
        which, count = options.shard
        numbers = range(which - 1, len(truth.images), count)
        self.jobs = [Job(number, truth.images[number].image, self._path(number)) for number in numbers]
        if not self.jobs:
            raise UsageError(f"--shard: there are {len(truth.images)} images, and none is in shard {which} of {count}")
        criteria = {"runtime": options.runtime, "inference_precision": options.settings.inference_precision}
        self.candidates = labelled(find_candidates(workspace, options.artifacts, **criteria))
        self._notes = left_out(workspace, options.artifacts, **criteria)
        self._sizes: dict[ImageFile, Size] | None = None

    def result(self) -> Evaluation:
        options = self.options
        if WIDER in options.protocols and options.protocols == (WIDER,) and options.resize is None:
            for candidate in self.candidates.values():  # raise their errors before the first runs for hours
                self._feeds(candidate, self._load(candidate).declaration)
        figures, illustrations, notes = [], [], [*self._notes]
        for label, candidate in self.candidates.items():
            own_figures, own_illustrations, own_notes = self._evaluate(label, candidate)
            figures.append(own_figures)
            illustrations += own_illustrations
            notes += own_notes
        written = [self._journal(label) for label in self.candidates]
        return _result(self.model, options, self.truth, figures, notes, written), illustrations

    def _evaluate(self, label: str, candidate: Candidate) -> tuple[ArtifactFigures, list[Illustration], list[str]]:
        self.progress(f"{label}: loading {candidate.path}")
        runtime = self._load(candidate)
        feeds, notes = self._feeds(candidate, runtime.declaration)
        header = self._header(label, candidate, runtime, feeds)
        evaluator = Evaluator(candidate.path, runtime, feeds, saved=self._saved(label, feeds))
        path, rate = self._journal(label), None
        with Journal(path, header, resume=self.options.resume) as output:
            jobs = self.jobs[output.done :]
            _check_saved(path, evaluator.saved)
            if jobs:
                height, width = (size or SMALL for size in runtime.declaration.input_shape[2:])
                evaluator.warm_up((height, width), self.model.output_names)
                meter = Meter(label, len(self.jobs), output.done, self.progress)
                with contextlib.closing(self._findings(candidate, runtime, feeds, evaluator, jobs)) as findings:
                    for finding in findings:
                        if self.cluster is not None and not finding.failure:
                            save(finding, evaluator.saved)
                        output.append(finding)
                        meter.step()
                rate = meter.rate
        self.progress(f"{label}: scoring")
        entries, rules = list(_judged(path, self.truth, self.model.omz)), self.model.omz
        figures, illustrations = _figures(header, entries, self.truth, self.images, rules, rate)
        return figures, illustrations, [f"{label}: {note}" for note in notes]

    def _findings(
        self, candidate: Candidate, runtime: Runtime, feeds: Sequence[Feed], evaluator: Evaluator, jobs: Sequence[Job]
    ) -> Generator[ImageFinding, None, None]:
        if self.cluster is None:
            return evaluator.evaluate(jobs)
        settings = replace(self.options.settings, throughput=True)
        work = EvaluateWork(
            candidate.path, str(runtime), Path.cwd(), self.model, candidate.runtime, settings, tuple(feeds)
        )
        return self.cluster.each(work, jobs)

    def _load(self, candidate: Candidate) -> Runtime:
        settings = replace(self.options.settings, throughput=True)
        return load(candidate.path, self.model, settings, key=candidate.runtime)

    def _header(self, label: str, candidate: Candidate, runtime: Runtime, feeds: Sequence[Feed]) -> Header:
        declaration = runtime.declaration
        return Header(
            journal=journal.VERSION,
            sshtool=__version__,
            artifact=label,
            format=candidate.path.suffix.lstrip("."),
            precision=declaration.precision or candidate.profile,
            weights=declaration.weights,
            files={name_text(path.name): file_sha256(path) for path in artifact_files(candidate.path)},
            runtime=str(runtime),
            device=runtime.settings.device,
            inference_precision=runtime.inference_precision,
            dataset=self.truth.digest,
            images=len(self.truth.images),
            protocols={feed.protocol: feed.text for feed in feeds},
            notes={feed.protocol: tuple(filter(None, (feed.note, _batch_note(declaration)))) for feed in feeds},
            shard=self.options.shard,
        )

    def _feeds(self, candidate: Candidate, declaration: Declaration) -> tuple[list[Feed], list[str]]:
        """The feed of each protocol, and the reason if `wider` is left out. Raises UsageError if none remains."""
        size = declaration.image_size(self.model)
        feeds: list[Feed] = [Omz(self.model, size)] if OMZ in self.options.protocols else []
        if WIDER not in self.options.protocols:
            return feeds, []
        if self.options.resize is not None:
            return [*feeds, Fitted(self.model, size, self.options.resize)], []
        upstream = UpstreamScales(self.model, pyramid=self.options.pyramid)
        problem = self._cannot_take(upstream, declaration)
        if not problem:
            return [*feeds, upstream], []
        if not feeds:
            raise UsageError(f"{candidate.path}: {problem}")
        return feeds, [f"wider is left out: {problem}"]

    def _cannot_take(self, feed: Feed, declaration: Declaration) -> str:
        """The sizes that `feed` needs and that an artifact of fixed size refuses, in words; "" if there are none."""
        if declaration.input_shape[2:] == (None, None):
            return ""
        needed = Counter(size for height, width in self._known_sizes() for size in feed.sizes(height, width))
        refused = sorted((-number, size) for size, number in needed.items() if not accepts(declaration, size))
        if not refused:
            return ""
        height, width = (size or "any" for size in declaration.input_shape[2:])
        most = ", ".join(f"{w}x{h} ({-number})" for number, (h, w) in refused[:MOST_SIZES])
        more = f" and {count(len(refused) - MOST_SIZES, 'more size')}" if len(refused) > MOST_SIZES else ""
        h, w = refused[0][1]
        remedy = f"convert with --input-shape 1,3,{h},{w}" if len(needed) == 1 else "convert with --dynamic size"
        return (
            f"takes {width}x{height} only, and upstream's test ({feed.text}) makes {most}{more} of the images; "
            f"{remedy}, or take --resize letterbox, whose figures are not those of upstream's scale"
        )

    def _known_sizes(self) -> Iterable[Size]:
        """The height and width of every readable image of the shard."""
        if self._sizes is None:
            self.progress("looking at the sizes of the images")
            self._sizes = {}
            for job in self.jobs:
                with contextlib.suppress(ImageError):  # the evaluation reports it
                    self._sizes[job.path] = read_size(job.path)
        return self._sizes.values()

    def _path(self, number: int) -> ImageFile:
        return self.images / PurePosixPath(self.truth.images[number].image)

    def _journal(self, label: str) -> Path:
        which, count = self.options.shard
        part = f".{which}-of-{count}" if count > 1 else ""
        protocols = "both" if len(self.options.protocols) > 1 else self.options.protocols[0]
        return self.journals / f"{_file_name(label)}.{protocols}{part}{JOURNAL}"

    def _saved(self, label: str, feeds: Sequence[Feed]) -> dict[str, Path]:
        """The folder of predictions for each protocol: the user's, or subfolders by artifact and by protocol."""
        folder = self.options.save_predictions
        if folder is None:
            return {}
        if len(self.candidates) > 1:
            folder /= _file_name(label)
        several = len(self.options.protocols) > 1
        return {feed.protocol: folder / feed.protocol if several else folder for feed in feeds}


def _check_saved(path: Path, saved: Mapping[str, Path]) -> None:
    """Check that images that a journal already holds have saved predictions, too. Raises EvaluationError."""
    for finding in read_findings(path) if saved else ():
        files = [prediction_file(folder, finding.image) for folder in saved.values()]
        missing = next((file for file in files if not is_file(file)), None)
        if missing is not None and not finding.failure:
            raise EvaluationError(
                f"{missing}: is missing, although the journal holds its image; evaluate without --resume to save all"
            )


def images_folder(dataset: Path) -> Path:
    """The dataset's folder of images: WIDER FACE's own, or `images`. Raises DatasetError if it has neither."""
    folder = next((dataset / name for name in IMAGES if is_folder(dataset / name)), None)
    if folder is None:
        raise DatasetError(f"{dataset}: has no folder {' or '.join(IMAGES)}; unpack WIDER_val.zip there")
    return folder


def _given_images(place: str) -> ImageFile:
    """The folder of images that the user names. Raises UsageError if it does not exist."""
    if is_url(place):
        check_url(place)
    elif not is_folder(Path(place)):
        raise UsageError(f"--images: {place} is not a folder; name the folder or the URL of the dataset's images")
    return image_of(place)


def _file_name(label: str) -> str:
    """A label as a file name. If that changes more than its spaces, a digest of the label makes the name unique."""
    plain = re.sub(r"[^\w.-]+", "-", label, flags=re.ASCII)[:60]
    if plain == label.replace(" ", "-"):
        return plain
    return f"{plain}-{bytes_sha256(label.encode(errors='replace'))[:8]}"


def _batch_note(declaration: Declaration) -> str:
    batch = declaration.input_shape[0] or 1
    if batch == 1:
        return ""
    return f"its batch of {batch} computes each image {batch} times: a batch of 1 gives the same figures faster"


# --- without a run ---------------------------------------------------------------------------------------------------


def _merge(model: ModelSpec, options: EvaluateOptions, truth: GroundTruth, progress: Progress) -> Evaluation:
    """The figures of the predictions in the journals of all shards, judged by the faces of the dataset."""
    assert options.dataset is not None  # `_check` refuses it
    runs = read_runs(options.merge)
    first = next(iter(runs.values()))[0][1]
    if truth.digest != first.dataset or first.images > len(truth.images):
        raise EvaluationError(f"{options.dataset}: is not the dataset of the journals; name the right one")
    truth, images = _limited(truth, first.images), _available_images(options.dataset)
    figures, illustrations = [], []
    for parts in runs.values():
        header = parts[0][1]
        progress(f"{header.artifact}: merging {len(parts)} journals")
        _check_rules(header, model.omz)
        entries = [entry for path, _ in parts for entry in _judged(path, truth, model.omz)]
        if len(entries) != header.images:
            raise EvaluationError(
                f"{header.artifact}: the journals hold {len(entries)} images of {header.images}; finish each shard "
                "with --resume"
            )
        own_figures, own_illustrations = _figures(header, entries, truth, images, model.omz)
        figures.append(own_figures)
        illustrations += own_illustrations
    return _result(model, options, first, figures, [], []), illustrations


def _score(model: ModelSpec, options: EvaluateOptions, truth: GroundTruth, folder: Path) -> Evaluation:
    """The figures of saved predictions."""
    assert options.dataset is not None  # `_check` refuses it
    images = _available_images(options.dataset)
    protocols, illustrations = [], []
    failures: dict[str, str] = {}
    for protocol in options.protocols:
        result = score_predictions(truth, folder, protocol, model.omz)
        failures |= dict(result.failures)
        missed = sum(item.faces for item in hardest(result) if item.image in failures)
        protocols.append(protocol_figures(result, "as saved", missed))
        worst = {item.image for item in protocols[-1].worst}
        for number, image in enumerate(truth.images):
            if image.image in worst:
                predictions = read_predictions(folder, image.image)
                entry = judged(ImageFinding(number, image.image, {protocol: predictions}), image, model.omz)
                illustrations.append(_illustration(str(folder), protocol, entry, image, images, model.omz))
    figures = ArtifactFigures(
        artifact=str(folder),
        format="",
        precision="",
        weights="",
        runtime="",
        files={},
        protocols=tuple(protocols),
        not_evaluated=tuple(NotEvaluated(image, reason) for image, reason in failures.items()),
    )
    return _result(model, options, truth, [figures], [], []), illustrations


# --- figures ---------------------------------------------------------------------------------------------------------


def _check_rules(header: Header, rules: OmzRules) -> None:
    """Raises EvaluationError if a journal's run had other settings of omz than these."""
    if OMZ in header.protocols and header.protocols[OMZ].partition(RULES)[2] != rules.differences():
        raise EvaluationError(
            f"{header.artifact}: its journals are of other rules of omz, {one_line(header.protocols[OMZ])}; name the "
            "model that they are of"
        )


def _judged(path: Path, truth: GroundTruth, rules: OmzRules) -> Iterator[Entry]:
    """Judge a journal's predictions. Raises EvaluationError if its images are not those of the dataset."""
    for finding in read_findings(path):
        image = truth.images[finding.index]
        if finding.image != image.image:
            raise EvaluationError(
                f"{path}: image {finding.index} is {one_line(finding.image)}, but {image.image} in the dataset; "
                "evaluate this part again"
            )
        yield judged(finding, image, rules)


def _available_images(dataset: Path) -> Path | None:
    """The folder of images, or None: a report then shows boxes without images."""
    with contextlib.suppress(DatasetError):
        return images_folder(dataset)
    return None


def _figures(
    header: Header,
    entries: Sequence[Entry],
    truth: GroundTruth,
    images: ImageFile | None,
    rules: OmzRules,
    rate: float | None = None,
) -> tuple[ArtifactFigures, list[Illustration]]:
    """The figures of one artifact, and its images with the most faults."""
    protocols, illustrations = [], []
    for protocol, text in header.protocols.items():
        result = finish([entry.record for entry in entries], protocol)
        failed = {image for image, _ in result.failures}
        missed = sum(item.faces for item in hardest(result) if item.image in failed)
        notes = (*header.notes[protocol], *result.notes)
        protocols.append(protocol_figures(replace(result, notes=notes), text, missed))
        worst = {item.image for item in protocols[-1].worst}
        illustrations += [
            _illustration(header.artifact, protocol, entry, truth.images[entry.record.index], images, rules)
            for entry in entries
            if entry.record.image in worst
        ]
    figures = ArtifactFigures(
        artifact=header.artifact,
        format=header.format,
        precision=header.precision,
        weights=header.weights,
        runtime=header.runtime,
        files=header.files,
        protocols=tuple(protocols),
        not_evaluated=tuple(
            NotEvaluated(entry.record.image, entry.record.failure) for entry in entries if entry.record.failure
        ),
        images_per_second=rate,
        inference_precision=header.inference_precision,
    )
    return figures, illustrations


def _illustration(
    artifact: str, protocol: str, entry: Entry, truth: ImageTruth, images: ImageFile | None, rules: OmzRules
) -> Illustration:
    path = None if images is None else images / PurePosixPath(truth.image)
    return Illustration(artifact, protocol, entry, truth, path, rules)


def _result(
    model: ModelSpec,
    options: EvaluateOptions,
    header: Header | GroundTruth,
    artifacts: Sequence[ArtifactFigures],
    notes: Sequence[str],
    written: Sequence[Path],
) -> EvaluateResult:
    """`header` belongs to the merged journals; without a merge it is the ground truth."""
    merged = isinstance(header, Header)
    return EvaluateResult(
        model=model.name,
        dataset=name_text(options.dataset or ""),
        digest=header.dataset if isinstance(header, Header) else header.digest,
        images=max(protocol.images for artifact in artifacts for protocol in artifact.protocols),
        of_images=header.images if isinstance(header, Header) else len(header.images),
        shard=(1, 1) if merged else options.shard,
        artifacts=compared(artifacts),
        published=_published(model, artifacts),
        notes=tuple(notes),
        written=tuple(written),
    )


def _published(model: ModelSpec, artifacts: Sequence[ArtifactFigures]) -> dict[str, dict[str, float]]:
    """The published figures, 0-1, by protocol and setting; none for the demo's weights or weights of unknown origin."""
    if all(artifact.weights in ("", DEMO) for artifact in artifacts):
        return {}
    published = model.published
    omz = {} if published.map_percent is None else {SETTING: published.map_percent}
    percents = {OMZ: omz, WIDER: published.wider_percent}
    shown = {protocol.protocol for artifact in artifacts for protocol in artifact.protocols}
    return {
        protocol: {name: percent / 100 for name, percent in settings.items()}
        for protocol, settings in percents.items()
        if settings and protocol in shown
    }
