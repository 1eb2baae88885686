"""The report of `sshtool evaluate` as one self-contained HTML page without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert import __version__
from sshconvert.arrays import Doubles, Flags
from sshconvert.errors import ImageError
from sshconvert.messages import count
from sshtool.evaluate import omz
from sshtool.evaluate.curves import SHOWN, ImageFaults
from sshtool.evaluate.figures import EvaluateResult, SettingFigures
from sshtool.evaluate.matching import NOWHERE, best_face, corners
from sshtool.evaluate.records import HIT, NEITHER
from sshtool.evaluate.run import Illustration
from sshtool.images import read_image
from sshtool.report.axis import Axis
from sshtool.report.figures import FigureTable, change, figure_tables, headline, percent, remarks
from sshtool.report.overlay import data_uri, path
from sshtool.report.page import template, write_page

TEMPLATE: Final = "evaluate.html.j2"

# The geometry of a plot, in units of the SVG's view box.
PLOT: Final = {"width": 320, "height": 240, "left": 30, "top": 8, "right": 312, "bottom": 208}
RECALL: Final = Axis(PLOT["left"], PLOT["right"])
PRECISION: Final = Axis(PLOT["bottom"], PLOT["top"])
TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)

# The number of line styles. The curves of one model's artifacts almost coincide, so neighbours need different styles.
LOOKS: Final = 6


@dataclass(frozen=True)
class Line:
    """One artifact's curve: `look` is the number of its style, `points` an SVG path."""

    artifact: str
    look: int
    points: str
    figure: str


@dataclass(frozen=True)
class Plot:
    """Precision against recall of all artifacts in one setting."""

    setting: str
    text: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class WorstPicture:
    """An image with its faces and predictions as SVG paths. `symbol` is the id of the image, "" without an image."""

    image: str
    artifact: str
    text: str
    width: int
    height: int
    symbol: str
    detected: str
    missed: str
    hits: str
    false_boxes: str
    ignored: str


@dataclass(frozen=True)
class Symbol:
    """An image that several pictures show."""

    name: str
    width: int
    height: int
    source: str


def write_evaluation(
    path: Path | None, result: EvaluateResult, illustrations: Sequence[Illustration]
) -> tuple[Path, ...]:
    """Write the page to `path`, unless that is None, and return the written paths. Raises OutputError."""
    return write_page(path, lambda: render_evaluation(result, illustrations))


def render_evaluation(result: EvaluateResult, illustrations: Sequence[Illustration]) -> str:
    """Render the page. The same result and images give the same text.

    Raises RuntimeUnavailableError without Jinja or Pillow.
    """
    symbols = _symbols(illustrations)
    sections = [(item, _plots(item), _pictures(item, illustrations, symbols)) for item in figure_tables(result)]
    return template(TEMPLATE, {"count": count, "percent": percent, "change": change}).render(
        result=result,
        headline=headline(result),
        remarks=remarks(result),
        sections=sections,
        symbols=symbols.values(),
        plot={**PLOT, "across": RECALL.at, "up": PRECISION.at, "ticks": TICKS},
        shown=SHOWN,
        version=__version__,
    )


def _plots(item: FigureTable) -> tuple[Plot, ...]:
    settings = dict.fromkeys(figures.setting for _, protocol in item.artifacts for figures in protocol.settings)
    return tuple(_plot(item, setting) for setting in settings)


def _plot(item: FigureTable, setting: str) -> Plot:
    lines = []
    for number, (artifact, protocol) in enumerate(item.artifacts):
        lines += [
            Line(artifact.artifact, number % LOOKS, _curve(figures), f"{percent(figures.average_precision)} %")
            for figures in protocol.settings
            if figures.setting == setting
        ]
    text = "; ".join(f"{line.artifact}: average precision {line.figure}" for line in lines)
    return Plot(setting, text, tuple(lines))


def _curve(figures: SettingFigures) -> str:
    points = [f"{RECALL.at(recall)} {PRECISION.at(precision)}" for recall, precision in figures.curve]
    return f"M{'L'.join(points)}" if points else ""


def _symbols(illustrations: Sequence[Illustration]) -> dict[str, Symbol]:
    """Every image once, by its path in the dataset. Images that are no longer readable are left out."""
    symbols: dict[str, Symbol] = {}
    for item in illustrations:
        name = item.truth.image
        if item.path is None or name in symbols:
            continue
        try:
            image = read_image(item.path)
        except ImageError:
            continue
        symbols[name] = Symbol(f"image-{len(symbols)}", image.shape[1], image.shape[0], data_uri(image))
    return symbols


def _pictures(
    item: FigureTable, illustrations: Sequence[Illustration], symbols: dict[str, Symbol]
) -> list[WorstPicture]:
    """One picture for all artifacts with the same outcomes on an image."""
    known = {(one.artifact, one.protocol, one.truth.image): one for one in reversed(illustrations)}
    groups: dict[tuple[ImageFaults, str], list[Illustration]] = {}
    for artifact, protocol in item.artifacts:
        for worst in protocol.worst:
            illustration = known.get((artifact.artifact, item.protocol, worst.image))
            if illustration is not None:
                groups.setdefault((worst, _letters(illustration, worst.setting)), []).append(illustration)
    return [_picture(group, worst, symbols.get(worst.image)) for (worst, _), group in groups.items()]


def _letters(item: Illustration, setting: str) -> str:
    """The outcome of each box in the picture."""
    judgement = item.entry.record.protocols[item.protocol]
    letters = "".join(compress(judgement.outcomes[setting], judgement.scores >= SHOWN))
    return letters[: len(item.entry.shown.get(item.protocol, ()))]


def _picture(group: Sequence[Illustration], worst: ImageFaults, symbol: Symbol | None) -> WorstPicture:
    """The boxes of the group's first artifact. The other artifacts have the same number of boxes and outcomes."""
    item = group[0]
    rows = np.array(item.entry.shown.get(item.protocol, ()), np.float64).reshape(-1, 5)
    boxes, letters = corners(rows[:, :4]), np.array(list(_letters(item, worst.setting)), "U1")
    faces, counted = _faces(item, worst.setting)
    matches = best_face(boxes[letters == HIT], faces[counted])
    missed = np.ones(int(np.count_nonzero(counted)), bool)
    missed[matches[matches != NOWHERE]] = False
    extent = np.concatenate([faces, boxes, np.zeros((1, 4))])[:, 2:].max(axis=0)  # the size without an image
    return WorstPicture(
        image=worst.image,
        artifact=", ".join(one.artifact for one in group),
        text=f"{worst.misses} of {count(worst.faces, 'face')} missed, {worst.false_boxes} false",
        width=symbol.width if symbol else int(extent[0]) + 1,
        height=symbol.height if symbol else int(extent[1]) + 1,
        symbol=symbol.name if symbol else "",
        detected=_path(faces[counted][~missed]),
        missed=_path(faces[counted][missed], crossed=True),
        hits=_path(boxes[letters == HIT]),
        false_boxes=_path(boxes[(letters != HIT) & (letters != NEITHER)]),
        ignored=_path(np.concatenate([boxes[letters == NEITHER], faces[~counted]])),
    )


def _faces(item: Illustration, setting: str) -> tuple[Doubles, Flags]:
    """The corners of an image's faces [F, 4], and which of them count [F]."""
    if item.protocol == omz.PROTOCOL:
        return corners(item.truth.annotated), omz.counted(item.truth, item.rules)
    return corners(item.truth.boxes), item.truth.counted[setting]


def _path(boxes: Doubles, *, crossed: bool = False) -> str:
    return path([(*box, 0.0) for box in boxes.tolist()], crossed=crossed)
