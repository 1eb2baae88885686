"""`sshtool run`: the whole way, from a checkpoint to a package of models that were compared with the original."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.pipeline import RunResult
from sshtool.report.comparison import comparison_table
from sshtool.report.terminal import lines


def render(result: RunResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    made = [f"picture: {result.picture}", f"report: {result.page}", *map(str, result.artifacts)]
    if result.package:
        made.append(f"package: {result.package}")
    elif result.report:
        made.append("no package, because not everything was held to the original and passed")
    paths = lines(*made, *result.notes)
    if result.report is None:
        return Group(lines("nothing was written or compared; this would be:"), paths)
    return Group(comparison_table(result.report, plain=plain), paths)
