"""Embedding, the task of ArcFace and MobileFace: one vector for each image, compared by the cosine of the angle.

InsightFace (`deploy/face_model.py`) divides the network's vector by its Euclidean length; the similarity of two faces
is the dot product of their unit vectors. A network with its own L2 normalisation gives unit vectors already
(`normalized`), and a second division changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import DetectionError
from sshconvert.schema import Dimension, TensorName
from sshconvert.tasks.base import Task
from sshconvert.tasks.comparison import VectorComparison, compare_vectors
from sshconvert.tasks.faults import Fault, Outputs, Size
from sshconvert.tasks.findings import Discrepancy, judge_vectors, vector_figures
from sshconvert.tasks.inside import Inside
from sshconvert.tasks.recognition_faults import embedding_faults
from sshconvert.tasks.registry import TASKS
from sshconvert.tasks.results import Vectors
from sshconvert.tasks.tolerances import Profile, Tolerance, without_plain_images

UNIT_TOLERANCE: Final = 1e-2  # of the length of a vector that the network normalises; INT8 reaches 1e-3

_USAGE: Final = """\
vector = np.asarray(outputs[0][0], np.float64)
vector /= np.linalg.norm(vector)  # a cosine of two unit vectors is their dot product
print(vector)"""


@TASKS.register("embedding")
class Embedding(Task):
    """One output [N, D]: a vector for each image.

    `size` is D, or None for any. `normalized`: the network itself gives vectors of length 1.
    """

    kind: Literal["embedding"]
    output: TensorName
    size: Dimension | None = None
    normalized: bool = False

    quality_measure: ClassVar[str] = "mean cosine"
    pipeline_tag: ClassVar[str] = "image-feature-extraction"
    verb: ClassVar[str] = "predict"
    comparison: ClassVar[type[Any]] = VectorComparison

    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    def has_own_scale(self) -> bool:
        return not self.normalized

    def left_out(self, profile: Profile) -> Mapping[str, str]:
        # Rounding turns the embedding of an image without content further than that of any other.
        return without_plain_images(profile, ("BF16", "INT8"))

    def decode(self, outputs: Outputs, image_size: Size) -> list[Vectors]:
        """Return the unit vector of each image, and the length of the network's own.

        Raises DetectionError for a missing output, another shape than [N, D], values that are not finite, and a vector
        of another length than 1 from a network that normalises.
        """
        results = [Vectors.of(row) for row in rows_of(outputs, self.output, self.size)]
        for number, result in enumerate(results):
            if self.normalized and abs(result.length - 1) > UNIT_TOLERANCE:
                raise DetectionError(f"{self.output}: vector {number} has length {result.length:.4g}, expected 1")
        return results

    def compare(
        self,
        expected: Sequence[Vectors],
        actual: Sequence[Vectors],
        profile: Profile,
        allowed: Callable[[str], Tolerance],
    ) -> tuple[VectorComparison, ...]:
        return tuple(compare_vectors(*pair) for pair in zip(expected, actual, strict=True))

    def judge(self, compared: Sequence[tuple[str, VectorComparison]], profile: Profile) -> Iterator[Discrepancy]:
        return judge_vectors(compared, profile)

    def figures(self, compared: Sequence[VectorComparison]) -> dict[str, str]:
        return vector_figures(compared)

    def words(self, outputs: Outputs, image_size: Size) -> list[str]:
        return [f"{len(result)} numbers of length {result.length:.4g}" for result in self.decode(outputs, image_size)]

    def count(self, results: Iterable[Vectors]) -> int:
        return sum(result.length > 0 for result in results)

    def truths(self, results: Iterable[Vectors]) -> list[Vectors]:
        """Return FP32's vectors."""
        return list(results)

    def quality(self, results: Sequence[Vectors], truths: Sequence[Vectors]) -> float:
        """Return the mean cosine of the vectors to FP32's, 0 for one that points the other way."""
        return float(np.mean([max(0.0, one.cosine(other)) for one, other in zip(results, truths, strict=True)]))

    def faults(self) -> tuple[Fault, ...]:
        return embedding_faults(self.output, normalized=self.normalized)

    def meaning(self, output: str) -> str:
        return (
            ": a vector for each image" + (" of length 1" if self.normalized else "") if output == self.output else ""
        )

    def card(self, inside: Inside | None) -> str:
        length = "have length 1" if self.normalized else "have any length; divide each by its own"
        return (
            f"Vectors {length}. The similarity of two images is the cosine of their vectors, from -1 to 1: the dot "
            "product of the unit vectors.\nIts threshold depends on the use; the input is an aligned crop."
        )

    def usage(self, *, inside: bool) -> tuple[str, str] | None:
        return "From the output to an embedding", _USAGE


def rows_of(outputs: Outputs, name: str, size: int | None = None) -> Array:
    """Return an output [N, D], or [N, D, 1, 1] without its last dimensions. D is `size` unless that is None.

    Raises DetectionError if it is missing, has another shape, or is not finite.
    """
    if name not in outputs:
        raise DetectionError(f"the output {name} is missing")
    values = outputs[name]
    if values.ndim < 2 or values.shape[1] < 2 or any(size != 1 for size in values.shape[2:]):
        raise DetectionError(f"{name} has shape {values.shape}, expected [N, D]")
    if values.shape[1] != (size or values.shape[1]):
        raise DetectionError(f"{name} has {values.shape[1]} numbers for an image, expected {size}")
    if not np.isfinite(values).all():
        raise DetectionError(f"{name} holds values that are not finite")
    return values.reshape(values.shape[:2])
