"""Runs a converted classifier or embedder on image files."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.arrays import Pixels
from sshconvert.errors import ImageError, NonfiniteError, UsageError
from sshconvert.libraries import PILLOW, require
from sshconvert.reading import read_small
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshconvert.tasks.results import Scores, Vectors
from sshtool.candidates import usual_artifact
from sshtool.document import Error
from sshtool.images import reading
from sshtool.predictor import Predictor, predicting_task
from sshtool.results.outcomes import NotRead
from sshtool.runtimes.base import Settings
from sshtool.selection import select_images
from sshtool.stores import ImageFile
from sshtool.workspace import Workspace

# Decimal places in JSON: the precision of float32.
DIGITS: Final = 7

LARGEST_LABELS: Final = 4 << 20  # bytes of a file of labels
_SYNSET: Final = re.compile(r"^n\d{8}\s+")  # ImageNet's number of a class, before its names


@dataclass(frozen=True)
class PredictOptions:
    """How to predict.

    `runtime` is a runtime's key, "" for the usual one of the file. `top` is the number of classes, None for the task's.
    `labels` is a file with a name for each class. `pairs` compares the first image with the second, and so on; two
    images are a pair without it.
    """

    runtime: str = ""
    settings: Settings = field(default_factory=Settings)
    top: int | None = None
    labels: Path | None = None
    pairs: bool = False


@dataclass(frozen=True)
class Planned:
    """An image to predict."""

    image: ImageFile


@dataclass(frozen=True)
class Class:
    """A class: its number from 0, its label ("" without one), and its probability."""

    number: int
    label: str
    score: float


@dataclass(frozen=True)
class Classified:
    """The best classes of an image, best first. `width` and `height` are those of the upright image."""

    image: ImageFile
    width: int
    height: int
    inference_precision: str
    classes: tuple[Class, ...]


@dataclass(frozen=True)
class Embedded:
    """The embedding of an image: a vector of length 1, and the length of the network's own."""

    image: ImageFile
    width: int
    height: int
    inference_precision: str
    vector: tuple[float, ...]
    length: float


@dataclass(frozen=True)
class Pair:
    """Two images and the cosine of their embeddings, -1 to 1; None if one was not read."""

    images: tuple[ImageFile, ImageFile]
    cosine: float | None


Outcome = Planned | Classified | Embedded | NotRead
Emitted = Outcome | Pair


class PlannedLine(TypedDict):
    """The JSON line of an image with --dry-run."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's setting, not a key

    schema_version: Literal[1]
    verb: Literal["predict"]
    image: str


class ClassLine(TypedDict):
    """A class in a line of JSON. Only a class with a label has it."""

    number: int
    label: NotRequired[str]
    score: float


class ClassifiedLine(PlannedLine):
    """The JSON line of an image with its best classes."""

    width: int
    height: int
    inference_precision: str
    classes: list[ClassLine]


class EmbeddedLine(PlannedLine):
    """The JSON line of an image with its embedding."""

    width: int
    height: int
    inference_precision: str
    vector: list[float]
    length: float


class PairLine(TypedDict):
    """The JSON line of a pair of images."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's setting, not a key

    schema_version: Literal[1]
    verb: Literal["predict"]
    pair: tuple[str, str]
    cosine: float | None


class NotReadLine(TypedDict):
    """The JSON line of an image with an error."""

    schema_version: Literal[1]
    verb: Literal["predict"]
    image: str
    error: Error


Line: TypeAlias = ClassifiedLine | EmbeddedLine | PairLine | NotReadLine | PlannedLine


@dataclass(frozen=True)
class PredictResult:
    """The outcome of each image, and of each pair."""

    model: str
    weights: str
    artifact: Path
    runtime: str
    images: tuple[Outcome, ...]
    pairs: tuple[Pair, ...] = ()

    @property
    def not_read(self) -> tuple[NotRead, ...]:
        return tuple(item for item in self.images if isinstance(item, NotRead))


