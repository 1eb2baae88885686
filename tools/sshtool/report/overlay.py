"""The samples as pictures with the boxes of the original and of all artifacts, and their differences."""

from __future__ import annotations

import base64
import io
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.libraries import PILLOW, importing
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.detection import THRESHOLD
from sshconvert.tasks.results import Box, landmarks_of, score_of
from sshtool.parity.verify import SampleComparison, SampleReport
from sshtool.report.summary import Column

# Of the JPEGs. At this quality noise, the worst case, takes 0.3 MB.
QUALITY: Final = 80
# The page shows no picture larger than this, in pixels.
LONGEST_SIDE: Final = 1024

# Bright colours contrast with pictures. The colour-blind can tell neighbours apart.
COLOURS: Final = ("#56b4e9", "#ffb000", "#2ee6a6", "#ff7ac6", "#f0e442", "#b79cff", "#ff6b35", "#a5e65a")

# The length of a dash, in pixels. The dashes of artifacts alternate along a line, so that equal boxes show all colours.
DASH: Final = 7
# The length of an arm of a landmark's cross, in pixels.
ARM: Final = 2
# The number of boxes up to which their scores do not hide the picture.
MOST_SCORES: Final = 40

MISSING: Final = "missing"
EXTRA: Final = "extra"
NEAR: Final = "near"
OPEN: Final = "open"
COST: Final = "cost"
_MEANING: Final = {
    MISSING: "missing in {label}",
    EXTRA: "only in {label}",
    NEAR: "only in {label}, near the threshold",
    f"{NEAR} original": "not in {label}, near the threshold",
    OPEN: "only in {label}, and rounding decides it",
    f"{OPEN} original": "not in {label}, and rounding decides it",
    COST: "only in {label}, by the cost of the precision",
    f"{COST} original": "not in {label}, by the cost of the precision",
}


@dataclass(frozen=True)
class Style:
    """The style of an artifact's boxes: `dash` and `offset` are SVG's `stroke-dasharray` and `stroke-dashoffset`."""

    number: int
    label: str
    colour: str
    dash: str
    offset: int


@dataclass(frozen=True)
class Layer:
    """The boxes of one artifact as SVG paths, `faint` those below the display threshold. `text` is their comparison."""

    style: Style
    path: str
    faint: str
    text: str


@dataclass(frozen=True)
class Difference:
    """A box that only one side has. `mark` names it in the picture, `artifact` is the number of its layer."""

    mark: str
    kind: str
    artifact: int
    text: str
    box: Box
    path: str

    @property
    def group(self) -> str:
        """The name of the switch of the picture's layer."""
        return "others" if self.kind in (OPEN, COST) else "differences"


