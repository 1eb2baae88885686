"""`sshtool demo-dataset`: a drawn dataset in the layout of WIDER FACE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType

from sshconvert.errors import UsageError
from sshtool.demo.dataset import SETTINGS, SIZES, counted, write_dataset
from sshtool.limits import MOST_DRAWN, MOST_SEED
from sshtool.progress import Progress, silent
from sshtool.report.terminal import lines, table
from sshtool.requirements import PILLOW, require


@dataclass(frozen=True)
class Setting:
    """One of easy, medium and hard: the least height of a face that counts, in pixels, and how many there are."""

    name: str
    least_height: int
    faces: int


@dataclass(frozen=True)
class DatasetResult:
    """What was drawn, and where. With `dry_run` nothing was, so that the faces are not known."""

    dataset: Path
    seed: int
    images: int
    sizes: tuple[tuple[int, int], ...]  # width and height
    faces: int | None
    settings: tuple[Setting, ...]


def dataset_folder(output_dir: Path) -> Path:
    return output_dir / "datasets" / "wider-demo"


def demo_dataset(
    output_dir: Path, *, images: int, seed: int, dry_run: bool = False, progress: Progress = silent
) -> DatasetResult:
    """Draw `images` images of a seed into `<output_dir>/datasets/wider-demo`.

    Raises UsageError for numbers beyond what there are scenes for, and what `write_dataset` raises.
    """
    if not 0 < images <= MOST_DRAWN:
        raise UsageError(f"--images: {images} is not between 1 and {MOST_DRAWN}")
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"--seed: {seed} is not between 0 and {MOST_SEED}")
    if not dry_run:
        require(PILLOW)
    folder = dataset_folder(output_dir)
    sizes = tuple((width, height) for height, width in SIZES)
    if dry_run:
        return DatasetResult(folder, seed, images, sizes, None, ())
    progress("drawing images", 0, images)
    drawn = write_dataset(
        folder, images=images, seed=seed, progress=lambda done: progress("drawing images", done, images)
    )
    settings = (
        Setting(name, least, sum(len(counted(item.faces, name)) for item in drawn)) for name, least in SETTINGS.items()
    )
    return DatasetResult(folder, seed, images, sizes, sum(len(item.faces) for item in drawn), tuple(settings))


def render(result: DatasetResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    sizes = ", ".join(f"{width}x{height}" for width, height in result.sizes)
    if result.faces is None:
        return lines(f"{result.dataset}: nothing was drawn; these would be {result.images} images of {sizes}")
    rows = [[item.name, f"{item.least_height} pixels", str(item.faces)] for item in result.settings]
    head = f"{result.dataset}: {result.images} images of {sizes} with {result.faces} faces, from seed {result.seed}"
    return Group(lines(head), table(["setting", ">least height of a face", ">faces"], rows, plain=plain))
