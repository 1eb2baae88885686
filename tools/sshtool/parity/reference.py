"""The expected outputs: exact, by MXNet, or from a reference pack, and the yardstick of a difference."""

from __future__ import annotations

import contextlib
import math
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from os import SEEK_END
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, overload

import numpy as np

from sshconvert.errors import ArtifactError, PrecisionError
from sshconvert.files import output_errors
from sshconvert.formats.registry import format_key
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.tasks.tolerances import MOST_DISTANT, Yardstick, errors, magnitude
from sshtool.parity.samples import (
    NORMAL,
    OTHER,
    OTHER_TENSORS,
    Sample,
    draw_sample,
    draw_tensors,
    exact_samples,
    other_size,
    sample_names,
)
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Feed, Outputs, Runtime
from sshtool.runtimes.exact import Exact

# Limits of the answers in memory: their number, and the pixels of their images.
MOST_KEPT: Final = 32
PIXELS_KEPT: Final = 1 << 25

# The operations of all samples up to which each has an exact answer: some seconds of a core.
SMALL: Final = 5e10


@dataclass(frozen=True)
class Answer:
    """A sample and its expected outputs: float32, by name, in the model's order.

    `exact` outputs are computed in double precision and rounded at the end; others are the original's in float32.
    """

    sample: Sample
    outputs: Outputs
    exact: bool = False

    def split(self) -> list[Answer]:
        """Return an answer for each image of the batch. Tensors are one answer: their batch may be any dimension."""
        if not self.sample.is_pictured:
            return [self]
        name, purpose, images = self.sample.name, self.sample.purpose, self.sample.images
        return [
            Answer(
                Sample(name, purpose, images[index : index + 1]),
                {output: array[index : index + 1] for output, array in self.outputs.items()},
                self.exact,
            )
            for index in range(len(images))
        ]


# Draws a sample at a height and width, or with neither as tensors of the model's shapes.
Draw = Callable[..., Sample]


class StoredAnswers(Sequence[Answer]):
    """Answers that are computed on first use.

    The last `kept` stay in memory. For the others, the outputs lie in an unlinked temporary file, and the images are
    drawn again.
    """

    def __init__(
        self,
        draw: Sequence[Callable[[], Sample]],
        compute: Callable[[Sample, int], Outputs],
        kept: int,
        exact: Sequence[bool],
    ) -> None:
        self._draw, self._compute, self._exact = draw, compute, exact
        with output_errors(Path("temporary files")):
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in the next line
        weakref.finalize(self, self._file.close)
        self._offsets: dict[int, tuple[int, tuple[str, ...]]] = {}
        self._cached_answer = lru_cache(kept)(self._answer)

    def __len__(self) -> int:
        return len(self._draw)

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Answer]: ...
    def __getitem__(self, index: int | slice) -> Answer | Sequence[Answer]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return self._cached_answer(range(len(self))[index])

    def _answer(self, index: int) -> Answer:
        sample = self._draw[index]()
        if index not in self._offsets:
            self._store(index, self._compute(sample, index))
        offset, names = self._offsets[index]
        self._file.seek(offset)
        outputs = {name: np.load(self._file, allow_pickle=False) for name in names}
        return Answer(sample, outputs, self._exact[index])

    def _store(self, index: int, outputs: Outputs) -> None:
        with output_errors(Path(tempfile.gettempdir())):
            offset = self._file.seek(0, SEEK_END)
            for array in outputs.values():
                np.save(self._file, array, allow_pickle=False)
            self._file.flush()
        self._offsets[index] = (offset, tuple(outputs))