def predict(
    workspace: Workspace,
    images: Sequence[str | Path],
    options: PredictOptions = PredictOptions(),  # frozen
    *,
    artifact: Path | None = None,
    dry_run: bool = False,
    report: Callable[[Emitted], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> PredictResult:
    """Predict the classes of images, or their embeddings and the similarity of pairs.

    Args:
        workspace: The model and the output folder.
        images: Files, folders and patterns.
        options: The runtime, the classes and the pairs.
        artifact: The converted model; by default the usual one of the workspace.
        dry_run: Load the model, and list the images only.
        report: Receives each outcome as soon as it is known. An unreadable image is an outcome too.
        progress: Receives each step.

    Raises:
        UsageError: Before the first image, for options, images or a model that make no sense.
        SSHToolError: What loading and running the artifact raise.

    """
    model = workspace.model
    require(PILLOW)
    task = _task(model.name, predicting_task(model.name, model.task), options)
    paths = select_images(images)
    paired = _is_paired(task, paths, options)
    path = artifact or usual_artifact(workspace, options.runtime, options.settings.inference_precision)
    progress(f"loading {path}")
    settings = replace(options.settings, throughput=len(paths) > 1, images=len(paths))
    predictor = Predictor(path, model, task, settings, runtime=options.runtime)
    outcomes: list[Outcome] = []
    pairs: list[Pair] = []
    planned = [Planned(image) for image in paths]
    with closing(_predict_each(predictor, () if dry_run else paths, progress)) as predicted:
        for item in planned if dry_run else predicted:
            report(item)
            outcomes.append(item)
            if paired and not dry_run and len(outcomes) % 2 == 0:
                pairs.append(_pair(*outcomes[-2:]))
                report(pairs[-1])
    declaration = predictor.runtime.declaration
    return PredictResult(model.name, declaration.weights, path, str(predictor.runtime), tuple(outcomes), tuple(pairs))


def as_json(item: Emitted) -> dict[str, Any]:
    """The body of the JSON line of an image or a pair."""
    if isinstance(item, Pair):
        return {"pair": item.images, "cosine": None if item.cosine is None else round(item.cosine, DIGITS)}
    body: dict[str, Any] = {"image": item.image}
    if isinstance(item, Planned):
        return body
    if isinstance(item, NotRead):
        return body | {"error": {"type": item.error, "message": item.message}}
    body |= {"width": item.width, "height": item.height, "inference_precision": item.inference_precision}
    if isinstance(item, Embedded):
        return body | {"vector": [round(value, DIGITS) for value in item.vector], "length": round(item.length, DIGITS)}
    return body | {"classes": [_class_json(one) for one in item.classes]}


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a label a line, without ImageNet's number of a synset. Raises UsageError for a file that is no such list."""
    try:
        text = read_small(path, LARGEST_LABELS).decode()
    except OSError as error:
        raise UsageError(f"--labels: {path} cannot be read ({error.strerror}); name a text file") from None
    except ValueError:
        raise UsageError(f"--labels: {path} is no text of at most {LARGEST_LABELS >> 20} MiB in UTF-8") from None
    labels = tuple(_SYNSET.sub("", line.strip()) for line in text.splitlines() if line.strip())
    if not labels:
        raise UsageError(f"--labels: {path} is empty; write a label a line, in the order of the classes")
    return labels


def _task(model: str, task: Classification | Embedding, options: PredictOptions) -> Classification | Embedding:
    if isinstance(task, Embedding):
        if options.top is not None or options.labels is not None:
            raise UsageError(f"--top, --labels: {model} gives embeddings, which have no classes; leave them out")
        return task
    if options.pairs:
        raise UsageError(f"--pairs: {model} gives classes, and only embeddings have a similarity; leave it out")
    changed: dict[str, Any] = {} if options.top is None else {"top_k": options.top}
    if options.labels is not None:
        changed["labels"] = read_labels(options.labels)
    return task.model_copy(update=changed)


def _is_paired(task: Classification | Embedding, paths: Sequence[ImageFile], options: PredictOptions) -> bool:
    if options.pairs and len(paths) % 2:
        raise UsageError(f"--pairs: {len(paths)} different images are no pairs; give an even number")
    return options.pairs or (isinstance(task, Embedding) and len(paths) == 2)


def _predict_each(
    predictor: Predictor, paths: Sequence[ImageFile], progress: Callable[[str], None]
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each image, in order. Threads read images while the runtime computes others."""
    batch = predictor.shared.batch
    groups = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    numbers = count(1)
    with closing(predictor.shared.each(partial(_predict_group, predictor), groups)) as results:
        for group in groups:
            for path in group:
                progress(f"{next(numbers)} of {len(paths)}: {path}")
            yield from next(results)


@dataclass(frozen=True)
class _Read:
    """An image in the network's size, and the original's height and width."""

    framed: Pixels
    size: tuple[int, int]


def _predict_group(predictor: Predictor, paths: Sequence[ImageFile]) -> list[Outcome]:
    read = [_read(predictor, path) for path in paths]
    results = iter(predictor.predict_framed([item.framed for item in read if isinstance(item, _Read)]))
    return [
        item if isinstance(item, NotRead) else _outcome(path, item, next(results), predictor)
        for path, item in zip(paths, read, strict=True)
    ]


def _read(predictor: Predictor, path: ImageFile) -> _Read | NotRead:
    try:
        with reading(path) as image:
            height, width, _ = image.shape
            return _Read(predictor.frame(image), (height, width))
    except ImageError as error:
        return NotRead(path, type(error).__name__, str(error))


def _outcome(path: ImageFile, read: _Read, result: Scores | Vectors | NonfiniteError, predictor: Predictor) -> Outcome:
    if isinstance(result, NonfiniteError):
        return NotRead(path, type(result).__name__, f"{path}: {result}")
    (height, width), precision = read.size, predictor.runtime.inference_precision
    if isinstance(result, Vectors):
        return Embedded(path, width, height, precision, tuple(result.values.tolist()), result.length)
    assert isinstance(predictor.task, Classification)
    best = result.best(predictor.task.top_k)
    labels = result.labels
    classes = tuple(Class(one, labels[one] if labels else "", float(result.values[one])) for one in best)
    return Classified(path, width, height, precision, classes)


def _pair(first: Outcome, second: Outcome) -> Pair:
    if not isinstance(first, Embedded) or not isinstance(second, Embedded):
        return Pair((first.image, second.image), None)
    cosine = sum(one * other for one, other in zip(first.vector, second.vector, strict=True))
    return Pair((first.image, second.image), max(-1.0, min(1.0, cosine)))


def _class_json(one: Class) -> dict[str, Any]:
    label = {"label": one.label} if one.label else {}
    return {"number": one.number, **label, "score": round(one.score, DIGITS)}
