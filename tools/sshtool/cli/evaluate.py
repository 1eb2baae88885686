"""`sshtool evaluate`: average precision on WIDER FACE, by both of the ways in which figures were published."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType

from sshtool.evaluate.figures import EvaluateResult
from sshtool.report.figures import figure_tables, headline, remarks
from sshtool.report.terminal import lines, table

# Images that were not evaluated are listed up to here; --json has them all.
MOST_LISTED: Final = 20


def render(result: EvaluateResult, plain: bool) -> RenderableType:
    """The result as text: a table for each protocol, then what to know about it."""
    parts: list[RenderableType] = [lines(headline(result))]
    for item in figure_tables(result):
        parts += [lines(f"{item.title}, images {item.input}"), table(item.columns, item.rows, plain=plain)]
    parts += [lines(*remarks(result))]
    listed = result.not_evaluated[:MOST_LISTED]
    said = [f"not evaluated: {item.reason}" for item in listed]
    if len(result.not_evaluated) > len(listed):
        said.append(f"… and {len(result.not_evaluated) - len(listed)} more")
    return Group(*parts, lines(*said, *(f"written: {path}" for path in result.written)))
