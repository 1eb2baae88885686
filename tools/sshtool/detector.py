"""A converted model as a detector: it takes images of any size and returns detections in their pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from sshconvert.arrays import Array, Pixels
from sshconvert.errors import ArtifactError, DetectionError, ImageError, NonfiniteError
from sshconvert.formats.registry import format_of
from sshconvert.model_api import padding
from sshconvert.models.registry import load_model, model_names
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.inside import OutputForm
from sshconvert.tasks.results import Box, Detections
from sshtool.concurrency import SharedRuntime, overlapped
from sshtool.images import Placement, Resize, fit, fit_as_model_api, pixels_of, read_image
from sshtool.picture import drawn, save_picture
from sshtool.runtimes.base import Outputs, Settings, check_finite
from sshtool.runtimes.loading import load

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Image: TypeAlias = "Path | str | Pixels | PillowImage.Image"

_LARGEST_SHOWN: Final = 960  # pixels of a side of a notebook's picture


@dataclass(frozen=True)
class DetectorOptions:
    """How to detect.

    `runtime` is a runtime's key, "" for the usual one of the file. `threshold` is the least score, None for the greater
    of 0.5 and the task's.
    """

    runtime: str = ""
    settings: Settings = field(default_factory=Settings)
    threshold: float | None = None
    resize: Resize = Resize.LETTERBOX


@dataclass(frozen=True)
class Fitted:
    """An image in the network's size, uint8 [H, W, 3], and the placement of the original in it."""

    pixels: Pixels
    placement: Placement


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """The detections in one image, best first.

    A notebook shows the image with its boxes, and a table.

    Attributes:
        boxes: float32 [K, 4]: x1, y1, x2, y2 in pixels of the image. Those of anchors include their corner pixels.
        scores: float32 [K], 0-1.
        labels: The class of each detection, "" if the model has one class.
        landmarks: float32 [K, P, 2]: x and y of points in pixels of the image, or None.
        attributes: float32 [K] of each attribute by name, 0-1; empty if the model has none.
        image: The image, uint8 [H, W, 3], BGR, upright.

    """

    boxes: Array
    scores: Array
    labels: tuple[str, ...]
    landmarks: Array | None
    attributes: Mapping[str, Array]
    image: Pixels = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def save_picture(self, path: Path | str) -> None:
        """Save the image with its boxes as PNG. Raises OutputError if the file cannot be written."""
        save_picture(Path(path), self.image, self._rows)

    @property
    def _rows(self) -> tuple[Box, ...]:
        return Detections(self.boxes, self.scores, landmarks=self.landmarks).rows(None)

    def _repr_html_(self) -> str:
        """Return the picture and a table, as a notebook shows them."""
        picture = drawn(self.image, self._rows)
        picture.thumbnail((_LARGEST_SHOWN, _LARGEST_SHOWN))
        file = io.BytesIO()
        picture.save(file, format="PNG")
        data = base64.b64encode(file.getvalue()).decode("ascii")
        heads = ("label", "score", "x1", "y1", "x2", "y2", *self.attributes)
        rows = (
            (label, f"{score:.3f}", *(f"{value:.1f}" for value in box), *(f"{values[k]:.3f}" for values in columns))
            for columns in (tuple(self.attributes.values()),)
            for k, (label, score, box) in enumerate(zip(self.labels, self.scores, self.boxes, strict=True))
        )
        return (
            f'<figure><img alt="{len(self)} detections" src="data:image/png;base64,{data}">'
            f"<figcaption><table>{_row('th', heads)}{''.join(_row('td', row) for row in rows)}</table>"
            "</figcaption></figure>"
        )


def _row(cell: str, values: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(value)}</{cell}>' for value in values)}</tr>"


