"""The test of a file's own post-processing, apart from its network.

The file is cut at the tensors of the heads, and its own nodes behind them run on made-up heads, whose detections the
task's decoding tells in float64 (`sshconvert.tasks.made_up`). Scores are only selected, so they must be equal to the
last bit where the task computes none; coordinates may be off by a few units in the last place of the largest one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array, Doubles
from sshconvert.errors import ArtifactError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.faults import Size
from sshconvert.tasks.findings import Discrepancy
from sshconvert.tasks.inside import ATTRIBUTES, BOXES, COUNT, LANDMARKS, POSTPROCESSING, SCORES, Inside
from sshconvert.tasks.made_up import COORDINATE_UNITS, EPSILON, MadeUp
from sshconvert.tasks.results import Detections
from sshtool.parity.reference import Reference
from sshtool.runtimes.base import BF16, Outputs, Runtime

SEED: Final = 18
BATCHES: Final = (1, 3, 2, 4)  # the numbers of images of runs, in turn, of a file that takes any number

# The shape of each head's tensor without the batch, by name.
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class _Difference:
    """A difference at an output, in how many images of a run. `excess` is None without a measure."""

    output: str
    text: str
    where: str
    images: int = 1
    excess: float | None = None


def check_postprocessing(
    runtime: Runtime, model: ModelSpec, reference: Reference, *, thorough: bool = True, seed: int = SEED
) -> Iterator[Discrepancy]:
    """Run the post-processing of a file on made-up heads, and yield the worst difference of each output.

    The reference tells the shapes of the heads: at the file's size, and at another if the file takes it. Yields
    nothing for a file without post-processing, and one failure if its heads are not there. If not `thorough`, the first
    run that differs is the last.
    """
    declared, task = runtime.declaration.faces, model.task
    if declared is None or not isinstance(task, DetectionTask) or untried(runtime, model):
        return
    task = task.with_thresholds(declared.score_threshold, declared.iou_threshold)
    sizes = list(_sizes(runtime, model, reference))
    differences: list[_Difference] = []
    count = 0
    try:
        for size, batch in _runs(task, sizes, declared, runtime.declaration.batch, seed):
            count += len(batch)
            differences += _differences(runtime, task, declared, size, batch)
            if differences and not thorough:
                break
    except ArtifactError as error:
        yield Discrepancy(POSTPROCESSING, f"its post-processing cannot be tried alone: {error}")
        return
    for output in dict.fromkeys(item.output for item in differences):
        own = [item for item in differences if item.output == output]
        worst = max(own, key=lambda item: math.inf if item.excess is None else item.excess)
        number = sum(item.images for item in own)
        text = f"{output} {worst.text} ({worst.where}); in {number} of {count} made-up images"
        yield Discrepancy(POSTPROCESSING, text, output=output, excess=worst.excess)


def untried(runtime: Runtime, model: ModelSpec) -> str:
    """Return why a file's post-processing cannot be tried alone, "" if it can or if there is none."""
    if runtime.declaration.faces is None:
        return ""
    if runtime.inference_precision == BF16:
        return f"{runtime} rounds the coordinates too"
    if type(model.task).canvases is DetectionTask.canvases:  # type: ignore[attr-defined]  # it has detections
        return f"the task {model.task.kind} makes up no heads"
    return ""


def _sizes(runtime: Runtime, model: ModelSpec, reference: Reference) -> Iterator[tuple[Size, Shapes]]:
    """Yield heights and widths that the file takes, with the shapes of the heads' tensors there."""
    declaration = runtime.declaration
    own, other = reference.answers(*declaration.sample_size(model))[:1], reference.other_size()
    for answer in (*own, *([other] if other else [])):
        size = answer.sample.image_size
        if all(declared in (None, side) for declared, side in zip(declaration.input_shape[2:], size, strict=True)):
            yield size, {name: array.shape[1:] for name, array in answer.outputs.items()}


