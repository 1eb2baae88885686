"""The original's answers: computed here by MXNet, or kept in a reference pack where MXNet cannot be installed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from sshconvert.models import Model
from sshtool.parity.samples import OTHER, Sample, draw_sample, other_size, sample_names
from sshtool.runtimes import Outputs, Runtime


class Progress(Protocol):
    """Told what is being done, and how far it is where that is known."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None: ...


def silent(step: str, done: int = 0, total: int = 0) -> None:
    """A `Progress` that nobody watches."""


@dataclass(frozen=True)
class Answer:
    """A sample and the outputs that are held to be right: float32, by bare name, in the model's order."""

    sample: Sample
    outputs: Outputs


# Gives the user's own images at a height and width.
UserImages = Callable[[int, int], Sequence[Sample]]


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
        model: Model,
        *,
        scenes: int = 2,
        images: UserImages = lambda _height, _width: (),
        note: str = "",
        progress: Progress = silent,
    ) -> None:
        """Compare on that many `scenes`, on everything else there is, and on the user's own `images`."""
        self.source, self.weights, self.note = str(runtime), runtime.declaration.weights, note
        self.runtime = runtime
        self._model, self._names, self._images, self._progress = model, sample_names(scenes), images, progress

    @lru_cache(maxsize=4)  # noqa: B019  # lives as long as the one verification that it serves
    def answers(self, height: int, width: int) -> Sequence[Answer]:
        samples = [draw_sample(name, self._model, height, width) for name in self._names]
        samples += self._images(height, width)
        return tuple(self._answer(sample, done, len(samples)) for done, sample in enumerate(samples))

    @lru_cache(maxsize=1)  # noqa: B019  # as above
    def other_size(self) -> Answer | None:
        if None not in self.runtime.declaration.input_shape[2:]:
            return None
        return self._answer(other_size(), 0, 1)

    def _answer(self, sample: Sample, done: int, total: int) -> Answer:
        self._progress(f"{self.source}, the reference", done, total)
        return Answer(sample, self.runtime.run(sample.images))
