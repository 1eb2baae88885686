"""`sshtool convert`: artifacts from a checkpoint."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshconvert.finite import summary
from sshtool.conversion import ConvertResult
from sshtool.report.terminal import lines, table


def render(result: ConvertResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    rows = [[item.path, item.format, item.precision, f"{item.bytes / 1e6:.1f}"] for item in result.artifacts]
    title = f"{result.model}, weights {result.weights}"
    made = table(["path", "format", "precision", ">MB"], rows, title=title, plain=plain)
    said = [summary(result.nonfinite)] if result.nonfinite else []
    return Group(made, *map(lines, [*said, *result.notes]))