def _runs(
    task: DetectionTask, sizes: Sequence[tuple[Size, Shapes]], declared: Inside, number: int | None, seed: int
) -> Iterator[tuple[Size, list[MadeUp]]]:
    """Yield the height and width, and the images of each run."""
    for size, shapes in sizes:
        random: Any = np.random.RandomState(seed)
        for batch in _batches(task.made_up(shapes, size, declared.top_k, random), number):
            yield size, batch


def _batches(images: Iterator[MadeUp], number: int | None) -> Iterator[list[MadeUp]]:
    """Yield batches of `number` images, or of different numbers in turn for None. The last repeats the first images."""
    first: list[MadeUp] = []
    batch: list[MadeUp] = []
    turn = 0
    for image in images:
        first = first if len(first) >= (number or 1) else [*first, image]
        batch.append(image)
        if len(batch) == (number or BATCHES[turn % len(BATCHES)]):
            yield batch
            batch, turn = [], turn + 1
    while batch and number and len(batch) < number:
        batch += first[: number - len(batch)]
    if batch:
        yield batch


def _differences(
    runtime: Runtime, task: DetectionTask, declared: Inside, size: Size, batch: Sequence[MadeUp]
) -> Iterator[_Difference]:
    """Yield the differences of one run: at most one of each output and image."""
    heads: dict[str, Array] = {name: np.stack([image.tensors[name] for image in batch]) for name in batch[0].tensors}
    images: Array = np.zeros((len(batch), *size, 3), np.uint8)
    outputs = {name: values for name, values in runtime.behind(heads, images).items() if name in task.inside_outputs}
    places = f"at {size[1]} x {size[0]}"
    if problems := task.problems_inside(heads, outputs, declared):
        for problem in {item.output: item for item in reversed(problems)}.values():
            text = problem.message.removeprefix(f"{problem.output} ")
            yield _Difference(problem.output, text, f"{batch[0].name} {places}", len(batch))
        return
    for place, (image, expected) in enumerate(zip(batch, _expected(task, declared, heads, size), strict=True)):
        found = {name: values[place] for name, values in outputs.items()}
        yield from _compare(expected, found, image, f"{image.name} {places}", max(size))


def _expected(task: DetectionTask, declared: Inside, heads: Mapping[str, Array], size: Size) -> list[Detections]:
    """Return the detections in float64, by the threshold as float32 holds it, because scores are float32."""
    exact = {name: values.astype(np.float64) for name, values in heads.items()}
    rounded = task.with_thresholds(score=float(np.float32(declared.score_threshold)))
    return [detections[: declared.top_k] for detections in rounded.decode(exact, size)]


def _compare(expected: Detections, found: Outputs, image: MadeUp, where: str, side: int) -> Iterator[_Difference]:
    count = int(found[COUNT])
    if count != len(expected):
        yield _Difference(COUNT, f"is {count}, expected {len(expected)}", where)
        return
    for name, values, limit in _columns(expected, image, side):
        errors = np.abs(found[name][:count] - values)
        if (errors <= limit).all():
            continue
        # What must be equal has no limit to compare an error with, so its own last place serves.
        shares = errors / np.maximum(limit, EPSILON * np.maximum(np.abs(values), EPSILON))
        row = int(np.unravel_index(np.argmax(shares), shares.shape)[0])
        text = f"are off by {errors[row].max():.2g} at detection {row}, {np.max(limit[row]):.2g} allowed"
        yield _Difference(name, text, where, excess=float(shares.max()))


def _columns(expected: Detections, image: MadeUp, side: int) -> Iterator[tuple[str, Doubles, Doubles]]:
    """Yield the output, the right values and the largest errors of each column."""
    unit = COORDINATE_UNITS * EPSILON
    scores = np.asarray(expected.scores, np.float64)
    yield SCORES, scores, np.full(scores.shape, image.score_error)
    yield BOXES, expected.boxes, np.full(expected.boxes.shape, unit * max(image.reach, side))
    if expected.landmarks is not None:
        yield LANDMARKS, expected.landmarks, unit * (np.abs(expected.landmarks) + side)
    if expected.attributes is not None:
        yield ATTRIBUTES, expected.attributes, np.zeros(expected.attributes.shape)
