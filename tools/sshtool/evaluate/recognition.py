"""Measures embedders on pairs of faces, and classifiers on labelled images, by Open Model Zoo's protocols."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.checkpoint import DEMO
from sshconvert.digest import file_sha256
from sshconvert.errors import DatasetError, ImageError, NonfiniteError, UsageError
from sshconvert.files import scratch_folder
from sshconvert.formats.registry import artifact_files
from sshconvert.libraries import PILLOW, require
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_folder
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshconvert.tasks.results import Scores, Vectors
from sshtool.bilinear import resize
from sshtool.candidates import Candidate, find_candidates, labelled, left_out
from sshtool.cluster.client import Cluster
from sshtool.cluster.work import Opened, Work, on_worker
from sshtool.evaluate import imagenet, lfw
from sshtool.evaluate.figures import REFERENCE, EvaluateResult, NotEvaluated
from sshtool.evaluate.pairs_file import PairsFile, read_pairs
from sshtool.framing import central
from sshtool.images import reading
from sshtool.meter import Meter
from sshtool.predictor import Predictor, predicting_task
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.workspace import Workspace

PAIRS: Final = "lfw.bin"


@dataclass(frozen=True)
class RecognitionOptions:
    """What to evaluate, and how. `limit` 0 takes all images; an embedder takes them in pairs.

    `scheduler` is the address of a Dask scheduler, whose workers find the data set under the same name.
    """

    dataset: Path | None = None
    artifacts: tuple[Path, ...] = ()
    limit: int = 0
    scheduler: str = ""
    runtime: str = ""
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Measure:
    """A figure, 0-1, such as `ImageNet top-5`, and its `change` from the FP32 artifact, None without one."""

    name: str
    share: float
    change: float | None = None


@dataclass(frozen=True)
class RecognitionFigures:
    """The figures of one artifact. `baseline` names the FP32 artifact that `change` refers to, "" if there is none."""

    artifact: str
    format: str
    precision: str
    weights: str
    runtime: str
    files: Mapping[str, str]
    measures: tuple[Measure, ...]
    not_evaluated: tuple[NotEvaluated, ...]
    baseline: str
    images_per_second: float
    inference_precision: str


@dataclass(frozen=True)
class RecognitionResult:
    """The figures of every artifact on a data set.

    `protocol` is `LFW pairs` or `ImageNet`, `input` says how images get the network's size, and `published` holds
    published figures, 0-1, by measure; none for the demo's weights or weights of unknown origin.
    """

    model: str
    protocol: str
    dataset: str
    digest: str
    input: str
    images: int
    pairs: int | None
    artifacts: tuple[RecognitionFigures, ...]
    published: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def not_evaluated(self) -> tuple[NotEvaluated, ...]:
        """Each image on which an artifact was not evaluated, once."""
        return tuple(dict.fromkeys(item for artifact in self.artifacts for item in artifact.not_evaluated))


AnyEvaluation: TypeAlias = EvaluateResult | RecognitionResult


def evaluate_recognition(
    workspace: Workspace, options: RecognitionOptions, *, progress: Progress = silent
) -> RecognitionResult:
    """Evaluate artifacts (by default all that `convert` wrote) of an embedder or a classifier.

    An unreadable image counts as a wrong answer. Raises UsageError, DatasetError, and the errors of loading and running
    an artifact.
    """
    model = workspace.model
    task = predicting_task(model.name, model.task)
    require(PILLOW)
    cluster = Cluster(options.scheduler, options.settings, progress) if options.scheduler else None
    if options.dataset is None:
        wanted = f"InsightFace's {PAIRS}" if isinstance(task, Embedding) else f"a folder with {imagenet.LIST}"
        raise UsageError(f"--dataset: name {wanted}, or draw one with `sshtool demo-dataset --model {model.name}`")
    data: _Pairs | _Labelled = (
        _Pairs(options.dataset, options.limit)
        if isinstance(task, Embedding)
        else _Labelled(options.dataset, options.limit, task)
    )
    criteria = {"runtime": options.runtime, "inference_precision": options.settings.inference_precision}
    candidates = labelled(find_candidates(workspace, options.artifacts, **criteria))
    figures = [_figures(label, one, model, task, data, options, cluster, progress) for label, one in candidates.items()]
    return RecognitionResult(
        model=model.name,
        protocol=data.protocol,
        dataset=name_text(options.dataset),
        digest=data.digest,
        input=data.text(task, model),
        images=len(data),
        pairs=len(data) // 2 if isinstance(data, _Pairs) else None,
        artifacts=_compared(figures),
        published=_published(model, figures, data.measures),
        notes=(*data.notes, *left_out(workspace, options.artifacts, **criteria)),
    )


Answer = Scores | Vectors | None


class _Pairs:
    """Pairs of faces in a file."""

    protocol = lfw.PROTOCOL
    measures = (lfw.MEASURE,)

    def __init__(self, dataset: Path, limit: int) -> None:
        """`limit` is a number of images, of which a last one without its pair is left out."""
        self.file: PairsFile = read_pairs(dataset / PAIRS if is_folder(dataset) else dataset)
        self.digest = self.file.digest
        pairs = len(self.file.same)
        self._same = self.file.same[: limit // 2] if limit else self.file.same
        if len(self._same) < lfw.SUBSETS:
            raise DatasetError(
                f"{self.file.path}: {len(self._same)} pairs cannot be divided into {lfw.SUBSETS} subsets; take more"
            )
        taken = len(self._same)
        self.notes = (f"the first {taken} of {pairs} pairs: not the published protocol",) if taken < pairs else ()

    def __len__(self) -> int:
        return 2 * len(self._same)

    def beside(self, folder: Path) -> _Pairs:
        """A copy for a process with another current folder than `folder`."""
        other = copy(self)
        other.file = replace(self.file, path=folder / self.file.path)
        return other

    def text(self, _task: Classification | Embedding, model: ModelSpec) -> str:
        _, _, height, width = model.image_input.image_shape
        return f"stretched to {width}x{height}"

    def name(self, number: int) -> str:
        return f"{self.file.path.name}, image {number}"

    def frame(self, number: int, folder: Path, size: tuple[int, ...], _task: Classification | Embedding) -> Pixels:
        path = folder / str(number)
        path.write_bytes(self.file.read(number))
        try:
            with reading(path) as image:
                height, width = size
                return resize(image, (height, width), height / image.shape[0], width / image.shape[1])
        finally:
            path.unlink()

    def judge(self, answers: Sequence[Answer]) -> dict[str, float]:
        unknown = next((len(one) for one in answers if one is not None), 1)
        rows = [one.values * one.length if isinstance(one, Vectors) else np.full(unknown, np.nan) for one in answers]
        vectors = lfw.normalised(np.array(rows))
        return {lfw.MEASURE: lfw.accuracy(lfw.distances(vectors[::2], vectors[1::2]), np.array(self._same))}


class _Labelled:
    """Labelled images of a list."""

    protocol = imagenet.PROTOCOL
    measures = imagenet.MEASURES

    def __init__(self, dataset: Path, limit: int, task: Classification) -> None:
        listed = imagenet.read_list(dataset)
        self.images = listed.images[: limit or None]
        self.digest = listed.digest
        count = len(listed.images)
        taken = len(self.images)
        self.notes = (f"the first {taken} of {count} images: not the published protocol",) if taken < count else ()
        classes = task.classes or len(task.labels)
        beyond = next((item for item in self.images if classes and item.label >= classes), None)
        if beyond is not None:
            raise DatasetError(f"{dataset}: {beyond.name} has the class {beyond.label}, and the model has {classes}")

    def __len__(self) -> int:
        return len(self.images)

    def beside(self, folder: Path) -> _Labelled:
        """A copy for a process with another current folder than `folder`."""
        other = copy(self)
        other.images = tuple(replace(item, path=folder / item.path) for item in self.images)
        return other

    def text(self, task: Classification | Embedding, model: ModelSpec) -> str:
        assert isinstance(task, Classification)
        _, _, height, width = model.image_input.image_shape
        side = max(round(height / task.crop), round(width / task.crop))
        return f"shorter side to {side}, cubic, then the centre of {width}x{height}"

    def name(self, number: int) -> str:
        return self.images[number].name

    def frame(self, number: int, _folder: Path, size: tuple[int, ...], task: Classification | Embedding) -> Pixels:
        assert isinstance(task, Classification)
        with reading(self.images[number].path) as image:
            height, width = size
            return central(image, height, width, task.crop)

    def judge(self, answers: Sequence[Answer]) -> dict[str, float]:
        ranks = [self._rank(number, answer) for number, answer in enumerate(answers)]
        return dict(zip(self.measures, imagenet.accuracies(ranks).values(), strict=True))

    def _rank(self, number: int, answer: Answer) -> int | None:
        if not isinstance(answer, Scores):
            return None
        item = self.images[number]
        if item.label >= len(answer):
            raise DatasetError(f"{item.name} has the class {item.label}, and the artifact gives {len(answer)}")
        return answer.best(len(answer)).index(item.label)


def _figures(
    label: str,
    candidate: Candidate,
    model: ModelSpec,
    task: Classification | Embedding,
    data: _Pairs | _Labelled,
    options: RecognitionOptions,
    cluster: Cluster | None,
    progress: Progress,
) -> RecognitionFigures:
    progress(f"{label}: loading {candidate.path}")
    settings = replace(options.settings, throughput=True, images=len(data))
    predictor = Predictor(candidate.path, model, task, settings, runtime=candidate.runtime)
    declaration = predictor.runtime.declaration
    answers: list[Answer] = []
    failures: list[NotEvaluated] = []
    begin = perf_counter()
    meter = Meter(label, len(data), 0, progress)
    with closing(_results(candidate, predictor, model, data, options, cluster)) as results:
        for number, answer in enumerate(results):
            if isinstance(answer, str):
                failures.append(NotEvaluated(data.name(number), answer))
            answers.append(None if isinstance(answer, str) else answer)
            meter.step()
    seconds = perf_counter() - begin
    return RecognitionFigures(
        artifact=label,
        format=candidate.path.suffix.lstrip("."),
        precision=declaration.precision or candidate.profile,
        weights=declaration.weights,
        runtime=str(predictor.runtime),
        files={name_text(path.name): file_sha256(path) for path in artifact_files(candidate.path)},
        measures=tuple(Measure(name, share) for name, share in data.judge(answers).items()),
        not_evaluated=tuple(failures),
        baseline="",
        images_per_second=len(data) / seconds,
        inference_precision=predictor.runtime.inference_precision,
    )


def _results(
    candidate: Candidate,
    predictor: Predictor,
    model: ModelSpec,
    data: _Pairs | _Labelled,
    options: RecognitionOptions,
    cluster: Cluster | None,
) -> Generator[Scores | Vectors | str, None, None]:
    """Yield the result of each image, in order, or why there is none."""
    if cluster is None:
        return _answers(predictor, model, data)
    settings = replace(options.settings, throughput=True)
    whose = candidate.path, str(predictor.runtime), Path.cwd(), model, predictor.task
    return cluster.each(RecognitionWork(*whose, candidate.runtime, settings, data), range(len(data)))


@dataclass(frozen=True)
class RecognitionWork(Work[int, Scores | Vectors | str]):
    """Evaluation on a worker. Items are the numbers of images in the data set."""

    model: ModelSpec
    task: Classification | Embedding
    runtime: str
    settings: Settings
    data: _Pairs | _Labelled

    def open(self, artifact: Path, threads: int) -> Opened[int, Scores | Vectors | str]:
        settings = on_worker(self.settings, threads)
        predictor = Predictor(artifact, self.model, self.task, settings, runtime=self.runtime)
        data, size = self.data.beside(self.folder), predictor.runtime.declaration.image_size(self.model)

        def compute(numbers: Sequence[int]) -> list[Scores | Vectors | str]:
            groups = _groups(numbers, predictor.shared.batch)
            with scratch_folder() as folder:
                answers = [
                    answer
                    for group in groups
                    for answer in _answer_group(predictor, self.task, data, folder, size, group)
                ]
            return [self._named(answer, artifact) if isinstance(answer, str) else answer for answer in answers]

        return Opened(compute, str(predictor.runtime))

    def _named(self, message: str, artifact: Path) -> str:
        return message.replace(str(artifact), str(self.artifact)).replace(f"{self.folder}{os.sep}", "")

    def lost(self, item: int, reason: str) -> str:
        return f"{self.data.name(item)}: {reason}; look at it on one machine"


def _groups(numbers: Sequence[int], batch: int) -> list[Sequence[int]]:
    return [numbers[start : start + batch] for start in range(0, len(numbers), batch)]


def _answers(
    predictor: Predictor, model: ModelSpec, data: _Pairs | _Labelled
) -> Generator[Scores | Vectors | str, None, None]:
    size = predictor.runtime.declaration.image_size(model)
    groups = _groups(range(len(data)), predictor.shared.batch)
    with scratch_folder() as folder:
        work = partial(_answer_group, predictor, predictor.task, data, folder, size)
        with closing(predictor.shared.each(work, groups)) as results:
            for answers in results:
                yield from answers


def _answer_group(
    predictor: Predictor,
    task: Classification | Embedding,
    data: _Pairs | _Labelled,
    folder: Path,
    size: tuple[int, ...],
    numbers: Sequence[int],
) -> list[Scores | Vectors | str]:
    framed: dict[int, Pixels] = {}
    answers: dict[int, Scores | Vectors | str] = {}
    for number in numbers:
        try:
            framed[number] = data.frame(number, folder, size, task)
        except ImageError as error:
            answers[number] = str(error).replace(str(folder / str(number)), data.name(number))
    for number, result in zip(framed, predictor.predict_framed(list(framed.values())), strict=True):
        answers[number] = f"{data.name(number)}: {result}" if isinstance(result, NonfiniteError) else result
    return [answers[number] for number in numbers]


def _compared(figures: Sequence[RecognitionFigures]) -> tuple[RecognitionFigures, ...]:
    """The figures with their change from the first FP32 artifact."""
    baseline = next((item for item in figures if item.precision == REFERENCE), None)
    if baseline is None:
        return tuple(figures)
    expected = {measure.name: measure.share for measure in baseline.measures}

    def compared(item: RecognitionFigures) -> RecognitionFigures:
        measures = tuple(replace(one, change=one.share - expected[one.name]) for one in item.measures)
        return replace(item, measures=measures, baseline=baseline.artifact)

    return tuple(item if item is baseline else compared(item) for item in figures)


def _published(model: ModelSpec, figures: Sequence[RecognitionFigures], measures: Sequence[str]) -> dict[str, float]:
    if all(item.weights in ("", DEMO) for item in figures):
        return {}
    published: Mapping[str, Any] = model.published.accuracy_percent
    return {name: published[name] / 100 for name in measures if name in published}
