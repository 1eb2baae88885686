"""The original's answers, computed by MXNet or read from a reference pack."""

from __future__ import annotations

import math
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from os import SEEK_END
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, overload

import numpy as np

from sshconvert.errors import ArtifactError
from sshconvert.files import output_errors
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshtool.parity.samples import (
    NORMAL,
    OTHER,
    OTHER_TENSORS,
    Sample,
    draw_sample,
    draw_tensors,
    other_size,
    sample_names,
)
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Feed, Outputs, Runtime

# Limits of the answers in memory: their number, and the pixels of their images.
MOST_KEPT: Final = 32
PIXELS_KEPT: Final = 1 << 25


@dataclass(frozen=True)
class Answer:
    """A sample and its expected outputs: float32, by name, in the model's order."""

    sample: Sample
    outputs: Outputs

    def split(self) -> list[Answer]:
        """Return an answer for each image of the batch. Tensors are one answer: their batch may be any dimension."""
        if not self.sample.is_pictured:
            return [self]
        name, purpose, images = self.sample.name, self.sample.purpose, self.sample.images
        return [
            Answer(
                Sample(name, purpose, images[index : index + 1]),
                {output: array[index : index + 1] for output, array in self.outputs.items()},
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
        self, draw: Sequence[Callable[[], Sample]], compute: Callable[[Sample, int], Outputs], kept: int
    ) -> None:
        self._draw, self._compute = draw, compute
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
        return Answer(sample, {name: np.load(self._file, allow_pickle=False) for name in names})

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

    def answer(self, name: str, *size: int) -> Answer | None:
        """Return the answer to a sample by name; a single image has this height and width."""
        if name == OTHER:
            return self.other_size()
        return next((answer for answer in self.answers(*size) if answer.sample.name == name), None)


class LiveReference(Reference):
    """A runtime that computes the answers: MXNet, or the first artifact if there is no original."""

    def __init__(
        self,
        runtime: Runtime,
        model: ModelSpec,
        *,
        scenes: int = 2,
        images: Mapping[str, Draw] = MappingProxyType({}),
        note: str = "",
        progress: Progress = silent,
    ) -> None:
        """Answer for `scenes` drawn scenes, the other seeded samples, and the user's `images` by name."""
        self.source, self.weights, self.note = str(runtime), runtime.declaration.weights, note
        self.runtime = runtime
        self._progress, self._model = progress, model
        self._draw = {
            name: partial(draw_sample, name, model) for name in sample_names(scenes, tensors=not model.takes_image)
        } | dict(images)

    @lru_cache(maxsize=4)  # noqa: B019  # lives as long as the one verification that it serves
    def answers(self, *size: int) -> Sequence[Answer]:
        draw = [partial(one, *size) for one in self._draw.values()]
        compute = partial(self._outputs, total=len(draw))
        values = math.prod(size) if size else sum(map(math.prod, self._model.input_shapes.values()))
        return StoredAnswers(draw, compute, max(1, min(MOST_KEPT, PIXELS_KEPT // values)))

    @lru_cache(maxsize=1)  # noqa: B019  # as above
    def other_size(self) -> Answer | None:
        if None not in self.runtime.declaration.input_shape[2:] or not self._model.takes_image:
            return None
        sample = other_size()
        try:
            return Answer(sample, self._outputs(sample, 0, total=1))
        except ArtifactError:  # the original takes one size only, as a layer of all pixels does
            return None

    def at_shapes(self, shapes: Mapping[str, Shape]) -> Answer | None:
        sample = draw_tensors(NORMAL + "0", self._model, shapes)
        return Answer(replace(sample, name=OTHER_TENSORS), self._outputs(sample, 0, total=1))

    def _outputs(self, sample: Sample, done: int, *, total: int) -> Outputs:
        self._progress(f"{self.source}, the reference", done, total)
        return run_all(self.runtime, sample.feed)


def run_all(runtime: Runtime, feed: Feed) -> Outputs:
    """Run any number of images in batches of the file's size, or tensors at once.

    Repeated images fill the last batch.
    """
    count = len(feed)
    batch = runtime.declaration.input_shape[0] or count
    if not isinstance(feed, np.ndarray) or batch == count:
        return runtime.run(feed)
    starts = range(0, count, batch)
    parts = [runtime.run(feed[np.arange(start, start + batch) % count]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