class Detector:
    """A loaded model, for any number of threads. It resizes images to its declared size, or to the model's.

    A copy that another process receives (by pickle) loads the file again.
    """

    def __init__(
        self,
        path: Path | str,
        model: ModelSpec | Path | str | None = None,
        options: DetectorOptions = DetectorOptions(),
    ) -> None:
        """Load an artifact.

        Args:
            path: The `.onnx` or `.xml` file, or that of another format.
            model: Its model, or the name or TOML file of that; by default the shipped model that its metadata name.
            options: How to detect.

        Raises:
            UsageError: The threshold is meaningless, or no runtime loads the file.
            ModelError: The model is unknown or has another task.
            ArtifactError: The file is no such model, or is refused.
            RuntimeUnavailableError: The runtime is not installed.

        """
        path = Path(path)
        model = _model_of(path, model)
        task = detection_task(model.name, model.task)
        task.for_display(options.threshold)  # raises before loading
        self.runtime = load(path, model, options.settings, key=options.runtime)
        inside = self.runtime.declaration.faces
        if inside:
            task = task.with_thresholds(inside.score_threshold, inside.iou_threshold)
        self.task = task.for_display(options.threshold, dropped_by=str(path) if inside else "upstream")
        self.shared = SharedRuntime(self.runtime)
        self._size = self.runtime.declaration.image_size(model)
        self._path = path
        self._resize = options.resize
        self._padding = model.image.mean_pixel  # becomes zero, as a convolution's own padding
        self._grey = padding(model) if inside and inside.form is OutputForm.MODEL_API else None
        self._arguments = (path, model, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def detect(self, image: Image) -> ImageDetections:
        """Return the detections in one image: a path, an image of Pillow, or an array uint8 [H, W, 3], BGR.

        Raises ImageError for an unreadable image, and what `find` raises.
        """
        pixels = _pixels(image)
        (detections,) = self.find([pixels])
        return self._named(detections, pixels)

    def detect_all(self, images: Iterable[Image]) -> Generator[ImageDetections, None, None]:
        """Yield the detections in each image, in order, computed on several threads in bounded memory.

        It takes images from the iterable when a thread needs them, and uses the whole batch of a file with a fixed one.
        Raises what `detect` raises, at that image. Closing the generator ends the threads.
        """
        source = iter(images)
        batches = iter(lambda: tuple(islice(source, self.shared.batch)), ())
        with closing(
            overlapped(self._detect_batch, batches, workers=self.shared.workers, stop=lambda: None)
        ) as results:
            for result in results:
                yield from result

    def _detect_batch(self, images: Sequence[Image]) -> list[ImageDetections]:
        pixels = [_pixels(image) for image in images]
        return [self._named(detections, image) for detections, image in zip(self.find(pixels), pixels, strict=True)]

    def _named(self, detections: Detections, image: Pixels) -> ImageDetections:
        columns = () if detections.attributes is None else detections.attributes.T
        return ImageDetections(
            detections.boxes,
            detections.scores,
            detections.labels(self.task.labels),
            detections.landmarks,
            dict(zip(self.task.columns.attributes, columns, strict=True)) if len(columns) else {},
            image,
        )

    def find(self, images: Sequence[Pixels]) -> list[Detections]:
        """The detections in each image (uint8 [H, W, 3], BGR), in its pixels, best first.

        Raises ArtifactError, DetectionError and NonfiniteError for faults of the artifact.
        """
        batch = self.shared.batch
        results: list[Detections] = []
        for start in range(0, len(images), batch):
            for detections in self.find_in_fitted([self.fit(image) for image in images[start : start + batch]]):
                if isinstance(detections, NonfiniteError):
                    raise detections
                results.append(detections)
        return results

    def fit(self, image: Pixels) -> Fitted:
        """Resize an image to the network's size: for a file in Model API's form as Model API letterboxes it."""
        if self._grey is not None and self._resize is Resize.LETTERBOX:
            return Fitted(*fit_as_model_api(image, *self._size, self._grey))
        return Fitted(*fit(image, *self._size, self._resize, self._padding))

    def find_in_fitted(self, images: Sequence[Fitted]) -> list[Detections | NonfiniteError]:
        """The detections in each image of one batch, or the error if its outputs are not finite."""
        if not images:
            return []
        outputs = self.shared.run([image.pixels for image in images])
        try:
            decoded = self._decode(outputs)
        except DetectionError as error:
            raise DetectionError(f"{self._path}: is not this model ({error}); convert again") from None
        problems = [self._problem(outputs, number) for number in range(len(images))]
        return [
            problem or image.placement.to_image(detections, self.task.last_pixel)
            for image, detections, problem in zip(images, decoded, problems, strict=True)
        ]

    def _problem(self, outputs: Outputs, number: int) -> NonfiniteError | None:
        try:
            check_finite({name: values[number : number + 1] for name, values in outputs.items()})
        except NonfiniteError as error:
            return NonfiniteError(f"{self._path}: {error}")
        return None

    def _decode(self, outputs: Outputs) -> list[Detections]:
        if self.runtime.declaration.faces is None:
            return self.task.decode(outputs, self._size)
        threshold = self.task.score_threshold
        return [detections.from_score(threshold) for detections in self.task.decode_inside(outputs)]


def _model_of(path: Path, model: ModelSpec | Path | str | None) -> ModelSpec:
    if isinstance(model, ModelSpec):
        return model
    if model is not None:
        return load_model(str(model))
    name = format_of(path).read_metadata(path).get("model", "")
    if name not in model_names():
        raise ArtifactError(
            f"{path}: its metadata name the model {one_line(name)!r}, which does not ship; give its .toml as `model`"
        )
    return load_model(name)


def _pixels(image: Image) -> Pixels:
    if isinstance(image, Path | str):
        return read_image(Path(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(f"the image is {image.dtype} {list(image.shape)}; give uint8 [H, W, 3], BGR")
        return image
    if not hasattr(image, "getexif"):
        raise ImageError(f"the image is of the type {type(image).__name__}; give a path, an array or Pillow's image")
    return pixels_of(image)
