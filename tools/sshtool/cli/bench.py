"""`sshtool bench`: how long every artifact takes for an image on this machine, and how many it does a second."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.bench.figures import BenchResult
from sshtool.report.bench import bench_tables, headline, remarks
from sshtool.report.terminal import lines, table


def render(result: BenchResult, plain: bool) -> RenderableType:
    """The result as text: a table for each mode, then what to know about it."""
    parts: list[RenderableType] = [lines(headline(result))]
    for item in bench_tables(result):
        parts += [lines(item.title), table(item.columns, item.rows, plain=plain)]
    parts += [lines(*remarks(result))]
    return Group(*parts, lines(*(f"written: {path}" for path in result.written)))