@dataclass(frozen=True)
class Picture:
    """One image of a sample with all boxes. `source` is "" without an image.

    `original` and `faint` are the original's boxes from and below the display threshold; `scores` are its boxes with a
    visible score. `differences` are what the verdict counts, `others` what it does not: detections that rounding
    decides, and the cost of the precision.
    """

    name: str
    width: int
    height: int
    source: str
    original: str
    faint: str
    count: int
    scores: tuple[Box, ...]
    layers: tuple[Layer, ...]
    differences: tuple[Difference, ...]
    others: tuple[Difference, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether neither the original nor an artifact has a box."""
        drawn = (self.original, self.faint, *(text for layer in self.layers for text in (layer.path, layer.faint)))
        return not (self.differences or self.others or any(drawn))


def styles(columns: Sequence[Column]) -> tuple[Style, ...]:
    """A colour and a phase of the dashed line for each artifact."""
    gap = DASH * len(columns)  # one phase stays free for the original, whose line is below
    return tuple(
        Style(number, column.label, COLOURS[number % len(COLOURS)], f"{DASH} {gap}", -DASH * number)
        for number, column in enumerate(columns)
    )


def pictures(sample: SampleReport, images: Pixels | None, columns: Sequence[Column]) -> tuple[Picture, ...]:
    """All images of a sample. Without `images`, the pictures show boxes alone."""
    return tuple(_picture(sample, number, images, columns) for number in range(len(sample.detections)))


def _picture(sample: SampleReport, number: int, images: Pixels | None, columns: Sequence[Column]) -> Picture:
    _, height, width, _ = sample.shape
    expected = sample.detections[number]
    comparisons = {
        style: comparison
        for style, column in zip(styles(columns), columns, strict=True)
        if (comparison := _comparison(column.on(sample.name) or column.cost_on(sample.name), number)) is not None
    }
    cost = {style for style, column in zip(styles(columns), columns, strict=True) if column.on(sample.name) is None}
    return Picture(
        name=sample.name if len(sample.detections) == 1 else f"{sample.name}, image {number + 1}",
        width=width,
        height=height,
        source="" if images is None else data_uri(images[number]),
        original=path(clear(expected)),
        faint=path(faint(expected)),
        count=len(expected),
        scores=tuple(clear(expected)) if len(clear(expected)) <= MOST_SCORES else (),
        layers=tuple(
            Layer(style, path(clear(item.found)), path(faint(item.found)), _describe(item, cost=style in cost))
            for style, item in comparisons.items()
        ),
        differences=tuple(_differences({style: item for style, item in comparisons.items() if style not in cost})),
        others=tuple(_others(comparisons, cost)),
    )


def _comparison(compared: SampleComparison | None, number: int) -> DetectionComparison | None:
    """The comparison of one image of a sample; None if the artifact did not run on it."""
    images = compared.detections if compared else ()
    return images[number] if number < len(images) else None


def _describe(item: DetectionComparison, *, cost: bool) -> str:
    if item.problem:
        return f"no detections: {item.problem}"
    parts = [f"{'cost of the precision: ' if cost else ''}{item.matched} matched"]
    for amount, meaning in (
        (len(item.missing), "missing"),
        (len(item.extra), "extra"),
        (len(item.near_threshold), "near the threshold"),
        (len(item.open), "open, on one side only"),
        (item.order_changes, "in another order"),
    ):
        parts += [f"{amount} {meaning}"] if amount else []
    if item.matched:
        parts.append(f"corners within {item.largest_corner:.2g} pixels, scores within {item.largest_score:.2g}")
    if item.landmarks:
        parts.append(f"{item.landmarks} landmarks within {item.largest_landmark:.2g} pixels")
    if item.attributes:
        parts.append(f"{item.attributes} attributes within {item.largest_attribute:.2g}")
    return ", ".join(parts)


def _differences(comparisons: Mapping[Style, DetectionComparison]) -> Iterable[Difference]:
    boxes = (
        (style, kind, box)
        for style, item in comparisons.items()
        for kind, alone in ((MISSING, item.missing), (EXTRA, item.extra), (NEAR, item.near_threshold))
        for box in alone
    )
    for mark, (style, kind, box) in enumerate(boxes, start=1):
        yield _difference(str(mark), kind, style, box, comparisons[style])


def _others(comparisons: Mapping[Style, DetectionComparison], cost: Container[Style]) -> Iterable[Difference]:
    """What only one side has and the verdict does not count. Its marks have a letter, so that no number is twice."""
    boxes = (
        (style, COST if style in cost else OPEN, box)
        for style, item in comparisons.items()
        for box in ((*item.missing, *item.extra, *item.near_threshold, *item.open) if style in cost else item.open)
    )
    for mark, (style, kind, box) in enumerate(boxes, start=1):
        yield _difference(f"{kind[0]}{mark}", kind, style, box, comparisons[style])


def _difference(mark: str, kind: str, style: Style, box: Box, item: DetectionComparison) -> Difference:
    is_original = kind in (NEAR, OPEN, COST) and box not in item.found
    meaning = _MEANING[f"{kind} original" if is_original else kind]
    text = f"{meaning.format(label=style.label)}: {_place(box)}"
    return Difference(mark, kind, style.number, text, box, path([box], crossed=kind == MISSING))


def _place(box: Box) -> str:
    x1, y1, x2, y2, score, *_ = box
    return f"score {score:.4f}, from {x1:.1f}, {y1:.1f} to {x2:.1f}, {y2:.1f}"


def clear(boxes: Iterable[Box]) -> list[Box]:
    """Boxes from the display threshold on."""
    return [box for box in boxes if score_of(box) >= THRESHOLD]


def faint(boxes: Iterable[Box]) -> list[Box]:
    """Boxes below the display threshold."""
    return [box for box in boxes if not score_of(box) >= THRESHOLD]


def path(boxes: Iterable[Box], *, crossed: bool = False) -> str:
    """Boxes as one SVG path, each with a cross through it if `crossed`, and a small cross on each landmark.

    Each box begins at its upper left corner.
    """
    parts = []
    for box in boxes:
        x1, y1, x2, y2, *_ = box
        parts.append(f"M{x1:.1f} {y1:.1f}H{x2:.1f}V{y2:.1f}H{x1:.1f}Z")
        if crossed:
            parts.append(f"L{x2:.1f} {y2:.1f}M{x2:.1f} {y1:.1f}L{x1:.1f} {y2:.1f}")
        for x, y in landmarks_of(box):
            parts.append(f"M{x - ARM:.1f} {y:.1f}h{2 * ARM}M{x:.1f} {y - ARM:.1f}v{2 * ARM}")
    return "".join(parts)


def data_uri(image: Pixels) -> str:
    """A BGR image as the data URI of a JPEG of at most `LONGEST_SIDE`. Raises RuntimeUnavailableError."""
    with importing(PILLOW):
        from PIL import Image as Pillow
    picture = Pillow.fromarray(np.ascontiguousarray(image[..., ::-1]))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
