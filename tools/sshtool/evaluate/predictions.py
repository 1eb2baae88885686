"""Predictions of faces in the official text format: a folder for each event, a file for each image.

A file holds the image's name, the number of predictions, and a line `x y w h score` for each.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from sshconvert.arrays import Array, Doubles
from sshconvert.errors import EvaluationError
from sshconvert.files import staged
from sshconvert.reading import matching
from sshtool.wider_face.lines import read_lines

# Of one image: more than any network proposes, and nothing that a reader could be stalled with.
LARGEST_FILE: Final = 32 << 20
MOST_PREDICTIONS: Final = 100_000

# No coordinate or score is larger: areas stay finite.
LARGEST_NUMBER: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Predictions:
    """Of one image: `boxes` float64 [K, 4], x, y, w, h in its pixels, and `scores` float64 [K], finite, in any order.

    This is what the text format holds, and what both protocols judge: a run judges what it would save, so that scoring
    its saved predictions gives the run's own figures.
    """

    boxes: Doubles
    scores: Doubles


NONE: Final = Predictions(np.zeros((0, 4)), np.zeros(0))


def from_corners(corners: Array, scores: Array) -> Predictions:
    """Predictions from `corners` [K, 4], x1, y1, x2, y2, by w = x2 - x1 and h = y2 - y1, and `scores` [K]."""
    exact = np.asarray(corners, np.float64)
    boxes = np.concatenate([exact[:, :2], exact[:, 2:] - exact[:, :2]], axis=1)
    return Predictions(boxes, np.asarray(scores, np.float64))


def prediction_file(folder: Path, image: str) -> Path:
    """Where the predictions for an image lie: "0--Parade/0_Parade_1.jpg" in `folder`/0--Parade/0_Parade_1.txt."""
    return folder / PurePosixPath(image).with_suffix(".txt")


def write_predictions(folder: Path, image: str, predictions: Predictions) -> Path:
    """Write the file of one image, in the order of `predictions`, whole or not at all.

    Numbers are written with the digits that give the same float64, so float32, again, and the same predictions give
    the same bytes. Raises OutputError if it cannot be written.
    """
    path = prediction_file(folder, image)
    rows = np.column_stack([predictions.boxes, predictions.scores]).tolist()
    lines = [path.stem, str(len(rows)), *(" ".join(map(repr, row)) for row in rows)]
    with staged(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def read_predictions(folder: Path, image: str) -> Predictions:
    """Read the file of one image.

    Raises EvaluationError, with the file and the line, if it is missing, has another number of predictions than it
    says, lines of other than five fields, or numbers that are none (NaN and infinity too). Blank lines, blanks around
    fields, any line ends, and another name in the first line are tolerated.
    """
    path = prediction_file(folder, image)
    lines = read_lines(path, LARGEST_FILE, EvaluationError, "write the file again")
    next(lines, None)
    text = next(lines, "").strip()
    if not re.fullmatch(r"\+?[0-9]{1,9}", text, re.ASCII) or int(text) > MOST_PREDICTIONS:
        raise EvaluationError(
            f"{path}: line 2: the number of predictions expected (at most {MOST_PREDICTIONS}); write the file again"
        )
    rows, count = [], 0
    for line in lines:
        if row := line.strip():
            count += 1
            rows += [row] if count <= MOST_PREDICTIONS else []
    if count != int(text):
        raise EvaluationError(f"{path}: line 2: says {text} predictions, {count} found; write the file again")
    if not rows:
        return NONE
    numbers = _numbers(rows, path)
    return Predictions(numbers[:, :4].copy(), numbers[:, 4].copy())


def strangers(folder: Path, images: Collection[str]) -> list[str]:
    """Prediction files that belong to none of `images`, as paths inside `folder`, sorted."""
    known = {prediction_file(Path(), image) for image in images}
    found = (path.relative_to(folder) for path in matching(folder, "*/*.txt"))
    return sorted(path.as_posix() for path in found if path not in known)


def _numbers(rows: list[str], path: Path) -> Doubles:
    """Rows of five numbers, [K, 5]."""
    try:
        table = [[float(field) for field in row.split()] for row in rows]
        widths = {len(row) for row in table}
        if widths == {5}:
            numbers = np.array(table)
            if (np.abs(numbers) <= LARGEST_NUMBER).all():
                return numbers
    except ValueError:
        pass
    line = next(number for number, row in enumerate(rows, 1) if not _is_prediction(row))
    raise EvaluationError(
        f"{path}: prediction {line}: x y w h score expected, found {rows[line - 1][:60]!r}; write the file again"
    )


def _is_prediction(row: str) -> bool:
    try:
        fields = [float(field) for field in row.split()]
    except ValueError:
        return False
    return len(fields) == 5 and all(abs(field) <= LARGEST_NUMBER for field in fields)
