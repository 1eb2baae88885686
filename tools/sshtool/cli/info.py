"""`sshtool info`: describe a checkpoint, a network, a converted model or a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sshconvert.errors import UsageError
from sshconvert.reading import is_folder
from sshtool.cli.options import AllowNonfinite, CheckpointPath, Confinement, InputShape, Network, Output
from sshtool.cli.parsing import check_exclusive, shape_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshconvert.contract import Tensor
    from sshconvert.graph import Shape
    from sshtool.checkpoint.info import InfoResult
    from sshtool.cli.session import Session
    from sshtool.inspection import ArtifactInfo, PackageInfo


LONGEST_TEXT: Final = 200  # characters of an entry in the table; --json has all
ALIKE: Final = 0.01  # of two counts of a network's parameters by different rules


@dataclass(frozen=True)
class Info(Verb):
    """Describe a checkpoint, any network, a converted model or a package: inputs, operators, size, cost, metadata."""

    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A .params file, a symbol, an .onnx or .xml file, or a folder or archive of a checkpoint or package.",
            show_default=False,
        ),
    ] = None
    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    input_shape: InputShape = ""
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        self.confinement.apply()
        if self.file is None:
            self.describe_checkpoint(session)
            return
        from sshtool.inspection import ArtifactInfo, inspect

        result = inspect(self.file)
        if result is None:
            self._of_file(self.file).describe_checkpoint(session)
            return
        given = [*self._others(), *self.place.given()]
        if given:
            raise UsageError(f"{', '.join(given)}: {self.file} is described as it is; leave out the option")
        session.finish(result, render_artifact if isinstance(result, ArtifactInfo) else render_package)

    def _others(self) -> list[str]:
        """The names of the given options that choose or change a checkpoint."""
        own: dict[str, object] = {"--checkpoint": self.checkpoint, "--model": self.place.model}
        own |= {"--input-shape": self.input_shape, "--epoch": self.place.epoch}
        return [option for option, value in own.items() if value not in (None, "")]

    def _of_file(self, file: Path) -> Info:
        """The same verb with the file as its checkpoint, or as its symbol. Raises UsageError."""
        place = self.place
        clashing = {"--checkpoint": self.checkpoint, "--symbol": place.symbol, "--params": place.params}
        check_exclusive({str(file): file, **clashing})
        if is_folder(file) or file.suffix != ".json":
            return replace(self, checkpoint=file)
        return replace(self, place=replace(place, symbol=file))

    def describe_checkpoint(self, session: Session) -> None:
        """Describe a checkpoint, or a network without a description."""
        from sshtool.checkpoint.info import info, info_of_network, other_network

        place, shape = self.place, shape_of(self.input_shape)
        files = place.files(self.checkpoint)
        if files is None and self.checkpoint is not None and not place.model:
            files = other_network(self.checkpoint, place.workspace().model)
        if files and not place.model:
            if shape:
                raise UsageError("--input-shape: a network without a description has named inputs; give --input")
            result = info_of_network(files, place.inputs(), place.output_names())
        else:
            workspace, checkpoint = place.open(self.checkpoint)
            result = info(workspace, checkpoint=checkpoint, input_shape=shape, allow_nonfinite=self.allow_nonfinite)
        session.finish(result, render)


def render(result: InfoResult, plain: bool) -> RenderableType:
    """Render the checkpoint as a table of two columns."""
    from sshconvert.finite import summary
    from sshtool.report.terminal import table

    licences = {
        "licence of the code": result.license_code,
        "licence of the weights": result.license_weights,
        "note": result.license_note,
    }
    original = f", original network: {result.original_input}" if result.original_input else ""
    rows = [
        ["weights", result.weights or "not given"],
        *([["", summary(result.nonfinite)]] if result.nonfinite else []),
        *(["input", f"{name} {_dimensions(shape)}{original}"] for name, shape in result.inputs.items()),
        *(["output", f"{name} {_dimensions(shape)}"] for name, shape in result.outputs.items()),
        ["operators", _counts(result.operators)],
        *([["NOT supported", _counts(result.unsupported)]] if result.unsupported else []),
        ["MParams", _cost(result.mparams, result.card_mparams, result.published_mparams)],
        ["GFLOPs", _cost(result.gflops, result.card_gflops, result.published_gflops, result.published_at)],
        *([["demo", "its network stands in for the one of the published figures"]] if _stands_in(result) else []),
        *([["problem", result.problem]] if result.problem else []),
        *([name, text] for name, text in licences.items() if text),
        *([path, _quantization(metadata)] for path, metadata in result.quantized.items()),
    ]
    return table([result.model, result.title], rows, plain=plain)


def render_artifact(result: ArtifactInfo, plain: bool) -> RenderableType:
    """Render the model as a table of two columns."""
    from sshtool.report.terminal import table

    rows = [
        ["format", f"{result.format}, {result.precision or 'of unknown precision'}, {_megabytes(result.bytes)}"],
        ["weights", result.weights or "not stated"],
        *(["input", _tensor(item)] for item in result.inputs),
        *(["output", _tensor(item)] for item in result.outputs),
        *([["operators", _counts(result.operators)]] if result.operators else []),
        *([["MParams", _figure(result.mparams)]] if result.mparams is not None else []),
        *_metadata(result.metadata, ("model", "weights", "precision")),
        *([f"Model API: {key}", _shortened(value)] for key, value in result.model_info.items()),
    ]
    return table([result.model or "model", str(result.path)], rows, plain=plain)


def render_package(result: PackageInfo, plain: bool) -> RenderableType:
    """Render the package as a table of two columns, and its models as one of a row each."""
    from rich.console import Group

    from sshtool.report.terminal import lines, table

    rows = [
        ["title", result.title],
        ["layout", f"{result.layout}, {result.files} files, {_megabytes(result.bytes)}"],
        ["weights", result.weights],
        ["verification", f"{result.verification}, against {result.reference}"],
        *(["note", note] for note in result.notes),
        ["reference pack", result.reference_pack or "none"],
        ["made with", ", ".join(f"{name} {version}" for name, version in result.versions.items())],
    ]
    head = ["model", "file", ">MB", "input", "output", "verified"]
    models = [
        [
            item.label,
            item.path,
            f"{item.bytes / 1e6:.1f}",
            ", ".join(map(_tensor, item.inputs)),
            ", ".join(tensor.name for tensor in item.outputs),
            "yes" if item.verified else "NO",
        ]
        for item in result.models
    ]
    note = "as the manifest says; `sshtool check` compares it with the files"
    return Group(
        table([result.model, str(result.path)], rows, plain=plain), table(head, models, plain=plain), lines(note)
    )


def _tensor(tensor: Tensor) -> str:
    sizes = "x".join("?" if size < 0 else str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype} {sizes or 'scalar'}"


def _metadata(metadata: Mapping[str, str], shown: tuple[str, ...]) -> list[list[str]]:
    """A row for each entry that the table has not shown yet."""
    return [[key.replace("_", " "), _shortened(value)] for key, value in metadata.items() if key not in shown]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _cost(own: float | None, by_card: float | None, published: float | None, shape: Shape = ()) -> str:
    if published is None:
        return _figure(own)
    rule = "" if own == by_card else f"{_figure(by_card)} by the model card's rule, "
    return f"{_figure(own)} ({rule}published {published}{f' at {_dimensions(shape)}' if shape else ''})"


def _stands_in(result: InfoResult) -> bool:
    """Return whether a demo is clearly not the published network."""
    from sshconvert.checkpoint import DEMO

    published, own = result.published_mparams, result.card_mparams
    if result.weights != DEMO or published is None or own is None:
        return False
    return abs(own / published - 1) > ALIKE


def _quantization(metadata: Mapping[str, str]) -> str:
    """The metadata without the names of the calibration images, of which there may be hundreds."""
    from sshconvert.contract import CALIBRATION_IMAGES

    shown = {key.replace("_", " "): value for key, value in metadata.items() if key != CALIBRATION_IMAGES}
    return "; ".join(f"{key}: {value}" for key, value in shown.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _figure(figure: float | None) -> str:
    return "not known" if figure is None else f"{figure:.4f}"


def _dimensions(shape: Shape | None) -> str:
    return "x".join(map(str, shape)) if shape else "of unknown shape"
