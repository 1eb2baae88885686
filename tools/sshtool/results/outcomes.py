"""The outcome of each image, and its line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from sshtool.document import Error
from sshtool.stores import ImageFile

# Decimal places in JSON: the precision of float32.
BOX_DIGITS: Final = 3
SCORE_DIGITS: Final = 6


@dataclass(frozen=True)
class ImageJob:
    """An image to detect in.

    `name` is that of its results' files, which no other image has. `picture` is the path of the picture to draw, and
    `crops` the folder of the cut-outs, if any; `margin` is that of `sshtool.results.crops`.
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
    `crops` are the files of the cut-outs, one for each detection if there are any.
    """

    image: ImageFile
    width: int
    height: int
    detections: tuple[Detection, ...]
    picture: Path | None
    inference_precision: str
    name: str = ""
    crops: tuple[Path, ...] = ()


@dataclass(frozen=True)
class NotRead:
    """An image that is unreadable, or whose outputs are not finite, and the error."""

    image: ImageFile
    error: str  # the name of the exception
    message: str


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
    """The JSON line of an image with detections."""

    width: int
    height: int
    inference_precision: str
    detections: list[DetectionLine]
    crops: NotRequired[list[str]]


class NotReadLine(TypedDict):
    """The JSON line of an image with an error."""

    schema_version: Literal[1]
    verb: Literal["detect"]
    image: str
    error: Error


Line: TypeAlias = DetectedLine | NotReadLine | PlannedLine

Outcome = ImageJob | Detected | NotRead


def as_json(item: Outcome) -> dict[str, Any]:
    """The body of the JSON line of an image."""
    body: dict[str, Any] = {"image": item.image}
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
