"""The original's answers: computed here by MXNet, or kept in a reference pack where MXNet cannot be installed."""

from __future__ import annotations

import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from os import SEEK_END
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, overload

import numpy as np

from sshconvert.arrays import Images
from sshconvert.files import output_errors
from sshconvert.models.spec import ModelSpec
from sshtool.parity.samples import OTHER, Sample, draw_sample, other_size, sample_names
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Outputs, Runtime

# Of answers, in memory, as long as they are not of large images.
MOST_KEPT: Final = 32
PIXELS_KEPT: Final = 1 << 25


@dataclass(frozen=True)
class Answer:
    """A sample and the outputs that are held to be right: float32, by bare name, in the model's order."""

    sample: Sample
    outputs: Outputs

    def split(self) -> list[Answer]:
        """An answer for each image: a batch's answer is that of its images."""
        name, purpose, images = self.sample.name, self.sample.purpose, self.sample.images
        return [
            Answer(
                Sample(name, purpose, images[place : place + 1]),
                {output: array[place : place + 1] for output, array in self.outputs.items()},
            )
            for place in range(len(images))
        ]


# Draws a sample at a height and width.
Draw = Callable[[int, int], Sample]


class StoredAnswers(Sequence[Answer]):
    """Answers that are computed when they are first looked at. Few are kept in memory: of the others, the outputs lie
    in an unlinked temporary file, and the images are drawn again.
    """

    def __init__(
        self, draw: Sequence[Callable[[], Sample]], compute: Callable[[Sample, int], Outputs], kept: int
    ) -> None:
        self._draw, self._compute = draw, compute
        with output_errors(Path("temporary files")):
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in the next line
        weakref.finalize(self, self._file.close)
        self._places: dict[int, tuple[int, tuple[str, ...]]] = {}
        self._look_up = lru_cache(kept)(self._answer)

    def __len__(self) -> int:
        return len(self._draw)

    @overload
    def __getitem__(self, number: int) -> Answer: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Answer]: ...
    def __getitem__(self, number: int | slice) -> Answer | Sequence[Answer]:
        if isinstance(number, slice):
            return [self[place] for place in range(len(self))[number]]
        return self._look_up(range(len(self))[number])

    def _answer(self, number: int) -> Answer:
        sample = self._draw[number]()
        if number not in self._places:
            self._store(number, self._compute(sample, number))
        place, names = self._places[number]
        self._file.seek(place)
        return Answer(sample, {name: np.load(self._file, allow_pickle=False) for name in names})

    def _store(self, number: int, outputs: Outputs) -> None:
        with output_errors(Path(tempfile.gettempdir())):
            place = self._file.seek(0, SEEK_END)
            for array in outputs.values():
                np.save(self._file, array, allow_pickle=False)
            self._file.flush()
        self._places[number] = (place, tuple(outputs))


class Reference(ABC):
    """Where the expected outputs come from.

    `source` says so in words, `weights` which checkpoint it was, `note` what a reader of the comparison must know.
    """

    source: str
    weights: str
    note: str = ""

    @abstractmethod
    def answers(self, height: int, width: int) -> Sequence[Answer]:
        """Answers to single images of that size. Raises ReferencePackError if they are not to be had."""

    @abstractmethod
    def other_size(self) -> Answer | None:
        """The answer to the batch of another size, if there is one."""

    def answer(self, name: str, height: int, width: int) -> Answer | None:
        """The answer to the sample of that name, at that size or at its own."""
        if name == OTHER:
            return self.other_size()
        return next((answer for answer in self.answers(height, width) if answer.sample.name == name), None)


class LiveReference(Reference):
    """A runtime that computes the answers now: MXNet, or the first artifact where nothing better is to be had."""

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
        """Compare on that many `scenes`, on everything else there is, and on the user's own `images`, by name."""
        self.source, self.weights, self.note = str(runtime), runtime.declaration.weights, note
        self.runtime = runtime
        self._progress = progress
        self._draw = {name: partial(draw_sample, name, model) for name in sample_names(scenes)} | dict(images)

    @lru_cache(maxsize=4)  # noqa: B019  # lives as long as the one verification that it serves
    def answers(self, height: int, width: int) -> Sequence[Answer]:
        draw = [partial(one, height, width) for one in self._draw.values()]
        compute = partial(self._outputs, total=len(draw))
        return StoredAnswers(draw, compute, max(1, min(MOST_KEPT, PIXELS_KEPT // (height * width))))

    @lru_cache(maxsize=1)  # noqa: B019  # as above
    def other_size(self) -> Answer | None:
        if None not in self.runtime.declaration.input_shape[2:]:
            return None
        sample = other_size()
        return Answer(sample, self._outputs(sample, 0, total=1))

    def _outputs(self, sample: Sample, done: int, *, total: int) -> Outputs:
        self._progress(f"{self.source}, the reference", done, total)
        return run_all(self.runtime, sample.images)


def run_all(runtime: Runtime, images: Images) -> Outputs:
    """Run any number of images, as many at a time as the file takes: some twice, where it takes more than there are."""
    number = len(images)
    batch = runtime.declaration.input_shape[0] or number
    if batch == number:
        return runtime.run(images)
    starts = range(0, number, batch)
    parts = [runtime.run(images[np.arange(start, start + batch) % number]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts])[:number] for name in parts[0]}
