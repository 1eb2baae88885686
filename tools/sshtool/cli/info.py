"""`sshtool info`: describe a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sshtool.cli.options import AllowNonfinite, CheckpointPath, InputShape, Network, Output
from sshtool.cli.parsing import shape_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshconvert.graph import Shape
    from sshtool.checkpoint.info import InfoResult
    from sshtool.cli.session import Session


@dataclass(frozen=True)
class Info(Verb):
    """Describe a checkpoint: operators, shapes, size and cost beside the published figures, licences."""

    place: Network = field(default_factory=Network)
    checkpoint: CheckpointPath = None
    input_shape: InputShape = ""
    allow_nonfinite: AllowNonfinite = False
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.checkpoint.info import info

        result = info(
            self.place.workspace(),
            checkpoint=self.checkpoint,
            input_shape=shape_of(self.input_shape),
            allow_nonfinite=self.allow_nonfinite,
        )
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
    rows = [
        ["weights", result.weights],
        *([["", summary(result.nonfinite)]] if result.nonfinite else []),
        ["input", f"{result.input_name} {_dimensions(result.input_shape)}, original network: RGB minus mean"],
        *(["output", f"{name} {_dimensions(shape)}"] for name, shape in result.outputs.items()),
        ["operators", ", ".join(f"{count} {name}" for name, count in result.operators.items())],
        ["MParams", f"{result.mparams:.4f}{_published(result.published_mparams)}"],
        ["GFLOPs", f"{result.gflops:.4f}{_published(result.published_gflops, result.published_at)}"],
        *([name, text] for name, text in licences.items() if text),
        *([path, _quantization(metadata)] for path, metadata in result.quantized.items()),
    ]
    return table([result.model, result.title], rows, plain=plain)


def _published(figure: float | None, shape: Shape = ()) -> str:
    place = f" at {_dimensions(shape)}" if shape else ""
    return "" if figure is None else f" (published {figure}{place})"


def _quantization(metadata: Mapping[str, str]) -> str:
    """The metadata without the names of the calibration images, of which there may be hundreds."""
    from sshconvert.contract import CALIBRATION_IMAGES

    shown = {key.replace("_", " "): value for key, value in metadata.items() if key != CALIBRATION_IMAGES}
    return "; ".join(f"{key}: {value}" for key, value in shown.items())


def _dimensions(shape: Shape) -> str:
    return "x".join(map(str, shape))
