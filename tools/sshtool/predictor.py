"""A converted classifier or embedder: it takes images of any size and returns scores or vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sshconvert.arrays import Array, Pixels
from sshconvert.errors import DetectionError, NonfiniteError, UsageError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.base import Task
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.embedding import Embedding
from sshconvert.tasks.results import Scores, Vectors
from sshtool.concurrency import SharedRuntime
from sshtool.framing import framed
from sshtool.runtimes.base import Settings, check_finite
from sshtool.runtimes.loading import load

Result = Scores | Vectors


class Predictor:
    """A loaded model, for any number of threads."""

    def __init__(
        self, path: Path, model: ModelSpec, task: Classification | Embedding, settings: Settings, *, runtime: str = ""
    ) -> None:
        """Load an artifact of a model, whose outputs `task` reads. Raises what loading raises."""
        self.task, self._path = task, path
        self.runtime = load(path, model, settings, key=runtime)
        self.shared = SharedRuntime(self.runtime)
        self._size = self.runtime.declaration.image_size(model)
        self._padding = model.image.mean_pixel

    def frame(self, image: Pixels) -> Pixels:
        """Return an image, uint8 [H, W, 3], BGR, at the network's size."""
        return framed(image, *self._size, self.task, self._padding)

    def predict_framed(self, images: Sequence[Pixels]) -> list[Result | NonfiniteError]:
        """Return the result of each image of one batch, or the error if its outputs are not finite.

        Raises DetectionError if the outputs are not this model's, and ArtifactError.
        """
        if not images:
            return []
        outputs = self.shared.run(images)
        return [
            self._result({name: values[number : number + 1] for name, values in outputs.items()})
            for number in range(len(images))
        ]

    def _result(self, outputs: dict[str, Array]) -> Result | NonfiniteError:
        try:
            check_finite(outputs)
            return self.task.decode(outputs, self._size)[0]
        except NonfiniteError as error:
            return NonfiniteError(f"{self._path}: {error}")
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None


def predicting_task(model: str, task: Task) -> Classification | Embedding:
    """Return the task of a model if its results are scores or vectors. Raises UsageError otherwise."""
    if isinstance(task, Classification | Embedding):
        return task
    if isinstance(task, DetectionTask):
        raise UsageError(f"{model}: has the task {task.kind}, whose results are boxes; use sshtool detect")
    raise UsageError(
        f"{model}: has the task {task.kind}, which is neither classes nor embeddings; choose another --model"
    )
