"""The faces of a dataset in WIDER FACE's layout, and the faces that count in each setting.

The official ground truth is four .mat files with a cell for each event. `wider_face_val.mat` holds the names of events
(`event_list`), the names of images without extension (`file_list`) and the boxes of faces, x, y, w, h
(`face_bbx_list`). `wider_easy_val.mat`, `wider_medium_val.mat` and `wider_hard_val.mat` hold the 1-based numbers of the
faces that count (`gt_list`), for the same images in the same order.

Without .mat files, the annotation text gives one setting, "all": every face counts that has an extent and is not
flagged invalid. Its figures compare artifacts, but do not compare to published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.arrays import Array, Doubles, Flags
from sshconvert.digest import blocks_sha256
from sshconvert.errors import DatasetError
from sshconvert.reading import is_file, matching
from sshtool.wider_face.annotations import (
    LARGEST_COORDINATE,
    MOST_FACES,
    MOST_FACES_IN_ALL,
    Annotation,
    read_annotations,
    unusable_path,
)
from sshtool.wider_face.matfile import Cell, read_cells, write_cells

SETTINGS: Final = ("easy", "medium", "hard")
ALL: Final = "all"

# The places in a dataset's folder, in order of precedence.
TEXT_FOLDERS: Final = ("wider_face_split", ".")
MAT_FOLDERS: Final = ("ground_truth", "eval_tools/ground_truth", "wider_face_split", ".")

FACES_FILE: Final = "wider_face_val.mat"
SETTING_FILES: Final = {setting: f"wider_{setting}_val.mat" for setting in SETTINGS}
MAT_FILES: Final = (FACES_FILE, *SETTING_FILES.values())


@dataclass(frozen=True)
class ImageTruth:
    """One image: its path in the folder of images ("0--Parade/0_Parade_marchingband_1_849.jpg") and its faces.

    `annotated` holds the boxes of the annotation text, for `omz`; `boxes` those of the .mat files, for `wider`. Both
    are float64 [F, 4], x, y, w, h in pixels, and equal if the dataset has only one source. `counted[setting]`, bool
    [F], marks those of `boxes` that count.
    """

    image: str
    annotated: Doubles
    boxes: Doubles
    counted: Mapping[str, Flags]


@dataclass(frozen=True)
class GroundTruth:
    """The faces of a dataset, in the order of the .mat files, or else of the annotation text.

    `settings` are "easy", "medium" and "hard", or "all" from the annotation text alone. `digest` is the SHA-256 of
    `images`, by which journals of one dataset are recognised. `sources` are the files that were read.
    """

    images: tuple[ImageTruth, ...]
    settings: tuple[str, ...]
    digest: str
    sources: tuple[Path, ...]


def read_ground_truth(folder: Path) -> GroundTruth:
    """Read the annotation text (in `TEXT_FOLDERS`), the .mat files (in `MAT_FOLDERS`), or both, of the same images.

    Raises DatasetError if the folder has neither, if a file is malformed, or if they contradict each other;
    RuntimeUnavailableError for .mat files without SciPy.
    """
    text, mats = _annotation_file(folder), _mat_folder(folder)
    if text is None and mats is None:
        raise DatasetError(
            f"{folder}: holds neither wider_face_split/wider_face_val_bbx_gt.txt nor ground_truth/{FACES_FILE}; "
            "name a dataset in the layout of WIDER FACE"
        )
    annotations = read_annotations(text) if text else ()
    if mats is None:
        images = [_from_annotation(annotation) for annotation in annotations]
    else:
        images = _read_mats(mats)
        if text:
            images = _joined(images, annotations, text, mats)
    sources = ([text] if text else []) + ([mats / name for name in MAT_FILES] if mats else [])
    return GroundTruth(tuple(images), SETTINGS if mats else (ALL,), blocks_sha256(_blocks(images)), tuple(sources))


def write_ground_truth(folder: Path, images: Sequence[ImageTruth]) -> tuple[Path, ...]:
    """Write the `boxes` of `images`, and their `counted`, as the official .mat files into `folder`.

    All images need the settings `SETTINGS`, and boxes of integers, because the official files hold int32, with which
    the official tools compute. Events keep the order of `images`. The same images give the same bytes.

    Raises DatasetError for other images, OutputError if a file cannot be written, and RuntimeUnavailableError.
    """
    for image in images:
        if set(image.counted) != set(SETTINGS) or not np.array_equal(image.boxes, np.rint(image.boxes)):
            raise DatasetError(f"{image.image}: boxes of whole pixels and the settings {', '.join(SETTINGS)} expected")
    events: dict[str, list[ImageTruth]] = {}
    for image in images:
        events.setdefault(PurePosixPath(image.image).parent.name, []).append(image)
    groups = list(events.values())
    common = {
        "event_list": _cells(events),
        "file_list": _cells(_cells(PurePosixPath(image.image).stem for image in group) for group in groups),
        "face_bbx_list": _cells(_cells(image.boxes.astype(np.int32) for image in group) for group in groups),
    }
    write_cells(folder / FACES_FILE, common)
    for setting in SETTINGS:
        numbers = _cells(_cells(_numbers(image.counted[setting]) for image in group) for group in groups)
        write_cells(folder / SETTING_FILES[setting], {**common, "gt_list": numbers})
    return tuple(folder / name for name in MAT_FILES)


def _numbers(counted: Flags) -> npt.NDArray[np.int32]:
    """The 1-based numbers of the faces that count, in a column."""
    return (np.flatnonzero(counted)[:, None] + 1).astype(np.int32)


def _annotation_file(folder: Path) -> Path | None:
    """The text of the validation set, or the only text."""
    for name in TEXT_FOLDERS:
        texts = matching(folder / name, "wider_face_*_bbx_gt.txt")
        validation = [path for path in texts if path.name == "wider_face_val_bbx_gt.txt"]
        if len(texts) > 1 and not validation:
            raise DatasetError(f"{folder / name}: holds {texts[0].name} and {texts[1].name}; leave one of them")
        if texts:
            return (validation or texts)[0]
    return None


def _mat_folder(folder: Path) -> Path | None:
    return next((folder / name for name in MAT_FOLDERS if is_file(folder / name / FACES_FILE)), None)


def _from_annotation(annotation: Annotation) -> ImageTruth:
    counted = ~annotation.invalid & (annotation.boxes[:, 2:] > 0).all(axis=1)
    return ImageTruth(annotation.image, annotation.boxes, annotation.boxes, {ALL: counted})


def _read_mats(folder: Path) -> list[ImageTruth]:
    path = folder / FACES_FILE
    files = {setting: folder / SETTING_FILES[setting] for setting in SETTINGS}
    faces = read_cells(path, ("event_list", "file_list", "face_bbx_list"))
    names = _names(faces, path)
    boxes = _flat(faces["face_bbx_list"], names, path, "face_bbx_list")
    numbers = {}
    for setting, file in files.items():
        cells = read_cells(file, ("event_list", "file_list", "gt_list"))
        if _names(cells, file) != names:
            raise DatasetError(f"{file}: holds other images than {path.name}; get all four files of one dataset")
        numbers[setting] = _flat(cells["gt_list"], names, file, "gt_list")
    images, count = [], 0
    for index, image in enumerate(image for group in names for image in group):
        rows = _boxes(boxes[index], image, path)
        count += len(rows)
        if len(rows) > MOST_FACES or count > MOST_FACES_IN_ALL:
            raise DatasetError(
                f"{path}: {image}: more than {MOST_FACES} faces, or {MOST_FACES_IN_ALL} in all; get it again"
            )
        counted = {
            setting: _counted(numbers[setting][index], len(rows), image, file) for setting, file in files.items()
        }
        images.append(ImageTruth(f"{image}.jpg", rows, rows, counted))
    return images


def _names(cells: Mapping[str, list[Cell]], path: Path) -> list[list[str]]:
    """The images of each event: "0--Parade/0_Parade_marchingband_1_849", without the extension."""
    events, files = cells["event_list"], cells["file_list"]
    if len(events) != len(files):
        raise DatasetError(f"{path}: {len(events)} events, and file_list has {len(files)}; get it again")
    names = [
        [f"{_text(event, path)}/{_text(name, path)}" for name in _cell(group, path, "file_list")]
        for event, group in zip(events, files, strict=True)
    ]
    images = [name for group in names for name in group]
    unusable = next((name for name in images if unusable_path(name)), None)
    if unusable is not None:
        raise DatasetError(f"{path}: an image {unusable[:60]!r}, which {unusable_path(unusable)}; get it again")
    if not images or len(set(images)) < len(images):
        raise DatasetError(f"{path}: holds no images, or one of them twice; get it again")
    return names


def _flat(cells: list[Cell], names: list[list[str]], path: Path, variable: str) -> list[Cell]:
    """The values of a variable for all images, in one list."""
    groups = [_cell(group, path, variable) for group in cells]
    if [len(group) for group in groups] != [len(group) for group in names]:
        raise DatasetError(f"{path}: {variable} holds other images than file_list; get it again")
    return [entry for group in groups for entry in group]


def _cell(group: Cell, path: Path, variable: str) -> list[Cell]:
    if not isinstance(group, list):
        raise DatasetError(f"{path}: {variable} is not a cell array of cell arrays; name WIDER FACE's ground truth")
    return group


def _text(cell: Cell, path: Path) -> str:
    """A name, which may be nested in further cells."""
    while isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if not isinstance(cell, str):
        raise DatasetError(f"{path}: a name of an event or image is not a text; get it again")
    return cell


def _boxes(cell: Cell, image: str, path: Path) -> Doubles:
    if not isinstance(cell, np.ndarray):
        raise DatasetError(f"{path}: {image}: boxes expected; get it again")
    if not cell.size:
        return np.zeros((0, 4))
    if cell.shape[1:] != (4,) or not (np.abs(cell) <= LARGEST_COORDINATE).all():
        raise DatasetError(f"{path}: {image}: boxes of four finite numbers expected; get it again")
    return cell


def _counted(cell: Cell, faces: int, image: str, path: Path) -> Flags:
    """Convert 1-based numbers of faces to bool [faces]."""
    counted = np.zeros(faces, bool)
    if not isinstance(cell, np.ndarray):
        raise DatasetError(f"{path}: {image}: numbers of faces expected; get it again")
    numbers = cell.ravel()
    valid = (numbers >= 1) & (numbers <= faces) & (np.rint(numbers) == numbers)
    if not valid.all() or len(np.unique(numbers)) < len(numbers):
        raise DatasetError(f"{path}: {image}: different numbers from 1 to {faces} expected; get it again")
    counted[numbers.astype(np.intp) - 1] = True
    return counted


def _joined(images: list[ImageTruth], annotations: Sequence[Annotation], text: Path, mats: Path) -> list[ImageTruth]:
    """Add the annotation text's file extensions and boxes for `omz` to the images of the .mat files."""
    by_stem = {str(PurePosixPath(annotation.image).with_suffix("")): annotation for annotation in annotations}
    stems = [image.image.removesuffix(".jpg") for image in images]
    other = sorted(set(stems) ^ set(by_stem))
    if other or len(by_stem) < len(annotations):
        example = other[0] if other else "one image"
        raise DatasetError(
            f"{text}: holds other images than {mats} ({example} does not occur once in both); use both of one dataset"
        )
    return [
        ImageTruth(by_stem[stem].image, by_stem[stem].boxes, image.boxes, image.counted)
        for stem, image in zip(stems, images, strict=True)
    ]


def _blocks(images: Sequence[ImageTruth]) -> Iterator[bytes]:
    for image in images:
        arrays = [image.annotated, image.boxes, *image.counted.values()]
        yield repr((image.image, list(image.counted), [array.shape for array in arrays])).encode()
        yield from (array.tobytes() for array in arrays)


def _cells(values: Iterable[Any]) -> Array:
    """A column of cells as in MATLAB."""
    entries = list(values)
    column = np.empty((len(entries), 1), object)
    for number, entry in enumerate(entries):
        column[number, 0] = entry
    return column
