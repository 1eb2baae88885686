"""The outcome of each image, and its line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.results import Box, Detections, landmarks_of
from sshtool.document import Error
from sshtool.stores import ImageFile

# Decimal places in JSON: the precision of float32.
BOX_DIGITS: Final = 3
SCORE_DIGITS: Final = 6


@dataclass(frozen=True)
class ImageJob:
    """An image or a video to detect in.

    `name` is that of its results' files, which no other image has; those of a frame have its number too. `picture` is
    the path of the picture or video to draw, and `crops` the folder of the cut-outs, if any; `margin` is that of
    `sshtool.results.crops`.
    """

    image: ImageFile
    name: str = ""
    picture: Path | None = None
    crops: Path | None = None
    margin: float = 0

    @property
    def is_drawn(self) -> bool:
        """Whether the image itself is needed behind the detection."""
        return self.picture is not None or self.crops is not None


@dataclass(frozen=True)
class Detection:
    """A box (x1, y1, x2, y2 in pixels of the upright image) and its score. Anchors' boxes include their corner pixels.

    `label` is the class, "" if the task has one class. `landmarks` are points (x, y) in the same pixels, `attributes`
    values 0-1 by name, if the task has any.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str = ""
    landmarks: tuple[tuple[float, float], ...] = ()
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Detected:
    """The detections in an image, best first. `width` and `height` are those of the upright image.

    `inference_precision` is the type that the runtime reports to have computed in. `name` is that of the job, and
    `crops` are the files of the cut-outs, one for each detection if there are any. Of a frame, `image` is the video,
    `frame` its number there, from 0, and `time` the seconds since the start of the video.
    """

    image: ImageFile
    width: int
    height: int
    detections: tuple[Detection, ...]
    picture: Path | None
    inference_precision: str
    name: str = ""
    crops: tuple[Path, ...] = ()
    frame: int | None = None
    time: float | None = None


@dataclass(frozen=True)
class NotRead:
    """An image, video or frame that is unreadable, or whose outputs are not finite, and the error.

    `frame` is the number of a frame, and `time` its time if the video states it.
    """

    image: ImageFile
    error: str  # the name of the exception
    message: str
    frame: int | None = None
    time: float | None = None


@dataclass(frozen=True)
class VideoDetected:
    """The detections in a video altogether: the sizes of its largest frame, and numbers of frames and detections.

    `not_read` is the number of frames that could not be decoded, and `best` the highest score, 0 without detections.
    """

    image: ImageFile
    width: int = 0
    height: int = 0
    frames: int = 0
    detections: int = 0
    best: float = 0
    not_read: int = 0
    picture: Path | None = None

    def and_frame(self, item: Detected | NotRead) -> VideoDetected:
        """Return the same with one more frame."""
        if isinstance(item, NotRead):
            return replace(self, not_read=self.not_read + 1)
        return replace(
            self,
            width=max(self.width, item.width),
            height=max(self.height, item.height),
            frames=self.frames + 1,
            detections=self.detections + len(item.detections),
            best=max([self.best, *(detection.score for detection in item.detections)]),
            picture=item.picture,
        )


class DetectionLine(TypedDict):
    """A detection in a line of JSON."""

    box: tuple[float, float, float, float]
    score: float
    label: NotRequired[str]
    landmarks: NotRequired[list[tuple[float, float]]]
    attributes: NotRequired[dict[str, float]]


class PlannedLine(TypedDict):
    """The JSON line of an image with --dry-run."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic's setting, not a key

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    picture: NotRequired[str]


class DetectedLine(PlannedLine):
    """The JSON line of an image or frame with detections."""

    width: int
    height: int
    inference_precision: str
    detections: list[DetectionLine]
    crops: NotRequired[list[str]]
    frame: NotRequired[int]
    time: NotRequired[float]


class NotReadLine(TypedDict):
    """The JSON line of an image, video or frame with an error."""

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    error: Error
    frame: NotRequired[int]
    time: NotRequired[float]


Line: TypeAlias = DetectedLine | NotReadLine | PlannedLine

Outcome = ImageJob | Detected | NotRead


def listed(detections: Detections, task: DetectionTask) -> tuple[Detection, ...]:
    """Return the detections in an image one by one, in their order."""
    labels, columns = detections.labels(task.labels), task.columns.attributes
    rows = zip(detections.rows(None), detections.attribute_rows(columns), labels, strict=True)
    return tuple(_detection(row, attributes, label) for row, attributes, label in rows)


def _detection(row: Box, attributes: Mapping[str, float], label: str) -> Detection:
    x1, y1, x2, y2, score, *_ = row
    return Detection((x1, y1, x2, y2), score, label, landmarks_of(row), attributes)


def as_json(item: Outcome) -> dict[str, Any]:
    """The body of the JSON line of an image or frame."""
    body: dict[str, Any] = {"image": item.image}
    if not isinstance(item, ImageJob):
        body |= {key: value for key in ("frame", "time") if (value := getattr(item, key)) is not None}
    if isinstance(item, NotRead):
        return body | {"error": {"type": item.error, "message": item.message}}
    if isinstance(item, Detected):
        body |= {"width": item.width, "height": item.height, "inference_precision": item.inference_precision}
        body |= {"detections": [rounded(detection) for detection in item.detections]}
        body |= {"crops": list(item.crops)} if item.crops else {}
    return body if item.picture is None else body | {"picture": item.picture}


def rounded(detection: Detection) -> dict[str, Any]:
    """Return a `DetectionLine`."""
    line: dict[str, Any] = {
        "box": [round(value, BOX_DIGITS) for value in detection.box],
        "score": round(detection.score, SCORE_DIGITS),
    }
    if detection.label:
        line["label"] = detection.label
    if detection.landmarks:
        line["landmarks"] = [[round(value, BOX_DIGITS) for value in point] for point in detection.landmarks]
    if detection.attributes:
        line["attributes"] = {name: round(value, SCORE_DIGITS) for name, value in detection.attributes.items()}
    return line
