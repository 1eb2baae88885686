"""A drawn dataset in WIDER FACE's layout, for evaluation without WIDER FACE.

    WIDER_val/images/<event>/<name>.jpg
    wider_face_split/wider_face_val_bbx_gt.txt      every face: x y w h and six attributes, all 0
    ground_truth/wider_face_val.mat                 the same faces, for the official evaluation
    ground_truth/wider_{easy,medium,hard}_val.mat   the faces that each setting counts
    demo-dataset.json                               the seed

Images alternate between three sizes, an event each. All are 4:3 landscape: upstream's test scale resizes each to
1600 x 1200, so one artifact of a fixed shape takes them all. The height of a face in image pixels makes it easy, medium
or hard. As in WIDER FACE, medium includes the easy faces, and hard includes all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sshconvert.arrays import Pixels
from sshconvert.errors import OutputError, UsageError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.libraries import PILLOW, require
from sshconvert.reading import is_file, is_there
from sshtool.demo.scenes import draw_scene
from sshtool.limits import MOST_DRAWN, MOST_SEED
from sshtool.progress import Progress, silent
from sshtool.wider_face.ground_truth import ImageTruth, write_ground_truth

# Height and width. Scenes of more than 640 pixels in height contain faces of every size.
SIZES: Final = ((768, 1024), (600, 800), (480, 640))

# The least height, in pixels, of the faces that a setting counts.
SETTINGS: Final = {"easy": 96, "medium": 48, "hard": 20}

# Scenes that neither the fit nor tests use. Each seed has `MOST_DRAWN` of them.
FIRST_SCENE: Final = 1_000_000

QUALITY: Final = 92
RECORD: Final = "demo-dataset.json"
_ATTRIBUTES: Final = "0 0 0 0 0 0"  # blur, expression, illumination, invalid, occlusion, pose


@dataclass(frozen=True)
class DrawnImage:
    """An image of the dataset: the event's folder, the name without extension, and faces, int [K, 4]: x, y, w, h."""

    event: str
    name: str
    faces: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """Easy, medium or hard: the least height of its faces, in pixels, and their number."""

    name: str
    least_height: int
    faces: int


@dataclass(frozen=True)
class DatasetResult:
    """The drawn dataset. With `dry_run`, the faces are unknown."""

    dataset: Path
    seed: int
    images: int
    sizes: tuple[tuple[int, int], ...]  # width and height
    faces: int | None
    settings: tuple[Setting, ...]


def demo_dataset(
    output_dir: Path, *, images: int, seed: int, dry_run: bool = False, progress: Progress = silent
) -> DatasetResult:
    """Draw `images` images of a seed into `<output_dir>/datasets/wider-demo`.

    Raises UsageError for a number or seed without scenes, and what `write_dataset` raises.
    """
    if not 0 < images <= MOST_DRAWN:
        raise UsageError(f"--images: {images} is not between 1 and {MOST_DRAWN}")
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"--seed: {seed} is not between 0 and {MOST_SEED}")
    if not dry_run:
        require(PILLOW)
    folder = output_dir / "datasets" / "wider-demo"
    sizes = tuple((width, height) for height, width in SIZES)
    if dry_run:
        return DatasetResult(folder, seed, images, sizes, None, ())
    progress("drawing images", 0, images)
    drawn = write_dataset(folder, images=images, seed=seed, progress=lambda n: progress("drawing images", n, images))
    settings = tuple(
        Setting(name, least, sum(len(counted(item.faces, name)) for item in drawn)) for name, least in SETTINGS.items()
    )
    return DatasetResult(folder, seed, images, sizes, sum(len(item.faces) for item in drawn), settings)


def write_dataset(
    folder: Path, *, images: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> tuple[DrawnImage, ...]:
    """Draw the dataset of a seed, and replace `folder` in one step.

    The same seed, number and libraries give the same bytes; a larger number only adds images. `progress` takes the
    number of drawn images.

    Raises:
        OutputError: The folder cannot be written or holds something else.
        RuntimeUnavailableError: Pillow is not installed.

    """
    require(PILLOW)
    check_target(folder)
    with staging_folder(folder.parent) as staging:
        dataset = staging / "new"
        drawn = []
        for item in _draw(dataset / "WIDER_val" / "images", images, seed):
            drawn.append(item)
            progress(len(drawn))
        by_event = sorted(drawn, key=lambda item: (item.event, item.name))
        _write_annotations(dataset / "wider_face_split" / "wider_face_val_bbx_gt.txt", by_event)
        write_ground_truth(dataset / "ground_truth", [_truth(item) for item in by_event])
        record = {"drawn_by": "sshtool demo-dataset", "seed": seed, "images": images}
        (dataset / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        replace_folder(dataset, folder)
    return tuple(by_event)


def counted(faces: npt.NDArray[np.int64], setting: str) -> npt.NDArray[np.int64]:
    """Indices of the faces (x, y, w, h) that a setting counts."""
    return np.flatnonzero(faces[:, 3] >= SETTINGS[setting])


def _truth(item: DrawnImage) -> ImageTruth:
    boxes = item.faces.astype(np.float64)
    numbers = np.arange(len(boxes))
    subsets = {name: np.isin(numbers, counted(item.faces, name)) for name in SETTINGS}
    return ImageTruth(f"{item.event}/{item.name}.jpg", boxes, boxes, subsets)


def _draw(folder: Path, images: int, seed: int) -> Iterator[DrawnImage]:
    for number in range(images):
        height, width = SIZES[number % len(SIZES)]
        scene = draw_scene(FIRST_SCENE + seed * MOST_DRAWN + number, height, width)
        corners = np.rint(scene.faces).astype(np.int64)
        event = f"{number % len(SIZES)}--Drawn_{width}x{height}"
        faces = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        item = DrawnImage(event, f"{event.replace('--', '_')}_{number:04}", faces)
        _save(folder / event / f"{item.name}.jpg", scene.image)
        yield item


def _save(path: Path, image: Pixels) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(path, format="JPEG", quality=QUALITY)


def _write_annotations(path: Path, items: list[DrawnImage]) -> None:
    lines = []
    for item in items:
        lines += [f"{item.event}/{item.name}.jpg", str(len(item.faces))]
        lines += [f"{x} {y} {w} {h} {_ATTRIBUTES}" for x, y, w, h in item.faces.tolist() or [(0, 0, 0, 0)]]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def check_target(folder: Path) -> None:
    """Keep a folder that sshtool did not draw: it may be a real data set. Raises OutputError."""
    try:
        is_replaceable = not is_there(folder) or is_file(folder / RECORD) or not any(folder.iterdir())
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); name another --output-dir") from None
    if not is_replaceable:
        raise OutputError(f"{folder}: exists and was not drawn by sshtool; move it away or name another --output-dir")
