"""The report of `sshtool evaluate` as one HTML page that holds everything it shows, without a script."""

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
from sshtool.evaluate.curves import SHOWN
from sshtool.evaluate.figures import EvaluateResult, SettingFigures, WorstImage
from sshtool.evaluate.matching import NOWHERE, best_face, corners
from sshtool.evaluate.records import HIT, NEITHER
from sshtool.evaluate.run import Illustration
from sshtool.images import read_image
from sshtool.report.axis import Axis
from sshtool.report.figures import FigureTable, change, figure_tables, headline, percent, remarks
from sshtool.report.overlay import data_uri, path
from sshtool.report.page import template, write_page

TEMPLATE: Final = "evaluate.html.j2"

# A curve's plot, in units of the picture, which the page scales to the available width.
PLOT: Final = {"width": 320, "height": 240, "left": 30, "top": 8, "right": 312, "bottom": 208}
RECALL: Final = Axis(PLOT["left"], PLOT["right"])
PRECISION: Final = Axis(PLOT["bottom"], PLOT["top"])
TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)

# Lines take turns in their looks, because the curves of one model's artifacts lie on top of each other.
LOOKS: Final = 6


@dataclass(frozen=True)
class Line:
    """One artifact's curve: `look` numbers its style, `points` are an SVG path."""

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
    """An image with its faces and the boxes of artifacts, as SVG paths. `symbol` is the image's id, "" without one."""

    image: str
    artifact: str
    text: str
    width: int
    height: int
    symbol: str
    found: str
    missed: str
    hits: str
    false_boxes: str
    ignored: str


@dataclass(frozen=True)
class Symbol:
    """An image that pictures share."""

    name: str
    width: int
    height: int
    source: str


def write_evaluation(path: Path | None, result: EvaluateResult, pictured: Sequence[Illustration]) -> tuple[Path, ...]:
    """Write the page to `path`, if it is one, and return what was written. Raises OutputError."""
    return write_page(path, lambda: render_evaluation(result, pictured))


def render_evaluation(result: EvaluateResult, pictured: Sequence[Illustration]) -> str:
    """The whole page; the same text for the same result and images.

    Raises RuntimeUnavailableError without Jinja or Pillow.
    """
    symbols = _symbols(pictured)
    sections = [(item, _plots(item), _pictures(item, pictured, symbols)) for item in figure_tables(result)]
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
    settings = list(dict.fromkeys(found.setting for _, protocol in item.artifacts for found in protocol.settings))
    return tuple(_plot(item, setting) for setting in settings)


def _plot(item: FigureTable, setting: str) -> Plot:
    lines = []
    for number, (artifact, protocol) in enumerate(item.artifacts):
        found = next((figures for figures in protocol.settings if figures.setting == setting), None)
        if found is not None:
            lines.append(
                Line(artifact.artifact, number % LOOKS, _curve(found), f"{percent(found.average_precision)} %")
            )
    text = "; ".join(f"{line.artifact}: average precision {line.figure}" for line in lines)
    return Plot(setting, text, tuple(lines))


def _curve(figures: SettingFigures) -> str:
    points = [f"{RECALL.at(recall)} {PRECISION.at(precision)}" for recall, precision in figures.curve]
    return f"M{'L'.join(points)}" if points else ""


def _symbols(pictured: Sequence[Illustration]) -> dict[str, Symbol]:
    """Every image once, by its name in the dataset. One that has gone since is left out."""
    symbols: dict[str, Symbol] = {}
    for item in pictured:
        name = item.truth.image
        if item.path is None or name in symbols:
            continue
        try:
            image = read_image(item.path)
        except ImageError:
            continue
        symbols[name] = Symbol(f"image-{len(symbols)}", image.shape[1], image.shape[0], data_uri(image))
    return symbols


def _pictures(item: FigureTable, pictured: Sequence[Illustration], symbols: dict[str, Symbol]) -> list[WorstPicture]:
    """One for each image, and for each way in which artifacts went wrong on it."""
    alike: dict[tuple[WorstImage, str], list[Illustration]] = {}
    for artifact, protocol in item.artifacts:
        for worst in protocol.worst:
            found = next((one for one in pictured if _is_of(one, artifact.artifact, item.protocol, worst)), None)
            if found is not None:
                alike.setdefault((worst, _letters(found, worst.setting)), []).append(found)
    return [_picture(group, worst, symbols.get(worst.image)) for (worst, _), group in alike.items()]


def _is_of(one: Illustration, artifact: str, protocol: str, worst: WorstImage) -> bool:
    return (one.artifact, one.protocol, one.truth.image) == (artifact, protocol, worst.image)


def _letters(item: Illustration, setting: str) -> str:
    """What became of each box that is shown."""
    judgement = item.entry.record.protocols[item.protocol]
    letters = "".join(compress(judgement.outcomes[setting], judgement.scores >= SHOWN))
    return letters[: len(item.entry.shown.get(item.protocol, ()))]


def _picture(group: Sequence[Illustration], worst: WorstImage, symbol: Symbol | None) -> WorstPicture:
    """The boxes are those of the first of the group; the others have as many, and the same became of them."""
    item = group[0]
    boxes = np.array(item.entry.shown.get(item.protocol, ()), np.float64).reshape(-1, 5)
    found, letters = corners(boxes[:, :4]), np.array(list(_letters(item, worst.setting)), "U1")
    faces, counted = _faces(item, worst.setting)
    on = best_face(found[letters == HIT], faces[counted])
    missed = np.ones(int(np.count_nonzero(counted)), bool)
    missed[on[on != NOWHERE]] = False
    room = np.concatenate([faces, found, np.zeros((1, 4))])[:, 2:].max(axis=0)  # where there is no image
    return WorstPicture(
        image=worst.image,
        artifact=", ".join(one.artifact for one in group),
        text=f"{worst.misses} of {count(worst.faces, 'face')} missed, {worst.false_boxes} false",
        width=symbol.width if symbol else int(room[0]) + 1,
        height=symbol.height if symbol else int(room[1]) + 1,
        symbol=symbol.name if symbol else "",
        found=_path(faces[counted][~missed]),
        missed=_path(faces[counted][missed], crossed=True),
        hits=_path(found[letters == HIT]),
        false_boxes=_path(found[(letters != HIT) & (letters != NEITHER)]),
        ignored=_path(np.concatenate([found[letters == NEITHER], faces[~counted]])),
    )


def _faces(item: Illustration, setting: str) -> tuple[Doubles, Flags]:
    """Corners of an image's faces, and which of them count."""
    if item.protocol == omz.PROTOCOL:
        return corners(item.truth.annotated), omz.counted(item.truth)
    return corners(item.truth.boxes), item.truth.counted[setting]


def _path(boxes: Doubles, *, crossed: bool = False) -> str:
    return path([(*box, 0.0) for box in boxes.tolist()], crossed=crossed)
