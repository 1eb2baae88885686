"""`sshtool predict`: run a converted classifier or embedder on image files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sshtool import limits
from sshtool.cli.options import (
    AllowNonfinite,
    Computing,
    Confinement,
    DryRun,
    LineOutput,
    Network,
    OneArtifact,
    Option,
)
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.cli.session import Session
    from sshtool.prediction import Outcome, PredictResult


@dataclass(frozen=True)
class Predict(Verb):
    """Print the best classes of images, or their embeddings and the cosine of pairs."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders (without their subfolders) and patterns such as 'photos/**/*.jpg'; "
            f"at most {limits.MOST_FILES} images. Two images of an embedder are a pair.",
            show_default=False,
        ),
    ]
    place: Network = field(default_factory=Network)
    artifact: OneArtifact = None
    computing: Computing = field(default_factory=Computing)
    top: Annotated[
        int | None,
        Option("Number of classes to print; by default the model's own, usually 5.", min=1, max=limits.MOST_RESULTS),
    ] = None
    labels: Annotated[Path | None, Option("A text file with the name of a class on each line, in their order.")] = None
    pairs: Annotated[bool, Option("Compare the first image with the second, the third with the fourth, …")] = False
    allow_nonfinite: AllowNonfinite = False
    dry_run: DryRun = False
    confinement: Confinement = field(default_factory=Confinement)
    output: LineOutput = field(default_factory=LineOutput)

    def session(self, name: str) -> Session:
        return self.output.session(name, lines=True)

    def run(self, session: Session) -> None:
        self.confinement.apply()
        from sshtool.prediction import PredictOptions, as_json, predict

        options = PredictOptions(
            runtime=self.computing.runtime,
            settings=self.computing.settings(allow_nonfinite=self.allow_nonfinite),
            top=self.top,
            labels=self.labels,
            pairs=self.pairs,
        )
        result = predict(
            self.place.open()[0],
            self.images,
            options,
            artifact=self.artifact,
            dry_run=self.dry_run,
            report=lambda item: session.emit(as_json(item)),
            progress=session.progress,
        )
        if not self.output.json:
            session.finish(result, render)
        if result.not_read:
            raise typer.Exit(1)


MOST_NUMBERS: Final = 4  # of a vector in the table; --json has all


def render(result: PredictResult, plain: bool) -> RenderableType:
    """Render a row for each class or vector, the pairs, then the errors of the unreadable images."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    head, rows = _rows(result)
    headline = f"{result.model}, weights {result.weights}, {result.runtime}: {_summary(result)}"
    parts = [lines(headline), table(head, rows, plain=plain)]
    if result.pairs:
        pairs = [[*item.images, "" if item.cosine is None else f"{item.cosine:.4f}"] for item in result.pairs]
        parts.append(table(["image", "other image", ">cosine"], pairs, plain=plain, keys=2))
    return Group(*parts, lines(*(item.message for item in result.not_read)))


def _summary(result: PredictResult) -> str:
    from sshtool.prediction import Planned

    planned = sum(isinstance(item, Planned) for item in result.images)
    counts = {"images": len(result.images), "not read": len(result.not_read), "not done": planned}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "images")


def _rows(result: PredictResult) -> tuple[list[str], list[list[object]]]:
    from sshtool.prediction import Embedded

    if any(isinstance(item, Embedded) for item in result.images):
        head = ["image", ">size", ">dimensions", ">length", "first numbers of the unit vector"]
        return head, [[item.image, *_vector_cells(item)] for item in result.images]
    head = ["image", ">size", ">rank", ">class", "label", ">score"]
    return head, [[item.image, *cells] for item in result.images for cells in _class_cells(item)]


def _vector_cells(item: Outcome) -> list[str]:
    from sshtool.prediction import Embedded

    if not isinstance(item, Embedded):
        return ["not read", "", "", ""]
    numbers = " ".join(f"{value:.4f}" for value in item.vector[:MOST_NUMBERS])
    return [f"{item.width}x{item.height}", str(len(item.vector)), f"{item.length:.4g}", f"{numbers} …"]


def _class_cells(item: Outcome) -> list[list[str]]:
    from sshtool.prediction import Classified
    from sshtool.results.outcomes import NotRead

    if not isinstance(item, Classified):
        return [["not read" if isinstance(item, NotRead) else "to do", "", "", "", ""]]
    return [
        [f"{item.width}x{item.height}", str(rank), str(one.number), one.label, f"{one.score:.4f}"]
        for rank, one in enumerate(item.classes, start=1)
    ]
