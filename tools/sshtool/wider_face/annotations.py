"""WIDER FACE's annotation text, `wider_face_train_bbx_gt.txt` and `wider_face_val_bbx_gt.txt`.

Each image has a line with its path (`0--Parade/0_Parade_marchingband_1_849.jpg`), a line with the number of faces, and
a line for each face: `x y w h blur expression illumination invalid occlusion pose`. An image without faces has the
number 0 and one line of zeros, which may be missing.

The reader allows any line ends, blank lines, blanks around fields, a byte order mark, fractions in boxes, and missing
flags at the end of a line, which are then 0. It keeps boxes without extent and faces flagged invalid, because the
protocols have rules for them. Everything else is an error that names the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Flags, Pixels
from sshconvert.errors import DatasetError
from sshtool.wider_face.lines import read_lines

FLAGS: Final = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")

# WIDER FACE's own files have up to 5 MB, 12,880 images, 159,424 faces, 1965 faces in one image, and flags up to 2.
LARGEST_FILE: Final = 64 << 20
MOST_IMAGES: Final = 200_000
MOST_FACES: Final = 100_000
MOST_FACES_IN_ALL: Final = 2_000_000
LARGEST_COORDINATE: Final = 1_000_000
LARGEST_FLAG: Final = 9

# The number of characters of a line that a message quotes.
_SHOWN: Final = 60


@dataclass(frozen=True)
class Annotation:
    """One image: its path in the folder of images, its `boxes` (float64 [F, 4], x, y, w, h in pixels) and its `flags`
    (uint8 [F, 6], in the order of `FLAGS`).
    """

    image: str
    boxes: Doubles
    flags: Pixels

    @property
    def invalid(self) -> Flags:
        return np.asarray(self.flags[:, FLAGS.index("invalid")] != 0)


def read_annotations(path: Path) -> tuple[Annotation, ...]:
    """Read an annotation text. Raises DatasetError, with the file and the line, if it is missing or malformed."""
    lines = _Lines(path)
    annotations: dict[str, Annotation] = {}
    faces = 0
    for text in lines:
        image = _image(text, lines)
        if image in annotations:
            raise lines.error(f"{image} occurs twice", "keep one of them")
        annotations[image] = _annotation(image, lines)
        faces += len(annotations[image].boxes)
        if len(annotations) > MOST_IMAGES or faces > MOST_FACES_IN_ALL:
            raise lines.error(f"more than {MOST_IMAGES} images or {MOST_FACES_IN_ALL} faces", "split the dataset")
    if not annotations:
        raise DatasetError(f"{path}: holds no images; name a file such as wider_face_val_bbx_gt.txt")
    return tuple(annotations.values())


def unusable_path(image: str) -> str:
    """Why a path is not safe in a folder of images and a folder of predictions, "" if it is."""
    event, slash, name = image.partition("/")
    if not slash or "/" in name or not all(part.strip(". ") for part in (event, name)):
        return "is not an event's folder and a file in it"
    if any(character in '\\:*?"<>|' or not character.isprintable() for character in image):
        return "has characters that are not safe in a path"
    return ""


class _Lines:
    """The non-blank lines of a file, stripped, and the number of the last line read."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        remedy = "name a dataset in the layout of WIDER FACE"
        self._lines = read_lines(path, LARGEST_FILE, DatasetError, remedy)
        self._next: str | None = None

    def __iter__(self) -> Iterator[str]:
        while (line := self.peek()) is not None:
            self._next = None
            yield line

    def peek(self) -> str | None:
        """The next line without consuming it; None at the end."""
        while not self._next:
            line = next(self._lines, None)
            if line is None:
                return None
            self.number += 1
            self._next = line.strip()
        return self._next

    def take(self, expected: str) -> str:
        for line in self:
            return line
        raise self.error(f"{expected} expected, the file ends", "it is incomplete: get it again")

    def error(self, problem: str, remedy: str) -> DatasetError:
        return DatasetError(f"{self.path}: line {self.number}: {problem}; {remedy}")


def _image(text: str, lines: _Lines) -> str:
    if reason := unusable_path(text):
        raise lines.error(
            f"the path of an image expected, {text[:_SHOWN]!r} {reason}", "the number of faces above may be wrong"
        )
    return text


def _annotation(image: str, lines: _Lines) -> Annotation:
    text = lines.take("the number of faces")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MOST_FACES):
        raise lines.error(
            f"the number of faces expected (at most {MOST_FACES}), found {text[:_SHOWN]!r}", "correct or remove it"
        )
    rows = [_face(lines.take(f"face {number + 1} of {text}"), lines) for number in range(int(text))]
    if not rows:
        _skip_zeros(lines)
    table = np.array(rows, np.float64).reshape(-1, 10)
    return Annotation(image, table[:, :4].copy(), table[:, 4:].astype(np.uint8))


def _face(text: str, lines: _Lines) -> list[float]:
    row = _numbers(text)
    if not 4 <= len(row) <= 10:
        raise lines.error(
            f"x y w h and up to six flags expected, found {text[:_SHOWN]!r}", "the number of faces above may be wrong"
        )
    if any(abs(value) > LARGEST_COORDINATE for value in row[:4]):
        raise lines.error(f"a box beyond {LARGEST_COORDINATE} pixels: {text[:_SHOWN]!r}", "correct or remove it")
    if any(flag not in range(LARGEST_FLAG + 1) for flag in row[4:]):
        raise lines.error(f"flags 0-{LARGEST_FLAG} expected, found {text[:_SHOWN]!r}", "correct or remove it")
    return row + [0.0] * (10 - len(row))


def _skip_zeros(lines: _Lines) -> None:
    """Skip the line of zeros of an image without faces."""
    row = _numbers(lines.peek() or "")
    if row and not any(row):
        lines.take("a line of zeros")


def _numbers(text: str) -> list[float]:
    """The fields of a line as finite numbers; [] if one of them is not a finite number."""
    try:
        row = [float(field) for field in text.split()]
    except ValueError:
        return []
    return row if np.isfinite(row).all() else []
