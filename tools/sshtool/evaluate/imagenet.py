"""ImageNet's top-1 and top-5 as Open Model Zoo measured them: the metric `accuracy` with `top_k`.

1. The list has an image and the number of its class, from 0, on each line: `ILSVRC2012_val_00000001.JPEG 65`.
2. `sshtool.framing.central`: the shorter side is resized to 256 (the input's size divided by the task's `crop`), cubic,
   and the centre of 224 x 224 is cut out.
3. The figure is the share of the images whose class is among the k with the highest scores. Among equal scores the
   class with the lower number comes first; Open Model Zoo leaves their order to NumPy's partition.

The rules come from the accuracy checker's sources (`annotation_converters/imagenet.py`, `preprocessor/resize.py` and
`crop.py`, `metrics/classification.py`) and the models' `accuracy-check.yml`. The data set could not be had, so the
published figures are not reproduced here, and no image was compared with OpenCV's decoding and resizing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sshconvert.digest import bytes_sha256
from sshconvert.errors import DatasetError
from sshconvert.reading import is_file, is_folder, read_small
from sshconvert.schema import one_line

PROTOCOL: Final = "ImageNet"
LIST: Final = "val.txt"
IMAGES: Final = ("images", "ILSVRC2012_img_val", "val", ".")  # folders of the images, beside the list
RANKS: Final = (1, 5)
MEASURES: Final = tuple(f"ImageNet top-{most}" for most in RANKS)

LARGEST_LIST: Final = 256 << 20  # bytes
LARGEST_CLASS: Final = 1_000_000


@dataclass(frozen=True)
class LabelledImage:
    """An image of the data set, its name in the list, and the number of its class."""

    path: Path
    name: str
    label: int


@dataclass(frozen=True)
class LabelledImages:
    """The images in the order of the list, and the list's hash."""

    images: tuple[LabelledImage, ...]
    digest: str


def read_list(dataset: Path) -> LabelledImages:
    """Read `val.txt` of a folder, or a list of any name whose images lie beside it.

    Raises DatasetError for a missing list, a line that is no name and class, a name that leads out of the folder, and a
    folder without the images.
    """
    path = dataset / LIST if is_folder(dataset) else dataset
    try:
        data = read_small(path, LARGEST_LIST)
        text = data.decode()
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); name a folder with {LIST}, an image and its class on each line"
        ) from None
    except ValueError:
        raise DatasetError(f"{path}: is not UTF-8; write an image and its class on each line") from None
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    named = [_parsed(path, number, words) for number, words in lines]
    if not named:
        raise DatasetError(f"{path}: is empty; write an image and its class on each line")
    folder = _folder(path.parent, named[0][0])
    images = tuple(LabelledImage(folder / PurePosixPath(name), name, label) for name, label in named)
    return LabelledImages(images, bytes_sha256(data))


def accuracies(ranks: Sequence[int | None]) -> dict[int, float]:
    """The share of images, 0-1, whose class is among the k best, by k.

    `ranks` holds the rank of each image's own class, from 0; None for an image that was not evaluated.
    """
    return {most: sum(rank is not None and rank < most for rank in ranks) / len(ranks) for most in RANKS}


def _parsed(path: Path, number: int, words: list[str]) -> tuple[str, int]:
    place = f"{path}: line {number}"
    if len(words) != 2 or not words[1].isascii() or not words[1].isdigit() or len(words[1]) > 7:
        raise DatasetError(f"{place} is {one_line(' '.join(words))!r}, expected an image and the number of its class")
    name, label = words[0], int(words[1])
    if label > LARGEST_CLASS:
        raise DatasetError(f"{place}: the class {label} is above {LARGEST_CLASS}")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or (os.sep != "/" and os.sep in name) or "\0" in name:
        raise DatasetError(f"{place}: {one_line(name)!r} leads out of the folder of the images")
    return name, label


def _folder(beside: Path, first: str) -> Path:
    """The folder of the images, in which the first of them lies."""
    for name in IMAGES:
        if is_file(beside / name / PurePosixPath(first)):
            return beside / name
    raise DatasetError(
        f"{beside}: the first image, {one_line(first)}, is in none of its folders {', '.join(IMAGES)}; put the images "
        "beside the list"
    )
