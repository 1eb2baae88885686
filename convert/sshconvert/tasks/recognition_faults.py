"""The faults of embeddings and classifications: in the output of a file, and in the decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sshconvert.arrays import Array
from sshconvert.editable import Arithmetic
from sshconvert.tasks.faults import Decode, Editable, Fault, Outputs, Size, Stage
from sshconvert.tasks.results import Scores, Vectors


def embedding_faults(output: str, *, normalized: bool) -> tuple[Fault, ...]:
    """Return the faults of an output [N, D] of vectors, which the network itself has `normalized` or not."""
    unnormalised = Fault(Stage.DECODING, "embedding not normalised", decode=_each(_unnormalised))
    return (
        Fault(Stage.CHANNELS, "two dimensions exchanged", lambda copy: _exchange(copy, output)),
        Fault(Stage.CHANNELS, "dimensions shifted by one", lambda copy: _shift(copy, output)),
        Fault(Stage.CHANNELS, "embedding scaled", lambda copy: _scale(copy, output, 2.0)),
        Fault(Stage.CHANNELS, "embedding negated", lambda copy: _scale(copy, output, -1.0)),
        *(() if normalized else (unnormalised,)),
        Fault(Stage.DECODING, "embedding normalised by its largest number", decode=_each(_by_the_largest)),
        Fault(Stage.DECODING, "dimensions permuted", decode=_each(lambda one: replace(one, values=one.values[::-1]))),
        Fault(
            Stage.DECODING, "embedding scaled twofold", decode=_each(lambda one: replace(one, values=2 * one.values))
        ),
        Fault(Stage.DECODING, "embedding of absolute numbers", decode=_each(_absolute)),
    )


def classification_faults(output: str, *, are_probabilities: bool) -> tuple[Fault, ...]:
    """Return the faults of an output [N, classes]."""
    no_softmax = "softmax applied twice" if are_probabilities else "logits taken for probabilities"
    return (
        Fault(Stage.CHANNELS, "classes shifted by one in the file", lambda copy: _shift(copy, output)),
        Fault(Stage.CHANNELS, "scores scaled", lambda copy: _scale(copy, output, 0.5)),
        Fault(Stage.DECODING, "classes off by one", decode=_each(_off_by_one)),
        Fault(Stage.DECODING, "classes in reverse", decode=_each(_reversed)),
        Fault(Stage.DECODING, "worst class first", decode=_each(_worst_first)),
        Fault(Stage.DECODING, no_softmax, decode=_each(_twice if are_probabilities else _as_they_are)),
    )


def _each(change: Callable[[Any], Any]) -> Decode:
    """Return a decoding that changes the result of each image."""

    def decode(task: Any, outputs: Outputs, image_size: Size) -> list[Any]:
        return [change(result) for result in task.decode(outputs, image_size)]

    return decode


def _unnormalised(vector: Vectors) -> Vectors:
    return replace(vector, values=vector.values * vector.length)


def _by_the_largest(vector: Vectors) -> Vectors:
    return replace(vector, values=vector.values / max(float(np.abs(vector.values).max()), 1e-300))


def _absolute(vector: Vectors) -> Vectors:
    return replace(vector, values=np.abs(vector.values))


def _off_by_one(scores: Scores) -> Scores:
    return _moved(scores, lambda values: np.roll(values, 1))


def _reversed(scores: Scores) -> Scores:
    return _moved(scores, lambda values: values[::-1])


def _worst_first(scores: Scores) -> Scores:
    return _moved(scores, lambda values: values.max() + values.min() - values)


def _moved(scores: Scores, move: Callable[[Array], Array]) -> Scores:
    return replace(scores, values=move(scores.values), raw=move(scores.raw))


def _twice(scores: Scores) -> Scores:
    return replace(scores, values=Scores.of(scores.values, (), are_probabilities=False).values)


def _as_they_are(scores: Scores) -> Scores:
    return replace(scores, values=scores.raw)


def _exchange(copy: Editable, output: str) -> None:
    """Exchange the first two numbers of each vector."""
    _, size, *_ = copy.output_shape(output)
    copy.take(output, [1, 0, *range(2, size)], 1)


def _shift(copy: Editable, output: str) -> None:
    _, size, *_ = copy.output_shape(output)
    copy.take(output, [size - 1, *range(size - 1)], 1)


def _scale(copy: Editable, output: str, factor: float) -> None:
    shape = copy.output_shape(output)
    copy.combine(output, Arithmetic.MULTIPLY, np.full((1,) * len(shape), factor, np.float32))
