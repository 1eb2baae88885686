"""`sshtool models`: list the models that ship."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sshtool.cli.options import Output
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.catalogue import ListedModel, ModelsResult
    from sshtool.cli.session import Session


@dataclass(frozen=True)
class Models(Verb):
    """List the models that --model takes: task, size, published cost and accuracy, licence, source, verification."""

    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        from sshtool.catalogue import list_models

        session.finish(list_models(), render)


def render(result: ModelsResult, plain: bool) -> RenderableType:
    """Render a row for each model."""
    from sshtool.report.terminal import table

    header = ["model", "task", "input", ">GFLOPs", ">MParams", "accuracy", "code", "weights", "source", "verified"]
    return table(header, [_row(model) for model in result.models], plain=plain)


def _row(model: ListedModel) -> list[str]:
    return [
        model.name,
        model.task,
        ", ".join("x".join(map(str, shape)) for shape in model.inputs.values()),
        _figure(model.gflops),
        _figure(model.mparams),
        ", ".join(f"{name} {value} %" for name, value in model.accuracy.items()),
        model.license_code or "no licence stated",
        model.license_weights or model.license_note or "no licence stated",
        _source(model),
        model.verified,
    ]


def _figure(figure: float | None) -> str:
    return "" if figure is None else str(figure)


def _source(model: ListedModel) -> str:
    if not model.sources:
        return "none"
    return f"dead since {model.dead_since}" if model.dead_since else "not known to be dead"