class Reference(ABC):
    """The source of the expected outputs.

    `source` describes it, `weights` names the checkpoint, and `note` is a caveat for the report.
    """

    source: str
    weights: str
    note: str = ""

    @abstractmethod
    def answers(self, *size: int) -> Sequence[Answer]:
        """Return the answers to single images of this height and width, or without a size to tensors.

        Raises ReferencePackError if there are none.
        """

    @abstractmethod
    def other_size(self) -> Answer | None:
        """Return the answer to the batch of another size, if there is one."""

    def at_shapes(self, shapes: Mapping[str, Shape]) -> Answer | None:
        """Return the answer to tensors of other shapes than the model's own, if there is one."""
        return None

    def yardstick(self, *size: int) -> Yardstick | None:
        """Return how far the original in float32 is from the exact result. None without an exact result."""
        return None

    def rounded(self, artifact: Path, precision: str, left_out: Container[str] = ()) -> Reference | None:
        """Return the exact answers of the network with the rounded weights of an artifact, to some of the samples.

        Returns None if they cannot be computed here. Raises ArtifactError for a file whose rounding is not understood.
        """
        return None

    def names(self, *size: int) -> frozenset[str]:
        """Return the names of the samples that `answers` answers to."""
        return frozenset(answer.sample.name for answer in self.answers(*size))

    def answer(self, name: str, *size: int) -> Answer | None:
        """Return the answer to a sample by name; a single image has this height and width."""
        if name == OTHER:
            return self.other_size()
        return next((answer for answer in self.answers(*size) if answer.sample.name == name), None)


