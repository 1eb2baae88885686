"""`sshtool demo-dataset`: a drawn dataset in the layout of WIDER FACE."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.demo.dataset import DatasetResult
from sshtool.report.terminal import lines, table


def render(result: DatasetResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    sizes = ", ".join(f"{width}x{height}" for width, height in result.sizes)
    if result.faces is None:
        return lines(f"{result.dataset}: nothing was drawn; these would be {result.images} images of {sizes}")
    rows = [[item.name, f"{item.least_height} pixels", str(item.faces)] for item in result.settings]
    head = f"{result.dataset}: {result.images} images of {sizes} with {result.faces} faces, from seed {result.seed}"
    return Group(lines(head), table(["setting", ">least height of a face", ">faces"], rows, plain=plain))
