"""`sshtool info`: describe a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sshconvert.errors import UsageError
from sshtool.cli.options import AllowNonfinite, CheckpointPath, InputShape, Network, Output
from sshtool.cli.parsing import shape_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshconvert.graph import Shape
    from sshtool.checkpoint.info import InfoResult
    from sshtool.cli.session import Session


ALIKE: Final = 0.01  # of two counts of a network's parameters by different rules


@dataclass(frozen=True)
class Info(Verb):
    """Describe a checkpoint, or any network: operators, also those that are not supported, shapes, size and cost."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    input_shape: InputShape = ""
    allow_nonfinite: AllowNonfinite = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
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
