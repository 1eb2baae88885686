"""Predictions of faces in WIDER FACE's text format: a folder for each event, a file for each image.

A file holds the image's name, the number of predictions, and a line `x y w h score` for each prediction.
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

# Limits for one image: above the proposals of any network, and quick to read.
LARGEST_FILE: Final = 32 << 20
MOST_PREDICTIONS: Final = 100_000

# The limit of coordinates and scores, which keeps areas finite.
LARGEST_NUMBER: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Predictions:
    """The predictions for one image: `boxes` float64 [K, 4], x, y, w, h in pixels; `scores` float64 [K], finite.

    They are in any order. The text format and the protocols use the same numbers, so a score of saved predictions
    equals the figures of the run.
    """

    boxes: Doubles
    scores: Doubles


NONE: Final = Predictions(np.zeros((0, 4)), np.zeros(0))


def from_corners(corners: Array, scores: Array) -> Predictions:
    """Predictions from `corners` [K, 4], x1, y1, x2, y2, and `scores` [K], by w = x2 - x1 and h = y2 - y1."""
    exact = np.asarray(corners, np.float64)
    boxes = np.concatenate([exact[:, :2], exact[:, 2:] - exact[:, :2]], axis=1)
    return Predictions(boxes, np.asarray(scores, np.float64))


def prediction_file(folder: Path, image: str) -> Path:
    """The file of an image's predictions: `folder`/0--Parade/0_Parade_1.txt for "0--Parade/0_Parade_1.jpg"."""
    return folder / PurePosixPath(image).with_suffix(".txt")


def write_predictions(folder: Path, image: str, predictions: Predictions) -> Path:
    """Write the file of one image atomically, in the order of `predictions`.

    Numbers have the digits that restore the same float64. Raises OutputError if the file cannot be written.
    """
    path = prediction_file(folder, image)
    rows = np.column_stack([predictions.boxes, predictions.scores]).tolist()
    lines = [path.stem, str(len(rows)), *(" ".join(map(repr, row)) for row in rows)]
    with staged(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def read_predictions(folder: Path, image: str) -> Predictions:
    """Read the file of one image.

    Blank lines, blanks around fields, any line ends, and another name in the first line are allowed.

    Raises EvaluationError, with the file and the line, if the file is missing, if the number of predictions is not the
    number of lines, or if a line does not hold five finite numbers.
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


def unmatched_files(folder: Path, images: Collection[str]) -> list[str]:
    """Prediction files that belong to none of `images`, as sorted paths inside `folder`."""
    known = {prediction_file(Path(), image) for image in images}
    files = (path.relative_to(folder) for path in matching(folder, "*/*.txt"))
    return sorted(path.as_posix() for path in files if path not in known)


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