class LiveReference(Reference):
    """Answers that are computed here: in float32 by `original`, in double precision by `exact`.

    `original` is MXNet, without it the definitions of the operators in float32, or in tests a converted model. Without
    `exact`, all answers are the original's, and there is no yardstick. With it, all are exact if the network is small
    or `every` is set. Otherwise those to `exact_samples`, to the user's images and to the batch of another size are.
    """

    def __init__(
        self,
        original: Runtime,
        model: ModelSpec,
        *,
        exact: Exact | None = None,
        every: bool = False,
        scenes: int = 2,
        images: Mapping[str, Draw] = MappingProxyType({}),
        note: str = "",
        progress: Progress = silent,
    ) -> None:
        """Answer for `scenes` drawn scenes, the other seeded samples, and the user's `images` by name."""
        self.source = " and ".join(map(str, filter(None, (exact, None if exact and every else original))))
        self.weights, self.note = original.declaration.weights, note
        self.runtime, self.exact = original, exact
        self.model, self.progress, self._every = model, progress, every
        names = sample_names(scenes, tensors=not model.takes_image)
        self.draws: dict[str, Draw] = {name: partial(draw_sample, name, model) for name in names} | dict(images)
        self._few = frozenset((*exact_samples(names), *images))
        self._roundings: dict[str, Reference] = {}
        self._yardsticks: dict[tuple[int, ...], Yardstick] = {}

    @lru_cache(maxsize=4)  # noqa: B019  # lives as long as the one verification that it serves
    def answers(self, *size: int) -> Sequence[Answer]:
        draw = [partial(one, *size) for one in self.draws.values()]
        exact = [self._is_exact(name, size) for name in self.draws]
        compute = partial(self._outputs, exact=exact)
        values = math.prod(size) if size else sum(map(math.prod, self.model.input_shapes.values()))
        return StoredAnswers(draw, compute, max(1, min(MOST_KEPT, PIXELS_KEPT // values)), exact)

    @lru_cache(maxsize=1)  # noqa: B019  # as above
    def other_size(self) -> Answer | None:
        if None not in self.runtime.declaration.input_shape[2:] or not self.model.takes_image:
            return None
        try:
            return self._single(other_size())
        except ArtifactError:  # the original takes one size only, as a layer of all pixels does
            return None

    def at_shapes(self, shapes: Mapping[str, Shape]) -> Answer | None:
        return self._single(replace(draw_tensors(NORMAL + "0", self.model, shapes), name=OTHER_TENSORS))

    def names(self, *size: int) -> frozenset[str]:
        return frozenset(self.draws)

    def yardstick(self, *size: int) -> Yardstick | None:
        if self.exact is None:
            return None
        if size not in self._yardsticks:
            self._yardsticks[size] = measure(self._measured(size), self.runtime, self.model, self.progress)
        return self._yardsticks[size]

    def rounded(self, artifact: Path, precision: str, left_out: Container[str] = ()) -> Reference | None:
        if self.exact is None:
            return None
        names = [name for name in self.draws if name not in left_out]
        few = [name for name in names if name in self._few or name in exact_samples(names) or self._is_small(())]
        return rounded_reference(self, self.exact, few, artifact, self._roundings)

    def _measured(self, size: Sequence[int]) -> Iterator[Answer]:
        """Yield the exact answers to seeded samples that are worth a second computation in float32."""
        all_answers, is_small = self.answers(*size), self._is_small(size)
        for index, name in enumerate(self.draws):
            if is_small or name in self._few:
                yield all_answers[index]
        other = self.other_size()
        if other is not None:
            yield other

    def _single(self, sample: Sample) -> Answer:
        is_exact = self.exact is not None
        return Answer(sample, self._outputs(sample, 0, exact=[is_exact]), is_exact)

    def _is_exact(self, name: str, size: Sequence[int]) -> bool:
        return self.exact is not None and (self._every or name in self._few or self._is_small(size))

    def _is_small(self, size: Sequence[int]) -> bool:
        """Return whether exact answers to all samples take a few seconds."""
        return self.exact is not None and self.exact.flops(*size) * len(self.draws) <= SMALL

    def _outputs(self, sample: Sample, index: int, *, exact: Sequence[bool]) -> Outputs:
        runtime = self.exact if self.exact is not None and exact[index] else self.runtime
        self.progress(f"{runtime}, the reference", index, len(exact))
        return run_all(runtime, sample.feed)


class RoundedReference(LiveReference):
    """The exact answers of a network with the rounded weights of an artifact, to the samples `names`.

    Rounded weights do not change how far float32 is from the exact result, so the yardstick is the `parent`'s.

    If tensors between the layers are rounded too, a small error turns a number into the neighbouring level, which no
    limit of the outputs can tell from a fault. `follow` computes from the levels that the runtime chose.
    """

    def __init__(self, parent: Reference, exact: Exact, names: Sequence[str], draws: Mapping[str, Draw]) -> None:
        super().__init__(exact, exact.checkpoint.model, exact=exact, every=True)
        self._parent = parent
        self.draws = {name: draws.get(name) or self.draws[name] for name in names}

    @property
    def tensors(self) -> frozenset[str]:
        """The names of the rounded tensors between the layers."""
        assert self.exact is not None  # the constructor's
        return self.exact.rounding.tensors if self.exact.rounding else frozenset()

    def yardstick(self, *size: int) -> Yardstick | None:
        return self._parent.yardstick(*size)

    def follow(self, item: Answer, feed: Feed, number: int, observed: Outputs) -> tuple[Answer, str, float]:
        """Return the exact answer that follows from the levels that a runtime chose for image `number` of a batch.

        `observed` are the runtime's `tensors`. The layer and the number name the place where a chosen level is farthest
        beyond the nearest one: by how many times of what is allowed, at most 1 if all levels are the nearest.
        """
        assert self.exact is not None  # the constructor's
        assert self.exact.rounding is not None  # the constructor's
        following = self.exact.rounding.following(observed)
        exact = self.exact.rounded(following)
        outputs = exact.run_image(feed, number) if isinstance(feed, np.ndarray) else exact.run(feed)
        limits = exact.limits
        shares = {node: beyond / limits[node, place] for (node, place), beyond in following.beyond.items()}
        worst = max(shares, key=shares.__getitem__, default="")
        return Answer(item.sample, outputs, exact=True), worst, shares.get(worst, 0.0)


def rounded_reference(
    parent: Reference, exact: Exact, names: Sequence[str], artifact: Path, known: dict[str, Reference]
) -> Reference:
    """Return the answers for the rounding that an artifact declares: `parent` itself if there is none.

    `known` keeps them: artifacts of one precision share a rounding. Raises ArtifactError and PrecisionError.
    """
    rounding = exact.rounding_of(artifact)
    if not rounding.rules:
        return parent
    key = rounding.digest
    if key not in known:
        draws = parent.draws if isinstance(parent, LiveReference) else {}
        known[key] = RoundedReference(parent, exact.rounded(rounding), names, draws)
    return known[key]


def all_answers(reference: Reference, size: Sequence[int]) -> list[Answer]:
    """Return the answers to the samples of one size, and to the batch of another."""
    other = reference.other_size()
    return [*reference.answers(*size), *((other,) if other else ())]


def half_answers(
    reference: Reference, artifacts: Iterable[Path], size: Sequence[int]
) -> dict[tuple[str, ...], list[Answer]]:
    """Return the exact answers for the halves of FP16 artifacts, by the keys of the formats with the same halves."""
    formats: dict[Reference, list[str]] = {}
    for path in artifacts:
        rounded = None
        with contextlib.suppress(PrecisionError):  # its rounding is not understood
            rounded = reference.rounded(path, Precision.FP16.value)
        if rounded is not None and rounded is not reference:
            formats.setdefault(rounded, []).append(format_key(path))
    return {tuple(dict.fromkeys(keys)): _decisive_answers(rounded, size) for rounded, keys in formats.items()}


def _decisive_answers(reference: Reference, size: Sequence[int]) -> list[Answer]:
    """Return the answers to the samples that every verification computes exactly. Those of a pack have to be few."""
    few = (*exact_samples([answer.sample.name for answer in reference.answers(*size)]), OTHER)
    return [answer for answer in all_answers(reference, size) if answer.sample.name in few]


def measure(answers: Iterable[Answer], original: Runtime, model: ModelSpec, progress: Progress = silent) -> Yardstick:
    """Compute the samples of exact answers in float32, and return the largest distances."""
    probabilities = model.task.probability_outputs()
    magnitudes: dict[str, list[float]] = defaultdict(list)
    differences: dict[str, list[tuple[str, float, float]]] = defaultdict(list)  # the sample, the largest and the mean
    for answer in answers:
        progress(f"{original}, the yardstick on {answer.sample.name}")
        actual = run_all(original, answer.sample.feed)
        for name, expected in answer.outputs.items():
            far = errors(expected, actual[name], saturates=name in probabilities)
            mean = float(np.abs(expected.astype(np.float64) - actual[name]).mean()) if expected.size else 0.0
            differences[name].append((answer.sample.name, float(far.max(initial=0)), mean))
            magnitudes[name].append(magnitude(expected))
    scales = {name: float(np.median(several)) for name, several in magnitudes.items()}
    return Yardstick(str(original), *_distances(differences, magnitudes, scales))


def _distances(
    differences: Mapping[str, Sequence[tuple[str, float, float]]],
    magnitudes: Mapping[str, Sequence[float]],
    scales: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, float], Mapping[str, float], dict[str, tuple[str, ...]]]:
    """Return the fields of a yardstick: the largest distances, the largest means, the scales and what is unstable."""
    largest, means, unstable = {}, {}, {}
    for name, several in differences.items():
        relative = []
        for (sample, most, mean), size in zip(several, magnitudes[name], strict=True):
            scale = max(size, scales[name]) or 1.0
            relative.append((sample, most / scale, mean / scale))
        stable = [item for item in relative if item[1] <= MOST_DISTANT]
        if len(stable) < len(relative):
            unstable[name] = tuple(sample for sample, far, _ in relative if not far <= MOST_DISTANT)
        # If no sample is stable, the smallest distance shows the contradiction.
        largest[name] = max((far for _, far, _ in stable), default=min(far for _, far, _ in relative))
        means[name] = max((mean for *_, mean in stable), default=0.0)
    return largest, means, scales, unstable


def run_all(runtime: Runtime, feed: Feed, run: Callable[[Feed], Outputs] | None = None) -> Outputs:
    """Run any number of images in batches of the file's size, or tensors at once.

    Repeated images fill the last batch. `run` replaces the runtime's method of this name.
    """
    run, count = run or runtime.run, len(feed)
    batch = runtime.declaration.input_shape[0] or count
    if not isinstance(feed, np.ndarray) or batch == count:
        return run(feed)
    starts = range(0, count, batch)
    parts = [run(feed[np.arange(start, start + batch) % count]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
