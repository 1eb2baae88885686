"""Drawn data sets for embedders and classifiers, in the layout of the real ones.

    lfw-demo/lfw.bin                two JPEG images for each pair, and whether they show the same drawn person
    imagenet-demo/val.txt           an image and the number of its class on each line
    imagenet-demo/labels.txt        the name of a class on each line
    imagenet-demo/images/*.jpg      images of one main colour, which is the class
    */demo-dataset.json             the seed

`lfw.bin` is a pickle as Python 2 wrote InsightFace's: protocol 2, with the images as 8-bit strings.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.errors import ModelError, UsageError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.libraries import PILLOW, require
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshtool.demo.classifier import COLOURS
from sshtool.demo.dataset import QUALITY, RECORD, DatasetResult, check_target
from sshtool.demo.scenes import draw_coloured, draw_portrait
from sshtool.limits import MOST_DRAWN, MOST_SEED
from sshtool.progress import Progress, silent

FACES: Final = 112  # height and width of a face
SIZES: Final = ((240, 320), (320, 240), (280, 280))  # height and width of labelled images
LEAST_PAIRS: Final = 10  # the subsets of the evaluation

FIRST_IDENTITY: Final = 3_000_000
FIRST_SHOT: Final = 4_000_000
FIRST_IMAGE: Final = 2_000_000


@dataclass(frozen=True)
class RecognitionDataset:
    """The drawn data set. `pairs` is the number of pairs of faces, `classes` that of the labels; None for the other."""

    dataset: Path
    seed: int
    images: int
    sizes: tuple[tuple[int, int], ...]  # width and height
    pairs: int | None
    classes: int | None
    drawn: bool


DrawnResult: TypeAlias = DatasetResult | RecognitionDataset


def draw_recognition_dataset(
    output_dir: Path, model: ModelSpec, *, images: int, seed: int, dry_run: bool = False, progress: Progress = silent
) -> RecognitionDataset:
    """Draw `images` images of a seed into `<output_dir>/datasets`, for the model's task.

    The same seed, number and libraries give the same bytes. Raises UsageError for a number or seed without images,
    ModelError for another task, OutputError if the folder cannot be written or holds something else, and
    RuntimeUnavailableError without Pillow.
    """
    if not 0 < images <= MOST_DRAWN:
        raise UsageError(f"--images: {images} is not between 1 and {MOST_DRAWN}")
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"--seed: {seed} is not between 0 and {MOST_SEED}")
    task = model.task
    if isinstance(task, Embedding):
        if images % 2 or images < 2 * LEAST_PAIRS:
            raise UsageError(f"--images: {images} images are not {LEAST_PAIRS} pairs or more; give an even number")
        folder = output_dir / "datasets" / "lfw-demo"
        result = RecognitionDataset(folder, seed, images, ((FACES, FACES),), images // 2, None, not dry_run)
        draw: Callable[[Path], None] = lambda path: _draw_pairs(path, images // 2, seed, progress)  # noqa: E731  # one of two
    elif isinstance(task, Classification):
        folder = output_dir / "datasets" / "imagenet-demo"
        sizes = tuple((width, height) for height, width in SIZES)
        classes = min(len(COLOURS), task.classes or len(task.labels) or len(COLOURS))
        result = RecognitionDataset(folder, seed, images, sizes, None, classes, not dry_run)
        draw = lambda path: _draw_classes(path, images, classes, seed, progress)  # noqa: E731  # as above
    else:
        raise ModelError(f"{model.name}: there is no drawn data set for the task {task.kind}")
    if not dry_run:
        _write(folder, draw, {"seed": seed, "images": images})
    return result


def same_person(number: int) -> bool:
    """Whether a pair of the drawn data set shows one person: every other pair."""
    return number % 2 == 0


def _write(folder: Path, draw: Callable[[Path], None], record: dict[str, int]) -> None:
    require(PILLOW)
    check_target(folder)
    with staging_folder(folder.parent) as staging:
        dataset = staging / "new"
        dataset.mkdir()
        draw(dataset)
        text = json.dumps({"drawn_by": "sshtool demo-dataset", **record}, indent=2) + "\n"
        (dataset / RECORD).write_text(text, encoding="utf-8")
        replace_folder(dataset, folder)


def _draw_pairs(folder: Path, pairs: int, seed: int, progress: Progress) -> None:
    images = []
    for number in range(2 * pairs):
        progress("drawing images", number, 2 * pairs)
        pair, second = divmod(number, 2)
        first = 2 * (seed * MOST_DRAWN + pair)
        identity = first + (0 if same_person(pair) else second)
        shot = FIRST_SHOT + first + second
        images.append(_jpeg(draw_portrait(FIRST_IDENTITY + identity, shot, FACES)))
    (folder / "lfw.bin").write_bytes(pickled_pairs(images, [same_person(pair) for pair in range(pairs)]))


def pickled_pairs(images: Sequence[bytes], same: Sequence[bool]) -> bytes:
    """A pickle of two lists, as Python 2 writes it."""
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in images)
    booleans = b"".join(b"\x88" if one else b"\x89" for one in same)
    return b"\x80\x02](" + strings + b"e](" + booleans + b"e\x86."


def _draw_classes(folder: Path, images: int, classes: int, seed: int, progress: Progress) -> None:
    (folder / "images").mkdir()
    lines = []
    for number in range(images):
        progress("drawing images", number, images)
        label = number % classes
        height, width = SIZES[number % len(SIZES)]
        colour = list(COLOURS.values())[label]
        image = draw_coloured(colour, FIRST_IMAGE + seed * MOST_DRAWN + number, height, width)
        name = f"drawn_{number:05}.jpg"
        (folder / "images" / name).write_bytes(_jpeg(image))
        lines.append(f"{name} {label}")
    for name, text in (("val.txt", lines), ("labels.txt", list(COLOURS)[:classes])):
        (folder / name).write_text("\n".join([*text, ""]), encoding="utf-8", newline="\n")


def _jpeg(image: Pixels) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(stream, format="JPEG", quality=QUALITY)
    return stream.getvalue()
