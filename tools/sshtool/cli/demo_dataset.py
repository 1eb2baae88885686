"""`sshtool demo-dataset`: draw a dataset in the layout of the real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sshtool import limits
from sshtool.cli.options import USUAL_MODEL, DryRun, Option, Output, OutputDir
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.demo.dataset import DatasetResult
    from sshtool.demo.recognition_dataset import RecognitionDataset


@dataclass(frozen=True)
class DemoDataset(Verb):
    """Draw a dataset to try `evaluate` without the real one: WIDER FACE's layout, LFW's pairs, or ImageNet's list."""

    model: Annotated[
        str, Option("The model to draw for, which decides the layout: a name or a TOML file; by default ssh-mxnet.")
    ] = ""
    output_dir: OutputDir = Path("artifacts")
    images: Annotated[int, Option("Number of images.", min=1, max=limits.MOST_DRAWN)] = 24
    seed: Annotated[int, Option("The same seed draws the same images.", min=0, max=limits.MOST_SEED)] = 0
    dry_run: DryRun = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshconvert.models.registry import load_model
        from sshconvert.tasks.detection import DetectionTask
        from sshtool.demo.dataset import demo_dataset
        from sshtool.demo.recognition_dataset import draw_recognition_dataset

        model = load_model(self.model or USUAL_MODEL)
        if not isinstance(model.task, DetectionTask):
            drawn = draw_recognition_dataset(
                self.output_dir,
                model,
                images=self.images,
                seed=self.seed,
                dry_run=self.dry_run,
                progress=session.progress,
            )
            session.finish(drawn, render_recognition)
            return
        result = demo_dataset(
            self.output_dir, images=self.images, seed=self.seed, dry_run=self.dry_run, progress=session.progress
        )
        session.finish(result, render)


def render(result: DatasetResult, plain: bool) -> RenderableType:
    """Render a row for each setting of the dataset."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    sizes = ", ".join(f"{width}x{height}" for width, height in result.sizes)
    if result.faces is None:
        return lines(f"{result.dataset}: nothing was drawn; these would be {result.images} images of {sizes}")
    rows = [[item.name, f"{item.least_height} pixels", str(item.faces)] for item in result.settings]
    head = f"{result.dataset}: {result.images} images of {sizes} with {result.faces} faces, from seed {result.seed}"
    return Group(lines(head), table(["setting", ">least height of a face", ">faces"], rows, plain=plain))


def render_recognition(result: RecognitionDataset, _plain: bool) -> RenderableType:
    """Render the number of images, and of their pairs or classes."""
    from sshtool.report.terminal import lines

    sizes = ", ".join(f"{width}x{height}" for width, height in result.sizes)
    groups = f"{result.pairs} pairs" if result.pairs is not None else f"{result.classes} classes"
    nothing = "" if result.drawn else "nothing was drawn; these would be "
    return lines(f"{result.dataset}: {nothing}{result.images} images of {sizes}, {groups}, from seed {result.seed}")
